"""Write a file so that it is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write"]


def write(path: Path, text: str) -> None:
    """Write in UTF-8, with the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(text.encode("utf-8", errors="backslashreplace"))
    os.replace(half, path)
