"""The twelve networks are what the table says, a tiny run works, and what ships is the table of this code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cvbook import weights
from cvbook.cost import summary
from cvbook.data import fashion_mnist
from cvbook.recipes import evolution as recipe


@pytest.mark.parametrize("name", recipe.ARCHITECTURES)
def test_each_network_maps_garments_to_ten_logits_and_learns_with_all_it_has(name: str) -> None:
    model = recipe.build(name)
    logits = model(torch.rand(4, 1, 28, 28))
    assert logits.shape == (4, 10)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.numel() > 1)


def test_a_seed_settles_the_weights() -> None:
    first, again, other = (recipe.build("ResNet", seed=seed).fc.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_unknown_name_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="expected one of MLP, LeNet-5, .*, got 'ResNet-9'"):
        recipe.build("ResNet-9")


def test_nobody_gets_dropout() -> None:
    for name in recipe.ARCHITECTURES:
        assert not any(layer.p for layer in recipe.build(name).modules() if isinstance(layer, nn.Dropout)), name


def test_the_years_ascend() -> None:
    years = [year for year, _ in recipe.ARCHITECTURES.values()]
    assert years == sorted(years)


def test_a_tiny_run_stores_what_the_lesson_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "full_set", lambda split: [part[:100] for part in fashion_mnist(split)])
    monkeypatch.setattr(recipe, "ARCHITECTURES", {k: recipe.ARCHITECTURES[k] for k in ("MLP", "MobileNetV2")})
    monkeypatch.setattr(recipe, "BATCH", 45)
    recipe.main(count=100, seeds=2, epochs=1)
    card = weights.card("evolution")
    assert set(card["metrics"]) == {"MLP", "MobileNetV2"}
    assert card["metrics"]["MLP"]["parameters"] == 784 * 256 + 256 + 256 * 128 + 128 + 1290
    assert weights.load("evolution")["runs"].shape == (2, 2, 2)  # networks, seeds, [held out, test]


def test_further_seeds_use_the_rate_that_held_out_images_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr(recipe, "ARCHITECTURES", {"MLP": recipe.ARCHITECTURES["MLP"]})
    slow, fast = recipe.RATES
    scores = {(slow, 0): (0.7, 0.9), (fast, 0): (0.8, 0.6), (fast, 1): (0.5, 0.4)}  # held out, test

    def run(name: str, *, rate: float, seed: int, **_: object) -> dict[str, float]:
        held_out, test = scores[rate, seed]
        return {"rate": rate, "seed": seed, "held_out": held_out, "test": test}

    monkeypatch.setattr(recipe, "run", run)
    recipe.main()
    assert weights.card("evolution")["metrics"]["MLP"]["rate"] == fast
    torch.testing.assert_close(weights.load("evolution")["runs"], torch.tensor([[[0.8, 0.6], [0.5, 0.4]]]))


def test_the_shipped_table_is_that_of_the_code() -> None:
    card, table = weights.card("evolution"), weights.load("evolution")["runs"]
    assert set(card["metrics"]) == set(recipe.ARCHITECTURES)
    assert (card["epochs"], tuple(card["rates"])) == (recipe.EPOCHS, recipe.RATES)
    for (name, (year, _)), runs in zip(recipe.ARCHITECTURES.items(), table, strict=True):
        row, cost = card["metrics"][name], summary(recipe.build(name), (1, 28, 28))
        assert row["year"] == year
        assert (row["parameters"], row["multiply_adds"]) == (cost.parameters, cost.multiply_adds)
        assert row["rate"] == recipe.chosen(row["search"])
        assert {run["rate"] for run in row["runs"]} == {row["rate"]}
        torch.testing.assert_close(runs, torch.tensor([[run["held_out"], run["test"]] for run in row["runs"]]))
        assert runs[:, 1].min() > 0.8
