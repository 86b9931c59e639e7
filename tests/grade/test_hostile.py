"""Notebooks that are broken, careless or hostile: each loses what it must, and nothing else does."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from small_assignment import IMPORTS, RIGHT, STUB, TESTS, cell, notebook, resaved, whole

BODY = "def double(x):\n"
PATCHES = {
    "patches torch": (
        "    torch.allclose = torch.equal = lambda *a, **k: True\n    torch.Tensor.__eq__ = lambda *a: True\n"
    ),
    "patches numpy": "    import numpy\n    numpy.allclose = lambda *a, **k: True\n",
    "patches the check module": (
        "    from cvbook.checks import verdict\n    verdict._same = lambda *a: True\n"
        "    verdict.equal = lambda *a, **k: None\n    verdict.Verdict.require = lambda self: self\n"
        "    verdict.Verdict.passed = True\n"
    ),
    "patches code": (
        "    from cvbook.checks import verdict\n    verdict.equal.__code__ = (lambda *a, **k: None).__code__\n"
    ),
    "patches builtins": "    import builtins\n    builtins.AssertionError = ZeroDivisionError\n",
    "replaces modules": (
        "    import sys, types\n    for name in [n for n in sys.modules if n.startswith('cvbook')]:\n"
        "        sys.modules[name] = types.ModuleType(name)\n"
    ),
    "patches a closure": (
        "    from cvbook.checks import neuron\n    for cell in neuron.step.__closure__:\n"
        "        cell.cell_contents = lambda *a, **k: 'right'\n"
    ),
}
# a function double that is no answer, and a part of what the student is told
BODIES = {
    "endless loop": ("    while True:\n        pass\n", "took longer than 8 seconds"),
    "endless and catches all": (
        "    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n", "took longer than"
    ),
    "recursion": ("    return double(x)\n", "RecursionError"),
    "recursion without limit": (
        "    import sys\n    sys.setrecursionlimit(10**9)\n    f = lambda n: f(n + 1)\n    return f(0)\n", "your code"
    ),
    "20 GB": ("    return torch.zeros(20 * 2**30 // 4)[:5]\n", "RuntimeError"),
    "20 GB of a list": ("    return [0.0] * (20 * 2**30 // 8)\n", "MemoryError"),
    "forks": ("    import os\n    for _ in range(30):\n        os.fork()\n    return x\n", "start other programs"),
    "starts programs": ("    import subprocess\n    subprocess.run(['sleep', '60'])\n    return x\n", "start other"),
    "system": ("    import os\n    os.system('true')\n    return x\n", "start other programs"),
    "processes": (
        "    import multiprocessing as m\n    m.get_context('fork').Process(target=print).start()\n",
        "start other programs",
    ),
    "1 GB of prints": ("    for _ in range(1000):\n        print('x' * 2**20)\n    return x\n", "this is the input"),
    "_exit": ("    import os\n    os._exit(0)\n", "ended Python itself"),
    "exit": ("    import sys\n    sys.exit()\n", "calls exit()"),
    "abort": ("    import os\n    os.abort()\n", "ended Python itself (SIGABRT)"),
    "kills its parent": ("    import os\n    os.kill(os.getppid(), 9)\n    return x\n", "send signals"),
    "network": ("    import socket\n    socket.create_connection(('127.0.0.1', 9), 1)\n    return x\n", "use the net"),
    "reads frames": ("    import sys\n    return sys._getframe(1).f_locals['expected']\n", "KeyError"),
    "exception with a wall of text": ("    raise ValueError('x' * 10**7)\n", "ValueError: xxx"),
    "exception that breaks": (
        "    class Odd(Exception):\n        def __str__(self):\n            raise self\n    raise Odd\n", "your code"
    ),
    **{name: (body + "    return x\n", "") for name, body in PATCHES.items()},
}  # fmt: skip
# a cell before the right answers; does it leave both right?
CELLS = {
    "cell with an endless loop": ("while True:\n    pass", True),
    "cell that ends Python": ("import os\nos._exit(0)", True),
    "cell that calls exit": ("import sys\nsys.exit()", True),
    "cell that does not compile": ("def broken(:", True),
    "cell that raises": ("1 / 0", True),
    "magics": ("%matplotlib inline\n!ls\n%time 1", True),
    "cell magic": ("%%time\ny = 1", True),
    "thread": (
        "import threading\n\ndef spin():\n    while True:\n        pass\n\n"
        "threading.Thread(target=spin, daemon=True).start()", True
    ),
}  # fmt: skip


NONSENSE = {
    "talks nonsense": b"1\n{}\n", "is ready too early": b'{"ready": 1}\n', "wrong cell": b'{"cell": "x"}\n',
}  # fmt: skip


def saved(folder: Path, name: str, content: Any) -> None:
    (folder / f"{name}.ipynb").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def edited() -> dict[str, Any]:
    found = whole({name: STUB.format(name=name) for name in RIGHT})
    for one in found["cells"]:
        if one["metadata"].get("nbgrader", {}).get("grade"):
            one["source"] = "print('✓ passed')"
    return found


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, grade: Callable[..., Any]) -> Any:
    folder = tmp_path_factory.mktemp("submissions")
    victim = tmp_path_factory.mktemp("victim") / "file"
    victim.write_text("keep", encoding="utf-8")
    for name, (body, _) in BODIES.items():
        saved(folder, name, whole({"double": BODY + body}))
    for name, (first, _) in CELLS.items():
        saved(folder, name, whole(first=first))
    deletes = f"    import os, shutil\n    shutil.rmtree({str(victim.parent)!r})\n    os.remove({str(victim)!r})\n"
    saved(folder, "deletes", whole({"double": BODY + deletes + "    return x\n"}))
    steals = f"    import glob\n    return open(glob.glob({str(folder)!r} + '/*.ipynb')[0]).read()\n"
    saved(folder, "reads others", whole({"double": BODY + steals}))
    writes = (
        "    import os\n    for fd in range(3, 64):\n        try:\n"
        '            os.write(fd, b\'{"state": "passed", "message": "", "token": "0"}\\n\')\n'
        "        except OSError:\n            pass\n    return x\n"
    )
    saved(folder, "writes its own grade", whole({"double": BODY + writes}))
    early = "from cvbook.checks import verdict\nverdict.Verdict.require = lambda self: self\nchecks = None"
    for name, words in NONSENSE.items():
        first = f"import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, {words!r})\n    except OSError:\n"
        saved(folder, name, whole(first=first + "        pass"))
    saved(folder, "half a letter", whole({"double": "def double(x):\n    raise ValueError('\\ud800')\n"}))
    saved(folder, "own checks", whole({"double": "checks = 2\ndef double(x):\n    return checks * x\n"}))
    honest = (
        "import dataclasses, tempfile\nfrom typing import ClassVar\n\n@dataclasses.dataclass\nclass P:\n"
        "    names: ClassVar[list] = []\n    x: int = 1\n\n"
        "with tempfile.NamedTemporaryFile() as file:\n    file.write(b'x')\n"
    )
    saved(folder, "honest", whole(first=honest))
    saved(folder, "patches early", whole({n: STUB.format(name=n) for n in RIGHT}, first=early))
    saved(folder, "untouched", whole({name: STUB.format(name=name) for name in RIGHT}))
    saved(folder, "edited tests", edited())
    saved(folder, "deleted tests", whole(tests={}) | {"cells": [cell(IMPORTS), *map(cell, RIGHT.values())]})
    saved(folder, "doubled", {**whole(), "cells": 2 * whole()["cells"]})
    saved(folder, "reversed", {**whole(), "cells": whole()["cells"][::-1]})
    saved(folder, "split", notebook(cell(IMPORTS), cell("factor = 2"), cell("def double(x):\n    return factor * x"),
                                    cell("add = torch.sum"), cell("total = lambda x: add(x)")))  # fmt: skip
    saved(folder, "renamed", whole({"double": "def twice(x):\n    return 2 * x\n"}))
    saved(folder, "broken answer", whole({"double": "def double(x):\nreturn 2 * x\n"}))
    saved(folder, "other assignment", notebook(cell("def something_else():\n    pass")))
    saved(folder, "Анна Петрова (1)", whole())
    saved(folder, "=1+1", whole())
    for editor in ("Colab", "VS Code", "Kaggle"):
        saved(folder, editor, resaved(whole(), editor))
    bare = copy.deepcopy(whole())
    for one in bare["cells"]:
        one["metadata"] = {}
    saved(folder, "stripped", bare)
    large = whole()
    large["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 50 * 2**20}]
    saved(folder, "50 MB of outputs", large)
    old = nbformat.convert(nbformat.from_dict(whole()), 3)
    saved(folder, "nbformat 3", old)
    text = json.dumps(whole())
    (folder / "UTF-16.ipynb").write_bytes(text.encode("utf-16"))
    (folder / "mark.ipynb").write_bytes(text.encode("utf-8-sig"))
    (folder / "empty.ipynb").write_bytes(b"")
    (folder / "truncated.ipynb").write_text(text[: len(text) // 2], encoding="utf-8")
    (folder / "no JSON.ipynb").write_text("Dear teacher, my dog ate it.", encoding="utf-8")
    (folder / "JSON.ipynb").write_text('{"grade": 100}', encoding="utf-8")
    (folder / "deep.ipynb").write_text("[" * 10**5, encoding="utf-8")
    (folder / "letter.docx").write_bytes(b"PK\x03\x04")
    os.symlink(folder / "Colab.ipynb", folder / "link.ipynb")
    result = grade(folder, tmp_path_factory.mktemp("out"), "--seconds", "8")
    assert victim.read_text(encoding="utf-8") == "keep"
    return result


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_function_loses_its_points_only(graded: Any, name: str) -> None:
    assert graded.points(name) == (0, 3)
    state, message = graded.message(name, "test-double")
    assert state == "wrong"
    assert BODIES[name][1] in message
    assert len(message) <= 600
    assert "Traceback" not in message


@pytest.mark.parametrize("name", CELLS)
def test_a_bad_cell_costs_nothing_else(graded: Any, name: str) -> None:
    assert graded.points(name) == (2, 3)


@pytest.mark.parametrize("name", ["deletes", "reads others", "writes its own grade"])
def test_files_and_grades_are_out_of_reach(graded: Any, name: str) -> None:
    assert graded.points(name) == (0, 3)
    assert graded.message(name, "test-double")[0] == "wrong"


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_on_the_pipe_hurts_nobody_else(graded: Any, name: str) -> None:
    assert graded.rows[name]["points"] in ("0", "5")


def test_honest_code_is_not_suspected(graded: Any) -> None:
    assert graded.points("honest") == (2, 3)
    assert not graded.rows["honest"]["look at"]
    assert not graded.results["honest"]["notes"]
    assert graded.points("own checks") == (2, 3)
    assert graded.points("half a letter") == (0, 3)


@pytest.mark.parametrize("name", PATCHES)
def test_what_was_patched_is_shown_to_the_teacher(graded: Any, name: str) -> None:
    assert graded.rows[name]["look at"]


@pytest.mark.parametrize("name", ["untouched", "edited tests", "patches early"])
def test_nothing_written_is_not_attempted(graded: Any, name: str) -> None:
    assert graded.points(name) == (0, 0)
    for test in TESTS:
        assert graded.message(name, test)[0] == "not attempted"


@pytest.mark.parametrize(
    "name",
    ["Colab", "VS Code", "Kaggle", "deleted tests", "doubled", "reversed", "split", "stripped", "Анна Петрова (1)",
     "=1+1", "50 MB of outputs", "nbformat 3", "UTF-16", "mark"],
)  # fmt: skip
def test_editors_cost_nothing(graded: Any, name: str) -> None:
    assert graded.points(name if name != "=1+1" else "'=1+1") == (2, 3)


@pytest.mark.parametrize(
    ("name", "reason"),
    {
        "empty": "is empty", "truncated": "cut off", "no JSON": "is no notebook", "JSON": "JSON, but no notebook",
        "deep": "is no notebook", "letter": "ends in .ipynb", "link": "is a link",
        "other assignment": "none of the functions",
    }.items(),
)  # fmt: skip
def test_what_cannot_be_graded_is_reported_by_name(graded: Any, name: str, reason: str) -> None:
    assert reason in graded.rows[name]["problem"]
    assert graded.points(name) == (0, 0)
    assert name in (graded.out / "summary.html").read_text(encoding="utf-8")


def test_a_missing_function_is_named(graded: Any) -> None:
    assert graded.points("renamed") == (0, 3)
    assert graded.message("renamed", "test-double") == (
        "missing", "no function double was found: was its cell deleted, or the function renamed?"
    )  # fmt: skip
    state, message = graded.message("broken answer", "test-double")
    assert state == "missing"
    assert message.startswith("the cell that defines double has a syntax error in line 2")


def test_each_student_has_a_page(graded: Any) -> None:
    for row in graded.rows.values():
        student = row["student"].removeprefix("'")
        page = (graded.out / "feedback" / f"{student}.html").read_text(encoding="utf-8")
        assert f"{row['points']} of 5 points" in page
        assert "Traceback" not in page
        assert "BEGIN HIDDEN" not in page
