"""The program inside the sandbox: runs the sources of a job in a process of its own, and says what
their calls returned.

Started by `sandbox` with `python -I -S`, as a file of its own: it imports nothing of this project.
It runs no source itself. It forks a child for each job, and the child gives up everything but its
memory and two pipes before a source starts: afterwards the kernel refuses to open, connect, fork,
execute and signal (seccomp, default: no), and memory and processor time are bounded.

The child's descriptor 0 is a pipe into which nobody writes, and 1 is a pipe that ends here, so a
job can spoil its own answer and no other's. That answer is one frame: a token, a length of four
bytes, JSON. More than that, less, another token, too many bytes, or an end with another status, and
the job is lost.

Requests come as frames (length, JSON). Behind each stands its nonce, which is read when the child
has ended: no source was ever in a process that had it, or in one that had the pipe of the replies.
A reply is nonce, length, JSON.
"""

from __future__ import annotations

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
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

# What sources may import; loaded now, because nothing can be opened later.
LIBRARY = (bisect, collections, functools, heapq, itertools, math, re, string)
SYSCALLS = (
    "read", "write", "close", "lseek", "brk", "mmap", "munmap", "mremap", "madvise", "mprotect", "futex", "exit", "exit_group",
    "rt_sigreturn", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "setitimer", "clock_gettime", "gettimeofday", "getrandom",
    "sched_yield", "restart_syscall",
)  # fmt: skip
MAX_REPR = 2000
# JSON writes at most twelve bytes for a character (a surrogate pair), and a few around a value.
MAX_VALUE_BYTES = 12 * MAX_REPR + 16
N_NONCE = 16
LENGTH = struct.Struct(">I")
# Of a frame, beside its values.
SMALL = 256
_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 0.0005


class OutOfTime(BaseException):
    """Raised in a source that used up its processor time; not an Exception, so that `except
    Exception` does not eat it.
    """


def confine(memory: int, cpu: int) -> None:
    """Give up what is not needed, for good; an exception when the kernel cannot promise it."""
    import pyseccomp

    # This interpreter's allocator takes address space in pieces; the rest of the room is for sources.
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    rules = pyseccomp.SyscallFilter(defaction=pyseccomp.ERRNO(1))
    for name in SYSCALLS:
        # A name that this processor has not is no way in.
        with contextlib.suppress(OSError, RuntimeError):
            rules.add_rule(pyseccomp.ALLOW, name)
    rules.load()
    # Closed on purpose: the proof that the filter holds, before anything is run.
    attempts: tuple[Callable[[], int], ...] = (lambda: os.open("/", os.O_RDONLY), os.fork)
    for attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        raise RuntimeError("the filter of system calls does not hold")


def out_of_time(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001  (the signature of a handler)
    """End the source that is running."""
    raise OutOfTime


def run(source: str, entry: str, inputs: Sequence[str], seconds: float) -> list[str]:
    """What each call gave: its repr, or `!` and the name of what was raised."""
    names: dict[str, Any] = {"__name__": "sample"}
    # Armed inside the block that catches, so that the alarm cannot ring outside of it.
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
    """So many bytes of the requests."""
    data = bytearray()
    while len(data) < n_bytes:
        block = os.read(0, n_bytes - len(data))
        if not block:
            raise Gone
        data += block
    return bytes(data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`: a pipe may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def framed(head: bytes, value: object) -> bytes:
    """`head`, the length of `value` as JSON, and that."""
    text = json.dumps(value).encode()
    return head + LENGTH.pack(len(text)) + text


def unframed(data: bytes, head: bytes) -> object:
    """The value that a child sent in one frame; None when there is anything else."""
    start = len(head) + LENGTH.size
    if len(data) < start or data[: len(head)] != head:
        return None
    if len(data) - start != LENGTH.unpack_from(data, len(head))[0]:
        return None
    try:
        return json.loads(data[start:])
    except (ValueError, RecursionError):
        return None


class Children:
    """Starts a confined process for each job and takes its answer."""

    def __init__(self, memory: int, cpu: int, seconds: float, silent: float) -> None:
        self._memory, self._cpu, self._seconds, self._silent = memory, cpu, seconds, silent
        self._silence, self._never_written = os.pipe()

    def run(self, job: Mapping[str, Any]) -> object:
        """What each call of each source gave; None when the child did not say it in one frame."""
        sources, entry, inputs = job["sources"], job["entry"], job["inputs"]
        n_bytes = len(sources) * (len(inputs) * MAX_VALUE_BYTES + SMALL) + len(json.dumps(list(sources)))
        silent = self._silent * max(1, len(sources))

        def work() -> object:
            return {key: run(source, entry, inputs, self._seconds) for key, source in sources.items()}

        return self._ask(work, n_bytes, self._cpu * max(1, len(sources)), silent)

    def why_not(self) -> object:
        """Why a child cannot be confined; "" when it can."""
        found = self._ask(lambda: "", MAX_VALUE_BYTES, self._cpu, self._silent)
        return "it did not answer" if found is None else found

    def _ask(self, work: Callable[[], object], limit: int, cpu: int, silent: float) -> object:
        token = os.urandom(N_NONCE)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            self._be_child(theirs, token, work, cpu)
        os.close(theirs)
        try:
            data = self._take(child, ours, limit + SMALL, silent)
        finally:
            os.close(ours)
        return None if data is None else unframed(data, token)

    def _be_child(self, theirs: int, token: bytes, work: Callable[[], object], cpu: int) -> NoReturn:
        try:
            os.dup2(self._silence, 0)
            os.dup2(theirs, 1)
            os.closerange(2, 64)
            sys.stdout = sys.stderr = io.StringIO()
            try:
                confine(self._memory, cpu)
            except BaseException as error:
                value: object = f"{type(error).__name__}: {error}"[:MAX_REPR]
            else:
                value = work()
            write_all(1, framed(token, value))
            os._exit(0)
        finally:
            os._exit(1)

    def _take(self, child: int, ours: int, limit: int, silent: float) -> bytes | None:
        """All that the child wrote until it ended well; None when it wrote more, was silent or
        ended otherwise.
        """
        data, is_open, status = bytearray(), True, None
        deadline = time.monotonic() + silent
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        # Tells of its other end being closed, and of nothing else.
        poll.register(0, 0)
        try:
            while time.monotonic() < deadline and len(data) <= limit:
                if is_open:
                    ready = dict(poll.poll(1000 * _POLL_SECONDS))
                    if 0 in ready:
                        raise Gone
                    if ours in ready:
                        block = os.read(ours, 1 << 16)
                        data += block
                        is_open = bool(block)
                        continue
                ended, found = os.waitpid(child, os.WNOHANG)
                if ended:
                    status = found
                    break
                if not is_open:
                    time.sleep(_PAUSE_SECONDS)
            return bytes(data) if status == 0 and len(data) <= limit else None
        finally:
            if status is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def serve(children: Children) -> NoReturn:
    """Answer requests until the other side closes."""
    while True:
        request = json.loads(read_exactly(LENGTH.unpack(read_exactly(LENGTH.size))[0]))
        if "sources" in request:
            reply = {"found": children.run(request)}
        else:
            reply = {"refused": children.why_not()}
        write_all(1, framed(read_exactly(N_NONCE), reply))


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
