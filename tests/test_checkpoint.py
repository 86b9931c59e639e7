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


def _run(path: Path) -> dict[str, list[float]]:
    layer = torch.nn.Linear(2, 2)
    parts = {"model": layer}
    return checkpoint.resume(path, {"epochs": 2}, parts, torch.Generator(), torch.device("cpu"))


def _good() -> dict[str, Any]:
    history = {"loss": [1.0], "seconds": [0.1]}
    parts = {"model": torch.nn.Linear(2, 2)}
    return checkpoint.capture({"epochs": 2}, history, parts, torch.Generator(), torch.device("cpu"))


SPOILED: dict[str, Any] = {
    "a list": lambda good: [1, 2],
    "a number": lambda good: 3,
    "empty": lambda good: {},
    "no run": lambda good: good | {"run": None},
    "no history": lambda good: {name: value for name, value in good.items() if name != "history"},
    "empty history": lambda good: good | {"history": {}},
    "ragged history": lambda good: good | {"history": {"loss": [1.0], "seconds": []}},
    "long history": lambda good: good | {"history": {"loss": [1.0] * 3, "seconds": [1.0] * 3}},
    "numbers for history": lambda good: good | {"history": {"loss": 1, "seconds": 1}},
    "no dice": lambda good: {name: value for name, value in good.items() if name != "dice"},
    "bad dice": lambda good: good | {"dice": {"own": torch.zeros(3), "cpu": torch.zeros(3)}},
    "numbers for dice": lambda good: good | {"dice": {"own": 1, "cpu": 1}},
    "no model": lambda good: {name: value for name, value in good.items() if name != "model"},
    "a number for model": lambda good: good | {"model": 3},
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_state_of_another_form_is_refused_in_one_sentence(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "run.ckpt"
    checkpoint.save(path, _good())
    assert _run(path) == {"loss": [1.0], "seconds": [0.1]}
    checkpoint.save(path, spoil(_good()))  # with a correct digest
    with pytest.raises(CheckpointError, match=r"run\.ckpt.*delete"):
        _run(path)


def test_content_that_is_no_file_of_torch_is_refused(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "run.ckpt"
    for content in (b"", b"hello"):
        path.write_bytes(checkpoint.MARK + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        with pytest.raises(CheckpointError, match="only tensors and numbers"):
            checkpoint.load(path)


def test_a_state_that_cannot_be_written_is_refused_and_the_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    checkpoint.save(path, STATE)
    with pytest.raises(CheckpointError, match=r"could not write .*; put only tensors, numbers, strings"):
        checkpoint.save(path, {"f": lambda: 0})
    assert checkpoint.load(path)["epoch"] == 4


def test_a_probe_leaves_nothing_but_the_folder(tmp_path: Path) -> None:
    checkpoint.probe(tmp_path / "new" / "run.ckpt")
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(CheckpointError, match="expected a file to write the checkpoint to, got .*; add the name"):
        checkpoint.probe(tmp_path / "new")


class Flip:
    def __call__(self, batch: Any, generator: Any) -> Any:
        return batch


def test_functions_are_known_by_name_and_numbers_by_value() -> None:
    optimizer = torch.optim.SGD([{"params": torch.zeros(1)}, {"params": torch.ones(1), "lr": 0.5}], lr=0.1)
    run = checkpoint.describe(optimizer, a=Flip(), b=lambda: 0, c=Flip, d=torch.tensor([1.0, 2.0]), e=torch.nn.ReLU())
    assert [run[name] for name in "abcde"] == ["Flip", "<lambda>", "Flip", [1.0, 2.0], "ReLU"]
    assert (run["lr"], run["lr of group 1"], run["momentum"]) == (0.1, 0.5, 0)
