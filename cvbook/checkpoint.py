"""Checkpoints of a running training: written whole or not at all, and checked before they are believed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointError", "capture", "load", "resume", "save"]

MARK = b"cvbook checkpoint 1 "  # followed by the SHA-256 of the rest and a line feed


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, is damaged, or belongs to another run. The message says what to do."""


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint; a checkpoint that is already there is replaced in one step, or kept if anything fails.

    Args:
        path: the file; folders are made.
        state: tensors, numbers, strings, and dicts and lists of them: what ``torch.load(weights_only=True)`` reads.

    Raises:
        CheckpointError: if the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getvalue()
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(MARK + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        kept = "the checkpoint before it is kept" if path.exists() else "there is none before it"
        raise CheckpointError(
            f"could not write the checkpoint {path} ({error.strerror or error}); {kept}; free some disk space or use "
            "another folder"
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint, after checking that it is the one that was written. Its tensors are on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, cut short or no checkpoint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.ckpt", {"epoch": 3})
    ...     load(f"{folder}/run.ckpt")
    {'epoch': 3}
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"expected a checkpoint at {path}, got {error.strerror or error}; check the path"
        ) from error
    head, _, content = content.partition(b"\n")
    if head != MARK + hashlib.sha256(content).hexdigest().encode():
        what = "a damaged or shortened one" if head.startswith(MARK) else "another kind of file"
        raise CheckpointError(f"expected a checkpoint of cvbook at {path}, got {what}; delete it to start again")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:  # a file made by hand: refused, never executed
        raise CheckpointError(f"expected only tensors and numbers in {path}, got {error!s:.80}; delete it") from error


def capture(
    run: dict[str, Any],
    history: dict[str, list[float]],
    parts: dict[str, Any],
    generator: torch.Generator,
    device: torch.device,
) -> dict[str, Any]:
    """All that decides how a training goes on: its settings, its parts (model, optimizer …), every random generator."""
    dice = {"own": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        dice["cuda"] = torch.cuda.get_rng_state(device)
    return {"run": run, "history": history, "dice": dice, **{name: part.state_dict() for name, part in parts.items()}}


def resume(
    path: str | os.PathLike[str],
    run: dict[str, Any],
    parts: dict[str, Any],
    generator: torch.Generator,
    device: torch.device,
) -> dict[str, list[float]]:
    """Put parts and generators back into the state that `capture` found, and return the history.

    Raises:
        CheckpointError: if the checkpoint is damaged, or of a run with other settings, model or optimizer.
    """
    state = load(path)
    if state.get("run") != run:
        raise CheckpointError(
            f"expected a checkpoint of a run with {run}, got one with {state.get('run')} in {path}; delete or rename it"
        )
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is of another model or optimizer ({what}); delete or rename it") from error
    generator.set_state(state["dice"]["own"])
    torch.set_rng_state(state["dice"]["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["dice"]["cuda"], device)
    return state["history"]
