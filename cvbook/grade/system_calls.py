"""Refuse system calls that no homework needs, whatever code makes them (Linux: seccomp(2)).

A filter is a program of the kernel's packet filter (BPF) that sees the number of each call. It cannot be taken off.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

__all__ = ["PROCESSES", "available", "refuse"]

# name: its number on x86-64 and on 64-bit ARM; 0 where there is none
REFUSED = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "mount": (165, 40), "umount2": (166, 39),
    "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432), "mount_setattr": (442, 442),
    "execve": (59, 221), "execveat": (322, 281), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "mknod": (133, 0), "mknodat": (259, 33), "pidfd_open": (434, 434),
}  # fmt: skip
# what changes owners, rights and times of files does nothing, and says that it has worked: copying a file does this
IGNORED = {
    "chmod": (90, 0), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, 0),
    "fchown": (93, 55), "lchown": (94, 0), "fchownat": (260, 54), "utime": (132, 0), "utimes": (235, 0),
    "futimesat": (261, 0), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
UTIME = (280, 88)  # utimensat: as before, but without times it fails, since Path.touch() then makes the file
PROCESSES = {"fork": (57, 0), "vfork": (58, 0)}  # and clone, unless it makes a thread
CLONE, CLONE3 = (56, 220), (435, 435)
THREAD, SPACES = 0x10000, 0x7E020080  # CLONE_THREAD, all CLONE_NEW...
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, and the kernel's name for it
LOAD, JUMP_EQUAL, JUMP_LARGER, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def available() -> bool:
    """Whether this machine's calls are known."""
    return sys.platform.startswith("linux") and platform.machine() in MACHINES


def refuse(*, processes: bool) -> None:
    """From now on refuse these calls in this process and its children.

    Args:
        processes: refuse new processes as well (threads stay possible).

    Raises:
        OSError: if the kernel does not take the filter.
    """
    column, machine = MACHINES[platform.machine()]
    steps = [
        (LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL),  # calls of 32 bits have other numbers
        (LOAD, 0, 0, 0), (JUMP_LARGER, 0, 1, 0x40000000), (RETURN, 0, 0, ERROR | EPERM),  # so do those of x32
    ]  # fmt: skip
    answers = {numbers[column]: ERROR | EPERM for numbers in REFUSED.values()}
    answers |= {numbers[column]: ERROR for numbers in IGNORED.values()}
    answers |= {CLONE3[column]: ERROR | ENOSYS}  # then the C library takes clone, whose flags can be seen
    test = (JUMP_SET, 1, 0, THREAD) if processes else (JUMP_SET, 0, 1, SPACES)
    steps += [
        (JUMP_EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, 16), test, (RETURN, 0, 0, ERROR | EPERM), (RETURN, 0, 0, ALLOW),
        (JUMP_EQUAL, 0, 6, UTIME[column]), (LOAD, 0, 0, 32), (JUMP_EQUAL, 0, 3, 0), (LOAD, 0, 0, 36),
        (JUMP_EQUAL, 0, 1, 0), (RETURN, 0, 0, ERROR | EPERM), (RETURN, 0, 0, ERROR),
    ]  # fmt: skip
    if processes:
        answers |= {numbers[column]: ERROR | EPERM for numbers in PROCESSES.values()}
    for number, answer in answers.items():
        if number:
            steps += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    steps.append((RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    library = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(steps), code)
    if library.prctl(38, 1, 0, 0, 0) or library.prctl(22, 2, ctypes.byref(program), 0, 0):  # NO_NEW_PRIVS, SECCOMP
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}: the kernel takes no filter of calls")
