"""The fast baseline: its parts do what they say, a tiny run works, and the stored tables are those of the code."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cvbook import data, weights
from cvbook.recipes import fashion_cnn as recipe
from cvbook.recipes import fashion_ladder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample in place of the full set, which need not be there."""
    sample = {split: data.fashion_mnist(split) for split in ("train", "test")}
    monkeypatch.setattr(recipe, "full_set", lambda split: [part[:1000] for part in sample[split]])


@pytest.fixture
def benchmark_script() -> Any:
    spec = importlib.util.spec_from_file_location("fashion_benchmark", ROOT / "benchmarks" / "fashion_cnn.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_filters_whiten_garments() -> None:
    images = data.fashion_mnist()[0][:300]
    filters = recipe.whitening_filters(images)
    assert filters.shape == (16, 1, 4, 4)
    covariance = torch.cov(F.conv2d(images, filters).transpose(0, 1).flatten(1))
    off = covariance - covariance.diag().diag()
    assert off.abs().max() < 1e-3  # decorrelated
    patches = torch.cov(F.unfold(images, 4).transpose(1, 2).reshape(-1, 16).T.double())
    values = torch.linalg.eigvalsh(patches).float()
    torch.testing.assert_close(covariance.diag(), values / (values + 5e-4), atol=1e-3, rtol=1e-3)


def test_two_epochs_show_each_image_both_ways() -> None:
    images = data.fashion_mnist()[0][:40]
    augment = recipe.AlternatingFlip(images, seed=0)
    shown = []
    for epoch in (0, 1, 2):
        augment.set_epoch(epoch)
        shown.append(augment(augment.images, torch.Generator()))
    assert torch.equal(shown[2], shown[0])
    mirrored = [not torch.equal(a, b) for a, b in zip(shown[0], images, strict=True)]
    assert 8 < sum(mirrored) < 32
    for first, second, image in zip(shown[0], shown[1], images, strict=True):
        assert torch.equal(first.flip(-1), second)
        assert torch.equal(first, image) or torch.equal(second, image)


def test_accuracy_with_and_without_flip() -> None:
    images = torch.zeros(4, 1, 2, 2)
    images[:2, :, :, 0], images[2:, :, :, 1] = 1.0, 3.0  # bright on the left, or brighter on the right
    side = torch.nn.Sequential(torch.nn.AvgPool2d((2, 1)), torch.nn.Flatten())  # logits: left and right brightness
    plain, flipped = recipe.evaluate_flipped(side, images, torch.tensor([0, 1, 1, 1]))
    assert (plain, flipped) == (0.75, 0.25)  # with its mirror image, both sides tie, and 0 is the first


def test_cutout_blackens_one_square_of_each_image() -> None:
    black = recipe.cut_out(torch.ones(50, 1, 28, 28), torch.Generator().manual_seed(0), 8) == 0
    area = black.sum((1, 2, 3))
    assert area.max() == 64
    assert area.min() >= 16  # the center is inside, so a quarter of the square is
    for image in black[:, 0]:
        rows, columns = image.any(1).sum(), image.any(0).sum()
        assert image.sum() == rows * columns


def test_dirac_convolutions_copy_their_input() -> None:
    torch.manual_seed(0)
    block = recipe.FashionCNN((64, 128)).blocks[0]
    x = torch.rand(1, 32, 6, 6)
    torch.testing.assert_close(block.conv1(x)[:, :32], x)


def test_white_filters_are_not_trained() -> None:
    first = recipe.whitening_filters(data.fashion_mnist()[0][:50])
    model = recipe.FashionCNN((8, 16), first=first)
    assert not model.first.weight.requires_grad
    assert torch.equal(model.first.weight[:16], -model.first.weight[16:])
    assert recipe.FashionCNN((8, 16)).first.weight.requires_grad


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "change", [{"ema": 0.9}, {"cutout": 6, "ema": None, "flip": False, "whiten": False, "dirac": False}]
)
def test_a_tiny_run(change: dict[str, Any]) -> None:
    settings = replace(recipe.SHORT, epochs=3, widths=(32, 48), batch_size=50, **change)
    found = recipe.train(settings, count=1000, progress=False)
    assert 0.4 < found["accuracy"] <= 1
    assert 0.4 < found["flipped"] <= 1
    assert found["seconds"] > 0
    assert found["processor"] > 0


@pytest.mark.usefixtures("small")
def test_a_tiny_ladder_stores_a_row_for_each_trick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    costs = fashion_ladder.costs
    monkeypatch.setattr(fashion_ladder, "costs", lambda: costs((8, 16), size=20, repeats=1))
    fashion_ladder.main(seeds=1, count=100, epochs=1, batch_size=50)
    card = weights.card("fashion_ladder")
    assert list(card["metrics"]) == sorted(fashion_ladder.LADDER)
    assert weights.load("fashion_ladder")["table"].shape == (len(fashion_ladder.LADDER), 1, 3)
    assert all(value > 0 for value in card["costs"].values())


def test_each_row_of_the_ladder_changes_what_it_names() -> None:
    base = vars(recipe.SHORT)
    for name, settings in fashion_ladder.LADDER.items():
        changed = [key for key, value in vars(settings).items() if value != base[key]]
        assert len(changed) == (0 if name == "all tricks" else name.count(",") + 1)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"expected first filters of shape \(16, 1, 4, 4\), got \(3, 1, 4, 4\)"):
        recipe.FashionCNN((8, 16), first=torch.zeros(3, 1, 4, 4))
    with pytest.raises(ValueError, match="expected the side of a square, 0 or more, got -3"):
        recipe.cut_out(torch.zeros(1, 1, 8, 8), torch.Generator(), -3)
    with pytest.raises(ValueError, match="expected at least one image"):
        recipe.evaluate_flipped(torch.nn.Identity(), torch.zeros(0, 1, 8, 8), torch.zeros(0))
    with pytest.raises(ValueError, match="expected at least 250 images, one batch, got count=0"):
        recipe.train(recipe.SHORT, count=0)


def test_the_shipped_table_is_that_of_the_ladder() -> None:
    card, table = weights.card("fashion_ladder"), weights.load("fashion_ladder")["table"]
    assert set(card["metrics"]) == set(fashion_ladder.LADDER)
    assert table.shape[:2] == (len(fashion_ladder.LADDER), len(card["seed"]))
    for row, name in zip(table, fashion_ladder.LADDER, strict=True):
        recorded = [run["accuracy"] for run in card["metrics"][name]]
        torch.testing.assert_close(row[:, 0], torch.tensor(recorded))
    assert table[..., :2].min() > 0.5
    assert card["recipe"] == "cvbook.recipes.fashion_ladder"


def test_the_shipped_results_reach_both_targets() -> None:
    metrics, tables = weights.card("fashion_cnn")["metrics"], weights.load("fashion_cnn")
    for name, target in (("SHORT", 0.92), ("LONG", 0.935)):
        recorded = torch.tensor([run["accuracy"] for run in metrics[name]])
        torch.testing.assert_close(tables[name][:, 0], recorded)
        assert recorded.min() >= target


def test_the_command_line_stores_what_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    row = {"accuracy": 0.93, "flipped": 0.94, "seconds": 50.0, "processor": 80.0}
    monkeypatch.setattr(recipe, "train", lambda settings, seed: row | {"seconds": float(settings.epochs + seed)})
    recipe.main(["--table"])
    assert weights.load("fashion_cnn")["LONG"][:, 2].tolist() == [float(recipe.LONG.epochs + seed) for seed in range(3)]


def test_the_benchmark_compares_like_with_like(benchmark_script: Any) -> None:
    assert benchmark_script.STEPS == 4690
    found = {"accuracy": 0.925, "flipped": 0.93, "seconds": 50.0, "processor": 90.0}
    worse = {"accuracy": 0.9349, "flipped": 0.94, "seconds": 400.0, "processor": 700.0}
    lines = list(benchmark_script.report((1.0, 2.0), (1.5, 1.8), {"SHORT": found, "LONG": worse}))
    assert "4690 s" in lines[0]
    assert "92.0% reached" in lines[1]
    assert "1/94 of that time (at most 1/50)" in lines[1]
    assert lines[1].endswith("1/94")
    assert "93.5% NOT reached" in lines[2]
    assert "(NOT at most 1/15)" in lines[2]


def test_the_benchmark_measures_a_step(benchmark_script: Any) -> None:
    wall, processor = benchmark_script.lesson_step_seconds(repeats=1, batch=2, side=32)
    assert wall > 0
    assert processor > 0
