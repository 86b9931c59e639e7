"""Read what students hand in, whatever their editors did to it, and the instructor's notebook that it answers."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

__all__ = ["Assignment", "Cell", "Test", "Unreadable", "read_assignment", "read_submission"]

MOST = 100 * 2**20  # bytes of a submission
SHOWN = 50  # characters of a line
SET_UP = "# @title Set-up"


class Unreadable(Exception):
    """A file that is no notebook; the message says why, as the end of "NAME: ..."."""


@dataclass(frozen=True)
class Cell:
    """A code cell. ``name`` is nbgrader's ``grade_id``, if an editor left it; ``test`` whether it is a test."""

    source: str
    name: str | None = None
    points: float | None = None
    solution: bool = False
    preamble: bool = True  # may run before all others

    @property
    def first_line(self) -> str:
        """The first line that is not empty, shortened."""
        line = next((line.strip() for line in self.source.splitlines() if line.strip()), "")
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"

    @property
    def test(self) -> bool:
        """Whether it gives points."""
        return self.points is not None and not self.solution


@dataclass(frozen=True)
class Test:
    """What gives points: ``source`` runs the check on the functions ``answers``."""

    name: str
    points: float
    source: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Assignment:
    """What a submission is compared with.

    Attributes:
        name: for example ``"02_convolution"``.
        preamble: the imports, one string.
        given: cells that are the same in every notebook, without their layout.
        given_names: what these cells define.
        tests: in the order of the notebook.
        closed: folders that a submission may not read.
    """

    name: str
    preamble: str
    given: frozenset[str]
    given_names: frozenset[str]
    tests: tuple[Test, ...]
    closed: tuple[Path, ...] = field(default=())

    @property
    def answers(self) -> tuple[str, ...]:
        """The functions that students write, in order."""
        return tuple(dict.fromkeys(name for test in self.tests for name in test.answers))

    def knows(self, cell: Cell) -> bool:
        """Whether the cell is the same in every notebook."""
        return cell.source.startswith(SET_UP) or layout(cell.source) in self.given

    @property
    def points(self) -> float:
        """Of all tests together."""
        return sum(test.points for test in self.tests)


def read_submission(path: Path) -> list[Cell]:
    """The code cells of a notebook in any version of the format and any encoding of Unicode.

    Raises:
        Unreadable: if it is none.
    """
    return [cell for cell in _cells(path) if cell.source.strip()]


def read_assignment(name: str, source: Path, private: Path | None = None) -> Assignment:
    """The instructor's notebook ``source/name/homework.ipynb``, and private tests that replace or add to its own.

    Args:
        name: for example ``"02_convolution"``.
        source: the folder with one folder for each assignment.
        private: a folder like ``source``. The test cells of its notebook replace those of the same ``grade_id``, source
            and points; others are added at the end; 0 points leave a test out.

    Raises:
        FileNotFoundError: if there is no such assignment, or no private tests for it.
        ValueError: if a notebook has no tests, or two of one name.
    """
    path = source / name / "homework.ipynb"
    if not path.is_file():
        there = ", ".join(sorted(p.parent.name for p in source.glob("*/homework.ipynb"))) or "none"
        raise FileNotFoundError(f"expected an instructor notebook {path}, found none; assignments in {source}: {there}")
    cells = _read(path)
    solutions = [cell for cell in cells if cell.solution]
    tests = {cell.name: cell for cell in cells if cell.test}
    if private is not None:
        own = private / name / "homework.ipynb"
        if not own.is_file():
            raise FileNotFoundError(f"expected private tests in {own}, found no such file")
        tests |= {cell.name: cell for cell in _read(own) if cell.test}
    first = cells.index(solutions[0]) if solutions else len(cells)
    given = [cell for cell in cells if not cell.test and not cell.solution]
    written = {node.name for cell in solutions for node in _tree(cell.source).body if hasattr(node, "name")}
    return Assignment(
        name,
        preamble="\n".join(c.source for c in cells[:first] if c in given and not c.source.startswith(SET_UP)),
        given=frozenset(layout(cell.source) for cell in given),
        given_names=frozenset(defined for cell in given for defined in _defines(cell.source)),
        tests=tuple(
            Test(str(cell.name), cell.points or 0, cell.source, _uses(cell.source, written))
            for cell in tests.values()
            if cell.points
        ),
        closed=tuple(p.resolve() for p in (source, private) if p is not None),
    )


def layout(source: str) -> str:
    """A cell without what editors change: spaces at the ends of lines, empty lines around."""
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _read(path: Path) -> list[Cell]:
    try:
        cells = _cells(path)
    except Unreadable as error:
        raise ValueError(f"expected an instructor notebook, but {path} {error}") from None
    names = Counter(cell.name for cell in cells if cell.test)
    if twice := [str(name) for name, count in names.items() if count > 1]:
        raise ValueError(f"expected each test once, but {path} has more than one {', '.join(twice)}")
    if not names:
        raise ValueError(f"expected test cells with points (nbgrader's format), but {path} has none")
    return cells


def _cells(path: Path) -> list[Cell]:
    if path.is_symlink():
        raise Unreadable("is a link to another file, which is not followed")
    if not path.is_file():
        raise Unreadable("is no ordinary file")
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("is empty")
    if size > MOST:
        raise Unreadable(f"has {size // 2**20} MB, more than the {MOST // 2**20} MB that are read; clear its outputs")
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        start = data[:200].decode(json.detect_encoding(data), errors="ignore").lstrip("\ufeff \r\n\t")
        raise Unreadable("is cut off or damaged" if start.startswith("{") else "is no notebook") from None
    try:
        for cell in [*content.get("cells", []), *(c for w in content.get("worksheets", []) for c in w["cells"])]:
            cell["outputs"] = []  # may be large, and nothing here needs them
        notebook = nbformat.convert(nbformat.from_dict(content), 4)
        return [_cell(cell) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception:  # whatever nbformat meets in a file that is JSON and no notebook
        raise Unreadable("is JSON, but no notebook") from None


def _cell(cell: Any) -> Cell:
    source = cell.source if isinstance(cell.source, str) else "".join(map(str, cell.source))
    marks = cell.metadata.get("nbgrader", {})
    points = marks.get("points", 0) if marks.get("grade") else None
    return Cell(source, marks.get("grade_id"), points, bool(marks.get("solution")))


@functools.cache
def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _defines(source: str) -> set[str]:
    """Names that a cell gives a value."""
    found = {n.id for n in ast.walk(_tree(source)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found | set(re.findall(r"^(?:def|class) (\w+)", source, re.MULTILINE))


def _uses(source: str, among: set[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n.id for n in ast.walk(_tree(source)) if isinstance(n, ast.Name) and n.id in among))
