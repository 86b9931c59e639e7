"""Do in a copy of this process what may take too much time or memory."""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from cvbook.grade.walls import end_with_parent, limit_memory

__all__ = ["in_a_copy"]


def in_a_copy(work: Callable[[], dict[str, Any]], memory: int, until: float) -> dict[str, Any] | None:
    """Do something in a copy of this process.

    Args:
        work: what to do; returns what JSON can say.
        memory: bytes that it may use.
        until: when it must be done, on the clock `time.monotonic`.

    Returns:
        What ``work`` returns; None if it takes too long.

    Raises:
        ChildProcessError: if the copy ends without a result: no memory, for example.
    """
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            end_with_parent()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the copy, should nobody else do it
            signal.setitimer(signal.ITIMER_REAL, max(0.01, until - time.monotonic()) + 1)
            with open(os.devnull, "r+", encoding="utf-8") as nothing:
                sys.stdout = sys.stderr = nothing
                limit_memory(memory)
                with open(write, "wb") as answer:
                    answer.write(json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb", buffering=0) as answer, selectors.DefaultSelector() as selector:
        selector.register(answer, selectors.EVENT_READ)
        in_time = bool(selector.select(max(0.0, until - time.monotonic())))
        if not in_time:
            os.kill(child, signal.SIGKILL)
        text = answer.read() if in_time else b""
    os.waitpid(child, 0)
    if not in_time:
        return None
    if not text:
        raise ChildProcessError("expected a result of a copy of this process, got none")
    return json.loads(text)
