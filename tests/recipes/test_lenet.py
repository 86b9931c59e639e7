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


def test_mixtures_swap_the_pooling_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = fashion_mnist("train")
    few = (images[:64], labels[:64])
    for original, pool in lenet.MIXTURES.values():
        model, _ = lenet.train(original, 0.01, few, few, seed=0, epochs=1, pool=pool)
        kinds = [type(layer) for layer in model.modules()]
        assert kinds.count(pool) == 2
        assert kinds.count(nn.Tanh if original else nn.ReLU) == 4
        assert not ({nn.MaxPool2d, nn.AvgPool2d} - {pool}) & set(kinds)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    lenet.mixtures(count=128, epochs=1, seeds=2)
    shapes = {name: curve.shape for name, curve in weights.load("lenet_mixtures").items()}
    assert shapes == dict.fromkeys(lenet.MIXTURES, (2, 1))


def test_the_shipped_mixtures_are_read_off_their_curves() -> None:
    card, curves = weights.card("lenet_mixtures"), weights.load("lenet_mixtures")
    assert set(card["metrics"]) == set(curves) == set(lenet.MIXTURES)
    for name, final in card["metrics"].items():
        assert curves[name].shape == (3, lenet.EPOCHS)
        assert curves[name][:, -1].tolist() == pytest.approx(final, abs=1e-4)


def test_dead_maps_are_counted_by_hand() -> None:
    images = fashion_mnist("test")[0][:50]
    torch.manual_seed(0)
    model = lenet.lenet5()
    assert lenet.dead_maps(model, images) == [0, 0]
    with torch.no_grad():
        model.features[0].bias[:2] = -100
        model.features[3].bias[5] = -100
    assert lenet.dead_maps(model, images) == [2, 1]


def test_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny run stores a table; the shipped one is whole."""
    card, counts = weights.card("lenet_dead"), weights.load("lenet_dead")
    assert {rate: runs.shape for rate, runs in counts.items()} == dict.fromkeys(("0.1", "0.2"), (3, 2, 2))
    assert [[run["before"], run["after"]] for run in card["metrics"]["0.2"]] == counts["0.2"].tolist()
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    lenet.deaths(count=64, epochs=1, seeds=1, rates=(0.1,))
    assert weights.load("lenet_dead")["0.1"].shape == (1, 2, 2)


@pytest.mark.parametrize("runs", [{}, {"0.1": []}, {"0.1": [float("nan")], "0.2": [0.1]}])
def test_no_best_rate_without_accuracies(runs: dict) -> None:
    with pytest.raises(ValueError, match="expected accuracies for at least one rate"):
        lenet.best_rate(runs)
