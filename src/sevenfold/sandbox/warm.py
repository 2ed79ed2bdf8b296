"""Keep a pool of confined trees, each with a waiting interpreter that forks a process per program.

Starting bubblewrap and an interpreter takes tens of milliseconds of processor time, a fork one or
two. A tree of this module holds one process that runs no sample (`fork_server`). It forks a child
for each program; one child runs at a time. Judges and samples are in different trees.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sevenfold.sandbox import toolchains
from sevenfold.sandbox.confined import (
    CEILING_SECONDS,
    IDLE_SECONDS,
    Confined,
    Ending,
    ProcessLimits,
    bubblewrap,
)
from sevenfold.sandbox.executor import SandboxError
from sevenfold.sandbox.groups import n_out_of_memory_here
from sevenfold.sandbox.syscalls import filter_program

JUDGE, SAMPLE = b"J", b"S"
# After so many programs a tree is ended and another one started.
PROGRAMS_PER_TREE = 500
_KILL = b"K"
# As in `fork_server`: the status of a child, and its processor time in microseconds.
_ENDED = struct.Struct(">iQ")
_POLL_SECONDS = 0.25
_BLOCK = 1 << 16
_HERE = Path(__file__).parent


class WarmTree:
    """A confined tree whose first process forks the others."""

    def __init__(self, limits: ProcessLimits) -> None:
        self.limits, self.n_programs = limits, 0
        self._control, theirs = socket.socketpair()
        # Each program sets its own limit. The limit of the tree covers all of its programs.
        whole = replace(limits, processor_seconds=PROGRAMS_PER_TREE * (limits.processor_seconds + 1))
        start = (*toolchains.LANGUAGES["python"].start, str(limits.processor_seconds))
        with theirs:
            self.tree = Confined("python", start, _files(), whole, may_fork=True, control=theirs.fileno())
        self._control.settimeout(CEILING_SECONDS)
        if self._received(1) != b"R":
            said = (
                self.tree.process.stderr.read() if self.tree.process.stderr else b""
            ) or b"it said nothing"
            self.close()
            raise SandboxError(
                f"no confined interpreter starts here: {said.decode('utf-8', 'replace').strip()[-200:]}",
                where="sandbox",
                remedy="run `s7 doctor`; a Linux kernel with seccomp is needed",
            )

    def _received(self, n_bytes: int) -> bytes:
        """Return `n_bytes` of the control socket, or fewer when the tree ended."""
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < n_bytes and (block := self._control.recv(n_bytes - len(data))):
                data += block
        return data

    @property
    def is_fit(self) -> bool:
        """Return whether another program may be started here."""
        return self.n_programs < PROGRAMS_PER_TREE and self.tree.is_running

    def begin(self, program: bytes) -> ForkedProgram:
        """Start a program. Leave its block before the next one is started."""
        self.n_programs += 1
        return ForkedProgram(self, program)

    def ask(self, program: bytes, conversation: socket.socket) -> None:
        """Send a request with the descriptor of its socket. Raises OSError when the tree ended."""
        socket.send_fds(self._control, [program], [conversation.fileno()])

    def end_program(self) -> tuple[int, float] | None:
        """Kill the running program, if there is one. Return its status and processor time, or None
        when the tree ended.
        """
        with contextlib.suppress(OSError):
            self._control.sendall(_KILL)
        data = self._received(_ENDED.size)
        if len(data) < _ENDED.size:
            self.close()
            return None
        status, microseconds = _ENDED.unpack(data)
        return status, microseconds / 1e6

    def close(self) -> None:
        """End the tree and free its resources."""
        self._control.close()
        self.tree.close()


@cache
def _files() -> dict[str, bytes]:
    found = {name: (_HERE / name).read_bytes() for name in ("judge.py", "sample.py", "wire.py")}
    main = toolchains.LANGUAGES["python"].source
    rules = filter_program(may_fork=False, may_signal=False)
    return {**found, main: (_HERE / "fork_server.py").read_bytes(), "rules": rules}


class ForkedProgram:
    """A program that communicates over one socket, as `Confined` does over its standard streams."""

    def __init__(self, tree: WarmTree, program: bytes) -> None:
        self._tree, self.limits = tree, tree.limits
        self.ending, self.seconds = Ending.EXIT, 0.0
        self._is_over = False
        self._before = tree.tree.usage()
        self._n_killed_before = n_out_of_memory_here()
        self._began = time.monotonic()
        self._idle_since, self._idle_ticks = self._began, -1
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            try:
                tree.ask(program, theirs)
            except OSError:
                self.ending, self._is_over = Ending.NONE, True
                tree.close()

    def __enter__(self) -> ForkedProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the program. The facts about its end stay."""
        self._end()
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Return whether the program took all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                if not self._wait(is_reading=False):
                    return False
            except OSError:
                return False
        return True

    def receive(self, n_bytes: int) -> bytes | None:
        """Return exactly `n_bytes`, or None when the program ended before."""
        data = bytearray()
        while len(data) < n_bytes:
            if not self._wait(is_reading=True):
                return None
            try:
                block = self._socket.recv(min(n_bytes - len(data), _BLOCK))
            except BlockingIOError:
                continue
            except OSError:
                block = b""
            if not block:
                self._end()
                return None
            data += block
        return bytes(data)

    def _wait(self, *, is_reading: bool) -> bool:
        """Return True when the socket is ready, or False when a limit ended the program."""
        streams = [self._socket]
        while not self._is_over:
            ready = select.select(
                streams if is_reading else [], [] if is_reading else streams, [], _POLL_SECONDS
            )
            if ready[0] or ready[1]:
                self._idle_since = time.monotonic()
                return True
            self._look()
        return False

    def _look(self) -> None:
        """End the program if it is past a limit."""
        now, usage = time.monotonic(), self._tree.tree.usage()
        if usage.wants or usage.ticks != self._idle_ticks:
            self._idle_since, self._idle_ticks = now, usage.ticks
        used = (usage.seconds or 0.0) - (self._before.seconds or 0.0)
        if used > self.limits.processor_seconds + 1:
            self.ending = Ending.TIME
        elif now - self._idle_since > IDLE_SECONDS:
            self.ending = Ending.IDLE
        elif now - self._began > CEILING_SECONDS:
            self.ending = Ending.NONE
        else:
            return
        self._end()

    def _end(self) -> None:
        """End the program, and record whether the kernel had ended it."""
        if self._is_over:
            return
        self._is_over = True
        n_killed = self._tree.tree.usage().n_out_of_memory
        found = self._tree.end_program()
        if self.ending is not Ending.EXIT:
            self.seconds = self.seconds if found is None else found[1]
            return
        is_out_of_memory = n_killed > self._before.n_out_of_memory
        if found is None:
            # The whole tree ended with it.
            self.ending = Ending.MEMORY if is_out_of_memory else Ending.NONE
            return
        status, self.seconds = found
        if not os.WIFSIGNALED(status):
            return
        if os.WTERMSIG(status) == signal.SIGXCPU or self.seconds >= self.limits.processor_seconds:
            self.ending = Ending.TIME
        elif is_out_of_memory:
            self.ending = Ending.MEMORY
        elif n_out_of_memory_here() > self._n_killed_before:
            # When the whole machine ran out of memory, the program is not at fault.
            self.ending = Ending.NONE


@dataclass(kw_only=True)
class WarmPair:
    """The two trees of a Python task, one for its judge and one for its sample."""

    judge: WarmTree
    sample: WarmTree

    def close(self) -> None:
        """End both trees."""
        self.judge.close()
        self.sample.close()


_IDLE: dict[ProcessLimits, deque[WarmPair]] = defaultdict(deque)
_LOCK = threading.Lock()


@cache
def _starter() -> ThreadPoolExecutor:
    """Return the thread that starts trees. The kernel ends a tree with the thread that started it."""
    atexit.register(release)
    return ThreadPoolExecutor(1, thread_name_prefix="sevenfold-trees")


def _new_pair(limits: ProcessLimits) -> WarmPair:
    judge = WarmTree(limits)
    try:
        return WarmPair(judge=judge, sample=WarmTree(limits))
    except BaseException:
        judge.close()
        raise


@contextlib.contextmanager
def warm_pair(limits: ProcessLimits) -> Iterator[WarmPair]:
    """Yield a pair of trees that no other thread uses now.

    Raises:
        SandboxError: nothing can be confined here.
    """
    bubblewrap()
    with _LOCK:
        pair = _IDLE[limits].pop() if _IDLE[limits] else None
    if pair is None:
        pair = _starter().submit(_new_pair, limits).result()
    try:
        yield pair
    finally:
        if pair.judge.is_fit and pair.sample.is_fit:
            with _LOCK:
                _IDLE[limits].append(pair)
        else:
            pair.close()


def release() -> None:
    """End the idle trees."""
    with _LOCK:
        pairs = [pair for row in _IDLE.values() for pair in row]
        _IDLE.clear()
    for pair in pairs:
        pair.close()
