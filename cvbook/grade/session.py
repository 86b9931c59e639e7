"""Grade one notebook: run its cells in a process of its own, and each test in a copy of that process.

    grader ──fork──> session: confined, runs the student's cells once, then waits
                        ├──fork──> test 1: imports of the instructor, the student's function, the check
                        └──fork──> test 2 …

What a test breaks is gone with its copy. What a cell breaks (an endless loop, ``os._exit``) ends the session; the
grader starts another one without that cell.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import linecache
import os
import re
import secrets
import selectors
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from cvbook.checks import points
from cvbook.grade.notebooks import SET_UP, Assignment, Cell, Test
from cvbook.grade.sandbox import CELL, Guard, confine, suspicious

__all__ = ["Limits", "grade"]

GUARDED = (
    "torch", "torch.nn", "torch.nn.*", "torch.functional", "torch._tensor", "torch.testing.*", "torch.autograd.*",
    "numpy", "numpy.*", "math", "random", "itertools", "functools", "operator", "collections", "inspect", "types",
    "cvbook", "cvbook.*",
)  # fmt: skip
LONGEST = 300  # characters of a message


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
        _guard(assignment.preamble)  # before the first fork

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
                running = said.get("cell", running)
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
                _serve(self, read, write)
            finally:
                os._exit(70)
        os.close(read)
        os.close(write)
        os.set_blocking(self.results, False)

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
                        if wanted(found):
                            return found
                left = end - time.monotonic()
                if left <= 0 or len(self.buffer) > 2**20:
                    return None
                if selector.select(left):
                    data = os.read(self.results, 2**16)
                    if not data:
                        return {"ended": "session", "how": ""}
                    self.buffer += data


# From here on: the student's side, in the forked process.

_fork, _write, _exit, _waitpid = os.fork, os.write, os._exit, os.waitpid  # a student may change these in os


def _serve(session: _Session, commands: int, results: int) -> None:
    """Run the cells, then the tests that are asked for; never returns."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    kept = sorted({commands, results})
    for low, high in zip([2, *kept], [*kept, 4096], strict=True):
        os.closerange(low + 1, high)
    sys.stdin, sys.stdout, sys.stderr = (open(os.devnull, mode, encoding="utf-8") for mode in ("r", "w", "w"))  # noqa: SIM115
    assignment = session.assignment
    space, guard = dict(_preamble(assignment.preamble)), _guard(assignment.preamble)
    walls = confine(session.folder, closed=assignment.closed, memory=session.limits.memory)

    def say(message: dict[str, Any]) -> None:
        _write(results, json.dumps(message).encode() + b"\n")

    failures: dict[int, str] = {}
    changed: dict[str, None] = {}
    silent = {"checks": _Silent(session.everything), "display": _nothing}
    notebook = dict(space)
    shell = _Shell(notebook)
    notebook["get_ipython"] = lambda: shell
    for number, cell in enumerate(session.cells):
        ours = cell.source.startswith(SET_UP) or (assignment.knows(cell) and not session.everything)
        if ours or cell.test or number in session.skipped:
            continue
        say({"cell": number})
        notebook |= silent  # a cell may have imported the checks again
        if failure := _run(cell.source, f"{CELL}{number + 1}>", notebook):
            failures[number] = failure
        changed |= dict.fromkeys(guard.restore())
    say({"ready": True, "failures": failures, "changed": list(changed), "refused": list(walls.refused)})
    with os.fdopen(commands, "rb", buffering=0) as lines:
        while line := lines.readline():
            command = json.loads(line)
            with walls.opened():
                child = _fork()
            if child == 0:
                os.close(commands)
                points.grading(session.seed)
                found = _judge(assignment, assignment.tests[command["test"]], space, notebook, guard)
                say(found | {"token": command["token"], "refused": list(walls.refused)})
                _exit(0)
            _, status = _waitpid(child, 0)
            how = f" ({signal.Signals(status & 127).name})" if status & 127 else ""
            say({"ended": "test", "how": how, "token": command["token"]})  # nobody reads it if the test has answered
    _exit(0)


def _judge(
    assignment: Assignment, test: Test, space: dict[str, Any], notebook: dict[str, Any], guard: Guard
) -> dict[str, Any]:
    """Run one test with the instructor's imports and the student's functions."""
    changed = dict.fromkeys(guard.restore())
    for name in test.answers:
        if name not in notebook:
            return {"state": "missing", "message": name}
    scope = space | {name: _guarded(notebook[name], guard, changed) for name in test.answers}
    state, message = "passed", ""
    try:
        exec(compile(test.source, "<test>", "exec"), scope)
    except NotImplementedError as error:
        state, message = "not attempted", str(error).partition(": ")[2]
    except AssertionError as error:
        state, message = "wrong", str(error).partition(": ")[2] or str(error) or "a test of your teacher fails"
    except SystemExit:
        state, message = "wrong", "your code calls exit(); return a result instead"
    except BaseException as error:
        state, message = "wrong", f"your code stopped with {_named(error)}"
    changed |= dict.fromkeys(guard.restore())
    if state == "passed" and changed:
        state, message = "wrong", f"your code changes {', '.join(changed)}; leave libraries as they are"
    if (unknown := re.search(r"NameError: name '(\w+)'", message)) and unknown[1] in assignment.given_names:
        state = "needs everything"
    return {"state": state, "message": message[:LONGEST], "changed": list(changed)}


def _guarded(answer: Any, guard: Guard, changed: dict[str, None]) -> Any:
    """The student's function; after each call, what it changed in libraries is put back."""
    if not isinstance(answer, types.FunctionType):
        return answer

    @functools.wraps(answer)
    def call(*inputs: Any, **settings: Any) -> Any:
        try:
            return answer(*inputs, **settings)
        finally:
            changed.update(dict.fromkeys(guard.restore()))

    return call


def _run(source: str, name: str, space: dict[str, Any]) -> str:
    """Run a cell; returns how it failed, or nothing."""
    try:
        text = TransformerManager().transform_cell(source)
        code = compile(text, name, "exec")
    except SyntaxError as error:
        return f"has a syntax error in line {error.lineno}: {error.msg}"
    except Exception as error:
        return f"cannot be read: {_named(error)}"
    linecache.cache[name] = len(text), None, text.splitlines(True), name  # for inspect.getsource
    try:
        exec(code, space)
    except SystemExit:
        return "calls exit()"
    except BaseException as error:
        return f"stopped with {_named(error)}"
    return ""


def _named(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST]
    except BaseException:  # its __str__ is the student's
        return type(error).__name__


class _Silent:
    """Stands for the checks while a student's cells run; they are judged later."""

    def __init__(self, passed: bool) -> None:
        self.passed = passed

    def __getattr__(self, name: str) -> _Silent:
        if name.startswith("_"):
            raise AttributeError(name)
        return self

    def __call__(self, *inputs: Any, **settings: Any) -> _Silent:
        return self


class _Shell:
    """Stands for IPython in a student's cells: runs what ``%%time`` is before, ignores other magics."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing

    def run_cell_magic(self, name: str, line: str, body: str) -> None:
        """Run the cell behind a magic that only measures."""
        if name in ("time", "timeit", "capture", "prun"):
            exec(TransformerManager().transform_cell(body), self.space)


def _nothing(*inputs: Any, **settings: Any) -> None:
    """What `display` does while grading."""


@functools.cache
def _preamble(source: str) -> dict[str, Any]:
    """The instructor's imports, run once for all submissions."""
    importlib.import_module("torch._dynamo")  # which optimizers import late, once here and not in each copy
    space: dict[str, Any] = {"__name__": "__main__", "display": _nothing}
    exec(compile(source, "<imports>", "exec"), space)
    return space


@functools.cache
def _guard(source: str) -> Guard:
    """Made after these imports, before any student's code."""
    _preamble(source)
    return Guard(GUARDED)
