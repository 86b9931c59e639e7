"""Who may import whom: mathematics, then networks, then methods; data, training and pictures know no model."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cvbook"
RANK = {
    "__init__": 0, "_arguments": 0, "claims": 1, "data": 1, "viz": 1, "figures": 1, "checkpoint": 1, "labeled": 1,
    "train": 2, "weights": 2, "submission": 8, "checks": 9, "recipes": 9, "grade": 10,
    "layers": 3, "convolution": 3, "filters": 3, "equivariance": 3, "augmentation": 3, "neuron": 3,
    "cnns": 4, "cost": 5, "inside": 5, "transfer": 5,
}  # fmt: skip
FREE_OF_MODELS = ("claims", "data", "viz", "figures", "checkpoint", "labeled", "train", "weights", "checks")
MODELS = ("cnns", "transfer")


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cvbook":
            rest = node.module.split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cvbook.")}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}


FILES = sorted(PACKAGE.rglob("*.py"))
INNER = [path for path in FILES if path != PACKAGE / "__init__.py"]  # the outermost one imports only when asked


def test_every_part_has_its_place() -> None:
    assert {_part(path) for path in FILES} == set(RANK)


@pytest.mark.parametrize("path", INNER, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_arrows_point_upward_only(path: Path) -> None:
    mine = _part(path)
    for other in _imports(path) - {mine}:
        assert RANK[other] <= RANK[mine], f"{mine} imports {other}"
        assert not (mine in FREE_OF_MODELS and other in MODELS), f"{mine} should know no model, but imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in ("utils", "misc", "helpers")
