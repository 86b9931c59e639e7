"""Generate every student notebook from its instructor notebook: no solutions, no hidden tests, no outputs.

    python tools/homework.py          write notebooks/homework/NN_topic/homework.ipynb
    python tools/homework.py --check  exit 1 if a committed notebook is not what would be written
    python tools/homework.py --inspect grading/submitted/*/02_convolution/homework.ipynb
                                      exit 1 if a submission lost or doubled a cell that the grader needs

The instructor notebooks are ``book/homework/NN_topic/homework.ipynb``, in nbgrader's format. nbgrader's own
preprocessors do the work, on one notebook in memory: nothing else is written, and no database is made. A published
repository shows its hidden tests to everybody; a teacher who minds keeps a private copy of ``book/homework`` with
other seeds in them. How to grade is described in ``nbgrader_config.py``.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from notebooks import normalize, repository_url

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "book" / "homework"
RELEASE = ROOT / "notebooks" / "homework"
STEPS = (LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ClearHiddenTests, ClearMarkScheme)


def instructor_notebooks(source: Path = SOURCE) -> list[Path]:
    """All instructor notebooks, in the order of the book."""
    return sorted(path for path in source.glob("[0-9]*/*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def instructor(text: str, url: str) -> Any:
    """The instructor notebook in its normal form: set-up cell stamped, no outputs."""
    notebook, _ = ClearOutput().preprocess(nbformat.reads(text, as_version=4), {})
    return normalize(notebook, url)


def student(notebook: Any, url: str) -> Any:
    """The student notebook; ``notebook`` is a normal instructor notebook, which is not changed.

    Raises:
        RuntimeError: from nbgrader, if a solution or hidden test is outside its cell or a marker has no end.
        ValidationError: from nbgrader, if a graded cell has no points, or two cells have one name.
    """
    result = nbformat.from_dict(notebook)
    resources: dict[str, Any] = {}
    for step in STEPS:
        result, resources = step().preprocess(result, resources)
    result = normalize(result, url)  # before the checksums, which are of the cells as they are written
    for final in (ComputeChecksums, CheckCellMetadata):
        result, resources = final().preprocess(result, resources)
    return result


def generate(source: Path = SOURCE, release: Path = RELEASE) -> dict[Path, str]:
    """What each file should hold: the instructor notebooks in normal form and the student notebooks."""
    url = repository_url()
    files = {}
    for path in instructor_notebooks(source):
        notebook = instructor(path.read_text(encoding="utf-8"), url)
        files[path] = _text(notebook)
        files[release / path.relative_to(source)] = _text(student(notebook, url))
        checks = ROOT / "cvbook" / "checks" / f"{path.parent.name[3:]}_homework"
        files[checks / "solutions.json"] = json.dumps(solutions(notebook), indent=1, ensure_ascii=False) + "\n"
    return files


def solutions(notebook: Any) -> dict[str, str]:
    """Name of each function that students write -> its code, without markers."""
    found: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            code = "\n".join(line for line in cell.source.splitlines() if "### " not in line)
            found |= {node.name: code for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    return found


def inspect(path: Path, release: Path = RELEASE) -> list[str]:
    """What would make nbgrader give no points silently, or stop the whole class, in one submission; in sentences.

    Args:
        path: a submission, ``.../NN_topic/homework.ipynb``.
        release: where the student notebooks are.
    """
    original = release / path.parent.name / path.name
    if not original.exists():
        return [f"{path}: expected a path that ends like 02_convolution/homework.ipynb; rename it"]
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        return [f"{path}: cannot be read as a notebook ({type(error).__name__}); ask for it again"]
    found = _grade_ids(notebook)
    missing = [name for name in _grade_ids(nbformat.read(original, as_version=4)) if not found[name]]
    double = [name for name, count in found.items() if count > 1]
    sentences = {
        "has lost the cells": (missing, "their points are lost; ask for it again"),
        "has more than once": (double, "nbgrader stops at this file; delete the copies"),
    }
    return [f"{path}: {what} {', '.join(ids)}: {so}" for what, (ids, so) in sentences.items() if ids]


def _grade_ids(notebook: Any) -> Counter[str]:
    return Counter(cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata)


def _text(notebook: Any) -> str:
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1, ensure_ascii=False).rstrip("\n") + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a notebook would change")
    parser.add_argument("--inspect", nargs="+", type=Path, metavar="SUBMISSION", help="look at submissions instead")
    options = parser.parse_args(arguments)
    if options.inspect:
        found = [line for path in options.inspect for line in inspect(path, RELEASE)]
        print("\n".join(found) or f"submissions in order: {len(options.inspect)}", file=sys.stderr)
        return 1 if found else 0
    stale = {
        path: text
        for path, text in generate(SOURCE, RELEASE).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if options.check:
            print(f"{path.relative_to(ROOT)} is stale; run python tools/homework.py", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
