"""Which file is whose, in a folder of submissions."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

__all__ = ["find"]


def find(submissions: Path, assignment: str, others: Collection[str] = ()) -> tuple[dict[str, Path], list[str]]:
    """Name of the student -> file, in order; and the files that are left out.

    A file in the folder itself gives its name to the student, otherwise its folder does: ``ANN.ipynb``,
    ``ANN/anything.ipynb``, ``GROUP/ANN/anything.ipynb``, ``ANN/02_convolution/anything.ipynb``. If there are several
    notebooks in a folder, each has its own line, ``ANN/anything``.

    Left out are hidden files (without a word), those in a folder of another assignment, and what lies beside a notebook
    and is none.

    Args:
        submissions: the folder.
        assignment: for example ``"02_convolution"``.
        others: names of other assignments.
    """
    folders: dict[str, list[Path]] = {}
    found: dict[str, Path] = {}
    left_out: list[str] = []
    for path in sorted(submissions.rglob("*")):
        *parents, name = path.relative_to(submissions).parts
        if any(part.startswith((".", "__MACOSX")) for part in (*parents, name)):
            continue
        if path.is_dir() and not path.is_symlink():
            if not os.access(path, os.R_OK | os.X_OK):
                left_out.append(f"{path.relative_to(submissions).as_posix()} (a folder that cannot be read)")
            continue
        if not set(parents).isdisjoint(others):
            left_out.append(path.relative_to(submissions).as_posix())
            continue
        folders.setdefault("/".join(part for part in parents if part != assignment), []).append(path)
    for folder, paths in sorted(folders.items()):
        notebooks = [path for path in paths if is_notebook(path)]
        for path in paths:
            full = path.relative_to(submissions).as_posix()
            own = str(PurePosixPath(folder) / path.stem)
            if folder and notebooks and path not in notebooks:
                left_out.append(full)
                continue
            name = folder if folder and len(notebooks or paths) == 1 else own
            found[full if name in found else name] = path
    return dict(sorted(found.items())), sorted(left_out)


def is_notebook(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() == ".ipynb"
