"""One notebook in this process's own session: what each kind of answer gets, and that nothing is left open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_assignment import IMPORTS, NAME, RIGHT

from cvbook.grade import batch, session
from cvbook.grade.batch import Job
from cvbook.grade.copies import in_a_copy
from cvbook.grade.notebooks import Assignment, Cell, read_assignment
from cvbook.grade.nursery import Nursery, imports
from cvbook.grade.session import Limits, grade


@pytest.fixture(scope="module")
def assignment(source: Path) -> Assignment:
    return read_assignment(NAME, source)


@pytest.fixture(scope="module")
def nursery(assignment: Assignment) -> Iterator[Nursery]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = Nursery(assignment.preamble)
    yield found
    found.close()
    torch.set_num_threads(threads)


@pytest.fixture
def run(assignment: Assignment, nursery: Nursery) -> Any:
    def graded(*sources: str, seconds: float = 20, total: float = 60) -> dict[str, Any]:
        cells = [Cell(source) for source in sources]
        space = imports(assignment.preamble)
        limits = Limits(seconds, total)
        return grade(assignment, cells, student="ann", nursery=nursery, space=space, limits=limits)

    return graded


def test_points_for_right_answers(run: Any) -> None:
    found = run(IMPORTS, *RIGHT.values())
    assert [test["points"] for test in found["tests"]] == [2, 3]
    assert not found["notes"]
    assert not found["look"]


@pytest.mark.parametrize(
    ("answer", "state", "message"),
    [
        ("def double(x):\n    return x\n", "wrong", "this is the input"),
        ("def double(x):\n    raise NotImplementedError\n", "not attempted", "no answer"),
        ("double = None\n", "not attempted", "no answer"),
        ("twice = 1\n", "missing", "no function double was found"),
        ("def double(x):\nreturn 1\n", "missing", "the cell that defines double has a syntax error"),
        ("def double(x):\n    while True: pass\n", "wrong", "took longer than 3 seconds"),
        ("def double(x):\n    import os\n    os.abort()\n", "wrong", "ended Python itself (SIGABRT)"),
        ("def double(x):\n    exit()\n", "wrong", "your code calls exit()"),
        ("import os\nos._exit(1)\ndef double(x): pass\n", "missing", "ended Python itself and was left out"),
        ("while True:\n    pass\ndef double(x): pass\n", "missing", "took longer than 3 seconds and was left out"),
    ],
)  # fmt: skip
def test_what_a_student_reads(run: Any, answer: str, state: str, message: str) -> None:
    found = run(IMPORTS, answer, RIGHT["total"], seconds=3)
    double, total = found["tests"]
    assert double["state"] == state
    assert message in double["message"]
    assert total["points"] == 3


def test_a_judge_that_dies_takes_nobody_along(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = session.judge

    def dies(test: Any, *rest: Any) -> Any:
        return os._exit(1) if test.name == "test-double" else judge(test, *rest)

    monkeypatch.setattr(session, "judge", dies)
    double, total = run(IMPORTS, *RIGHT.values())["tests"]
    assert (double["state"], double["message"]) == ("wrong", "your result broke the check")
    assert total["points"] == 3


def test_imports_that_do_not_run_are_reported() -> None:
    with pytest.raises(RuntimeError, match="expected imports that run"):
        Nursery("import no_such_module")


def test_all_cells_together_take_too_long(run: Any) -> None:
    found = run(IMPORTS, *(f"import time\ntime.sleep(1.5)\ny = {n}" for n in range(9)), *RIGHT.values(), total=4)
    assert all("has used up the 4 seconds" in test["message"] for test in found["tests"])


def test_nothing_stays_open(run: Any) -> None:
    run(IMPORTS, *RIGHT.values())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run(IMPORTS, *RIGHT.values(), "import os\nos._exit(1)")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_copy_has_limits() -> None:
    import time

    soon = time.monotonic() + 20
    assert in_a_copy(lambda: {"a": 1}, 2**30, soon) == {"a": 1}
    assert in_a_copy(lambda: {"long": "x" * 2**20}, 2**30, soon) == {"long": "x" * 2**20}
    assert in_a_copy(lambda: time.sleep(60), 2**30, time.monotonic() + 0.2) is None  # type: ignore[arg-type, return-value]
    with pytest.raises(ChildProcessError, match="expected a result"):
        in_a_copy(lambda: {"large": len(bytes(2**30))}, 2**28, soon)


def test_a_worker_reports_what_is_no_notebook(tmp_path: Path, source: Path) -> None:
    job = Job(NAME, source, None, tmp_path, tmp_path / "out", Limits())
    for name, content, reason in (
        ("a.txt", "x", "ends in .ipynb"), ("b.ipynb", "{", "is cut off"), ("c.ipynb", "", "is empty"),
        ("d.ipynb", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}', "none of the functions"),
    ):  # fmt: skip
        (tmp_path / name).write_text(content, encoding="utf-8")
        found = batch._one(job, name, tmp_path / name, str(tmp_path))
        assert reason in found["problem"]
        assert {test["state"] for test in found["tests"]} == {"not graded"}
