"""Run each source in a process of its own inside the sandbox, and report what its calls returned.

`executor` starts this program with `python -I -S`, as a file of its own, so it imports nothing of
this project. It neither runs nor reads a source itself. It forks a child for each request, and the
child reads the request. Answers pass through a buffer that is overwritten with zeros, and are not
decoded here. So the memory of a child has its own source and inputs, and nothing of another source or
its answers. Before the source starts, the child gives up everything but its memory and two pipes.
From then on the kernel refuses to open, connect, fork, execute and signal (seccomp, refused unless
allowed), and memory and processor time are limited.

The child's descriptor 0 is then a pipe into which nobody writes, and 1 is a pipe that ends here. So a
source can spoil its own answer and no other. An answer is one frame: a token, a length of four bytes,
JSON. It is lost when there is more or less than that, another token, too many bytes, or when the
child ends with another status.

Requests come as frames: bytes of JSON, number of calls, JSON. A request without JSON is a trial. After
each frame comes its nonce, which is read when the child has ended. So no source was ever in a process
that had the nonce, or in one that had the pipe of the replies. A child that ended before it had read
its request leaves bytes that are not the nonce, and the side outside then ends this worker. A reply
is nonce, length, and the child's JSON, which is empty when the answer is lost.
"""

from __future__ import annotations

import ast
import bisect
import collections
import contextlib
import functools
import gc
import heapq
import io
import itertools
import json
import math
import os
import re
import resource
import select
import signal
import string
import struct
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

# The modules that sources may import. They are loaded now, because nothing can be opened later.
LIBRARY = (ast, bisect, collections, functools, heapq, itertools, math, re, string)
SYSCALLS = (
    "read", "write", "close", "lseek", "brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex",
    "exit", "exit_group",
    "rt_sigreturn", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "setitimer", "clock_gettime",
    "gettimeofday", "getrandom",
    "sched_yield", "restart_syscall",
)  # fmt: skip
MAX_REPR = 2000
# JSON writes at most twelve bytes for a character (a surrogate pair), and a few around a value.
MAX_VALUE_BYTES = 12 * MAX_REPR + 16
N_NONCE = 16
REQUEST = struct.Struct(">II")
LENGTH = struct.Struct(">I")
# Bytes of a frame beside its values.
SMALL = 256
_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 0.0005


class OutOfTime(BaseException):
    """Raised in a source that used up its processor time. It is no Exception, so that `except
    Exception` does not catch it.
    """


def confine(memory: int, cpu: int) -> None:
    """Give up all rights that are not needed. Raises an exception when the kernel cannot enforce
    it.
    """
    import pyseccomp

    # The allocator of this interpreter takes address space in pieces. The rest is for sources.
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(1))
    for name in SYSCALLS:
        # Some calls do not exist on every processor. What does not exist need not be allowed.
        with contextlib.suppress(OSError, RuntimeError):
            rules.add_rule(pyseccomp.ALLOW, name)
    rules.load()
    # Calls that have to fail. They prove that the filter works before anything is run.
    attempts: tuple[Callable[[], int], ...] = (lambda: os.open("/", os.O_RDONLY), os.fork)
    for attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        raise RuntimeError("the filter of system calls does not hold")


def out_of_time(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001  (a handler)
    """End the source that is running."""
    raise OutOfTime


def run(source: str, entry: str, inputs: Sequence[str], seconds: float) -> list[str]:
    """Return the result of each call: its repr, or `!` and the name of the exception."""
    names: dict[str, Any] = {"__name__": "sample"}
    # The alarm is set inside the block that catches it, so it cannot go off outside.
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        exec(compile(source, "sample", "exec"), names)
        results = []
        for text in inputs:
            try:
                shown = repr(names[entry](*eval(text, {})))
            except Exception as error:
                shown = "!" + type(error).__name__
            results.append(shown if len(shown) <= MAX_REPR else "!TooLong")
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return ["!" + type(error).__name__] * len(inputs)
    return results


class Gone(Exception):
    """Raised when the side outside has closed its end."""


def read_exactly(n_bytes: int) -> bytes:
    """Return the next `n_bytes` of the requests."""
    data = bytearray()
    while len(data) < n_bytes:
        block = os.read(0, n_bytes - len(data))
        if not block:
            raise Gone
        data += block
    return bytes(data)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`. A pipe may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def framed(head: bytes, value: object) -> bytes:
    """Return `head`, the length of `value` as JSON, and the JSON."""
    text = json.dumps(value).encode()
    return head + LENGTH.pack(len(text)) + text


class Children:
    """Starts a confined process for each request and takes its answer."""

    def __init__(self, memory: int, cpu: int, seconds: float, silent: float) -> None:
        self._memory, self._cpu, self._seconds, self._silent = memory, cpu, seconds, silent
        self._silence, self._never_written = os.pipe()

    def answer(self, n_bytes: int, n_calls: int) -> tuple[bytearray, int, int]:
        """Return the bytes of a child, and where its JSON starts and ends. The JSON holds the
        result of each call, "" for a trial, or why the child cannot be confined. It is empty when
        the bytes are not one frame.
        """
        token = os.urandom(N_NONCE)
        data = bytearray((n_calls + 1) * MAX_VALUE_BYTES + SMALL)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            self._be_child(theirs, token, n_bytes)
        os.close(theirs)
        try:
            end, start = self._take(child, ours, data), N_NONCE + LENGTH.size
        finally:
            os.close(ours)
        is_frame = end >= start and data[:N_NONCE] == token
        if not is_frame or end - start != LENGTH.unpack_from(data, N_NONCE)[0]:
            start = end
        return data, start, end

    def _be_child(self, theirs: int, token: bytes, n_bytes: int) -> NoReturn:
        try:
            request = json.loads(read_exactly(n_bytes)) if n_bytes else None
            os.dup2(self._silence, 0)
            os.dup2(theirs, 1)
            os.closerange(2, 64)
            sys.stdout = sys.stderr = io.StringIO()
            try:
                confine(self._memory, self._cpu)
            except BaseException as error:
                value: object = f"{type(error).__name__}: {error}"[:MAX_REPR]
            else:
                value = run(**request, seconds=self._seconds) if request else ""
            write_all(1, framed(token, value))
            os._exit(0)
        finally:
            os._exit(1)

    def _take(self, child: int, ours: int, data: bytearray) -> int:
        """Return how many bytes the child wrote into `data` until it ended successfully, or 0 when it
        filled the buffer, was silent or ended otherwise.
        """
        end, is_open, status = 0, True, None
        deadline = time.monotonic() + self._silent
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        # This reports that the other end was closed, and nothing else.
        poll.register(0, 0)
        try:
            while time.monotonic() < deadline and end < len(data):
                if is_open:
                    ready = dict(poll.poll(1000 * _POLL_SECONDS))
                    if 0 in ready:
                        raise Gone
                    if ours in ready:
                        n_read = os.readv(ours, [memoryview(data)[end:]])
                        end += n_read
                        is_open = n_read > 0
                        continue
                ended, found = os.waitpid(child, os.WNOHANG)
                if ended:
                    status = found
                    break
                if not is_open:
                    time.sleep(_PAUSE_SECONDS)
            return end if status == 0 and end < len(data) else 0
        finally:
            if status is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def serve(children: Children) -> NoReturn:
    """Answer requests until the other side closes."""
    while True:
        n_bytes, n_calls = REQUEST.unpack(read_exactly(REQUEST.size))
        data, start, end = children.answer(n_bytes, n_calls)
        write_all(1, read_exactly(N_NONCE) + LENGTH.pack(end - start))
        write_all(1, memoryview(data)[start:end])
        data[:] = bytes(len(data))


def main() -> None:
    """Serve requests until the other side closes."""
    memory, cpu, seconds, silent = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    # Loaded before the first child, which cannot open a file.
    with contextlib.suppress(ImportError):
        import pyseccomp  # noqa: F401  (`confine` says why it is missing)
    signal.signal(signal.SIGVTALRM, out_of_time)
    hash(json.dumps({"": [1.0, "a"]}))
    gc.freeze()
    with contextlib.suppress(Gone, BrokenPipeError):
        serve(Children(memory, cpu, seconds, silent))


if __name__ == "__main__":
    main()
