"""Trained parameters that ship with the package: ``NAME.safetensors`` with a card ``NAME.json`` beside it.

The recipes in `cvbook.recipes` make them; lessons load them when training would take longer than a minute.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from cvbook.data.files import DataError, checked_bytes

__all__ = ["card", "load", "save"]

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, verified against the digest on its card.

    Raises:
        ValueError: if there is no such checkpoint.
        DataError: if the file is missing or damaged, or its card.
    """
    content = checked_bytes(FOLDER / f"{name}.safetensors", card(name)["sha256"], remedy="reinstall cvbook")
    return load_bytes(content)


def card(name: str) -> dict[str, Any]:
    """How a checkpoint was made: recipe, seed, seconds, versions, metrics, digest.

    Raises:
        ValueError: if there is no such checkpoint.
        DataError: if the card cannot be read or names no digest.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        known = sorted(p.stem for p in FOLDER.glob("*.json"))
        raise ValueError(f"expected a checkpoint among {', '.join(known)}, got {name!r}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise DataError(f"expected a card in JSON at {path}, got {error}; reinstall cvbook") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise DataError(f"expected a card with a sha256 at {path}, got none on it; reinstall cvbook")
    return facts


def save(name: str, tensors: dict[str, torch.Tensor], **facts: object) -> None:
    """Write a checkpoint and its card (called by recipes).

    Args:
        name: file name without ending.
        tensors: what to store; shared or strided tensors are copied.
        facts: recipe, seed, seconds, metrics and whatever else the card should say.

    Raises:
        TypeError: if a fact is not JSON (a tensor, say); nothing is written then.
    """
    content = save_bytes({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
    facts = {"torch": torch.__version__, "sha256": hashlib.sha256(content).hexdigest(), **facts}
    try:
        text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected facts that JSON can hold, got {error}; pass numbers, strings, lists") from error
    (FOLDER / f"{name}.safetensors").write_bytes(content)
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
