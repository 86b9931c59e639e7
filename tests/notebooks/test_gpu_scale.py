"""The settings for a GPU are walked through on a CPU: two training steps, the sample instead of the full data."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import notebooks

LESSONS = [path for path in notebooks.lessons() if "scale()" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_gpu_branch_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBOOK_SCALE", "gpu")
    monkeypatch.setenv("CVBOOK_DRY_RUN", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    book = nbformat.read(path, as_version=4)
    book.cells = [cell for cell in book.cells if cell.get("id") != "setup"]
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
