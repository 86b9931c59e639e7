"""The recipe runs at tiny settings; the three bodies see the same and differ in what they should."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.convolution import receptive_field
from cvbook.recipes import three_by_three as recipe


def test_tiny_run_stores_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    recipe.main(count=128, epochs=1, seeds=2)
    stored = weights.load("three_by_three")
    assert set(stored) == set(recipe.BODIES)
    assert all(runs.shape == (2, 2) for runs in stored.values())


def test_all_see_the_same_and_two_have_the_same_parameters() -> None:
    networks = {kind: recipe.network(kind, seed=0) for kind in recipe.BODIES}
    assert len({receptive_field(network[:-2]).size for network in networks.values()}) == 1
    counts = [sum(p.numel() for p in network.parameters()) for network in networks.values()]
    assert counts[1] == counts[2] < counts[0]
    relus = [sum(isinstance(layer, nn.ReLU) for layer in network) for network in networks.values()]
    assert relus == [3, 5, 3]
    assert all(network(torch.zeros(2, 1, 28, 28)).shape == (2, 10) for network in networks.values())


def test_without_the_relu_the_body_is_linear_up_to_its_last_one() -> None:
    first, second, _ = recipe.body("two 3x3, no ReLU between")
    x, y = torch.randn(2, 1, recipe.WIDTH, 9, 9, dtype=torch.float64)
    body = nn.Sequential(first, second).double()
    zero = body(torch.zeros_like(x))
    torch.testing.assert_close(body(x + y) - zero, body(x) - zero + body(y) - zero)


@pytest.mark.parametrize(("name", "seeds"), [("three_by_three", 5), ("three_by_three_faster", 4)])
def test_shipped_table_agrees_with_its_card(name: str, seeds: int) -> None:
    card, stored = weights.card(name), weights.load(name)
    for kind in recipe.BODIES:
        torch.testing.assert_close(stored[kind], torch.tensor(card["metrics"][kind]))
        assert stored[kind].shape == (seeds, 2)


def test_unknown_body() -> None:
    with pytest.raises(ValueError, match="expected one of one 5x5, two 3x3"):
        recipe.network("three 3x3", seed=0)
