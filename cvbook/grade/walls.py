"""What a student's notebook may not do to the machine and to other students.

The kernel's walls come first (Linux): namespaces of its own for processes, users, mounts and the network, a file system
in memory that is thrown away, Landlock for the contents of files, a filter of system calls, limits on memory. They hold
whatever the code does in Python or below. An audit hook on top refuses early and says so in one sentence. Where the
kernel has no such walls (`missing` says which), the hook is all there is: it stops accidents and plain attempts only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import struct
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cvbook
from cvbook.grade import system_calls

__all__ = ["TOLD", "Walls", "apart", "confine", "end_with_parent", "limit_memory", "missing", "suspicious"]

LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 50 * 2**20, resource.RLIMIT_NOFILE: 256}
SPACE = 256  # MB of files in all
REFUSED = {
    "start other programs": (
        "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    ),
    "send signals to programs": ("os.kill", "os.killpg"),
    "use the network": (
        "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
        "socket.sendmsg",
    ),
    "change its limits": ("resource.setrlimit", "resource.prlimit"),
}  # fmt: skip
REASONS = {event: what for what, events in REFUSED.items() for event in events}
ELSEWHERE, CLOSED = "write, move or delete files outside its own folder", "read the folders of its grader"
TOLD = (*REFUSED, ELSEWHERE, CLOSED)  # all that can be refused
WRITES = {
    "os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.mkdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "os.setxattr": 1, "shutil.rmtree": 1, "shutil.move": 2,
    "sqlite3.connect": 1,
}  # fmt: skip
READS = ("os.listdir", "os.scandir")
WORDS = (
    "ctypes", "prctl", "setsid", "addaudithook", "sys.modules[", "cvbook.grade", "cvbook.checks.", "solutions.json",
    "os._exit", "os.write(", "_disable_current_modes", "scipy.signal", "scipy.ndimage", "/proc/", "/dev/shm",
    "__code__", "__closure__", "cell_contents",
)  # fmt: skip
CHANGED = re.compile(
    r"^[ \t]*((?:torch(?!\.backends)|np|numpy|builtins|verdict|cvbook)(?:\.\w+)+)[ \t]*=(?!=)", re.MULTILINE
)
LINUX = sys.platform.startswith("linux")
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000  # of unshare(2)
SPACES = NEWPID | NEWNET | NEWNS | NEWIPC
# of landlock(7); what each version of it added can be refused with that version only
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many rights for files
ALL_RIGHTS = 16
FOR_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/fonts",
    "/etc/mime.types", "/sys/devices/system", "/proc/cpuinfo", "/proc/meminfo",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


class Walls:
    """What an audit hook refused; ``open`` while the grader itself is at work."""

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


def apart(folder: Path) -> list[str]:
    """Give the children of this process namespaces of their own, and this process a file system in ``folder``.

    Returns:
        What the system does not allow: of "processes", "network", "disk space".
    """
    if not LINUX:
        return ["processes", "network", "disk space"]
    library = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if library.unshare(NEWUSER | SPACES) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with contextlib.suppress(OSError):
                Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    elif library.unshare(SPACES):  # as root, where users cannot be separated
        return ["processes", "network", "disk space"]
    private = library.mount(None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    size = f"size={SPACE}m,mode=700".encode()
    if private or library.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0x6, size):  # MS_NOSUID | MS_NODEV
        return ["disk space"]
    return []


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def missing() -> list[str]:
    """The walls of the kernel that this system does not have, for a warning.

    >>> set(missing()) <= {"processes", "network", "disk space", "files", "system calls"}
    True
    """
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            os.write(write, ",".join(apart(Path(folder))).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
    with os.fdopen(read) as answer:
        found = [name for name in answer.read().split(",") if name]
    found += [] if _landlock_version() else ["files"]
    return found + ([] if system_calls.available() else ["system calls"])


def confine(folder: Path, *, closed: Sequence[Path], memory: int) -> Walls:
    """Give up in this process what a notebook does not need; there is no way back.

    Args:
        folder: the only place where files may be written; becomes the current folder.
        closed: files and folders that may not even be read.
        memory: bytes, beyond what the process has now.
    """
    folder = folder.resolve()
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as in Jupyter
    os.environ |= {"HOME": str(folder), "TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    tempfile.tempdir = str(folder)
    for what, most in LIMITS.items():
        resource.setrlimit(what, (most, most))
    limit_memory(memory)
    own = _own_processes()
    if _landlock_version():
        _landlock(folder, closed, (Path("/proc"),) if own else ())
    if system_calls.available():
        system_calls.refuse(processes=False)
    walls = Walls()
    sys.addaudithook(_hook(walls, str(folder), [str(path) for path in closed]))
    return walls


def limit_memory(memory: int) -> None:
    """Let this process use so many bytes more than it has now; there is no way back."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _landlock_version() -> int:
    if not LINUX:
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(444, None, 0, 1)))  # landlock_create_ruleset, LANDLOCK_..._VERSION


def _own_processes() -> bool:
    """Let /proc show the processes of this process's own namespace only, if it has one."""
    if not LINUX or os.getpid() != 1:
        return False
    return not ctypes.CDLL(None).mount(b"proc", b"/proc", b"proc", 0xE, None)  # MS_NOSUID | MS_NODEV | MS_NOEXEC


def _landlock(folder: Path, closed: Sequence[Path], more: Sequence[Path]) -> None:
    """Write in ``folder`` only; read there, Python, its packages and the system's libraries; start nothing."""
    library, version = ctypes.CDLL(None, use_errno=True), _landlock_version()
    every = (1 << RIGHTS.get(version, ALL_RIGHTS)) - 1
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = library.syscall(444, struct.pack("QQQ", every, 3, 3)[:size], size, 0)  # files, TCP, signals and sockets
    rights = dict.fromkeys((*_readable(closed), *more), READ_FILE | READ_DIR)
    rights |= {Path(path): READ_FILE | WRITE_FILE | IOCTL for path in DEVICES} | {folder: every & ~EXECUTE}
    for path, allowed in rights.items():
        with contextlib.suppress(OSError):
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            may = allowed & every & (-1 if path.is_dir() else FOR_A_FILE)
            library.syscall(445, rules, 1, struct.pack("=Qi", may, opened), 0)  # landlock_add_rule
            os.close(opened)
    if library.prctl(38, 1, 0, 0, 0) or library.syscall(446, rules, 0):  # PR_SET_NO_NEW_PRIVS, landlock_restrict_self
        raise OSError(ctypes.get_errno(), "the kernel has Landlock, but refuses it")
    os.close(rules)


def _readable(closed: Sequence[Path]) -> Iterator[Path]:
    """All that Python and the book's package need, but nothing that is closed."""
    book = Path(cvbook.__file__).parent
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    for root in {Path(str(path)).resolve() for path in (*prefixes, *SYSTEM, book)}:
        yield from _open_parts(root, [path.resolve() for path in closed])


def _open_parts(path: Path, closed: Sequence[Path]) -> Iterator[Path]:
    if path in closed:
        return
    if any(path in one.parents for one in closed):
        for inside in path.iterdir():
            yield from _open_parts(inside, closed)
    else:
        yield path


def _hook(walls: Walls, folder: str, closed: Sequence[str]) -> Callable[[str, tuple[Any, ...]], None]:
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
        paths = args[: WRITES.get(event, 0)]
        if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            paths = args[:1]
        for path in paths:
            if isinstance(path, (str, bytes)) and not inside(path, folder) and os.fsdecode(path) not in DEVICES:
                refuse(ELSEWHERE)
        seen = args[0] if event == "open" or event in READS else None
        if isinstance(seen, (str, bytes)) and any(inside(seen, root) for root in closed):
            refuse(CLOSED)

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


def suspicious(sources: Sequence[str]) -> list[str]:
    """What no homework needs, for a teacher who wants to know which notebooks to read.

    >>> suspicious(["import ctypes\\nimport math", "f = cvbook.grade.walls", "torch.allclose = print"])
    ['uses ctypes', 'uses cvbook.grade', 'changes torch.allclose']
    """
    found = [f"uses {word}" for source in sources for word in WORDS if word in source]
    return list(dict.fromkeys(found + [f"changes {name}" for source in sources for name in CHANGED.findall(source)]))
