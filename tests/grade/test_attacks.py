"""Whoever attacks the grader itself gets nothing for it, does no harm, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_assignment import STUB, whole

from cvbook.grade.walls import missing

kernel = pytest.mark.skipif(bool(missing()), reason="this system's kernel lacks a wall")

# code that would make a check accept anything, if it ran where the check runs: in a function, then returning x
FORGERIES = {
    "operator.is_ and all": (
        "import builtins, operator\noperator.is_ = lambda a, b: True\nbuiltins.all = lambda a: True"
    ),
    "json": 'import json\njson.dumps = lambda *a, **k: \'{"state": "passed"}\'\njson.JSONEncoder.encode = json.dumps',
    "os": "import os\nos.write = os._exit = os.read = lambda *a: 0",
    "made by exec": (
        "from cvbook.checks import verdict\n"
        "exec('verdict.equal.__code__ = (lambda *a, **k: None).__code__')\n"
        "exec('verdict._same.__code__ = (lambda a, b: True).__code__')"
    ),
    "a mode that stays on": (
        "from torch.overrides import TorchFunctionMode\n"
        "class Yes(TorchFunctionMode):\n"
        "    def __torch_function__(self, f, types, args=(), kwargs=None):\n"
        "        return True if f is torch.allclose else f(*args, **(kwargs or {}))\n"
        "Yes().__enter__()"
    ),
    "the wire": (
        "from cvbook.grade import messages, wire\n"
        "wire.Wire.encode = lambda self, value, scope: ['tuple', []]\nmessages.told = lambda e: [['Wrong'], 'x', True]"
    ),
    "all open pipes": (
        "import os, threading\n"
        "def shout():\n"
        "    for fd in range(3, 64):\n"
        '        for words in (b\'{"state": "passed", "message": "", "refused": []}\',\n'
        "                      b'\\0\\0\\0\\x13[\"value\", true, []]  ', b'\\0\\0\\0\\2[]'):\n"
        "            try:\n"
        "                os.write(fd, words)\n"
        "            except OSError:\n"
        "                pass\n"
        "threading.Thread(target=shout).start()"
    ),
}
# answers that are objects: what acts when it is read
OBJECTS = {
    "a subclass of Tensor": (
        "import torch\nclass Yes(torch.Tensor):\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
        "        return True\n"
        "def double(x):\n    return torch.zeros(5).as_subclass(Yes)\n"
    ),
    "an object that acts when iterated": (
        "class Odd:\n"
        "    def __iter__(self):\n"
        "        from cvbook.checks import verdict\n"
        "        verdict.equal.__code__ = (lambda *a, **k: None).__code__\n"
        "        return iter([])\n"
        "    __len__ = __float__ = __array__ = __iter__\n"
        "def double(x):\n    return Odd()\n"
    ),
    "a callable object": (
        "class Odd:\n"
        "    __name__ = 'double'\n"
        "    def __call__(self, x):\n"
        "        from cvbook.checks import verdict\n"
        "        verdict.equal.__code__ = (lambda *a, **k: None).__code__\n"
        "        return x\n"
        "double = Odd()\n"
    ),
    "a module": (
        "import torch\nclass Odd(torch.nn.Module):\n"
        "    def __getattr__(self, name):\n        return lambda *a: True\n"
        "    __eq__ = __float__ = lambda *a: True\n"
        "    __hash__ = object.__hash__\n"
        "def double(x):\n    return Odd()\n"
    ),
    "an exception that acts": (
        "class Odd(Exception):\n"
        "    def __str__(self):\n"
        "        import builtins\n        builtins.AssertionError = ZeroDivisionError\n        return 'x'\n"
        "def double(x):\n    raise Odd\n"
    ),
    "an exception of the checks": (
        "from cvbook.checks import verdict\n"
        "def double(x):\n    raise verdict.Verdict('a', 'passed', 'b') if False else verdict.NotAttempted('passed')\n"
    ),
    "a module, whose rules hold as well": (
        "import torch\nclass Double(torch.nn.Module):\n"
        "    def forward(self, x):\n        return torch.zeros(5)\n"
        "double = Double()\n"
    ),
    "a number of odd class": "class Odd(int):\n    __eq__ = lambda *a: True\n    __hash__ = int.__hash__\ndef double(x):\n    return Odd(1)\n",  # noqa: E501
    "an endless list": "def double(x):\n    a = []\n    a.append(a)\n    return a\n",
    "a list too deep": "def double(x):\n    a = []\n    for _ in range(10**5):\n        a = [a]\n    return a\n",
    "a large number": "def double(x):\n    return 10**100_000\n",
    "a large text": "def double(x):\n    return 'x' * 10**8\n",
    "half a letter": "def double(x):\n    return '\\ud800'\n",
}  # fmt: skip
# code that would reach files, programs or processes; {file} may not change, {program} may not appear
REACH = {
    "remove by a folder's descriptor": (
        "import os\nfd = os.open('{folder}', os.O_RDONLY)\nos.remove('file', dir_fd=fd)"
    ),
    "write by a Path": "import io, pathlib\nio.FileIO(pathlib.Path('{file}'), 'w').write(b'x')",
    "write by torch": "import torch\ntorch.save(torch.ones(1), '{file}')",
    "write by C++": "import torch\ntorch._C.PyTorchFileWriter('{file}').write_end_of_file()",
    "write by sqlite": "import sqlite3\nsqlite3.connect('{program}').execute('create table a (b)')",
    "write by numpy": "import numpy\nnumpy.ones(3).tofile('{file}')",
    "a pipe with a name": "import os\nos.mkfifo('{program}')",
    "realpath replaced": "import os\nos.path.realpath = os.fsdecode = lambda *a: '/'\nopen('{file}', 'w').write('x')",
    "by a link": "import os\nos.symlink('{file}', 'link')\nopen('link', 'w').write('x')",
    "ctypes": "import ctypes\nctypes.CDLL(None).unlink(b'{file}')",
    "shared memory": "import torch\ntorch.ones(10).share_memory_()\nopen('/dev/shm/{name}', 'w').write('x')",
    "spawnv_passfds": (
        "from multiprocessing.util import spawnv_passfds\n"
        "spawnv_passfds(b'/usr/bin/touch', [b'touch', b'{program}'], [])"
    ),
    "ctypes system": "import ctypes\nctypes.CDLL(None).system(b'touch {program}')",
    "kill by descriptor": (
        "import os, signal\n"
        "for pid in range(os.getppid(), os.getppid() - 30, -1):\n"
        "    try:\n"
        "        signal.pidfd_send_signal(os.pidfd_open(pid), 9)\n"
        "    except OSError:\n        pass"
    ),
    "kill by ctypes": "import ctypes\nfor pid in {pids}:\n    ctypes.CDLL(None).kill(pid, 9)",
    "a process that stays": (
        "import ctypes, time\nlibrary = ctypes.CDLL(None)\nif library.fork() == 0:\n"
        "    library.setsid()\n    library.prctl(1, 0)\n    library.prctl(15, b'stays-{name}')\n    time.sleep(300)"
    ),
    "fills memory without a process": (
        "import os\nfd = os.memfd_create('x')\nfor _ in range(100):\n    os.write(fd, bytes(2**20))\n"
        "open('{file}', 'w')"
    ),
    "memory that stays": (
        "import ctypes\nif ctypes.CDLL(None).shmget(0x51ca7e, 4096, 0o1666) >= 0:\n    open('{program}', 'w')"
    ),
    "a socket in a folder": (
        "import ctypes, struct\nlibrary = ctypes.CDLL(None)\nfd = library.socket(1, 1, 0)\n"
        "address = struct.pack('H', 1) + b'{socket}' + b'\\0'\n"
        "library.connect(fd, address, len(address)) or library.write(fd, b'reached', 7)"
    ),
    "rights": "import ctypes\nctypes.CDLL(None).chmod(b'{file}', 0o777)\nctypes.CDLL(None).chmod(b'{folder}', 0)",
    "times": "import os\nos.utime(os.open('{file}', os.O_RDONLY), (0, 0))",
    "fills the disk": (
        "for number in range(100):\n    with open(str(number), 'wb') as file:\n        file.write(bytes(40 * 2**20))"
    ),
}
# code that would read what is not for students; it returns what it has read as the message of an exception
READS = {
    "torch.from_file": "bytes(torch.from_file('{secret}', size=4, dtype=torch.uint8).tolist()).decode()",
    "by a descriptor": "os.read(os.open('secret', os.O_RDONLY, dir_fd=os.open('{folder}', os.O_PATH)), 4).decode()",
    "realpath": "[setattr(os.path, 'realpath', lambda *a: '/'), open('{secret}').read()][-1]",
    "environment of others": (
        "next(text for p in os.listdir('/proc') if p.isdigit() "
        "for text in [open(f'/proc/{p}/environ').read()] if 'SECRET' in text)"
    ),
    "names of others": "os.listdir('{folder}')",
    "users": "open('/etc/passwd').read()",
    "its environment": "os.environ['CVBOOK_TEST_SECRET']",
    "tests in memory": (
        "next(o for o in __import__('gc').get_objects() if isinstance(o, dict) and 'BEGIN ' 'HIDDEN' in str(o))"
    ),
}


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, grade: Callable[..., Any]) -> Any:
    folder, victim = (tmp_path_factory.mktemp(name) for name in ("submissions", "victim"))
    out = tmp_path_factory.mktemp("out")
    (victim / "file").write_text("keep", encoding="utf-8")
    (out / "secret").write_text("open", encoding="utf-8")  # the grader's folder is closed
    (victim / "file").chmod(0o600)
    before = (victim / "file").stat()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(victim.parent / "listening"))
    listening.listen()
    listening.settimeout(0.1)
    places = {
        "{socket}": str(victim.parent / "listening"), "{folder}": str(victim), "{file}": f"{victim}/file",
        "{program}": f"{victim}/program", "{name}": victim.name, "{pids}": str([os.getpid(), os.getppid()]),
    }  # fmt: skip

    def saved(name: str, content: Any) -> None:
        text = json.dumps(content)
        for place, path in places.items():
            text = text.replace(place, path)
        (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")

    for name, code in FORGERIES.items():
        saved(name, whole({"double": f"def double(x):\n{indented(code)}    return x\n"}))
        stubs = {n: STUB.format(name=n) for n in ("double", "total")}
        saved(f"{name} first", whole(stubs, first=code))
    for name, code in OBJECTS.items():
        saved(name, whole({"double": code}))
    for name, code in REACH.items():
        attempt = f"try:\n{indented(code)}except Exception:\n    pass"
        saved(name, whole({"double": f"def double(x):\n{indented(attempt)}    return x\n"}))
        saved(f"{name} first", whole(first=code))
    places |= {"{folder}": str(out), "{secret}": f"{out}/secret"}
    for name, code in READS.items():
        saved(
            name, whole({"double": f"def double(x):\n    import os\n    raise ValueError('HAS READ ' + str({code}))\n"})
        )
    os.environ["CVBOOK_TEST_SECRET"] = "open"
    try:
        found = grade(folder, out, "--seconds", "8")
    finally:
        del os.environ["CVBOOK_TEST_SECRET"]
    after = (victim / "file").stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)
    with listening, pytest.raises(TimeoutError):
        listening.accept()
    shared = Path("/proc/sysvipc/shm")
    assert not shared.exists() or str(0x51CA7E) not in shared.read_text(encoding="ascii")
    return found, victim


@pytest.mark.parametrize("name", [*FORGERIES, *OBJECTS])
def test_no_attack_earns_a_point(attacked: Any, name: str) -> None:
    graded, _ = attacked
    assert graded.points(name) == (0, 3)
    state, message = graded.message(name, "test-double")
    assert state in ("wrong", "not attempted")
    assert "Traceback" not in message


@pytest.mark.parametrize("name", FORGERIES)
def test_nor_does_one_in_a_cell(attacked: Any, name: str) -> None:
    assert attacked[0].rows[f"{name} first"]["points"] == "0"


@kernel
def test_files_programs_and_processes_are_out_of_reach(attacked: Any) -> None:
    victim = attacked[1]
    assert [path.name for path in victim.iterdir()] == ["file"]
    assert (victim / "file").read_text(encoding="utf-8") == "keep"
    assert not (Path("/dev/shm") / victim.name).exists()
    names = [Path(f"/proc/{pid}/comm") for pid in os.listdir("/proc") if pid.isdigit()]
    alive = subprocess.run(["ps", "-eo", "comm"], capture_output=True, text=True, check=False).stdout
    assert "stays-" not in alive + "".join(p.read_text(encoding="utf-8") for p in names if p.exists())


@kernel
@pytest.mark.parametrize("name", REACH)
def test_an_attempt_costs_at_most_its_exercise(attacked: Any, name: str) -> None:
    assert attacked[0].points(name) == (0, 3)
    assert attacked[0].points(f"{name} first") == (2, 3)


@kernel
@pytest.mark.parametrize("name", READS)
def test_what_is_not_for_students_is_not_read(attacked: Any, name: str) -> None:
    state, message = attacked[0].message(name, "test-double")
    assert state == "wrong"
    assert "HAS READ" not in message
