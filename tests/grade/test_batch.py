"""A folder: who is who, resuming, private tests, and the same table twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_assignment import IMPORTS, NAME, STUB, TESTS, cell, notebook, whole

from cvbook.grade.__main__ import main
from cvbook.grade.folder import find
from cvbook.grade.report import page_names


def saved(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_students_are_named_by_file_or_folder(tmp_path: Path) -> None:
    for name in ("ann.ipynb", "bob/homework.ipynb", "bob/readme.txt", f"eve/{NAME}/homework.ipynb", "JIM.IPYNB",
                 "eve/02_other/homework.ipynb", "two/a.ipynb", "two/b.ipynb", ".git/x.ipynb", "letter/answer.docx",
                 "bob/.ipynb_checkpoints/homework.ipynb", "12_kim/homework.ipynb", "group/max/homework.ipynb",
                 "group/ida/x.ipynb"):  # fmt: skip
        saved(tmp_path / name, {})
    found, left_out = find(tmp_path, NAME, ["02_other"])
    assert list(found) == [
        "12_kim", "JIM", "ann", "bob", "eve", "group/ida", "group/max", "letter", "two/a", "two/b"
    ]  # fmt: skip
    assert left_out == ["bob/readme.txt", "eve/02_other/homework.ipynb"]


def test_files_of_one_name_are_all_there(tmp_path: Path) -> None:
    for name in ("ann.ipynb", "ann.txt", "ann/homework.ipynb"):
        saved(tmp_path / name, {})
    found, left_out = find(tmp_path, NAME)
    assert len(found) == 3
    assert not left_out


def test_grading_again_runs_only_what_changed_and_gives_the_same_table(
    tmp_path: Path, grade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bob"):
        saved(tmp_path / "in" / f"{name}.ipynb", whole())
    first = grade(tmp_path / "in", tmp_path / "out")
    table = (first.out / "grades.csv").read_bytes()
    kept = {path: path.stat().st_mtime_ns for path in (first.out / "results").iterdir()}
    assert len(kept) == 2
    grade(tmp_path / "in", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (first.out / "results").iterdir()} == kept
    assert (first.out / "grades.csv").read_bytes() == table
    saved(tmp_path / "in" / "bob.ipynb", whole({"double": "def double(x):\n    return x\n"}))
    third = grade(tmp_path / "in", tmp_path / "out", "--again")
    assert third.rows["ann"]["points"] == "5"
    assert third.rows["bob"]["points"] == "3"


def test_private_tests_replace_and_add(tmp_path: Path, grade: Callable[..., Any]) -> None:
    saved(tmp_path / "in" / "ann.ipynb", whole())
    private = notebook(
        cell("assert double(torch.ones(1)).item() == 2", "test-double", points=7),
        cell("assert total(torch.ones(3)) == 4, 'three ones make four'", "test-more", points=1),
        cell("assert triple(total(torch.ones(3))) == 9", "test-typo", points=1),
    )
    saved(tmp_path / "private" / NAME / "homework.ipynb", private)
    found = grade(tmp_path / "in", tmp_path / "out", "--private", str(tmp_path / "private"))
    assert found.rows["ann"]["of"] == "12"
    assert found.rows["ann"]["points"] == "10"
    assert found.message("ann", "test-more") == ("wrong", "three ones make four")
    assert "the test itself does not run" in found.message("ann", "test-typo")[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--assignment", "09_none"], "assignments in"),
        (["nowhere"], "expected a folder of notebooks"),
        (["--source", "nowhere"], "expected an instructor notebook"),
        (["--private", "nowhere"], "expected private tests"),
        (["--workers", "0"], "for --workers, got 0"),
        (["--memory", "-1"], "for --memory, got -1"),
        (["--memory", "nan"], "for --memory, got nan"),
    ],
)
def test_a_wrong_command_gets_one_sentence(
    tmp_path: Path, source: Path, change: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    where = [] if change == ["nowhere"] else [str(tmp_path / "in")]
    arguments = [*where, "--assignment", NAME, "--source", str(source), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main([*arguments, *change])
    said = capsys.readouterr().err.splitlines()[-1]
    assert sentence in said


def test_an_empty_folder_gets_one_sentence(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in"), "--assignment", NAME, "--source", str(source), "--out", str(tmp_path / "out")])
    assert "found no file" in capsys.readouterr().err.splitlines()[-1]


def test_names_of_tests_are_those_of_the_notebook(source: Path) -> None:
    from cvbook.grade.notebooks import read_assignment

    found = read_assignment(NAME, source)
    assert [test.name for test in found.tests] == list(TESTS)
    assert found.answers == ("double", "total")
    assert found.points == 5


def test_no_two_students_share_a_page() -> None:
    names = page_names(["two/a", "two_a", "Ann", "ann", "x" * 250, "x" * 251, "bob", "half \ud800 letter"])
    assert len({name.casefold() for name in names.values()}) == 8
    assert names["bob"] == "bob.html"
    assert all(len(name.encode(errors="replace")) < 256 for name in names.values())


def test_all_seconds_count_while_cells_run(tmp_path: Path, grade: Callable[..., Any]) -> None:
    cells = [cell(f"import time\ntime.sleep(3)\ny = {number}") for number in range(20)]
    saved(tmp_path / "in" / "slow.ipynb", notebook(*cells, *whole()["cells"]))
    started = time.monotonic()
    found = grade(tmp_path / "in", tmp_path / "out", "--seconds", "8", "--total", "8")
    assert time.monotonic() - started < 40
    assert found.rows["slow"]["points"] == "0"
    assert "8 seconds" in found.message("slow", "test-double")[1]


def test_what_notebooks_do_is_possible(tmp_path: Path, grade: Callable[..., Any]) -> None:
    cells = [
        "files = !ls\nn = len(files)\n%time total_time = 1",
        "import asyncio, os, sys\nawait asyncio.sleep(0)\nlater = 2",
        "from google.colab import drive, files as uploads\ndrive.mount('/content/drive')",
        "import pickle\nclass Own:\n    pass\nassert type(pickle.loads(pickle.dumps(Own()))) is Own",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('x')\nplt.savefig('figure.png')\nplt.show()",
        "from concurrent.futures import ThreadPoolExecutor\nlist(ThreadPoolExecutor(2).map(abs, [1, -1]))",
        "with open('notes.txt', 'w') as file:\n    file.write('x')\nassert open('notes.txt').read() == 'x'",
        "%%time\nn + later + total_time",
        "torch.set_default_dtype(torch.float64)\ntorch.backends.cudnn.benchmark = True",
        "torch.set_num_threads(2)\ntorch.conv2d(torch.ones(8, 8, 64, 64), torch.ones(8, 8, 3, 3))",
        "%%writefile own.py\nfive = 5",
        "from own import five\nten = %time 2 * five\nassert ten == 10",
        "%%capture output\nprint(1)",
        "output.show()\nbest = %timeit -o 1 + 1\nbest.average > 0, 'x' in output.stdout",
        "def twice(x):\n    y = %time 2 * x\n    return y\nassert twice(4) == 8",
        "%%writefile -a own.py\nsix = 6",
        "%run own.py\nassert six == 6\n%env OWN=1\nassert os.environ['OWN'] == '1'",
        "%%time\nimport inspect\nawait asyncio.sleep(0)\ndef f():\n    return 1\nassert inspect.getsource(f)",
        "from pathlib import Path\nPath('log.txt').touch()\nassert Path('log.txt').exists()\nPath('log.txt').touch()",
        "import platform\nplatform.platform(), platform.processor(), platform.uname()",
        "torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2))",
        "import shutil\nshutil.copy2('notes.txt', 'copy.txt')\nassert os.path.exists('copy.txt')",
        "x: torch.Tensor = torch.ones(1)\nprint(f'{torch.pi=}', 'google.colab' in sys.modules)",
    ]
    saved(tmp_path / "in" / "ann.ipynb", notebook(cell(IMPORTS), *map(cell, cells), *whole()["cells"][1:]))
    found = grade(tmp_path / "in", tmp_path / "out")
    assert found.results["ann"]["notes"] == []
    assert found.rows["ann"]["look at"] == ""
    assert found.rows["ann"]["points"] == "5"


def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(tmp_path: Path, source: Path) -> None:
    for number in range(6):
        slow = f"def double(x):\n    import time\n    time.sleep({number / 2})\n    return 2 * x\n"
        saved(tmp_path / "in" / f"{number}.ipynb", whole({"double": slow}, first=f"import time\ntime.sleep({number})"))
    where = [str(tmp_path / "in"), "--source", str(source), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "cvbook.grade", *where, "--assignment", NAME, "--workers", "2"]
    results = tmp_path / "out" / "results"
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        done, end = len(list(results.glob("*.json"))), time.monotonic() + 120
        while len(list(results.glob("*.json"))) == done and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(stop)
        assert process.stderr is not None
        said = process.stderr.read() if stop != signal.SIGKILL else ""
        process.wait(30)
        assert ("the same command goes on" in said) == (stop != signal.SIGKILL)
        assert "Traceback" not in said
        end = time.monotonic() + 30
        while (alive := _of_session(process.pid)) and time.monotonic() < end:
            time.sleep(0.2)
        assert not alive
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "6 graded" in finished.stderr
    table = (tmp_path / "out" / "grades.csv").read_bytes()
    subprocess.run([*command, "--again"], capture_output=True, check=True)
    assert (tmp_path / "out" / "grades.csv").read_bytes() == table


def _of_session(session: int) -> list[int]:
    """Processes of one login session: workers, nurseries, keepers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(stat[3]) == session and stat[0] != "Z":
                found.append(int(folder.name))
    return found


def test_what_is_slow_to_read_stops_nobody(tmp_path: Path, grade: Callable[..., Any]) -> None:
    saved(tmp_path / "in" / "ann.ipynb", whole())
    saved(tmp_path / "in" / "long.ipynb", whole(first="np." * 200_000 + "\n" * 200_000))
    (tmp_path / "in" / "large.ipynb").write_text("{" + '"cells": [' + "[]," * 2_000_000 + "[]]}", encoding="utf-8")
    with (tmp_path / "in" / "hole.ipynb").open("wb") as file:
        file.truncate(30 * 2**30)
    os.mkfifo(tmp_path / "in" / "pipe.ipynb")
    (tmp_path / "in" / "zero.ipynb").symlink_to("/dev/zero")
    (tmp_path / "in" / "loop.ipynb").symlink_to("loop.ipynb")
    (tmp_path / "in" / "to a pipe.ipynb").symlink_to("pipe.ipynb")
    (tmp_path / "out" / "results").mkdir(parents=True)
    started = time.monotonic()
    found = grade(tmp_path / "in", tmp_path / "out")
    assert time.monotonic() - started < 120
    assert found.rows["ann"]["points"] == found.rows["long"]["points"] == "5"
    assert "no notebook" in found.rows["large"]["problem"]
    assert "more than the" in found.rows["hole"]["problem"]
    assert "no ordinary file" in found.rows["pipe"]["problem"]
    for name in ("zero", "loop", "to a pipe"):
        assert "is a link" in found.rows[name]["problem"]


def test_a_folder_for_results_among_the_submissions(tmp_path: Path, grade: Callable[..., Any]) -> None:
    saved(tmp_path / "ann.ipynb", whole())
    for _ in range(2):
        assert list(grade(tmp_path, tmp_path / "grades").rows) == ["ann"]
    (stored,) = (tmp_path / "grades" / "results").iterdir()
    stored.write_text("", encoding="utf-8")  # a full disk
    assert grade(tmp_path, tmp_path / "grades").rows["ann"]["points"] == "5"


def test_results_that_cannot_be_written_get_one_sentence(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "in" / "ann.ipynb", whole())
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in"), "--assignment", NAME, "--source", str(source), "--out", str(tmp_path / "out")])
    assert str(tmp_path / "out") in capsys.readouterr().err.splitlines()[-1]


def test_the_summary_says_what_is_hard_and_for_whom(tmp_path: Path, grade: Callable[..., Any]) -> None:
    same = "def double(x):\n    return x\n"
    for name, answers in {"ann": {}, "bob": {"double": same}, "eve": {"double": STUB.format(name="double")}}.items():
        saved(tmp_path / "in" / f"{name}.ipynb", whole(answers))
    found = grade(tmp_path / "in", tmp_path / "out")
    page = (found.out / "summary.html").read_text(encoding="utf-8")
    assert "1 wrong" in page
    assert "1 empty" in page
    assert "this is the input" in page
    assert '<a href="feedback/bob.html">bob</a>' in page
