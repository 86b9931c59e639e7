"""Checkpoints: whole or not at all, checked before they are believed, never executed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cvbook import checkpoint
from cvbook.checkpoint import CheckpointError

STATE = {"weights": torch.arange(6.0).reshape(2, 3), "epoch": 4, "history": {"loss": [1.0, 0.5]}}


def test_round_trip_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.ckpt"
    checkpoint.save(path, STATE)
    found = checkpoint.load(path)
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {"epoch": 4, "history": {"loss": [1.0, 0.5]}}
    assert os.listdir(path.parent) == ["run.ckpt"]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda content: content[:-1], "damaged or shortened"),
        (lambda content: content[:40], "damaged or shortened"),
        (lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:], "damaged or shortened"),
        (lambda content: b"", "another kind of file"),
        (lambda content: content.split(b"\n", 1)[1], "another kind of file"),
    ],
    ids=["last byte", "most", "one bit", "everything", "head"],
)
def test_damage_is_noticed(tmp_path: Path, spoil: Any, what: str) -> None:
    path = tmp_path / "run.ckpt"
    checkpoint.save(path, STATE)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"run\.ckpt, got .*{what}.*; delete it"):
        checkpoint.load(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load(tmp_path / "none")


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-checkpoint",)


def test_a_file_made_by_hand_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save("run.ckpt", {"state": Harmful()})  # with a correct digest
    with pytest.raises(CheckpointError, match="only tensors and numbers"):
        checkpoint.load("run.ckpt")
    assert os.listdir() == ["run.ckpt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "run.ckpt"
    checkpoint.save(path, STATE)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(CheckpointError, match=r"No space left.*before it is kept; free some disk space"):
        checkpoint.save(path, {"epoch": 5})
    assert checkpoint.load(path)["epoch"] == 4
    assert os.listdir(tmp_path) == ["run.ckpt"]
