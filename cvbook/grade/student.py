"""The student's side of grading: what happens in the forked, confined process."""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from cvbook.checks import points
from cvbook.grade.notebooks import SET_UP, Assignment, Cell, Test
from cvbook.grade.sandbox import CELL, Guard, confine

__all__ = ["LONGEST", "Task", "prepare", "serve"]

GUARDED = (
    "torch", "torch.nn", "torch.nn.*", "torch.functional", "torch._tensor", "torch.testing.*", "torch.autograd.*",
    "numpy", "numpy.*", "json", "json.*", "math", "random", "itertools", "functools", "operator", "collections",
    "inspect", "types", "cvbook", "cvbook.*",
)  # fmt: skip
LONGEST = 300  # characters of a message


@dataclass(frozen=True)
class Task:
    """What a session has to do.

    Attributes:
        assignment, cells: the instructor's notebook and the student's.
        skipped: numbers of cells that ended a session before.
        everything: run the cells that are the same in every notebook, too.
        folder: to work in.
        seed: of the student's checks.
        memory: bytes that the notebook may use.
    """

    assignment: Assignment
    cells: Sequence[Cell]
    skipped: Collection[int]
    everything: bool
    folder: Path
    seed: int
    memory: int


_fork, _write, _exit, _waitpid = os.fork, os.write, os._exit, os.waitpid  # a student may change these in os


def serve(task: Task, commands: int, results: int) -> None:
    """Run the cells, then the tests that are asked for by one pipe, and answer by the other; never returns."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    kept = sorted({commands, results})
    for low, high in zip([2, *kept], [*kept, 4096], strict=True):
        os.closerange(low + 1, high)
    sys.stdin, sys.stdout, sys.stderr = (open(os.devnull, mode, encoding="utf-8") for mode in ("r", "w", "w"))  # noqa: SIM115
    assignment = task.assignment
    space, guard = dict(_preamble(assignment.preamble)), prepare(assignment.preamble)
    walls = confine(task.folder, closed=assignment.closed, memory=task.memory)

    def say(message: dict[str, Any]) -> None:
        _write(results, json.dumps(message).encode() + b"\n")

    failures: dict[int, str] = {}
    changed: dict[str, None] = {}
    silent = {"checks": _Silent(task.everything), "display": _nothing}
    notebook = space | silent
    shell = _Shell(notebook)
    notebook["get_ipython"] = lambda: shell
    for number, cell in enumerate(task.cells):
        ours = cell.source.startswith(SET_UP) or (assignment.knows(cell) and not task.everything)
        if ours or cell.test or number in task.skipped:
            continue
        say({"cell": number})
        if isinstance(notebook.get("checks"), types.ModuleType):
            notebook |= silent  # a cell has imported the checks again
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
                points.grading(task.seed)
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
        code = compile(text, name, "exec", dont_inherit=True)
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
def prepare(source: str) -> Guard:
    """Made after these imports, before any student's code."""
    _preamble(source)
    return Guard(GUARDED)
