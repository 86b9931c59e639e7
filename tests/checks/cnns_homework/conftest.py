"""What the tests of this homework share: the instructor's functions."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvbook import summary

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def solutions() -> dict[str, Any]:
    """The functions of the instructor notebook."""
    notebook = nbformat.read(ROOT / "book/homework/03_cnns/homework.ipynb", as_version=4)
    names: dict[str, Any] = {
        "torch": torch, "F": F, "nn": nn, "math": math, "itertools": itertools, "summary": summary
    }  # fmt: skip
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            exec(cell.source, names)
    return names
