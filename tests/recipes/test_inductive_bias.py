"""The recipe of the lesson *Inductive bias* runs, in a very small version."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvbook import weights
from cvbook.recipes import inductive_bias as recipe


def test_a_small_run_stores_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "FAMILIES", {name: (make, (2,)) for name, (make, _) in recipe.FAMILIES.items()})
    recipe.main(images=200, epochs=1, seeds=(0,), name="small")
    card = weights.card("small")
    assert [row["family"] for row in card["rows"]] == ["MLP", "LeNet", "ResNet"]
    assert weights.load("small")["accuracy"].shape == (3, 1)


@pytest.mark.parametrize("family", recipe.FAMILIES)
def test_every_network_maps_garments_to_ten_numbers_and_every_parameter_learns(family: str) -> None:
    make, widths = recipe.FAMILIES[family]
    model = make(widths[0])
    out = model(torch.rand(4, 1, 28, 28))
    assert out.shape == (4, 10)
    out.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_shipped_table_is_the_one_of_this_recipe() -> None:
    card = weights.card(recipe.NAME)
    assert card["seed"] == list(recipe.SEEDS)
    assert card["epochs"] == recipe.EPOCHS
    expected = [(f, w, recipe.parameters(make(w))) for f, (make, ws) in recipe.FAMILIES.items() for w in ws]
    assert [(row["family"], row["width"], row["parameters"]) for row in card["rows"]] == expected
