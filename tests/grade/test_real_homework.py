"""The book's own homework: solutions, however they are saved, get all points, untouched notebooks none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from small_assignment import resaved

from cvbook.grade.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
EDITORS = ("Colab", "VS Code", "Kaggle")


@pytest.mark.slow
@pytest.mark.parametrize("assignment", ["01_neuron", "02_convolution", "03_cnns"])
def test_solutions_get_all_points_and_untouched_notebooks_none(assignment: str, tmp_path: Path) -> None:
    solution, untouched = (
        json.loads((ROOT / folder / "homework" / assignment / "homework.ipynb").read_text(encoding="utf-8"))
        for folder in ("book", "notebooks")
    )
    (tmp_path / "in").mkdir()
    for name, content in {"solution": solution, "untouched": untouched}.items():
        for editor in ("Jupyter", *EDITORS):
            path = tmp_path / "in" / f"{name} {editor}.ipynb"
            path.write_text(json.dumps(resaved(content, editor)), encoding="utf-8")
    out = tmp_path / "out"
    assert main([str(tmp_path / "in"), "--assignment", assignment, "--out", str(out), "--workers", "2"]) == 0
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        assert row["points"] == ("30" if row["student"].startswith("solution") else "0"), row
        assert row["of"] == "30"
        assert not row["look at"]
        assert not row["problem"]
    for path in (out / "results").glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert {test["state"] for test in result["tests"]} <= {"passed", "not attempted"}
        assert not result["notes"]
