"""Grade one notebook: its cells run in a session (see `cvbook.grade.nursery`), each test in two processes.

    judge: the instructor's test  ──calls──>  copy of the session: the student's functions

What a test breaks is gone with its copy. What a cell breaks (an endless loop, ``os._exit``) ends the session; another
one is started without that cell.
"""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvbook.grade.copies import in_a_copy
from cvbook.grade.judge import judge
from cvbook.grade.messages import SENTENCE, Broken, Ended, receive, send
from cvbook.grade.notebooks import SET_UP, Assignment, Cell, Test
from cvbook.grade.nursery import Nursery
from cvbook.grade.walls import TOLD, suspicious

__all__ = ["Limits", "grade"]


@dataclass(frozen=True)
class Limits:
    """What a notebook may use: ``seconds`` for each cell and test, ``total`` for all; ``memory`` in bytes."""

    seconds: float = 20.0
    total: float = 120.0
    memory: int = 2 * 2**30


def grade(
    assignment: Assignment,
    cells: Sequence[Cell],
    *,
    student: str,
    nursery: Nursery,
    space: dict[str, Any],
    folder: Path | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Run one submission.

    Args:
        assignment: the instructor's notebook.
        cells: the student's.
        student: decides about the random inputs.
        nursery: with the assignment's imports.
        space: what these imports define, here.
        folder: for temporary files.
        limits: what the notebook may use.

    Returns:
        ``tests``: for each test its ``name``, ``state`` ("passed", "wrong", "not attempted" or "missing"), ``points``
        and ``message``; ``notes`` for the student on cells that did not run; ``look``, why a teacher should look.
    """
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        run = _Run(assignment, cells, Path(own), student, nursery, space, limits or Limits())
        try:
            results = [run.test(test) for test in assignment.tests]
        finally:
            run.stop()
    look = [f"tried to {what}" for what in TOLD if what in run.refused]
    look += suspicious([cell.source for cell in cells if not (cell.test or assignment.knows(cell))])
    return {"tests": results, "notes": run.notes, "look": look}


def seed_of(assignment: str, student: str) -> int:
    """A number for the random inputs of one student's checks.

    >>> seed_of("02_convolution", "ann") == seed_of("02_convolution", "ann") != seed_of("02_convolution", "bob")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{assignment}/{student}".encode()).digest()[:3], "big")


class _Run:
    """Asks for tests, and ends what takes too long."""

    def __init__(
        self, assignment: Assignment, cells: Sequence[Cell], folder: Path, student: str, nursery: Nursery,
        space: dict[str, Any], limits: Limits,
    ) -> None:  # fmt: skip
        self.assignment, self.cells, self.folder, self.limits = assignment, cells, folder, limits
        self.nursery, self.space, self.seed = nursery, space, seed_of(assignment.name, student)
        self.skipped: dict[int, str] = {}  # cells that ended a session, and how
        self.failures: dict[int, str] = {}
        self.refused: set[str] = set()
        self.everything = False  # run the given cells too
        self.late = self.started = 0
        self.until = time.monotonic() + limits.total
        self.session: tuple[socket.socket, socket.socket] | None = None

    @property
    def notes(self) -> list[str]:
        """One sentence for each cell that did not run to its end."""
        found = sorted((self.failures | self.skipped).items())
        return [f"cell {number + 1} ({self.cells[number].first_line}) {text}" for number, text in found]

    def test(self, test: Test) -> dict[str, Any]:
        """Run one test and say what it found."""
        state, message = self._test(test)
        got = test.points if state == "passed" else 0
        return {
            "name": test.name,
            "title": self._title(test),
            "state": state,
            "points": got,
            "of": test.points,
            "message": message,
        }

    def _title(self, test: Test) -> str:
        """The exercise as the student knows it, for example "Exercise 1, many channels"."""
        name = re.search(r"\bchecks\.(\w+)\(", test.source)
        check = getattr(self.space.get("checks"), name[1], None) if name else None
        return str(getattr(check, "exercise", test.name.removeprefix("test-")))

    def _test(self, test: Test) -> tuple[str, str]:
        used_up = f"the notebook has used up the {self.limits.total:g} seconds that it may take"
        if time.monotonic() > self.until:
            return "wrong", f"not run: {used_up}"
        if self.session is None and not self._start():
            again = "the notebook's cells took too long, or ended Python, again and again"
            return "wrong", f"not run: {used_up if time.monotonic() > self.until else again}"
        seconds = self.limits.seconds / (1 if self.late < 2 else 4)
        found = self._judged(test, min(time.monotonic() + seconds, self.until))
        if found is None:
            self.late += 1
            self.stop()
            if time.monotonic() > self.until:
                return "wrong", used_up
            return "wrong", f"your code took longer than {seconds:g} seconds; is there a loop that never ends?"
        state, message = found["state"], found["message"]
        self.refused |= set(found["refused"])
        if state == "missing":
            return "missing", self._why(message)
        if state in ("ended", "broken"):
            return "wrong", message
        unknown = re.search(r"NameError: name '(\w+)'", message)
        if unknown and unknown[1] in self.assignment.given_names and not self.everything:
            self.everything = True
            self.stop()
            return self._test(test)
        return state, message

    def _judged(self, test: Test, until: float) -> dict[str, Any] | None:
        """What the judge says; None if it is not done in time."""
        assert self.session is not None
        ours, its = socket.socketpair()
        with ours:
            try:
                with its:
                    socket.send_fds(self.session[0], [b"+"], [its.fileno()])
                found = in_a_copy(lambda: judge(test, ours, self.space, self.seed), self.limits.memory, until)
            except ChildProcessError:
                found = {"state": "broken", "message": "your result broke the check", "refused": []}
            except OSError:  # the session is gone
                found = {"state": "ended", "message": "", "refused": []}
        if found is None:
            return None
        try:  # the copy ends now
            status = receive(self.session[0], max(until, time.monotonic() + 2))["ended"]
        except (Ended, Broken, TimeoutError, TypeError, KeyError):
            status = None
        if status is None or found["state"] == "broken":
            self.stop()
        if found["state"] == "ended":
            how = next((f" ({name.name})" for name in signal.Signals if status == name), "")
            found["message"] = f"your code ended Python itself{how}"
        return found

    def _why(self, name: str) -> str:
        """Why a function is not there."""
        for number, cell in enumerate(self.cells):
            if re.search(rf"^[ \t]*(def|class)[ \t]+{name}\b|^{name}[ \t]*=", cell.source, re.MULTILINE):
                text = self.skipped.get(number) or self.failures.get(number)
                if text:
                    return f"the cell that defines {name} {text}"
        return f"no function {name} was found: was its cell deleted, or the function renamed?"

    def _start(self) -> bool:
        """Start a session and let it run the cells; without those that end it."""
        for _ in range(len(self.cells) + 1):
            self.started += 1
            folder = self.folder / str(self.started)
            folder.mkdir()
            self.session = self.nursery.start(folder)
            running: int | None = None
            said: dict[str, Any] | None = None
            try:
                send(self.session[0], self._task(folder))
                while True:
                    said = None
                    said = receive(self.session[0], min(time.monotonic() + self.limits.seconds, self.until))
                    if "ready" in said:
                        failures = {int(number): str(text)[:SENTENCE] for number, text in said["failures"].items()}
                        self.failures = {n: text for n, text in failures.items() if n in range(len(self.cells))}
                        self.refused |= {one for one in TOLD if one in said["refused"]}
                        return True
                    running = said["cell"] if said.get("cell") in range(len(self.cells)) else running
            except TimeoutError:
                how = f"took longer than {self.limits.seconds:g} seconds"
            except (Ended, Broken, TypeError, ValueError, KeyError, AttributeError):
                how = "ended Python itself"
            self.stop()
            if running is None or time.monotonic() > self.until:
                return False
            self.skipped[running] = f"{how} and was left out"
        return False

    def _task(self, folder: Path) -> dict[str, Any]:
        cells = [
            [number, cell.source]
            for number, cell in enumerate(self.cells)
            if not (cell.source.startswith(SET_UP) or cell.test or number in self.skipped)
            and (self.everything or not self.assignment.knows(cell))
        ]
        closed = [str(path) for path in self.assignment.closed]
        return {"folder": str(folder), "closed": closed, "memory": self.limits.memory, "given": self.everything,
                "cells": cells}  # fmt: skip

    def stop(self) -> None:
        """Kill the session and all that it started."""
        for end in self.session or ():
            end.close()
        self.session = None
