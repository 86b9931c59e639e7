"""The workflows install what they run, and tell somebody when they fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


def _commands(job: dict[str, Any]) -> str:
    return "\n".join(step["run"] for step in job["steps"] if "run" in step)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_runs_all_tests_installs_the_group_of_the_book(name: str) -> None:
    for job in WORKFLOWS[name]["jobs"].values():
        if re.search(r"pytest .* tests$", _commands(job), re.MULTILINE):
            assert "--group book" in _commands(job)


def test_colab_gets_what_nbval_imports() -> None:
    commands = _commands(WORKFLOWS["colab"]["jobs"]["colab"])
    assert {"nbval", "coverage"} <= set(commands.split())


def test_every_weekly_job_is_reported() -> None:
    jobs = WORKFLOWS["weekly"]["jobs"]
    assert set(jobs["report"]["needs"]) == set(jobs) - {"report"}
    assert jobs["report"]["if"] == "failure()"
    assert "gh issue create" in _commands(jobs["report"])
    assert WORKFLOWS["weekly"]["permissions"]["issues"] == "write"


def test_the_weekly_lower_bounds_are_those_of_the_project() -> None:
    """Each requirement is one lower bound, which the job turns into `==bound.*`."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    lines = re.findall(r'"([^"]+)"', block)
    assert lines
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+", line) for line in lines)
    assert 'replace(">=", "==") + ".*"' in _commands(WORKFLOWS["weekly"]["jobs"]["releases"])


def test_no_workflow_installs_the_snap_of_chromium() -> None:
    assert "chromium-browser" not in "".join(p.read_text() for p in (ROOT / ".github/workflows").glob("*.yml"))


def test_make_serve_starts_the_server_before_the_browser() -> None:
    recipe = (ROOT / "Makefile").read_text().split("serve: book\n")[1].split("\n\n")[0]
    assert re.search(r"\(sleep .*webbrowser.*\) & ", recipe)


def test_grades_are_not_committed() -> None:
    assert "grading/" in (ROOT / ".gitignore").read_text().split()
