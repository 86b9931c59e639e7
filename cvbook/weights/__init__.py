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

from cvbook.data.files import checked_bytes

__all__ = ["card", "load", "save"]

FOLDER = Path(__file__).parent


def load(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, verified against the digest on its card.

    Raises:
        ValueError: if there is no such checkpoint.
        DataError: if the file is missing or damaged.
    """
    content = checked_bytes(FOLDER / f"{name}.safetensors", card(name)["sha256"], remedy="reinstall cvbook")
    return load_bytes(content)


def card(name: str) -> dict[str, Any]:
    """How a checkpoint was made: recipe, seed, seconds, versions, metrics, digest.

    Raises:
        ValueError: if there is no such checkpoint.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        known = sorted(p.stem for p in FOLDER.glob("*.json"))
        raise ValueError(f"expected a checkpoint among {', '.join(known)}, got {name!r}")
    return json.loads(path.read_text(encoding="utf-8"))


def save(name: str, tensors: dict[str, torch.Tensor], **facts: object) -> None:
    """Write a checkpoint and its card (called by recipes).

    Args:
        name: file name without ending.
        tensors: what to store; shared or strided tensors are copied.
        facts: recipe, seed, seconds, metrics and whatever else the card should say.
    """
    content = save_bytes({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()})
    facts = {"torch": torch.__version__, "sha256": hashlib.sha256(content).hexdigest(), **facts}
    (FOLDER / f"{name}.safetensors").write_bytes(content)
    (FOLDER / f"{name}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
