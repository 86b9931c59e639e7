"""The recipe runs at tiny settings, and what it ships can be measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cvbook import weights
from cvbook.cnns.resnet import ResNet
from cvbook.recipes import residual
from cvbook.train import accuracy

KINDS = list(residual.KINDS)


def shipped(kind: str, depth: int) -> ResNet:
    model = residual.network(kind, depth)
    stored = weights.load(f"residual_{depth}").items()
    state = {key.removeprefix(kind + "."): value.float() for key, value in stored if key.startswith(kind + ".")}
    missing = model.load_state_dict(state, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    return model.eval()


def test_tiny_run_stores_networks_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    residual.main(count=128, tested=40, epochs=1, depths=(8, 20), seeds=2, near=20, points=3)
    card, table = weights.card("residual"), weights.load("residual")
    assert card["recipe"] == weights.card("residual_20")["recipe"] == "cvbook.recipes.residual"
    assert card["seed"] == [0, 1]
    assert set(card["metrics"]) == {f"{kind} {depth}" for kind in KINDS for depth in (8, 20)}
    assert table["error.plain.8.1"].shape == (1,)
    assert table["subsets.residual.0"].shape == (512,)
    assert table["slice.residual.20"].shape == (3, 3)
    model = shipped("residual", 20)
    images, labels = residual.garments("test", 40)
    assert table["subsets.residual.0"][511] == (model(images).argmax(1) == labels).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_subsets_are_those_of_networks_with_blocks_taken_out(kind: str) -> None:
    model = residual.network(kind, 20).eval()
    images, labels = residual.garments("test", 50)
    found = residual.every_subset(model, images, labels)
    parts = residual.blocks(model)
    for index in (0, 1, 130, 509, 511):
        x = model.relu(model.bn1(model.conv1(images)))
        for i, block in enumerate(parts):
            x = block(x) if index >> i & 1 else residual.bypass(block, x)
        right = (model.fc(x.mean((2, 3))).argmax(1) == labels).sum()
        assert found[index] == right
    single = residual.single_deletions(model, images, labels)
    assert single.tolist() == [found[511 - 2**i] for i in range(9)] + [found[511]]


def test_a_bypass_is_the_shortcut() -> None:
    x = torch.rand(2, 8, 8, 8)
    for block in residual.blocks(residual.network("residual", 14))[1:3]:  # the second one halves the map
        torch.nn.init.zeros_(block.bn2.weight)  # the branch is then zero
        torch.testing.assert_close(residual.bypass(block.eval(), x), block(x))
    plain = residual.blocks(residual.network("plain", 14))[2]
    y = residual.bypass(plain, x)
    assert y.shape == plain(x).shape
    assert torch.equal(y[:, :8], x[:, :, ::2, ::2])
    assert not y[:, 8:].any()


def test_directions_have_the_filters_lengths_and_vectors_stay() -> None:
    model = residual.network("residual", 8)
    for p, d in zip(model.parameters(), residual.direction(model, seed=1), strict=True):
        if p.ndim == 1:
            assert not d.any()
        else:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), p.detach().flatten(1).norm(dim=1))


def test_losses_are_those_of_moved_weights_and_leave_the_model_alone() -> None:
    model = residual.network("residual", 8).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, labels = residual.garments("train", 32)
    pair = [residual.direction(model, seed=s) for s in (0, 1)]
    steps = torch.tensor([-0.5, 0.0, 1.0])
    surface = residual.losses(model, pair, steps, images, labels)
    assert surface.shape == (3, 3)
    torch.testing.assert_close(surface[:, 1], residual.losses(model, pair[:1], steps, images, labels))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        for p, d, e in zip(model.parameters(), *pair, strict=True):
            p += 1.0 * d - 0.5 * e
        torch.testing.assert_close(surface[2, 0], F.cross_entropy(model.train()(images), labels))


def test_settings_that_fit_no_network_are_refused() -> None:
    for depth in (2, 7, 57, 61):
        with pytest.raises(ValueError, match=f"expected a depth of 6 n .* got {depth}"):
            residual.network("plain", depth)
    with pytest.raises(TypeError, match="expected depth as a whole number"):
        residual.network("plain", 20.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected kind to be one of 'plain', 'residual'"):
        residual.network("resid", 20)
    for count in (-5, 0, 10**6):
        with pytest.raises(ValueError, match=f"expected a count from 1 to .* got {count}"):
            residual.garments("train", count)
    images, labels = residual.garments("train", 4)
    with pytest.raises(ValueError, match="expected at least 1 epoch, got 0"):
        residual.train(residual.network("plain", 8), images, labels, epochs=0, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_networks_do_what_the_table_says(kind: str) -> None:
    card, table = weights.card("residual"), weights.load("residual")
    images, labels = residual.garments("test", 2_000)
    for depth in (20, 56):
        assert (weights.FOLDER / f"residual_{depth}.safetensors").stat().st_size < 1_000_000
        model = shipped(kind, depth)
        assert accuracy(model, images, labels) == pytest.approx(card["metrics"][f"{kind} {depth}"][0][1], abs=0.002)
    some, answers = residual.garments("train", 1_000)
    line = residual.losses(model, [residual.direction(model, seed=2)], torch.tensor([0.5]), some, answers)
    assert line.item() == pytest.approx(table[f"slice.{kind}.56"][2, 12].item(), rel=1e-3)
