"""The homework notebooks: generated, byte for byte reproducible, solvable, and graded by nbgrader as intended."""

from __future__ import annotations

import csv
import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import homework
import nbformat
import pytest
from nbclient import NotebookClient

from cvbook.checks import convolution_homework as checks
from notebooks import normalize, repository_url

ROOT = Path(__file__).resolve().parents[2]
WHERE = "02_convolution/homework.ipynb"
INSTRUCTOR, STUDENT = ROOT / "book" / "homework" / WHERE, ROOT / "notebooks" / "homework" / WHERE


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def graded(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def stubs(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]


def solved(*, without: str = "") -> Any:
    """The student notebook with the instructor's answers filled in."""
    notebook, answers = read(STUDENT), {cell.id: cell.source for cell in stubs(read(INSTRUCTOR))}
    for cell in stubs(notebook):
        if cell.id != without:
            cell.source = answers[cell.id]
    return notebook


def test_committed_notebooks_are_what_the_tool_writes() -> None:
    assert homework.main(["--check"]) == 0


def test_generating_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "book" / "homework", tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    first = homework.generate(source, tmp_path / "release")
    second = homework.generate(source, tmp_path / "release")
    assert first == second
    assert sorted(tmp_path.rglob("*")) == before
    assert first[tmp_path / "release" / WHERE] == STUDENT.read_text(encoding="utf-8")


def test_outputs_and_counters_of_the_instructor_do_not_reach_the_student(tmp_path: Path) -> None:
    notebook = read(INSTRUCTOR)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    path = tmp_path / WHERE
    path.parent.mkdir()
    nbformat.write(notebook, path)
    files = homework.generate(tmp_path, tmp_path / "release")
    assert files[tmp_path / "release" / WHERE] == STUDENT.read_text(encoding="utf-8")
    assert files[path] == INSTRUCTOR.read_text(encoding="utf-8")


def test_the_tool_writes_what_is_stale_and_complains_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(homework, "ROOT", tmp_path)
    monkeypatch.setattr(homework, "SOURCE", shutil.copytree(ROOT / "book" / "homework", tmp_path / "source"))
    monkeypatch.setattr(homework, "RELEASE", tmp_path / "release")
    assert homework.main(["--check"]) == 1
    assert "is stale; run python tools/homework.py" in capsys.readouterr().err
    assert not (tmp_path / "release").exists()
    assert homework.main([]) == 0
    assert homework.main(["--check"]) == 0
    written = tmp_path / "release" / WHERE
    written.write_text(written.read_text(encoding="utf-8").replace("NotImplementedError", "ValueError"), "utf-8")
    assert homework.main(["--check"]) == 1


def test_submissions_are_inspected_for_lost_and_doubled_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / WHERE
    path.parent.mkdir()
    path.write_bytes(STUDENT.read_bytes())
    assert homework.main(["--inspect", str(path)]) == 0
    assert "submissions in order: 1" in capsys.readouterr().err
    notebook = read(STUDENT)
    lost, doubled = graded(notebook)[0], graded(notebook)[1]
    notebook.cells.remove(lost)
    notebook.cells.append(nbformat.from_dict({**doubled, "id": "copy"}))
    nbformat.write(notebook, path)
    assert homework.main(["--inspect", str(path)]) == 1
    shown = capsys.readouterr().err
    assert f"has lost the cells {lost.metadata.nbgrader.grade_id}: " in shown
    assert f"has more than once {doubled.metadata.nbgrader.grade_id}: " in shown
    path.write_text("not a notebook")
    assert "cannot be read as a notebook (NotJSONError)" in homework.inspect(path)[0]
    assert "rename it" in homework.inspect(path.rename(path.with_name("homework (1).ipynb")))[0]


def test_the_student_notebook_has_no_solution_no_hidden_test_and_no_output() -> None:
    text = STUDENT.read_text(encoding="utf-8")
    assert not re.search(r"SOLUTION|HIDDEN|seed=seed", text)
    notebook = read(STUDENT)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    for cell in stubs(notebook):
        assert cell.source.endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
    for secret in stubs(read(INSTRUCTOR)):
        answer = secret.source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
        hidden = [line.strip() for line in answer.splitlines() if len(line.strip()) > 25]
        assert not [line for line in hidden if line in text]


def test_the_student_notebook_is_in_the_lessons_normal_form() -> None:
    text = STUDENT.read_text(encoding="utf-8")
    assert homework._text(normalize(nbformat.reads(text, as_version=4), repository_url())) == text
    assert read(STUDENT).cells[1].id == "setup"


def test_checksums_fit_the_cells_as_they_are_written() -> None:
    from nbgrader.utils import compute_checksum

    cells = [cell for cell in read(STUDENT).cells if "nbgrader" in cell.metadata]
    assert cells
    for cell in cells:
        assert cell.metadata.nbgrader.checksum == compute_checksum(cell)


def test_every_exercise_has_hints_and_its_stated_points() -> None:
    notebook = read(STUDENT)
    stated = {int(n): int(p) for n, p in re.findall(r"\*\*Exercise (\d+) ★+ \(\w+, (\d+) points\)", text_of(notebook))}
    assert list(stated) == list(range(1, len(stated) + 1))
    assert len(stated) >= 8
    assert text_of(notebook).count("<details><summary>Hint 1</summary>") == len(stated)
    assert text_of(notebook).count("<details><summary>Hint 2</summary>") == len(stated)
    given, number = dict.fromkeys(stated, 0), 0
    for cell in notebook.cells:
        found = re.search(r"\*\*Exercise (\d+) ", cell.source) if cell.cell_type == "markdown" else None
        number = int(found[1]) if found else number
        if cell in graded(notebook):
            given[number] += cell.metadata.nbgrader.points
    assert given == stated
    assert f"There are {sum(stated.values())} points" in text_of(notebook)


def text_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_summary_lists_the_graded_cells_in_order_with_their_points() -> None:
    cells = [
        (f"checks.{check.__name__}({name}).require()", points, f"test-{check.__name__.replace('_', '-')}")
        for check, name, points in checks.PARTS
    ]
    found = [(c.source, c.metadata.nbgrader.points, c.metadata.nbgrader.grade_id) for c in graded(read(STUDENT))]
    assert found == cells


def test_examples_in_the_docstrings_are_true() -> None:
    names: dict[str, Any] = {}
    exec(next(cell.source for cell in read(INSTRUCTOR).cells if cell.id == "imports"), names)
    runner = doctest.DocTestRunner()
    for cell in stubs(read(INSTRUCTOR)):
        exec(cell.source, names)
        docstring = re.search(r'"""(.*?)"""', cell.source, re.DOTALL)
        assert docstring
        example = doctest.DocTestParser().get_doctest(docstring[1], names, cell.id, None, 0)
        assert example.examples or cell.id == "wrong-augmentation"
        runner.run(example, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0


def environment() -> dict[str, str]:
    """For kernels: nbgrader's tools on the PATH, and threads that do not spin when other tests keep the cores busy."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}


def run(notebook: Any) -> Any:
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(env=environment())
    return notebook


def test_cells_before_the_first_stub_run_and_the_summary_of_an_empty_notebook_too() -> None:
    notebook = read(STUDENT)
    first = notebook.cells.index(stubs(notebook)[0])
    notebook.cells = [*notebook.cells[:first], next(cell for cell in notebook.cells if cell.id == "summary")]
    shown = run(notebook).cells[-1].outputs[0].text
    assert shown.strip().endswith("0 of 30 points (checks wrong: 0, still empty: 26)")


@pytest.mark.slow
def test_the_instructor_notebook_runs_and_the_real_experiment_has_a_clear_outcome() -> None:
    cells = {cell.id: cell for cell in run(read(INSTRUCTOR)).cells}
    assert "30 of 30 points" in cells["summary"].outputs[0].text
    changes = dict(re.findall(r"(.+): ([+-][\d.]+) points", cells["experiment"].outputs[0].text))
    assert float(changes["flip"]) < -2.5
    assert max(abs(float(changes[name])) for name in ("brightness", "noise")) < 2
    looks = re.findall(r"\[.*\]", cells["look"].outputs[0].text)
    assert looks[0] == str(list(range(10)))
    assert looks[1].split(", ")[7] == "1"
    shares = re.findall(r"([\d.]+)%", cells["depths"].outputs[0].text)
    assert [float(share) for share in shares] == sorted(map(float, shares), reverse=True)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a teacher needs, with three submissions, graded by nbgrader's commands."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(ROOT / "book" / "homework", folder / "book" / "homework")
    wrong = solved()
    cell = next(cell for cell in wrong.cells if cell.id == "correlate2d")
    cell.source += (
        "\n\n\nslide = correlate2d\n\n\ndef correlate2d(image, kernel):\n    return slide(image, kernel.flip(0, 1))"
    )
    for name, notebook in {"right": solved(), "empty": read(STUDENT), "wrong": wrong}.items():
        digits = next(cell for cell in notebook.cells if cell.id == "digits")
        digits.source = digits.source.replace('"epochs": 20', '"epochs": 1')  # the experiment itself is tested above
        path = folder / "grading" / "submitted" / name / WHERE
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    for command in (
        ["generate_assignment", "02_convolution"],
        ["autograde", "02_convolution"],
        ["generate_feedback", "02_convolution"],
        ["export", "--to", "grading/grades.csv"],
    ):
        nbgrader(folder, *command)
    return folder


def nbgrader(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def scores(course: Path, name: str) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'grading' / 'gradebook.db'}") as book:
        submission = book.find_submission_notebook("homework", "02_convolution", name)
        return {grade.name: grade.score for grade in submission.grades}


@pytest.mark.slow
def test_nbgrader_gives_the_solution_all_points_and_the_untouched_notebook_none(course: Path) -> None:
    with (course / "grading" / "grades.csv").open() as file:
        table = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {float(row["max_score"]) for row in table.values()} == {30.0}
    assert float(table["right"]["score"]) == 30
    assert float(table["empty"]["score"]) == 0
    errors = [
        output
        for cell in graded(read(course / "grading" / "autograded" / "empty" / WHERE))
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert {output.ename for output in errors} == {"NotAttempted"}
    assert all(len(output.traceback) == 1 and "not attempted" in output.traceback[0] for output in errors)
    assert len(errors) == len(checks.PARTS)
    others = {c.id for c in read(course / "grading" / "autograded" / "empty" / WHERE).cells if _stops(c)}
    assert others == {cell.id for cell in graded(read(STUDENT))}


def _stops(cell: Any) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


@pytest.mark.slow
def test_nbgrader_takes_the_points_of_the_wrong_answer_only_and_tells_why(course: Path) -> None:
    right, wrong = scores(course, "right"), scores(course, "wrong")
    lost = {name for name in right if wrong[name] < right[name]}
    # correlate calls correlate2d, so all of exercise 1 is lost, and nothing else
    assert lost == {"test-correlate2d", "test-correlate2d-integers", "test-correlate-channels", "test-correlate-bias"}
    feedback = (course / "grading" / "feedback" / "wrong" / "02_convolution" / "homework.html").read_text("utf-8")
    assert "this is a true convolution: the kernel is flipped" in feedback


@pytest.mark.slow
def test_nbgraders_own_release_has_the_same_cells_as_the_tools(course: Path) -> None:
    release = read(course / "grading" / "release" / WHERE)
    assert [(c.id, c.source) for c in release.cells] == [(c.id, c.source) for c in read(STUDENT).cells]
    checksum = [[c.metadata.nbgrader.checksum for c in graded(nb)] for nb in (release, read(STUDENT))]
    assert checksum[0] == checksum[1]
    assert sorted(p.name for p in course.iterdir()) == ["book", "grading", "nbgrader_config.py"]
