"""The recipe runs end to end on tiny settings, and what ships is what it says on the card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.recipes import pooling_normalization as recipe
from cvbook.train import accuracy


def test_a_tiny_run_stores_what_the_lesson_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "fashion_mnist", lambda split="train": [part[:60] for part in fashion_mnist(split)])
    recipe.main(n=40, epochs=(1, 1), many=50, passes=1, seeds=2, name="tiny_")
    pooling = weights.card("tiny_pooling")["metrics"]
    assert set(pooling) == set(recipe.SHORT)
    assert set(weights.card("tiny_pooling_long")["metrics"]) == set(recipe.DOWN)
    assert all(len(runs) == 2 for runs in pooling.values())
    placement = weights.card("tiny_bn_placement")["metrics"]
    assert len(placement) == 9
    assert all(0 <= value <= 1 for runs in placement.values() for value in runs)


def test_descend_takes_the_plain_step() -> None:
    model = torch.nn.Linear(2, 2)
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    torch.nn.functional.cross_entropy(model(x), y).backward()
    expected = [p.detach() - 0.5 * p.grad for p in model.parameters()]
    recipe.descend(model, x, y, rate=0.5, epochs=1, batch_size=6, seed=0)
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)
    assert not model.training


def test_the_shipped_pooling_networks_have_the_recorded_accuracy() -> None:
    card, stored = weights.card("pooling"), weights.load("pooling")
    images, labels = fashion_mnist("test")
    for kind in ("stride", "max", "overlapping", "average"):
        model = recipe.pooling_network(kind).eval()
        state = {key[len(kind) + 1 :]: v.float() for key, v in stored.items() if key.startswith(kind + "/")}
        model.load_state_dict(state)
        assert accuracy(model, images, labels) == pytest.approx(card["metrics"][kind][0][1], abs=0.003)


def test_the_shipped_placement_networks_have_the_recorded_accuracy() -> None:
    card, stored = weights.card("bn_placement"), weights.load("bn_placement")
    images, labels = fashion_mnist("test")
    for place in recipe.PLACES:
        prefix = f"{place}/0.3/"
        model = recipe.placement_network(place).eval()
        state = {key[len(prefix) :]: v.float() for key, v in stored.items() if key.startswith(prefix)}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing)
        assert accuracy(model, images, labels) == pytest.approx(card["metrics"][prefix[:-1]][0], abs=0.005)
