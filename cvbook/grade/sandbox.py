"""What a student's notebook may not do to the machine and to its grader.

Three walls, each of which is needed: limits of the operating system (`confine`), an audit hook that refuses what no
homework needs (`confine`), and a memory of what libraries are made of, which puts back what was changed (`Guard`).
They stop accidents and the plain attempts that the tests list. They do not stop an attacker: whoever knows Python well
can patch what the walls themselves use, or reach files and the grader's pipes below the hook. `suspicious` shows
teachers which notebooks to read.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import fnmatch
import itertools
import operator
import os
import re
import resource
import signal
import sys
import tempfile
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Guard", "Walls", "confine", "suspicious"]

CELL = "<cell "  # how the file names of students' cells begin
LARGEST_FILE = 50 * 2**20  # bytes
REFUSED = {
    "start other programs": (
        "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    ),
    "send signals to programs": ("os.kill", "os.killpg", "signal.pthread_kill"),
    "use the network": (
        "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
        "socket.sendmsg",
    ),
    "look behind the scenes": (
        "gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames", "sys._current_exceptions",
        "sys.settrace", "sys.setprofile", "sys.addaudithook", "resource.setrlimit", "resource.prlimit",
    ),
}  # fmt: skip
REASONS = {event: what for what, events in REFUSED.items() for event in events}
BEHIND = "look behind the scenes"
WRITES = {
    "os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "os.setxattr": 1, "shutil.rmtree": 1, "shutil.move": 2,
}  # fmt: skip
READS = ("os.listdir", "os.scandir")
SUSPICIOUS = re.compile(
    r"f_back|f_locals|f_globals|tb_frame|gi_frame|__closure__|cell_contents|__globals__|__subclasses__|_getframe|"
    r"currentframe|\bgc\b|\bctypes\b|addaudithook|sys\.modules|cvbook\.(?:checks\.\w+\.|grade)|os\._exit|os\.write\b|"
    r"/proc/"
)


class Walls:
    """The state of an audit hook: what it refused, and whether the grader itself is at work."""

    def __init__(self) -> None:
        self.refused: dict[str, None] = {}  # an ordered set
        self.open = False

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """For what the grader does itself."""
        self.open = True
        try:
            yield
        finally:
            self.open = False


def confine(folder: Path, *, closed: Sequence[Path], memory: int) -> Walls:
    """Give up in this process what a notebook does not need; there is no way back.

    Args:
        folder: the only place where files may be written; becomes the current folder.
        closed: folders that may not even be read.
        memory: bytes, beyond what the process has now.
    """
    folder = folder.resolve()
    os.chdir(folder)
    os.environ |= {"HOME": str(folder), "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder)}
    tempfile.tempdir = str(folder)
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        library = ctypes.CDLL(None)
        library.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: do not survive the grader
        if library.unshare(0x40000000):  # CLONE_NEWNET: no network, where the system allows
            library.unshare(0x50000000)  # the same as another user
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, LARGEST_FILE)):
        resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    walls = Walls()
    sys.addaudithook(_hook(walls, str(folder), [str(path) for path in closed]))
    return walls


def _hook(walls: Walls, folder: str, closed: Sequence[str]) -> Any:
    busy = False

    def inside(path: Any, root: str) -> bool:
        found = os.path.realpath(os.fsdecode(path))
        return found == root or found.startswith(root + os.sep)

    def refuse(what: str) -> None:
        walls.refused[what] = None
        raise PermissionError(f"the grader does not let a notebook {what}")

    def judge(event: str, args: tuple[Any, ...]) -> None:
        if reason := REASONS.get(event):
            refuse(reason)
        if event.startswith("ctypes."):
            refuse(BEHIND)
        if event in ("sys._getframe", "object.__setattr__"):
            frame = sys._getframe(2)  # 0 is this function, 1 the hook, 2 who asks
            if frame.f_code.co_filename.startswith(CELL):
                refuse(BEHIND)
        paths = args[: WRITES.get(event, 0)]
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            paths = args[:1]
        for path in paths:
            if isinstance(path, (str, bytes)) and not inside(path, folder) and path not in ("/dev/null", b"/dev/null"):
                refuse("write, move or delete files outside its own folder")
        seen = args[0] if event == "open" or event in READS else None
        if isinstance(seen, (str, bytes)) and any(inside(seen, root) for root in closed):
            refuse("read the folders of its grader")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        if walls.open or busy:
            return
        busy = True
        try:
            judge(event, args)
        finally:
            busy = False

    return hook


class Guard:
    """Remembers what modules and their classes and functions are made of, and puts back what was changed."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` of modules; ``"torch.nn.*"`` also means all in it."""
        self.modules = {
            name: module
            for name, module in sys.modules.items()
            if module and any(fnmatch.fnmatchcase(name, pattern) for pattern in names)
        } | {"builtins": builtins}
        self.spaces: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.cells: dict[str, tuple[types.CellType, Any]] = {}
        for name, module in self.modules.items():
            self.spaces[name] = module, dict(vars(module))
            for key, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__.split(".")[0] in ("torch", "numpy", "cvbook"):
                    self.spaces.setdefault(f"{value.__module__}.{value.__qualname__}", (value, dict(vars(value))))
                for number, cell in enumerate((isinstance(value, types.FunctionType) and value.__closure__) or ()):
                    with contextlib.suppress(ValueError):  # an empty cell
                        self.cells[f"{name}.{key} {number}"] = cell, cell.cell_contents

    def restore(self) -> list[str]:
        """Put everything back; returns the names of what had been changed."""
        changed = [name for name, module in self.modules.items() if sys.modules.get(name) is not module]
        sys.modules.update(self.modules)
        for name, (owner, before) in self.spaces.items():
            now = vars(owner)
            if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
                continue
            for key in [key for key in before if key not in now or now[key] is not before[key]]:
                if isinstance(owner, type) and isinstance(before[key], int) and isinstance(now.get(key), int):
                    continue  # a counter of a class
                with contextlib.suppress(AttributeError, TypeError):
                    setattr(owner, key, before[key])
                    changed.append(f"{name}.{key}")
            for key in [key for key in now if key not in before]:
                registry = key == "__slotnames__" or (key.startswith("__") and isinstance(owner, types.ModuleType))
                if registry or isinstance(now[key], types.ModuleType):
                    continue  # of copyreg, of warnings, or a late import
                with contextlib.suppress(AttributeError, TypeError):
                    delattr(owner, key)
                    changed.append(f"{name}.{key}")
        for name, (cell, value) in self.cells.items():
            if cell.cell_contents is not value:
                cell.cell_contents = value
                changed.append(name.split()[0])
        return changed


def suspicious(sources: Sequence[str]) -> list[str]:
    """Words in a notebook that no homework needs, for a teacher who wants to know which notebooks to read.

    >>> suspicious(["def f(x):\\n    return x.f_back", "import math"])
    ['f_back']
    """
    return list(dict.fromkeys(itertools.chain.from_iterable(SUSPICIOUS.findall(source) for source in sources)))
