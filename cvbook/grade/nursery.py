"""A process that has the instructor's imports and no tests, and is copied for each notebook.

    grader ── nursery ──> keeper: namespaces of its own; kills what it started as soon as the grader says so, or is gone
                            └──> session: confined, runs the student's cells once, then waits
                                   ├──> copy for test 1
                                   └──> copy for test 2 …

Importing torch takes seconds, copying a process takes milliseconds.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvbook.grade.messages import Ended, receive, send
from cvbook.grade.walls import apart, end_with_parent

__all__ = ["ONE_THREAD", "Nursery", "imports"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SETTINGS = ONE_THREAD | {"MPLBACKEND": "Agg", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
PROCESSES = 200  # and threads, at most
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "HOME", "XDG_CACHE_HOME", "CVBOOK_SCALE")  # of the environment


def imports(source: str) -> dict[str, Any]:
    """Run the instructor's imports; returns the names that they define."""
    for late in ("torch._dynamo", "matplotlib.pyplot"):  # what students' cells may import late: once here
        importlib.import_module(late)
    platform.platform(), platform.processor()  # ask another program once, then remember
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<imports>", "exec"), space)
    return space


class Nursery:
    """The grader's handle.

    Args:
        preamble: the instructor's imports.

    Raises:
        RuntimeError: if they do not run.
    """

    def __init__(self, preamble: str) -> None:
        ours, its = socket.socketpair()
        self.to = ours
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | SETTINGS
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cvbook.grade.nursery", str(its.fileno())],
                pass_fds=[its.fileno()], env=environment | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        send(ours, preamble)
        if not ours.recv(1):  # until it is ready; loading torch is not the first notebook's fault
            raise RuntimeError("expected imports that run; in a process of their own these do not")

    def start(self, folder: Path) -> tuple[socket.socket, socket.socket]:
        """Start a session that may write in ``folder``; returns two sockets: to the session and to its keeper.

        When the second is closed, the session and all that it started are killed.
        """
        (commands, its_commands), (keeper, its_keeper) = socket.socketpair(), socket.socketpair()
        with its_commands, its_keeper:
            socket.send_fds(self.to, [b"+"], [its_commands.fileno(), its_keeper.fileno()])
            send(self.to, str(folder))
        return commands, keeper

    def close(self) -> None:
        """End the process, and all sessions."""
        self.to.close()
        self.process.wait()


def _main(to: socket.socket) -> None:
    import torch

    from cvbook.grade.student import serve

    torch.set_num_threads(1)  # a process with running threads must not be copied
    space = imports(receive(to))
    to.sendall(b"+")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers end when they like
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the grader, and that ends all others
    while True:
        found, descriptors, *_ = socket.recv_fds(to, 1, 2)
        if not found:
            return
        folder = Path(receive(to))
        commands, keeper = (socket.socket(fileno=number) for number in descriptors)
        if os.fork() == 0:
            to.close()
            try:
                _keep(commands, keeper, folder, functools.partial(serve, commands, space))
            finally:
                os._exit(0)
        commands.close()
        keeper.close()


def _keep(commands: socket.socket, keeper: socket.socket, folder: Path, session: Callable[[], None]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    lacking = apart(folder)
    child = os.fork()
    if child == 0:
        keeper.close()
        end_with_parent()
        if "processes" not in lacking:  # in a namespace of its own, only what runs in it counts
            resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            session()
        finally:
            os._exit(70)
    commands.close()
    keeper.recv(1)  # until the grader closes its end
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    with contextlib.suppress(Ended, KeyboardInterrupt):
        _main(socket.socket(fileno=int(sys.argv[1])))
