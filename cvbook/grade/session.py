"""Grade one notebook: run its cells in a process of its own, and each test in a copy of that process.

    grader ──fork──> session: confined, runs the student's cells once, then waits
                        ├──fork──> test 1: imports of the instructor, the student's function, the check
                        └──fork──> test 2 …

What a test breaks is gone with its copy. What a cell breaks (an endless loop, ``os._exit``) ends the session; the
grader starts another one without that cell.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import selectors
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvbook.grade.notebooks import Assignment, Cell, Test
from cvbook.grade.sandbox import suspicious
from cvbook.grade.student import LONGEST, Task, prepare, serve

__all__ = ["Limits", "grade"]


@dataclass(frozen=True)
class Limits:
    """What a notebook may use: ``seconds`` for each cell and test, ``total`` for all; ``memory`` in bytes."""

    seconds: float = 20.0
    total: float = 120.0
    memory: int = 2 * 2**30


def grade(
    assignment: Assignment, cells: Sequence[Cell], *, student: str, limits: Limits | None = None
) -> dict[str, Any]:
    """Run one submission.

    Returns:
        ``tests``: for each test its ``name``, ``state`` ("passed", "wrong", "not attempted" or "missing"), ``points``
        and ``message``; ``notes`` for the student on cells that did not run; ``look``, why a teacher should look.
    """
    with tempfile.TemporaryDirectory(prefix="cvbook-", ignore_cleanup_errors=True) as folder:
        session = _Session(assignment, cells, Path(folder), seed_of(assignment.name, student), limits or Limits())
        try:
            results = [session.test(test) for test in assignment.tests]
        finally:
            session.stop()
    look = [f"changed {name}" for name in session.changed] + [f"tried to {what}" for what in session.refused]
    if words := suspicious([cell.source for cell in cells if not assignment.knows(cell)]):
        look.append(f"uses {', '.join(words)}")
    return {"tests": results, "notes": session.notes, "look": look}


def seed_of(assignment: str, student: str) -> int:
    """A number for the random inputs of one student's checks.

    >>> seed_of("02_convolution", "ann") == seed_of("02_convolution", "ann") != seed_of("02_convolution", "bob")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{assignment}/{student}".encode()).digest()[:3], "big")


class _Session:
    """The grader's side: starts the process, asks for tests, and ends what takes too long."""

    def __init__(self, assignment: Assignment, cells: Sequence[Cell], folder: Path, seed: int, limits: Limits) -> None:
        self.assignment, self.cells, self.folder, self.seed, self.limits = assignment, cells, folder, seed, limits
        self.skipped: dict[int, str] = {}  # cells that ended a session, and how
        self.everything = False  # run the given cells too
        self.failures: dict[int, str] = {}
        self.changed: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.late = 0
        self.until = time.monotonic() + limits.total
        self.process: int | None = None
        prepare(assignment.preamble)  # before the first fork

    @property
    def notes(self) -> list[str]:
        """One sentence for each cell that did not run to its end."""
        return [f"cell {number + 1} {text}" for number, text in sorted((self.failures | self.skipped).items())]

    def test(self, test: Test) -> dict[str, Any]:
        """Run one test and say what it found."""
        state, message = self._test(test)
        got = test.points if state == "passed" else 0
        return {"name": test.name, "state": state, "points": got, "of": test.points, "message": message}

    def _test(self, test: Test) -> tuple[str, str]:
        if time.monotonic() > self.until:
            return "wrong", f"not run: the notebook has used up the {self.limits.total:g} seconds that it may take"
        if self.process is None and not self._start():
            return "wrong", "not run: the notebook's cells took too long, or ended Python, again and again"
        token = secrets.token_hex(16)
        seconds = self.limits.seconds / (1 if self.late < 2 else 4)
        self._send({"test": self.assignment.tests.index(test), "token": token})
        answer = self._wait(seconds, lambda found: found.get("token") == token)
        if answer is None:
            self.late += 1
            self.stop()
            return "wrong", f"your code took longer than {seconds:g} seconds; is there a loop that never ends?"
        self.changed |= dict.fromkeys(answer.get("changed", []))
        self.refused |= dict.fromkeys(answer.get("refused", []))
        if "ended" in answer:
            if answer["ended"] == "session":
                self.stop()
            return "wrong", f"your code ended Python itself{answer['how']}"
        if answer["state"] == "needs everything" and not self.everything:
            self.everything = True
            self.stop()
            return self._test(test)
        if answer["state"] == "missing":
            return "missing", self._why(answer["message"])
        return ("wrong" if answer["state"] == "needs everything" else answer["state"]), answer["message"]

    def _why(self, name: str) -> str:
        """Why a function is not there."""
        for number, cell in enumerate(self.cells):
            if re.search(rf"^\s*(def|class)\s+{name}\b|^{name}\s*=", cell.source, re.MULTILINE):
                text = self.skipped.get(number) or self.failures.get(number)
                if text:
                    return f"the cell that defines {name} {text}"
        return f"no function {name} was found: was its cell deleted, or the function renamed?"

    def _start(self) -> bool:
        """Fork a session and let it run the cells; without those that end it."""
        for _ in range(len(self.cells) + 1):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._fork()
            running: int | None = None
            while True:
                said = self._wait(self.limits.seconds, lambda found: True)
                if said is None or "ended" in said:
                    break
                if "ready" in said:
                    self.failures = {int(k): str(v)[:LONGEST] for k, v in said["failures"].items()}
                    self.changed |= dict.fromkeys(said["changed"])
                    self.refused |= dict.fromkeys(said["refused"])
                    return True
                running = said["cell"] if said.get("cell") in range(len(self.cells)) else running
            self.stop()
            if running is None or time.monotonic() > self.until:
                return False
            how = "ended Python itself" if said else f"took longer than {self.limits.seconds:g} seconds"
            self.skipped[running] = f"{how} and was left out"
        return False

    def _fork(self) -> None:
        read, self.commands = os.pipe()
        self.results, write = os.pipe()
        self.buffer = b""
        self.process = os.fork()
        if self.process == 0:
            try:
                serve(self._task(), read, write)
            finally:
                os._exit(70)
        os.close(read)
        os.close(write)
        os.set_blocking(self.results, False)

    def _task(self) -> Task:
        return Task(
            self.assignment, self.cells, self.skipped, self.everything, self.folder, self.seed, self.limits.memory
        )

    def stop(self) -> None:
        """Kill the session and all that it started."""
        if self.process is None:
            return
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.commands)
        os.close(self.results)
        self.process = None

    def _send(self, command: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self.commands, json.dumps(command).encode() + b"\n")

    def _wait(self, seconds: float, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """The next message that is wanted; None if it does not come in time."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.results, selectors.EVENT_READ)
            while True:
                while b"\n" in self.buffer:
                    line, self.buffer = self.buffer.split(b"\n", 1)
                    with contextlib.suppress(ValueError, AttributeError, TypeError):
                        found = json.loads(line)
                        if isinstance(found, dict) and wanted(found):
                            return found
                left = end - time.monotonic()
                if left <= 0 or len(self.buffer) > 2**20:
                    return None
                if selector.select(left):
                    data = os.read(self.results, 2**16)
                    if not data:
                        return {"ended": "session", "how": ""}
                    self.buffer += data
