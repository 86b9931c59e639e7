"""Checkpoints of a running training: written whole or not at all, and checked before they are believed."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointError", "capture", "describe", "load", "probe", "resume", "save"]

MARK = b"cvbook checkpoint 1 "  # followed by the SHA-256 of the rest and a line feed
AGAIN = "delete or rename it"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, is damaged, or belongs to another run. The message says what to do."""


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a checkpoint; a checkpoint that is already there is replaced in one step, or kept if anything fails.

    Args:
        path: the file; folders are made.
        state: tensors, numbers, strings, and dicts and lists of them: what ``torch.load(weights_only=True)`` reads.

    Raises:
        CheckpointError: if the file cannot be written, for example because the disk is full, or the state cannot.
    """
    stream = io.BytesIO()
    try:
        torch.save(state, stream)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(
            f"could not write the checkpoint {path} ({error!s:.80}); put only tensors, numbers, strings, and dicts and "
            "lists of them into it"
        ) from error
    _write(path, stream.getvalue())


def probe(path: str | os.PathLike[str]) -> None:
    """Make sure, before hours of work, that `save` can write here: make the folder, and a file that goes away again.

    Raises:
        CheckpointError: if it cannot.
    """
    _write(path, None)


def _write(path: str | os.PathLike[str], content: bytes | None) -> None:
    """Write beside the file, then rename; without content, only try."""
    if not os.fspath(path) or os.path.isdir(path):
        raise CheckpointError(f"expected a file to write the checkpoint to, got {str(path)!r}; add the name of a file")
    path, part = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            if content is not None:
                file.write(MARK + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
        if content is not None:
            os.replace(part, path)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        kept = "the checkpoint before it is kept" if os.path.exists(path) else "there is none before it"
        raise CheckpointError(
            f"could not write the checkpoint {path} ({getattr(error, 'strerror', None) or error}); {kept}; free some "
            "disk space or use another name or folder"
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
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, LookupError, RuntimeError, EOFError) as error:  # made by hand: never executed
        raise CheckpointError(f"expected only tensors and numbers in {path}, got {error!s:.80}; delete it") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"expected a dict in {path}, got {type(state).__name__}; delete it to start again")
    return state


def describe(optimizer: torch.optim.Optimizer, **settings: Any) -> dict[str, Any]:
    """What makes a run this run, for `resume` to compare: settings, functions by name, the optimizer with its settings.

    A function is known by its name and the keywords that `functools.partial` gives it, an object by that of its class.

    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> run = describe(sgd, epochs=3, loss=functools.partial(torch.nn.functional.cross_entropy, label_smoothing=0.1))
    >>> run["epochs"], run["loss"], run["optimizer"], run["lr"]
    (3, 'cross_entropy(label_smoothing=0.1)', 'SGD', 0.1)
    """
    run = {name: _plain(value) for name, value in settings.items()} | {"optimizer": type(optimizer).__qualname__}
    for i, group in enumerate(optimizer.param_groups):
        where = f" of group {i}" if i else ""
        run |= {name + where: _plain(value) for name, value in group.items() if name != "params"}
    return run


def _plain(value: Any) -> Any:
    """Numbers and texts as they are, the rest by name: what two runs, and a file, can be compared by."""
    if hasattr(value, "tolist"):  # tensors and NumPy's numbers
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, functools.partial):
        given = [str(_plain(one)) for one in value.args]
        given += [f"{name}={_plain(one)}" for name, one in value.keywords.items()]
        return f"{_plain(value.func)}({', '.join(given)})"
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return name.rpartition("<locals>.")[2]


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

    Args:
        path: of the checkpoint.
        run: this run, as `describe` says it.
        parts, generator, device: as for `capture`.

    Raises:
        CheckpointError: if the checkpoint is damaged, or of a run with other settings, data, model or optimizer; the
            message names what differs.
    """
    state = load(path)
    if missing := [name for name in ("run", "history", "dice") if not isinstance(state.get(name), dict)]:
        raise CheckpointError(f"expected the checkpoint of a training at {path}, got one without {missing[0]}; {AGAIN}")
    then = state["run"]
    if differ := [name for name in run | then if then.get(name, ...) != run.get(name, ...)]:
        here, there = (
            ", ".join(f"{name}={one[name]}" if name in one else f"no {name}" for name in differ) for one in (run, then)
        )
        raise CheckpointError(f"expected a checkpoint of a run with {here}, got one with {there} in {path}; {AGAIN}")
    history = state["history"]
    try:
        if not 0 < len(history["loss"]) == len(history["seconds"]) <= run["epochs"]:
            raise ValueError("its history has another length")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["dice"]["own"])
        torch.set_rng_state(state["dice"]["cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["dice"]["cuda"], device)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is of another model or optimizer, or spoiled ({what}); {AGAIN}") from error
    return history
