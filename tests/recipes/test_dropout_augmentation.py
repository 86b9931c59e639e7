"""The recipe runs end to end on tiny settings, and what ships is what it says on the card."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.recipes import dropout_augmentation as recipe
from cvbook.train import accuracy


def test_a_tiny_run_stores_what_the_lesson_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "fashion_mnist", lambda split="train": [part[:100] for part in fashion_mnist(split)])
    recipe.main(n=100, epochs=1, seeds=2, name="tiny")
    card = weights.card("tiny")
    assert set(card["metrics"]) == set(recipe.AUGMENTATIONS)
    assert all(len(runs) == 2 for runs in card["metrics"].values())
    stored = weights.load("tiny")
    assert len(stored) == len(recipe.AUGMENTATIONS) * len(recipe.network().state_dict())


def test_the_shipped_networks_have_the_recorded_accuracy() -> None:
    card, stored = weights.card("augmentation"), weights.load("augmentation")
    images, labels = fashion_mnist("test")
    for name in recipe.AUGMENTATIONS:
        model = recipe.network().eval()
        state = {key[len(name) + 1 :]: v.float() for key, v in stored.items() if key.startswith(name + "/")}
        model.load_state_dict(state)
        assert accuracy(model, images, labels) == pytest.approx(card["metrics"][name][0], abs=0.003)
