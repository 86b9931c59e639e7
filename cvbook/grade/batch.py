"""Grade a folder of submissions with several workers; what is graded already is not graded again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

import cvbook
from cvbook.grade.copies import in_a_copy
from cvbook.grade.folder import find, is_notebook
from cvbook.grade.notebooks import MOST, Assignment, Cell, Unreadable, read_assignment, read_submission
from cvbook.grade.nursery import ONE_THREAD, Nursery, imports
from cvbook.grade.session import Limits, grade
from cvbook.submission import replace_file

__all__ = ["Job", "grade_folder"]

PACKAGE = Path(cvbook.__file__).resolve().parent
TO_READ, TO_READ_SECONDS = 3 * 2**30, 60  # bytes of memory, and time
ORPHANS = 5  # seconds after which workers notice that the grader is gone


@dataclass(frozen=True)
class Job:
    """Everything that decides about grades."""

    assignment: str
    source: Path
    private: Path | None
    submissions: Path
    out: Path
    limits: Limits

    def read(self) -> Assignment:
        """The assignment; submissions may not read what belongs to the grader, nor each other."""
        found = read_assignment(self.assignment, self.source, self.private)
        ours = PACKAGE.glob("checks/*/solutions.json")
        return replace(found, closed=(*found.closed, self.submissions.resolve(), self.out.resolve(), *ours))

    def find(self) -> tuple[dict[str, Path], list[str]]:
        """See `cvbook.grade.folder.find`."""
        others = {path.parent.name for path in self.source.glob("*/homework.ipynb")} - {self.assignment}
        found, left_out = find(self.submissions, self.assignment, others)
        ours = self.out.resolve()  # may be among the submissions
        return {
            name: path
            for name, path in found.items()
            if ours not in (place := path.parent.resolve()).parents and ours != place
        }, left_out


def grade_folder(job: Job, *, workers: int = 2, again: bool = False, progress: bool = True) -> list[dict[str, Any]]:
    """Grade every submission; each result is stored in ``out/results`` as soon as it is there.

    Args:
        job: what to grade, and how.
        workers: processes at a time.
        again: grade also what has a stored result for the same file, tests and limits.
        progress: show a bar.

    Returns:
        For each student, in order: ``student``, ``file``, ``problem`` (why it could not be graded, or empty) and what
        `cvbook.grade.session.grade` returns.

    Raises:
        FileNotFoundError: if there is no such assignment or no submission.
        ValueError: if the assignment's notebook is broken.
    """
    job.read()
    found, left_out = job.find()
    if not found:
        what = f"only {', '.join(left_out[:5])}, of other assignments" if left_out else "no file"
        raise FileNotFoundError(f"expected notebooks in {job.submissions}, found {what}")
    stored = {student: job.out / "results" / f"{_key(job, student, path)}.json" for student, path in found.items()}
    todo = {student: path for student, path in found.items() if again or _stored(stored[student]) is None}
    bar = tqdm(total=len(found), initial=len(found) - len(todo), unit="notebook", disable=not progress)
    with bar:
        for student, result in _all(job, todo, workers):
            replace_file(stored[student], json.dumps(result, ensure_ascii=False, indent=1))
            bar.update()
    return [json.loads(stored[student].read_text(encoding="utf-8")) for student in found]


def _stored(path: Path) -> dict[str, Any] | None:
    """An earlier result, if there is a whole one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _all(job: Job, todo: dict[str, Path], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Results as they come; if a worker dies, what was not finished runs again, one at a time."""
    os.environ.update(ONE_THREAD)  # the workers inherit them; a process with running threads must not be copied
    left = dict(todo)
    try:
        with _work() as work, _pool(workers) as pool, _ends_at_once():
            jobs = {pool.submit(_one, job, student, path, work): student for student, path in todo.items()}
            for done in as_completed(jobs):
                result = done.result()
                left.pop(jobs[done])
                yield jobs[done], result
    except BrokenProcessPool:
        for student, path in left.items():
            try:
                with _work() as work, _pool(1) as pool:
                    yield student, pool.submit(_one, job, student, path, work).result()
            except BrokenProcessPool:
                yield student, _problem(job, student, path, "ended the grader's own process; look at it by hand")


@contextlib.contextmanager
def _ends_at_once() -> Iterator[None]:
    """On Ctrl-C, or whenever results are no longer asked for, notebooks that are being graded are not waited for."""
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        for worker in multiprocessing.active_children():
            worker.kill()
        raise


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),))


def _begin(grader: int) -> None:
    """In a worker: end at once on Ctrl-C, and soon when the grader is gone; sessions end with their worker."""

    def look(*_: Any) -> None:
        if os.getppid() != grader:
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, ORPHANS, ORPHANS)


@functools.cache
def _assignment(job: Job) -> Assignment:
    return job.read()


_nurseries: dict[Job, tuple[Nursery, dict[str, Any]]] = {}


def _nursery(job: Job) -> tuple[Nursery, dict[str, Any]]:
    """This worker's nursery, and the instructor's imports; another nursery if the one there was has died."""
    nursery, space = _nurseries.get(job, (None, None))
    if space is None:
        space = imports(_assignment(job).preamble)
    if nursery is None or nursery.process.poll() is not None:
        nursery = Nursery(_assignment(job).preamble)
    _nurseries[job] = nursery, space
    return nursery, space


def _work() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="cvbook-", ignore_cleanup_errors=True)


def _one(job: Job, student: str, path: Path, work: str) -> dict[str, Any]:
    """In a worker: one submission."""
    import torch

    torch.set_num_threads(1)
    try:
        if not is_notebook(path):
            raise Unreadable("is no notebook: expected a file that ends in .ipynb")
        cells = _cells(path)
    except Unreadable as error:
        return _problem(job, student, path, str(error))
    assignment = _assignment(job)
    if not any(name in cell.source for name in assignment.answers for cell in cells):
        return _problem(job, student, path, f"has none of the functions of {job.assignment}; another assignment?")
    try:
        nursery, space = _nursery(job)
        found = grade(
            assignment, cells, student=student, nursery=nursery, space=space, folder=Path(work), limits=job.limits
        )
        return _row(job, student, path) | found
    except Exception as error:  # whatever it does to the grader, the rest of the class is graded
        return _problem(job, student, path, f"broke off the grader ({type(error).__name__}); look at it by hand")


def _cells(path: Path) -> list[Cell]:
    """Read in a copy of this process: a small file can grow large in memory."""

    def read() -> dict[str, Any]:
        try:
            return {"cells": [asdict(cell) for cell in read_submission(path)]}
        except Unreadable as error:
            return {"unreadable": str(error)}
        except OSError as error:
            return {"unreadable": f"cannot be read ({type(error).__name__})"}

    found: dict[str, Any] | None = None
    with contextlib.suppress(ChildProcessError):
        found = in_a_copy(read, TO_READ, time.monotonic() + TO_READ_SECONDS)
    if found is None:
        raise Unreadable("takes more memory or time to read than any notebook needs")
    if "unreadable" in found:
        raise Unreadable(found["unreadable"])
    return [Cell(**cell) for cell in found["cells"]]


def _row(job: Job, student: str, path: Path) -> dict[str, Any]:
    return {"student": student, "file": path.relative_to(job.submissions).as_posix(), "problem": ""}


def _problem(job: Job, student: str, path: Path, reason: str) -> dict[str, Any]:
    tests = [
        {"name": test.name, "title": test.name, "state": "not graded", "points": 0, "of": test.points, "message": ""}
        for test in _assignment(job).tests
    ]
    return _row(job, student, path) | {"problem": reason, "tests": tests, "notes": [], "look": []}


@functools.cache
def _code() -> str:
    """Names the version of the package: checks, grader and data decide about grades, too."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _key(job: Job, student: str, path: Path) -> str:
    """Names what a result depends on."""
    digest = hashlib.sha256()
    texts = [student, path.relative_to(job.submissions).as_posix(), _code(), json.dumps(asdict(job.limits))]
    texts.append(os.environ.get("CVBOOK_SCALE", ""))
    for text in texts:
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    files = [f / job.assignment / "homework.ipynb" for f in (job.source, job.private) if f is not None]
    for file in files:
        digest.update(file.read_bytes())
    with contextlib.suppress(OSError):
        if path.is_symlink():
            digest.update(b"a link to " + os.fsencode(os.readlink(path)))
        elif path.is_file() and path.stat().st_size <= MOST:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]
