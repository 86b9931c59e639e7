"""Messages between the grader's processes: JSON, then the bytes that it refers to.

A message may come from a process that runs a student's code. Reading it makes nothing but numbers, text, lists and
bytes, however it was forged, and not more than ``MOST_TEXT`` and ``MOST_BYTES`` of them.
"""

from __future__ import annotations

import builtins
import json
import re
import socket
import struct
import time
from typing import Any

from cvbook.checks.verdict import Missing, Wrong

__all__ = ["SENTENCE", "Broken", "Ended", "Tree", "exception", "receive", "send", "told"]

MOST_TEXT, MOST_BYTES = 16 * 2**20, 256 * 2**20  # of one message
LONGEST, SENTENCE = 2000, 600  # characters of an exception on the way, and of what is shown
OURS = {"Wrong": Wrong, "Missing": Missing}
Tree = Any  # what JSON can say, and bytes


class Ended(BaseException):
    """The other process has ended; no ``except Exception`` may hide it."""


class Broken(BaseException):
    """The other process sends what is no message."""


def send(to: socket.socket, tree: Tree) -> None:
    """Send one message.

    Raises:
        TypeError, ValueError, RecursionError: if it cannot be sent; then nothing of it was.
        Ended: if the other side is closed.
    """
    parts: list[bytes] = []

    def apart(data: Any) -> dict[str, int]:
        if not isinstance(data, bytes):
            raise TypeError(f"cannot send a {type(data).__name__}")
        parts.append(data)
        return {"bytes": len(data)}

    text = json.dumps(tree, default=apart).encode()
    try:
        for part in (struct.pack(">I", len(text)) + text, *parts):
            to.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        raise Ended from None


def receive(source: socket.socket, until: float | None = None) -> Tree:
    """The next message.

    Args:
        source: the socket.
        until: when to give up, on the clock `time.monotonic`.

    Raises:
        Ended: if the other side is closed.
        Broken: if what comes is no message, or too long.
        TimeoutError: if it is not there in time.
    """
    (length,) = struct.unpack(">I", _exactly(source, 4, until))
    if length > MOST_TEXT:
        raise Broken
    left = MOST_BYTES

    def fetched(found: dict[str, Any]) -> Any:
        nonlocal left
        if list(found) != ["bytes"]:
            return found
        count = found["bytes"]
        if type(count) is not int or not 0 <= count <= left:
            raise Broken
        left -= count
        return _exactly(source, count, until)

    try:
        return json.loads(_exactly(source, length, until), object_hook=fetched)
    except (ValueError, RecursionError):
        raise Broken from None


def _exactly(source: socket.socket, count: int, until: float | None) -> bytes:
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        source.settimeout(None if until is None else max(0.001, until - time.monotonic()))
        try:
            more = source.recv_into(view[got:])
        except ConnectionResetError:
            more = 0
        if not more:
            raise Ended
        got += more
    return bytes(data)


def told(error: BaseException) -> Tree:
    """What the other side is told of an exception: the names of its class and bases, its text, whether it has one."""
    try:
        text = str(error)[:LONGEST]
    except BaseException:  # its __str__ is a student's
        text = ""
    return [[kind.__name__ for kind in type(error).__mro__], text, bool(error.args)]


def exception(names: list[str], text: str, said: bool) -> BaseException:
    """The nearest exception that Python itself has, under its own name.

    >>> exception(["LinAlgError", "ValueError", "Exception"], "singular", True)
    LinAlgError('singular')
    """
    if names[0] == "SystemExit":
        return SystemExit()
    kinds = [OURS.get(name) or getattr(builtins, name, None) for name in names]
    found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)), Exception)
    own = names[0] if re.fullmatch(r"\w{1,60}", names[0]) else "Exception"
    try:
        return (found if own == found.__name__ else type(own, (found,), {}))(*([str(text)] if said else []))
    except TypeError:  # one that wants more arguments, as UnicodeDecodeError does
        return type(own, (Exception,), {})(str(text))
