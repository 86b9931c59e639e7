"""Write the file to hand in, and say what is still empty.

    python -m cvbook.submission notebooks/homework/02_convolution/homework.ipynb

In a homework notebook, ``checks.submission(globals())`` does the same.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["empty", "from_notebook", "homework", "main", "replace_file", "write"]

CHECKS = re.compile(r"from cvbook\.checks import (\w+_homework) as checks")


def homework(notebook: Mapping[str, Any]) -> Any:
    """The `cvbook.checks.points.Homework` that a notebook answers.

    Raises:
        ValueError: if it is no homework notebook of this book.
    """
    found = next((match for source in _sources(notebook) if (match := CHECKS.search(source))), None)
    if not found:
        raise ValueError("expected a homework notebook of this book, but no cell imports its checks")
    return importlib.import_module(f"cvbook.checks.{found[1]}").homework


def empty(notebook: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Those of the functions that the notebook does not have, or not yet.

    >>> stub = "def f(x):\\n    # YOUR CODE HERE\\n    raise NotImplementedError()"
    >>> empty({"cells": [{"cell_type": "code", "source": stub}]}, ["f"])
    ['f']
    """
    written: dict[str, bool] = {}
    for source in _sources(notebook):
        try:
            body = ast.parse(source).body
        except SyntaxError:  # magics, or an answer that does not run yet
            written |= dict.fromkeys(re.findall(r"^(?:def|class) (\w+)", source, re.MULTILINE), True)
            continue
        for node in body:
            if isinstance(node, ast.FunctionDef):
                written[node.name] = not all(map(_nothing, node.body))
            elif isinstance(node, ast.Assign):
                written |= {target.id: True for target in node.targets if isinstance(target, ast.Name)}
    return [name for name in names if not written.get(name)]


def _nothing(statement: ast.stmt) -> bool:
    """Whether a line of a function does no work: a docstring, ``pass``, ``...`` or the stub."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    stub = isinstance(statement, ast.Raise) and "NotImplemented" in ast.unparse(statement)
    return stub or isinstance(statement, ast.Pass)


def write(notebook: Mapping[str, Any], path: Path, names: Sequence[str]) -> str:
    """Write the notebook without its outputs; returns what a student should know.

    Args:
        notebook: as JSON gives it.
        path: of the new file; an older one is replaced.
        names: of the functions that students write.
    """
    cells = [
        {**cell, "outputs": [], "execution_count": None} if cell.get("cell_type") == "code" else cell
        for cell in notebook["cells"]
    ]
    replace_file(path, json.dumps({**notebook, "cells": cells}, ensure_ascii=False, indent=1) + "\n")
    missing = empty(notebook, names)
    return f"Hand in {path}. " + (f"Still empty: {', '.join(missing)}." if missing else "Nothing in it is empty.")


def replace_file(path: Path, text: str) -> None:
    """Write a file in UTF-8 so that it is there whole or not at all, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.half")
    half.write_bytes(text.encode("utf-8", errors="backslashreplace"))
    os.replace(half, path)


def from_notebook(answers: Mapping[str, Any], names: Sequence[str], title: str) -> str:
    """In a running notebook: write the file to hand in; on Colab also download it.

    Args:
        answers: ``globals()`` of the notebook.
        names: of the functions that students write.
        title: how the file is named, without ``.ipynb``.

    Returns:
        What a student should know, one line.
    """
    path = Path(f"{title}.ipynb")
    if "google.colab" in sys.modules:
        colab = importlib.import_module("google.colab")
        said = write(colab._message.blocking_request("get_ipynb", timeout_sec=30)["ipynb"], path, names)
        colab.files.download(str(path))
        return said
    found = answers.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
    try:
        notebook = json.loads(Path(found).read_text(encoding="utf-8"))
        saved = "\n".join(_sources(notebook))
    except (OSError, ValueError, KeyError):
        return "This editor does not say where the notebook is: save it, and hand in the saved file itself."
    for name in names:
        source = _source(answers.get(name))
        if source and source not in saved:
            return f"The saved {name} is not the one that runs: save the notebook, run its cell, then this one."
    return write(notebook, _beside(path, Path(found)), names)


def _beside(path: Path, original: Path) -> Path:
    """Another name, if the notebook itself has this one."""
    return path.with_stem(f"{path.stem}-handed-in") if path.resolve() == original.resolve() else path


def _source(answer: Any) -> str:
    try:
        return inspect.getsource(answer).rstrip()
    except (OSError, TypeError):
        return ""


def _sources(notebook: Mapping[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell.get("cell_type") == "code"]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cvbook.submission", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the file to hand in (default: here)")
    options = parser.parse_args(arguments)
    try:
        notebook = json.loads(options.notebook.read_text(encoding="utf-8"))
        asked = homework(notebook)
    except ValueError as error:
        parser.error(f"{options.notebook}: {error}")
    except (OSError, KeyError, TypeError):
        parser.error(f"expected a notebook, {options.notebook} is none")
    print(write(notebook, _beside(options.out / f"{asked.name}.ipynb", options.notebook), asked.answers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
