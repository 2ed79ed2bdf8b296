"""Start samples and judges by a fork, without starting an interpreter for each.

This program runs confined. It reads requests on descriptor 0, forks a process for each, and reports
how it ended. A request is the name of a program, and with it comes the descriptor over which that
program communicates. This process runs no line of a sample. A child keeps that descriptor and nothing
else. Before its program begins, it gives up the rights of this process (fork, sockets, signals to
others) by the filter of `confined` programs. Nothing can be written here, and memory is copied at the
fork, so a sample leaves nothing for the next one.
"""

from __future__ import annotations

import array
import bisect
import collections
import ctypes
import functools
import gc
import heapq
import itertools
import math
import operator
import os
import re
import resource
import select
import signal
import socket
import string
import struct
import sys
import typing
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, "/box")
import judge  # type: ignore[import-not-found]  # it lies beside this file in the sandbox
import sample  # type: ignore[import-not-found]  # as above

# The modules that samples import most often. They are loaded once, before the first sample.
LIBRARY = (bisect, collections, functools, heapq, itertools, math, operator, re, string, typing)
PROGRAMS = {b"J": judge.main, b"S": sample.main}
KILL = b"K"
# The end of a child: its status, and its processor time in microseconds.
ENDED = struct.Struct(">iQ")
_SET_SECCOMP, _FILTER_MODE = 22, 2
_INSTRUCTION_BYTES = 8
# Descriptors of a child: its socket as 0 and 1, and /dev/null as 2.
_KEPT = 3
_MAX_DESCRIPTORS = 256
# Loaded before the first child.
LIBC = ctypes.CDLL(None, use_errno=True)
NOTHING = os.open("/dev/null", os.O_RDWR)


class FilterProgram(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _give_up(rules: bytes, seconds: int) -> None:
    """Limit the time of this process and install the stricter filter. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    text = ctypes.create_string_buffer(rules, len(rules))
    program = FilterProgram(len(rules) // _INSTRUCTION_BYTES, ctypes.cast(text, ctypes.c_void_p))
    if LIBC.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter of system calls")
    try:
        os.fork()
    except OSError:
        return
    os._exit(1)


def _be_child(name: bytes, conversation: int, rules: bytes, seconds: int) -> NoReturn:
    try:
        os.dup2(conversation, 0)
        os.dup2(conversation, 1)
        os.dup2(NOTHING, 2)
        os.closerange(_KEPT, _MAX_DESCRIPTORS)
        _give_up(rules, seconds)
        PROGRAMS[name]()
        os._exit(0)
    finally:
        os._exit(1)


def _wait(child: int, control: socket.socket) -> bytes:
    """Return how a child ended. Kill it on request, or when the other side has closed."""
    poll = select.poll()
    handle = os.pidfd_open(child)
    poll.register(handle, select.POLLIN)
    poll.register(control.fileno(), select.POLLIN)
    is_asked = False
    while handle not in dict(poll.poll()):
        os.kill(child, signal.SIGKILL)
        is_asked = True
        poll.unregister(control.fileno())
    os.close(handle)
    _, status, used = os.wait4(child, 0)
    if is_asked:
        control.recv(1)
    return ENDED.pack(status, round((used.ru_utime + used.ru_stime) * 1e6))


def main() -> None:
    """Serve requests until the other side closes."""
    seconds = int(sys.argv[1])
    rules = Path("/box/rules").read_bytes()
    control = socket.socket(fileno=0)
    hash(struct.pack(">I", 1))
    gc.freeze()
    control.sendall(b"R")
    while True:
        room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
        name, ancillary, _, _ = control.recvmsg(1, room)
        if not name:
            return
        if name not in PROGRAMS or not ancillary:
            continue
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2][: numbers.itemsize])
        child = os.fork()
        if child == 0:
            _be_child(name, numbers[0], rules, seconds)
        os.close(numbers[0])
        control.sendall(_wait(child, control))


if __name__ == "__main__":
    main()
