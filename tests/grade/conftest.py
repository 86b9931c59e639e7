"""Grade a folder of submissions to the small assignment."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_assignment import NAME, whole


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ``book/homework``."""
    folder = tmp_path_factory.mktemp("source")
    (folder / NAME).mkdir()
    (folder / NAME / "homework.ipynb").write_text(json.dumps(whole()), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Graded:
    """What the grader wrote."""

    out: Path
    rows: dict[str, dict[str, str]]
    results: dict[str, dict[str, Any]]

    def points(self, student: str) -> tuple[float, float]:
        return float(self.rows[student]["test-double"]), float(self.rows[student]["test-total"])

    def message(self, student: str, test: str) -> tuple[str, str]:
        found = {t["name"]: t for t in self.results[student]["tests"]}[test]
        return found["state"], found["message"]


@pytest.fixture(scope="session")
def grade(source: Path) -> Callable[..., Graded]:
    """Grade a folder by the command line."""

    def run(submissions: Path, out: Path, *options: str) -> Graded:
        from cvbook.grade.__main__ import main

        arguments = [str(submissions), "--assignment", NAME, "--source", str(source), "--out", str(out)]
        assert main([*arguments, "--workers", "2", *options]) == 0
        with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = {row["student"]: row for row in csv.DictReader(file)}
        stored = [json.loads(path.read_text(encoding="utf-8")) for path in (out / "results").glob("*.json")]
        return Graded(out, rows, {result["student"]: result for result in stored})

    return run
