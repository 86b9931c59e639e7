"""The homework notebooks: generated, byte for byte reproducible, solvable, and graded by nbgrader as intended."""

from __future__ import annotations

import csv
import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import homework
import nbformat
import pytest
from nbclient import NotebookClient

from cvbook.checks.cnns_homework import comparison
from notebooks import normalize, repository_url

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Assignment:
    """One folder of ``book/homework``, for example ``02_convolution``."""

    name: str

    @property
    def where(self) -> str:
        return f"{self.name}/homework.ipynb"

    @property
    def instructor(self) -> Path:
        return ROOT / "book" / "homework" / self.where

    @property
    def student(self) -> Path:
        return ROOT / "notebooks" / "homework" / self.where

    @property
    def checks(self) -> Any:
        return importlib.import_module(f"cvbook.checks.{self.name[3:]}_homework")

    @property
    def points(self) -> int:
        return sum(points for _, _, points in self.checks.PARTS)


@dataclass(frozen=True)
class Slip:
    """A wrong answer that a student hands in: code added to a cell, the graded cells it costs, and what is said."""

    cell: str
    code: str
    lost: frozenset[str]
    message: str
    shorter: tuple[str, str, str] = ("", "", "")  # a cell, and text in it to replace: experiments run elsewhere


ASSIGNMENTS = [Assignment(path.parent.name) for path in homework.instructor_notebooks()]
SLIPS = {
    "01_neuron": Slip(
        "layer",
        "\n\n\ndef layer(x, W, b):\n    return np.maximum(x @ W.T, 0) + b",
        # network calls layer
        frozenset({"test-layer", "test-network"}),
        "the activation comes before the bias",
    ),
    "02_convolution": Slip(
        "correlate2d",
        "\n\n\nslide = correlate2d\n\n\ndef correlate2d(image, kernel):\n    return slide(image, kernel.flip(0, 1))",
        # correlate calls correlate2d, so all of exercise 1 is lost, and nothing else
        frozenset({"test-correlate2d", "test-correlate2d-integers", "test-correlate-channels", "test-correlate-bias"}),
        "this is a true convolution: the kernel is flipped",
        ("digits", '"epochs": 20', '"epochs": 1'),
    ),
    "03_cnns": Slip(
        "as-kernels",
        "\n\n\ndef as_kernels(weight, shape):\n    C, h, w = shape\n"
        "    return weight.view(-1, h, w, C).permute(0, 3, 1, 2)",
        # convolutional calls as_kernels
        frozenset({"test-as-kernels", "test-convolutional"}),
        "flattening takes a channel after the other",
        ("fight", "SEEDS, COUNT, EPOCHS, BUDGET = 3, 2000, 3", "SEEDS, COUNT, EPOCHS, BUDGET = 1, 200, 1"),
    ),
}


@pytest.fixture(params=ASSIGNMENTS, ids=lambda assignment: assignment.name, scope="module")
def assignment(request: pytest.FixtureRequest) -> Assignment:
    return request.param


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def graded(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def stubs(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]


def solved(assignment: Assignment) -> Any:
    """The student notebook with the instructor's answers filled in."""
    notebook = read(assignment.student)
    answers = {cell.id: cell.source for cell in stubs(read(assignment.instructor))}
    for cell in stubs(notebook):
        cell.source = answers[cell.id]
    return notebook


def test_every_assignment_has_its_checks_and_a_slip_to_grade() -> None:
    assert set(SLIPS) == {assignment.name for assignment in ASSIGNMENTS}
    assert all(assignment.points > 0 for assignment in ASSIGNMENTS)


def test_committed_notebooks_are_what_the_tool_writes() -> None:
    assert homework.main(["--check"]) == 0


def test_generating_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "book" / "homework", tmp_path / "source")
    before = sorted(tmp_path.rglob("*"))
    first = homework.generate(source, tmp_path / "release")
    second = homework.generate(source, tmp_path / "release")
    assert first == second
    assert sorted(tmp_path.rglob("*")) == before
    for assignment in ASSIGNMENTS:
        assert first[tmp_path / "release" / assignment.where] == assignment.student.read_text(encoding="utf-8")
    assert len(first) == 3 * len(ASSIGNMENTS)  # instructor and student notebook, and the solutions for the package


def test_outputs_and_counters_of_the_instructor_do_not_reach_the_student(
    assignment: Assignment, tmp_path: Path
) -> None:
    notebook = read(assignment.instructor)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    path = tmp_path / assignment.where
    path.parent.mkdir()
    nbformat.write(notebook, path)
    files = homework.generate(tmp_path, tmp_path / "release")
    assert files[tmp_path / "release" / assignment.where] == assignment.student.read_text(encoding="utf-8")
    assert files[path] == assignment.instructor.read_text(encoding="utf-8")


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
    written = tmp_path / "release" / ASSIGNMENTS[0].where
    written.write_text(written.read_text(encoding="utf-8").replace("NotImplementedError", "ValueError"), "utf-8")
    assert homework.main(["--check"]) == 1


def test_submissions_are_inspected_for_lost_and_doubled_cells(
    assignment: Assignment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / assignment.where
    path.parent.mkdir()
    path.write_bytes(assignment.student.read_bytes())
    assert homework.main(["--inspect", str(path)]) == 0
    assert "submissions in order: 1" in capsys.readouterr().err
    notebook = read(assignment.student)
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


def test_the_student_notebook_has_no_solution_no_hidden_test_and_no_output(assignment: Assignment) -> None:
    text = assignment.student.read_text(encoding="utf-8")
    assert not re.search(r"SOLUTION|HIDDEN|seed=seed", text)
    notebook = read(assignment.student)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    for cell in stubs(notebook):
        assert cell.source.endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
    for secret in stubs(read(assignment.instructor)):
        answer = secret.source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
        hidden = [line.strip() for line in answer.splitlines() if len(line.strip()) > 25]
        assert not [line for line in hidden if line in text]


def test_the_student_notebook_is_in_the_lessons_normal_form(assignment: Assignment) -> None:
    text = assignment.student.read_text(encoding="utf-8")
    assert homework._text(normalize(nbformat.reads(text, as_version=4), repository_url())) == text
    assert read(assignment.student).cells[1].id == "setup"


def test_checksums_fit_the_cells_as_they_are_written(assignment: Assignment) -> None:
    from nbgrader.utils import compute_checksum

    cells = [cell for cell in read(assignment.student).cells if "nbgrader" in cell.metadata]
    assert cells
    for cell in cells:
        assert cell.metadata.nbgrader.checksum == compute_checksum(cell)


def test_every_exercise_has_hints_and_its_stated_points(assignment: Assignment) -> None:
    notebook = read(assignment.student)
    title = r"\*\*Exercise (\d+) ★+ \((?:implement|derive|experiment)[a-z ]*, (\d+) points\)"
    stated = {int(n): int(p) for n, p in re.findall(title, text_of(notebook))}
    assert list(stated) == list(range(1, len(stated) + 1))
    assert 6 <= len(stated) <= 10
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
    assert sum(stated.values()) == assignment.points


def text_of(notebook: Any) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_the_summary_lists_the_graded_cells_in_order_with_their_points(assignment: Assignment) -> None:
    cells = [
        (f"checks.{check.__name__}({name}).require()", points, f"test-{check.__name__.replace('_', '-')}")
        for check, name, points in assignment.checks.PARTS
    ]
    grades = [(cell.source, cell.metadata.nbgrader) for cell in graded(read(assignment.student))]
    assert [(source, grade.points, grade.grade_id) for source, grade in grades] == cells


def test_examples_in_the_docstrings_are_true(assignment: Assignment) -> None:
    names: dict[str, Any] = {}
    exec(next(cell.source for cell in read(assignment.instructor).cells if cell.id == "imports"), names)
    runner = doctest.DocTestRunner()
    for cell in stubs(read(assignment.instructor)):
        exec(cell.source, names)
        docstring = re.search(r'"""(.*?)"""', cell.source, re.DOTALL)
        assert docstring
        example = doctest.DocTestParser().get_doctest(docstring[1], names, cell.id, None, 0)
        assert example.examples or "An answer has this form" in docstring[1]  # the finding of an experiment
        runner.run(example, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0


def environment() -> dict[str, str]:
    """For kernels: nbgrader's tools on the PATH, and threads that do not spin when other tests keep the cores busy."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}


def run(notebook: Any) -> Any:
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(env=environment())
    return notebook


def test_cells_before_the_first_stub_run_and_the_summary_of_an_empty_notebook_too(assignment: Assignment) -> None:
    notebook = read(assignment.student)
    first = notebook.cells.index(stubs(notebook)[0])
    notebook.cells = [*notebook.cells[:first], next(cell for cell in notebook.cells if cell.id == "summary")]
    shown = run(notebook).cells[-1].outputs[0].text
    empty = len(assignment.checks.PARTS)
    assert shown.strip().endswith(f"0 of {assignment.points} points (checks wrong: 0, still empty: {empty})")


def ran(assignment: Assignment) -> dict[str, Any]:
    """The cells of the instructor notebook after it ran, by name; all points are reached."""
    cells = {cell.id: cell for cell in run(read(assignment.instructor)).cells}
    assert f"{assignment.points} of {assignment.points} points" in cells["summary"].outputs[0].text
    return cells


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.slow
def test_neuron_the_instructor_notebook_runs_and_its_findings_are_clear() -> None:
    cells = ran(Assignment("01_neuron"))
    assert 20 <= int(re.findall(r"for (\d+)% of them", printed(cells["sure-and-wrong"]))[0]) <= 45
    last, mean = map(float, re.findall(r"([\d.]+) %", printed(cells["ten-classes"])))
    assert mean > 80
    assert last < 75
    assert printed(cells["tables"]).startswith("75 of 81 can be learned")
    low, high = map(float, re.findall(r"between (-?[\d.]+) and ([\d.]+)", printed(cells["learned-slopes"]))[0])
    assert low < 0.2 < 0.4 < high
    assert "tanh: yours 1.59" in printed(cells["thirty-layers"])
    ahead = re.findall(r"of 49 places the average garments are ahead in (\d+)", printed(cells["maps"]))
    assert 12 <= int(ahead[0]) <= 30


@pytest.mark.slow
def test_convolution_the_instructor_notebook_runs_and_the_real_experiment_has_a_clear_outcome() -> None:
    cells = ran(Assignment("02_convolution"))
    changes = dict(re.findall(r"(.+): ([+-][\d.]+) points", cells["experiment"].outputs[0].text))
    assert float(changes["flip"]) < -2.5
    assert max(abs(float(changes[name])) for name in ("brightness", "noise")) < 2
    looks = re.findall(r"\[.*\]", cells["look"].outputs[0].text)
    assert looks[0] == str(list(range(10)))
    assert looks[1].split(", ")[7] == "1"
    shares = re.findall(r"([\d.]+)%", cells["depths"].outputs[0].text)
    assert [float(share) for share in shares] == sorted(map(float, shares), reverse=True)


@pytest.mark.slow
def test_cnns_the_instructor_notebook_runs_and_its_findings_are_clear() -> None:
    cells = ran(Assignment("03_cnns"))
    assert re.findall(r"([\d.]+) million parameters", printed(cells["bills"])) == ["61.0", "138.4"]
    ranks = [[int(n) for n in row.split(", ")] for row in re.findall(r"\[(.*)\]", printed(cells["directions"]))]
    assert max(ranks[0]) < 48
    assert ranks[1] == [64, 64, 64]
    assert "found: 5 of 5" in printed(cells["scene"])
    ties = [[float(n) for n in re.findall(r"\d+\.\d+", line)] for line in printed(cells["fair"]).splitlines()]
    assert all(low - 0.01 <= expected <= high + 0.01 for low, high, expected in ties)
    assert ties[2][1] - ties[2][0] > 1
    fight = printed(cells["fight"])
    for better in ("3x3", "bottleneck", "separable"):
        assert f"{better} is clearly better than 1x1 only" in fight
    assert "is clearly better than separable" not in fight
    lines = re.findall(r"^(.+?) +([\d.]+) % on average.* ([\d,]+) numbers written", fight, re.MULTILINE)
    means = {name: float(mean) for name, mean, _ in lines if "times" not in name}
    written = {name: int(count.replace(",", "")) for name, _, count in lines if "times" not in name}
    assert list(means) == list(comparison.ACCURACIES)
    assert max(means, key=means.__getitem__) == "separable"
    assert sorted(means.values())[-1] - sorted(means.values())[-2] > 1.5
    assert written["3x3"] < min(written[name] for name in written if name != "3x3") / 2  # why it is the quickest
    assert written["separable"] == max(written.values())
    assert all(abs(mean - sum(comparison.ACCURACIES[name]) / 3) < 2.5 for name, mean in means.items())


@pytest.fixture(scope="module")
def course(assignment: Assignment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a teacher needs, with three submissions, graded by nbgrader's commands."""
    folder, slip = tmp_path_factory.mktemp("course"), SLIPS[assignment.name]
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    shutil.copytree(assignment.instructor.parent, folder / "book" / "homework" / assignment.name)
    wrong = solved(assignment)
    next(cell for cell in wrong.cells if cell.id == slip.cell).source += slip.code
    for name, notebook in {"right": solved(assignment), "empty": read(assignment.student), "wrong": wrong}.items():
        for cell in notebook.cells:
            if cell.id == slip.shorter[0]:
                cell.source = cell.source.replace(*slip.shorter[1:])
        path = folder / "grading" / "submitted" / name / assignment.where
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    for command in (
        ["generate_assignment", assignment.name],
        ["autograde", assignment.name],
        ["generate_feedback", assignment.name],
        ["export", "--to", "grading/grades.csv"],
    ):
        nbgrader(folder, *command)
    return folder


def nbgrader(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def scores(course: Path, assignment: Assignment, name: str) -> dict[str, float]:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'grading' / 'gradebook.db'}") as book:
        submission = book.find_submission_notebook("homework", assignment.name, name)
        return {grade.name: grade.score for grade in submission.grades}


@pytest.mark.slow
def test_nbgrader_gives_the_solution_all_points_and_the_untouched_notebook_none(
    assignment: Assignment, course: Path
) -> None:
    with (course / "grading" / "grades.csv").open() as file:
        table = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {float(row["max_score"]) for row in table.values()} == {float(assignment.points)}
    assert float(table["right"]["score"]) == assignment.points
    assert float(table["empty"]["score"]) == 0
    empty = read(course / "grading" / "autograded" / "empty" / assignment.where)
    errors = [output for cell in graded(empty) for output in cell.outputs if output.output_type == "error"]
    assert {output.ename for output in errors} == {"NotAttempted"}
    assert all(len(output.traceback) == 1 and "not attempted" in output.traceback[0] for output in errors)
    assert len(errors) == len(assignment.checks.PARTS)
    assert {c.id for c in empty.cells if _stops(c)} == {cell.id for cell in graded(read(assignment.student))}


def _stops(cell: Any) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


@pytest.mark.slow
def test_nbgrader_takes_the_points_of_the_wrong_answer_only_and_tells_why(assignment: Assignment, course: Path) -> None:
    right, wrong = scores(course, assignment, "right"), scores(course, assignment, "wrong")
    assert {name for name in right if wrong[name] < right[name]} == SLIPS[assignment.name].lost
    feedback = course / "grading" / "feedback" / "wrong" / assignment.name / "homework.html"
    assert SLIPS[assignment.name].message in feedback.read_text("utf-8")


@pytest.mark.slow
def test_nbgraders_own_release_has_the_same_cells_as_the_tools(assignment: Assignment, course: Path) -> None:
    release, student = read(course / "grading" / "release" / assignment.where), read(assignment.student)
    assert [(c.id, c.source) for c in release.cells] == [(c.id, c.source) for c in student.cells]
    checksum = [[c.metadata.nbgrader.checksum for c in graded(nb)] for nb in (release, student)]
    assert checksum[0] == checksum[1]
    assert sorted(p.name for p in course.iterdir()) == ["book", "grading", "nbgrader_config.py"]
