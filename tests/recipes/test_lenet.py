"""The recipe runs at tiny settings, and the shipped table says what its curves say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.recipes import lenet


def test_tiny_run_stores_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    lenet.main(count=128, epochs=1, seeds=2, rates=(0.1,))
    curves, card = weights.load("lenet"), weights.card("lenet")
    assert {name: curve.shape for name, curve in curves.items()} == {"1998/0.1": (2, 1), "today/0.1": (2, 1)}
    assert card["metrics"]["today"]["0.1"] == pytest.approx(curves["today/0.1"][:, -1].tolist())


def test_the_rate_falls_twice() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    plan = lenet.step_decay(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        plan.step()
    assert rates == pytest.approx([1.0] * 50 + [0.1] * 25 + [0.01] * 25)


def test_variants_differ_in_activation_and_pooling() -> None:
    images, labels = fashion_mnist("train")
    few = (images[:64], labels[:64])
    kinds = []
    for original in (True, False):
        model, history = lenet.train(original, 0.01, few, few, seed=0, epochs=1)
        kinds.append({type(layer) for layer in model.modules()})
        assert len(history["accuracy"]) == 1
    assert kinds[0] - kinds[1] == {nn.Tanh, nn.AvgPool2d}
    assert kinds[1] - kinds[0] == {nn.ReLU, nn.MaxPool2d}


def test_the_shipped_table_is_read_off_the_curves() -> None:
    card, curves = weights.card("lenet"), weights.load("lenet")
    assert len(curves) == 2 * len(lenet.RATES)
    for name, runs in card["metrics"].items():
        for rate, final in runs.items():
            assert curves[f"{name}/{rate}"][:, -1].tolist() == pytest.approx(final)
