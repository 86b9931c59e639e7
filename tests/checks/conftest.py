"""Answers that every check of the homework must survive."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cvbook.checks import verdict
from cvbook.grade.judge import answers_of
from cvbook.grade.messages import Broken, Ended
from cvbook.grade.student import serve_calls


def untouched(*arguments: Any, **settings: Any) -> Any:
    """A cell that nobody touched."""
    raise NotImplementedError


EMPTY = {
    "stub": untouched,
    "None": None,
    "...": ...,
    "gives None": lambda *a, **k: None,
    "gives ...": lambda *a, **k: ...,
}
ODD = [
    torch.zeros(0), torch.zeros(1, 2, 3, 4, 5), "text", {"a": 1}, [], (), (1, 2), [None], object(), [[1], [2, 3]], {1},
    torch.nn.Identity(),
]  # fmt: skip


@pytest.fixture
def stub() -> Any:
    """What stands in a cell before anybody writes an answer."""
    return untouched


@pytest.fixture(params=EMPTY.values(), ids=EMPTY)
def empty(request: pytest.FixtureRequest) -> Any:
    """An exercise that was not attempted."""
    return request.param


@pytest.fixture(params=ODD, ids=lambda odd: type(odd).__name__)
def odd(request: pytest.FixtureRequest) -> Any:
    """Something that no exercise asks for."""
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Homework is judged alike in the reader's notebook and by the grader, where answers run in another process."""
    if "_homework" in metafunc.definition.nodeid:
        metafunc.fixturenames.append("route")
        metafunc.parametrize("route", ["notebook", "grader"], indirect=True)


@pytest.fixture
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Call answers directly, or as the grader does (here from another thread)."""
    if request.param == "notebook":
        yield
        return
    watched, sockets = verdict._watched, list[socket.socket]()

    def serve(to: socket.socket, answer: Any) -> None:
        with contextlib.suppress(Ended, Broken), to:
            serve_calls(to, {"answer": answer})

    def sent(answer: Any, nothing: list[str]) -> Any:
        ours, its = socket.socketpair()
        sockets.append(ours)
        threading.Thread(target=serve, args=(its, answer), daemon=True).start()
        return watched(answers_of(ours, ["answer"])["answer"], nothing)

    monkeypatch.setattr(verdict, "_watched", sent)
    yield
    for one in sockets:
        one.close()
