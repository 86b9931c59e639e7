"""The recipe at its smallest, and what it stored."""

from __future__ import annotations

import pytest
import torch

from cvbook import weights
from cvbook.convolution.receptive import receptive_field
from cvbook.recipes import effective_field as recipe


def test_recipe_runs_at_its_smallest(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "WIDTH", 8)
    monkeypatch.setattr(recipe, "LAYERS", 3)
    metrics = recipe.main(seeds=1, images=16, epochs=1, name="tiny")
    assert {key: len(values) for key, values in metrics.items()} == dict.fromkeys(metrics, 1)
    assert weights.card("tiny")["images"] == 16
    net = recipe.network(0)
    net.load_state_dict({key[2:]: value for key, value in weights.load("tiny").items()})


def test_shipped_checkpoint_fits_and_is_small():
    stored = weights.load("effective_field")
    for seed in (0, 1):
        net = recipe.network(seed)
        before = [p.clone() for p in net.parameters()]
        net.load_state_dict({key[2:]: value for key, value in stored.items() if key.startswith(f"{seed}.")})
        assert not all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert (weights.FOLDER / "effective_field.safetensors").stat().st_size < 1_000_000
    assert receptive_field(recipe.network(0)[:-3]).size == (21, 21)


def test_network_depends_on_its_seed_only():
    one, again, other = recipe.network(0), recipe.network(0), recipe.network(1)
    assert torch.equal(one[0].weight, again[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_spread_of_a_single_pixel_and_of_two():
    field = torch.zeros(5, 5)
    field[2, 3] = 1
    assert recipe.spread(field) == 0
    field[2, 1] = 1
    assert recipe.spread(field) == pytest.approx(0.5**0.5)
