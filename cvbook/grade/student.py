"""The student's side of grading: runs the cells of a notebook, then calls its functions for the judge."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import linecache
import os
import random
import socket
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.core.inputtransformer2 import TransformerManager

from cvbook.checks.by_hand import ruled
from cvbook.grade import system_calls
from cvbook.grade.messages import SENTENCE, Ended, receive, send
from cvbook.grade.walls import Walls, confine
from cvbook.grade.wire import Wire

__all__ = ["display", "serve", "serve_calls"]

_fork, _exit, _waitpid = os.fork, os._exit, os.waitpid  # a student may change these in os


def serve(commands: socket.socket, space: dict[str, Any]) -> None:
    """Run the cells, then a copy of this process for each test that is asked for; never returns.

    Args:
        commands: to the grader; its first message says what to do.
        space: the instructor's imports.
    """
    task = receive(commands)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, commands.fileno())
    os.closerange(commands.fileno() + 1, 4096)
    sys.stdin, sys.stdout, sys.stderr = (open(os.devnull, mode, encoding="utf-8") for mode in ("r", "w", "w"))  # noqa: SIM115
    walls = confine(Path(task["folder"]), closed=[Path(path) for path in task["closed"]], memory=task["memory"])
    torch.set_num_threads = torch.set_num_interop_threads = display  # a process with running threads is not copied
    notebook, failures = _Notebook(space, task["given"]), {}
    if any("google.colab" in source for _, source in task["cells"]):
        for name in ("google", "google.colab"):
            sys.modules.setdefault(name, _Silent(False))  # type: ignore[arg-type]
    for number, source in task["cells"]:
        send(commands, {"cell": number})
        if failure := notebook.run(source, f"<cell {number + 1}>"):
            failures[str(number)] = failure
    send(commands, {"ready": True, "failures": failures, "refused": list(walls.refused)})
    while True:
        found, descriptors, *_ = socket.recv_fds(commands, 1, 1)
        if not found:
            _exit(0)
        with walls.opened():
            child = _fork()
        if child == 0:
            commands.close()
            if system_calls.available():
                system_calls.refuse(processes=True)
            with contextlib.suppress(Ended):
                random.seed(0)
                np.random.seed(0)  # noqa: NPY002 - the one that students use
                torch.manual_seed(0)
                serve_calls(socket.socket(fileno=descriptors[0]), notebook.space, walls)
            _exit(0)
        os.close(descriptors[0])
        _, status = _waitpid(child, 0)
        send(commands, {"ended": status & 127})


def serve_calls(to: socket.socket, space: dict[str, Any], walls: Walls | None = None) -> None:
    """Call what is in ``space`` for the other side, until that ends.

    Raises:
        Ended: when the other side is closed.
    """
    refused = walls.refused if walls else {}
    wire = _Student(to, trusts=True, mine=[space.__getitem__, lambda: list(refused)])
    while True:
        _, *message = receive(to)
        wire.answer(message)


class _Student(Wire):
    def prepare(self, target: Any, method: str, rules: list[list[str]]) -> Any:
        """Rules such as "by hand" hold here, where the function runs."""
        target = _part(target, method)
        for rule in rules:
            target = ruled(target, *rule)
        return target


def _part(value: Any, method: str) -> Any:
    """What is called: the value, a method, or for ".name" what looks up an attribute; iterators are read to the end."""
    if not method:
        return value
    if method.startswith("."):
        return lambda: getattr(value, method[1:])

    def call(*inputs: Any, **settings: Any) -> Any:
        found = getattr(value, method)(*inputs, **settings)
        return list(found) if isinstance(found, types.GeneratorType) else found

    return call


class _Notebook:
    """What a notebook's kernel would be."""

    def __init__(self, space: dict[str, Any], passed: bool) -> None:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        shell = _Shell(self)
        self.silent = {"checks": _Silent(passed), "display": display, "get_ipython": lambda: shell}
        self.space = vars(main)
        self.space |= space | {"__name__": "__main__"} | self.silent

    def run(self, source: str, name: str) -> str:
        """Run a cell; returns how it failed, or nothing."""
        if isinstance(self.space.get("checks"), types.ModuleType):
            self.space |= self.silent  # a cell has imported the checks again
        try:
            code = self.compiled(source, name)
        except SyntaxError as error:
            return f"has a syntax error in line {error.lineno}: {error.msg}"
        except Exception as error:
            return f"cannot be read: {_named(error)}"
        try:
            self.execute(code)
        except SystemExit:
            return "calls exit()"
        except BaseException as error:
            return f"stopped with {_named(error)}"
        return ""

    def compiled(self, source: str, name: str) -> Any:
        """A cell as code that may wait; `inspect.getsource` finds its text."""
        text = TransformerManager().transform_cell(source)
        code = compile(text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        linecache.cache[name] = len(text), None, text.splitlines(True), name
        return code

    def execute(self, code: Any) -> None:
        """Run what was compiled."""
        waiting = eval(code, self.space)
        if waiting is not None:
            asyncio.run(waiting)


def _named(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0][:SENTENCE]
    except BaseException:  # its __str__ is the student's
        return type(error).__name__


class _Silent:
    """Stands for what only a notebook needs (the checks, Colab's modules) while cells run: all of it does nothing."""

    def __init__(self, passed: bool) -> None:
        self.passed = passed

    def __getattr__(self, name: str) -> _Silent:
        if name.startswith("_"):
            raise AttributeError(name)
        return self

    def __call__(self, *inputs: Any, **settings: Any) -> _Silent:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __gt__(self, other: object) -> bool:
        return False

    __lt__ = __ge__ = __le__ = __contains__ = __gt__


class _Shell:
    """Stands for IPython in a student's cells: runs what ``%%time`` is before, ignores other magics."""

    def __init__(self, notebook: _Notebook) -> None:
        self.notebook = notebook

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return display

    def getoutput(self, *inputs: Any, **settings: Any) -> list[str]:
        """What ``files = !ls`` gives."""
        return []

    def run_cell_magic(self, name: str, line: str, body: str) -> None:
        """Run the cell behind a magic that only measures, or write it to a file."""
        words = line.split()
        if name == "writefile" and words:
            with open(words[-1], "a" if "-a" in words else "w", encoding="utf-8") as file:
                file.write(body)
        if name == "capture" and words and words[0].isidentifier():
            self.notebook.space[words[0]] = _Silent(False)
        if name in ("time", "timeit", "capture", "prun"):
            self.notebook.execute(self.notebook.compiled(body, f"<cell magic {id(body)}>"))

    def run_line_magic(self, name: str, line: str, *inputs: Any, **settings: Any) -> Any:
        """Run the line behind a magic that only measures, where it stands; its value, if it has one."""
        if name == "env" and "=" in line:
            key, _, value = line.partition("=")
            os.environ[key.strip()] = value.strip()
        if name == "run" and line.split():
            text = Path(line.split()[0]).read_text(encoding="utf-8")
            self.notebook.execute(self.notebook.compiled(text, line.split()[0]))
        if name not in ("time", "prun"):
            return _Silent(False)
        frame = sys._getframe(1)
        try:
            return eval(line, frame.f_globals, frame.f_locals)
        except SyntaxError:
            exec(TransformerManager().transform_cell(line), frame.f_globals, frame.f_locals)
            return None


def display(*inputs: Any, **settings: Any) -> None:
    """What IPython's ``display`` does while grading: nothing."""
