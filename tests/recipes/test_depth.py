"""The recipe runs at tiny settings, and the shipped table says what its card says and what a short training gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvbook import weights
from cvbook.data import fashion_mnist
from cvbook.recipes import depth
from cvbook.train import accuracy


def test_tiny_run_stores_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    depth.main(count=128, seeds=2, depths=(1, 2), starts=(("relu", "he"),))
    card, tensors = weights.card("depth"), weights.load("depth")
    assert card["recipe"] == "cvbook.recipes.depth"
    assert set(tensors) == set(card["metrics"]) == {"sgd.relu.he", "adamw.relu.he"}
    assert tensors["sgd.relu.he"].shape == (2, 3, 2, 2)  # depths, rates, seeds, choosing and test images
    assert all(0 <= value <= 1 for tensor in tensors.values() for value in tensor.flatten())


def test_the_rate_is_chosen_on_other_images_than_it_is_judged_by() -> None:
    choosing, test = torch.tensor([[0.5, 0.7], [0.9, 0.4]]), torch.tensor([[0.9, 0.8], [0.2, 0.3]])
    found = torch.stack([choosing, test], dim=-1)  # the second rate is better on average where it is chosen
    assert depth.at_best_rate(found) == [0.2, 0.3]


def test_a_run_that_diverges_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = fashion_mnist("train")
    model = depth.network("relu", "he", 2, seed=0)
    depth.train(model, images[:256], labels[:256], optimizer="sgd", rate=1e6, seed=0)
    assert not model.training
    assert 0 <= accuracy(model, images[:100], labels[:100]) <= 0.3


def test_shipped_table_agrees_with_its_card() -> None:
    card, tensors = weights.card("depth"), weights.load("depth")
    assert (weights.FOLDER / "depth.safetensors").stat().st_size < 100_000
    assert len(tensors) == len(depth.RATES) * len(depth.STARTS)
    for name, found in tensors.items():
        best = {str(d): depth.at_best_rate(found[i]) for i, d in enumerate(depth.DEPTHS)}
        assert best == card["metrics"][name]


def test_one_entry_can_be_trained_again() -> None:
    images, labels = fashion_mnist("train")
    test_images, test_labels = fashion_mnist("test")
    found = weights.load("depth")["adamw.relu.he"][0, 1, 0, 1].item()  # two layers, the middle rate, seed 0
    model = depth.network("relu", "he", 2, seed=0)
    depth.train(model, images[:5_000], labels[:5_000], optimizer="adamw", rate=depth.RATES["adamw"][1], seed=0)
    assert accuracy(model, test_images, test_labels) == pytest.approx(found, abs=0.02)
