"""The file to hand in: whole, without outputs, and honest about what is empty."""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from cvbook import submission

STUB = "def f(x):\n    '''Doc.'''\n    # YOUR CODE HERE\n    raise NotImplementedError()\n"
DONE = "def g(x):\n    return x\n"
ANSWERS = importlib.import_module("cvbook.checks.neuron_homework").homework.answers


def written(name: str) -> str:
    return f"def {name}(*inputs):\n    return inputs\n"


def code(source: str) -> dict[str, Any]:
    ran = {"outputs": [{"output_type": "stream", "text": "x"}], "execution_count": 3}
    return {"cell_type": "code", "source": source.splitlines(True), "metadata": {}, **ran}


def notebook(*sources: str) -> dict[str, Any]:
    text = {"cell_type": "markdown", "source": "text", "metadata": {}}
    return {"cells": [*map(code, sources), text], "metadata": {}, "nbformat": 4}


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return tmp_path


def test_the_file_is_the_notebook_without_outputs(inside: Path) -> None:
    said = submission.write(notebook(STUB, DONE), inside / "out.ipynb", ("f", "g"))
    assert said == f"Hand in {inside / 'out.ipynb'}. Still empty: f."
    written = json.loads((inside / "out.ipynb").read_text(encoding="utf-8"))
    assert ["".join(cell["source"]) for cell in written["cells"]] == [STUB, DONE, "text"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in written["cells"][:2])
    assert list(inside.iterdir()) == [inside / "out.ipynb"]


def test_the_command_line(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inside / "02_topic").mkdir()
    mine = notebook("from cvbook.checks import neuron_homework as checks\n", *map(written, ANSWERS))
    (inside / "02_topic" / "Copy of homework.ipynb").write_text(json.dumps(mine), encoding="utf-8")
    assert submission.main(["02_topic/Copy of homework.ipynb"]) == 0
    assert capsys.readouterr().out == "Hand in 01_neuron.ipynb. Nothing in it is empty.\n"
    assert submission.main(["01_neuron.ipynb"]) == 0  # the notebook itself stays as it is
    assert capsys.readouterr().out.startswith("Hand in 01_neuron-handed-in.ipynb.")
    (inside / "bad.ipynb").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit):
        submission.main(["bad.ipynb"])
    assert capsys.readouterr().err.endswith("expected a notebook, bad.ipynb is none\n")
    (inside / "lesson.ipynb").write_text(json.dumps(notebook("import torch")), encoding="utf-8")
    with pytest.raises(SystemExit):
        submission.main(["lesson.ipynb"])
    assert capsys.readouterr().err.endswith("no cell imports its checks\n")


@pytest.mark.parametrize(
    ("sources", "missing"),
    [
        ([STUB], ["f"]),
        (["def helper(x):\n    return x\n\n\n" + STUB], ["f"]),
        (["def f(x):\n    return x\n", "%matplotlib inline"], []),
        (["def f(x):\n    pass\n"], ["f"]),
        (["def f(x):\n    ...\n"], ["f"]),
        (["f = lambda x: x"], []),
        (["%%time\ndef f(x):\n    return x\n"], []),
        (["def f(x):\n    return x\n\n\n" + STUB], ["f"]),
        (["x = 1"], ["f"]),
    ],
)
def test_what_is_empty(sources: list[str], missing: list[str]) -> None:
    assert submission.empty(notebook(*sources), ["f"]) == missing


@pytest.mark.parametrize("editor", ["jupyter", "vscode"])
def test_a_notebook_finds_itself(inside: Path, monkeypatch: pytest.MonkeyPatch, editor: str) -> None:
    path = inside / "homework.ipynb"
    path.write_text(json.dumps(notebook(STUB, DONE)), encoding="utf-8")
    answers: dict[str, Any] = {}
    if editor == "jupyter":
        monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    else:
        answers["__vsc_ipynb_file__"] = str(path)
    assert submission.from_notebook(answers, ("f", "g"), "02_topic") == "Hand in 02_topic.ipynb. Still empty: f."


def test_an_unsaved_notebook_is_noticed(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, module = inside / "homework.ipynb", inside / "running.py"
    path.write_text(json.dumps(notebook(STUB)), encoding="utf-8")
    module.write_text("def f(x):\n    return 7\n", encoding="utf-8")
    space: dict[str, Any] = {}
    exec(compile(module.read_text(encoding="utf-8"), str(module), "exec"), space)
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    said = submission.from_notebook(space, ("f",), "02_topic")
    assert said == "The saved f is not the one that runs: save the notebook, run its cell, then this one."
    assert not (inside / "02_topic.ipynb").exists()


def test_an_editor_that_hides_the_file_is_told_so(inside: Path) -> None:
    assert submission.from_notebook({}, ("f",), "02_topic").startswith("This editor does not say where")


def test_colab_downloads_what_it_shows(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded: list[str] = []
    colab = types.ModuleType("google.colab")
    colab._message = types.SimpleNamespace(blocking_request=lambda *_, **__: {"ipynb": notebook(DONE)})  # type: ignore[attr-defined]
    colab.files = types.SimpleNamespace(download=downloaded.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert submission.from_notebook({}, ("g",), "02_topic") == "Hand in 02_topic.ipynb. Nothing in it is empty."
    assert downloaded == ["02_topic.ipynb"]
