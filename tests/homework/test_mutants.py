"""Checks tell right answers from nearly right ones: changed solutions are caught, and mistakes are on record."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutants
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("assignment", mutants.PACKAGES)
def test_every_small_change_of_a_solution_is_caught(assignment: str) -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "mutants.py"), assignment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"not caught:\n{done.stdout}\n{done.stderr[-2000:]}"


def test_changes_are_made() -> None:
    source = "def f(a, b=1):\n    '''Doc.'''\n    c = a[1:] < 2\n    return g(a, c, k=True)"
    found = set(mutants.mutants(source))
    for part in ("a[:] < 2", "a[2:] < 2", "a[1:] <= 2", "a[1:] < 3", "g(c, a, k=True)", "g(a, c)", "k=False", "pass"):
        assert any(part in text for text in found), part
    assert all("b=1" in text and "Doc." in text for text in found)


@pytest.mark.parametrize("assignment", mutants.PACKAGES)
def test_every_check_has_four_wrong_answers_on_record(assignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = mutants.PACKAGES[assignment]
    folder = ROOT / "tests" / "checks" / package
    monkeypatch.syspath_prepend(str(folder))
    known: Counter[str] = Counter()
    for path in folder.glob("test_*.py"):
        for names, *_ in getattr(importlib.import_module(path.stem), "MISTAKES", []):
            known.update([names] if isinstance(names, str) else names)
    parts = importlib.import_module(f"cvbook.checks.{package}").PARTS
    assert {check.__name__ for check, *_ in parts if known[check.__name__] < 4} == set()
