"""Checkpoints: saved with a card, verified when loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cvbook import weights
from cvbook.data import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    return tmp_path


def test_round_trip(folder: Path) -> None:
    tensors = {"a": torch.randn(3, 4).T, "b": torch.arange(3)}
    weights.save("net", tensors, seed=1, accuracy=0.5)
    loaded = weights.load("net")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)
    assert weights.card("net")["accuracy"] == 0.5


def test_damaged_and_unknown(folder: Path) -> None:
    weights.save("net", {"a": torch.ones(3)})
    path = folder / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"net\.safetensors.*damaged.*reinstall"):
        weights.load("net")
    with pytest.raises(ValueError, match="among net, got 'other'"):
        weights.load("other")


@pytest.mark.parametrize("card", sorted(weights.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_shipped_checkpoints_are_whole_and_small(card: Path) -> None:
    assert weights.load(card.stem)
    assert card.with_suffix(".safetensors").stat().st_size <= 4_000_000
    assert {"seed", "seconds", "recipe"} <= weights.card(card.stem).keys()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sha256": 3}', "\xff"])
def test_a_broken_card_is_named(folder: Path, text: str) -> None:
    weights.save("net", {"a": torch.ones(3)})
    (folder / "net.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"expected a card .*net\.json.*; reinstall cvbook"):
        weights.load("net")


def test_a_fact_that_is_not_json_writes_nothing(folder: Path) -> None:
    with pytest.raises(TypeError, match="facts that JSON can hold, got .*Tensor"):
        weights.save("net", {"a": torch.ones(3)}, loss=torch.ones(2))
    assert list(folder.iterdir()) == []
