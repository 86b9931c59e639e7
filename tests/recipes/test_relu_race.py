"""The recipe runs at tiny settings, and the shipped table says what its curves say and what a short run gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.recipes import relu_race


def test_tiny_run_stores_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    relu_race.main(steps=2, seeds=2, rates=(0.01,))
    curves = weights.load("relu_race")
    assert set(curves) == {"relu/0.01", "tanh/0.01"}
    assert curves["relu/0.01"].shape == (2, 2)
    assert weights.card("relu_race")["metrics"]["tanh"] == {"0.01": [None, None]}


def test_both_start_with_the_variance_made_for_them() -> None:
    for activation, gain in (("relu", 2.0), ("tanh", None)):
        layer = relu_race.network(activation, seed=0)[7]
        assert isinstance(layer, nn.Linear)
        fan_in, fan_out = layer.in_features, layer.out_features
        expected = gain / fan_in if gain else 2 / (fan_in + fan_out)
        assert layer.weight.var().item() == pytest.approx(expected, rel=0.05)
        assert not layer.bias.any()


def test_the_shipped_table_is_read_off_the_curves() -> None:
    card, curves = weights.card("relu_race"), weights.load("relu_race")
    for activation, rates in card["metrics"].items():
        assert [float(rate) for rate in rates] == list(relu_race.RATES)
        for rate, found in rates.items():
            assert [relu_race.steps_to(curve) for curve in curves[f"{activation}/{rate}"]] == found
    assert (weights.FOLDER / "relu_race.safetensors").stat().st_size < 100_000


def test_one_run_again() -> None:
    images, labels = fashion_mnist("train")
    stored = weights.load("relu_race")["relu/0.03"][0, :30]
    errors = relu_race.race("relu", 0.03, images, labels, seed=0, steps=30)
    torch.testing.assert_close(errors, stored, atol=0.02, rtol=0)


def test_what_is_asked_wrongly() -> None:
    images, labels = torch.zeros(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="expected 'relu' or 'tanh', got 'gelu'"):
        relu_race.network("gelu", seed=0)
    with pytest.raises(ValueError, match="at least one step, got 4 images and 0 steps"):
        relu_race.race("relu", 0.1, images, labels, seed=0, steps=0)
    with pytest.raises(ValueError, match="got 0 images"):
        relu_race.race("relu", 0.1, images[:0], labels[:0], seed=0)
