"""Run a program in an isolated process tree: bubblewrap, a filter of system calls, limits of the
kernel, control groups.

Inside there is no network, no home directory, no process of another tree and no /proc. Only a small
file system in memory can be written, and it ends with the tree. A program that cannot be confined is
not started (`SandboxError`). It never runs with less protection.

Limits are in processor time. The clock ends a program only when it has not used the processor for
`IDLE_SECONDS` and no thread of it wanted to. So a busy machine cannot end a program. Past
`CEILING_SECONDS` of the clock there is no verdict about the program, because the machine is at fault
(`Ending.NONE`).
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from sevenfold.sandbox.executor import SandboxError
from sevenfold.sandbox.groups import Group, n_out_of_memory_here
from sevenfold.sandbox.syscalls import ALLOWED_TO_SERVE, filter_program
from sevenfold.sandbox.toolchains import LANGUAGES, MIB, tool_mounts

IDLE_SECONDS = 10.0
CEILING_SECONDS = 600.0
_POLL_SECONDS = 0.25
_BLOCK = 1 << 16
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
}
USER = 65534


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """The limits of a program. Processor time is in whole seconds, the unit of the kernel's limit."""

    processor_seconds: int = 3
    memory_bytes: int = 512 * MIB
    disk_bytes: int = 16 * MIB
    output_bytes: int = 1 * MIB
    n_processes: int = 32
    n_files: int = 64

    def facts(self) -> dict[str, int]:
        """Return the limits as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


# The limits of a build. Compilers are large, and consist of several processes.
BUILD_LIMITS = ProcessLimits(
    processor_seconds=60, memory_bytes=2048 * MIB, disk_bytes=256 * MIB, output_bytes=64 * MIB
)


class Ending(enum.Enum):
    """Why a tree ended."""

    EXIT = "exit"
    TIME = "processor time"
    IDLE = "idle"
    OUTPUT = "output"
    MEMORY = "memory"
    NONE = "no verdict"


@cache
def bubblewrap() -> str:
    """Return the path of bubblewrap after a trial run.

    Raises:
        SandboxError: it is missing, or this machine does not let it make namespaces.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "programs are not executed without bubblewrap",
            where="sandbox",
            remedy="install the Debian package bubblewrap (scripts/setup.sh does), on Linux",
        )
    command = [found, "--unshare-all", "--unshare-user", "--ro-bind", "/usr", "/usr", "--ro-bind-try"]
    command += ["/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64", "/usr/bin/true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it failed"]
        raise SandboxError(
            f"bubblewrap cannot confine a program here: {said[-1]}",
            where="sandbox",
            remedy=(
                "allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)"
            ),
        )
    return found


@dataclass(frozen=True, kw_only=True)
class TreeUsage:
    """The use of a tree of processes: ticks of the processor, whether a thread wants the processor
    now, processor seconds as its group counts them (None without a group), and the number of
    processes that ran out of memory.
    """

    ticks: int
    wants: bool
    seconds: float | None
    n_out_of_memory: int


class Confined:
    """A started program. `send` and `receive` use its standard streams. The end of the block ends the
    program.

    Args:
        language: the language whose tools the program sees.
        command: the command. Its first word may be the plain name of the language's tool.
        files: name -> bytes of read-only files below /box.
        may_fork: whether the program may start processes, as a compiler does.
        control: the descriptor of its standard input, in place of a pipe. Such a program starts
            others (`fork_server`), and it cannot write a file.
        idle_seconds: of the clock, after which a program that only waits is ended.
    """

    def __init__(
        self,
        language: str,
        command: Sequence[str],
        files: Mapping[str, bytes],
        limits: ProcessLimits,
        *,
        may_fork: bool = False,
        control: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._idle_seconds = idle_seconds
        self.limits, self.ending = limits, Ending.EXIT
        self.exit_code: int | None = None
        self.seconds = 0.0
        self._pid = 0
        self._address_space = max(LANGUAGES[language].address_space, limits.memory_bytes)
        self._n_killed_before = n_out_of_memory_here()
        self._began = time.monotonic()
        self._idle_since, self._idle_ticks = self._began, -1
        self._group = Group(limits.memory_bytes, limits.n_processes)
        try:
            self._start(language, command, files, may_fork, control)
        except BaseException:
            self._group.close()
            raise

    def _start(
        self,
        language: str,
        command: Sequence[str],
        files: Mapping[str, bytes],
        may_fork: bool,
        control: int | None,
    ) -> None:
        seen = tool_mounts(language)
        tool = seen.tool if command[0] == Path(seen.tool).name or command[0] == language else command[0]
        with contextlib.ExitStack() as held:
            shown: list[str] = []
            descriptors = []
            rules = _rules(language, may_fork, is_server=control is not None)
            room = ["--size", str(self.limits.disk_bytes), "--tmpfs"] if control is None else ["--dir"]
            for name, data in {".filter": rules, **files}.items():
                descriptor = os.memfd_create(name)
                held.callback(os.close, descriptor)
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(data)
                os.lseek(descriptor, 0, os.SEEK_SET)
                descriptors.append(descriptor)
                if name != ".filter":
                    shown += ["--perms", "0555", "--ro-bind-data", str(descriptor), f"/box/{name}"]
            told, tells = os.pipe()
            held.callback(os.close, told)
            waits, go = os.pipe()
            held.callback(os.close, go)
            variables = [word for pair in _ENVIRONMENT.items() for word in ("--setenv", *pair)]
            arguments = [
                bubblewrap(), "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session",
                "--uid", str(USER), "--gid", str(USER), "--hostname", "box", "--clearenv",
                *variables, *seen.arguments, "--perms", "0755", "--dir", "/box", "--perms", "0755", "--dir",
                "/dev",
                "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom",
                "--perms", "1777", *room, "/tmp", *shown,
                "--chdir", "/tmp",
                "--remount-ro", "/",
                "--seccomp", str(descriptors[0]), "--info-fd", str(tells), "--block-fd", str(waits),
            ]  # fmt: skip
            with contextlib.closing(_Descriptors(tells, waits)):
                self.process = subprocess.Popen(
                    [*arguments, "--", tool, *command[1:]],
                    stdin=subprocess.PIPE if control is None else control,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=[*descriptors, tells, waits],
                    env={},
                    bufsize=0,
                )
            try:
                self._bound(told)
            except BaseException:
                self._kill()
                raise
            os.write(go, b"1")
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        self.error_text = bytearray()

    def _bound(self, told: int) -> None:
        """Set the limits of the tree while it waits to begin."""
        data = b""
        while block := os.read(told, _BLOCK):
            data += block
            if b"}" in data:
                break
        try:
            self._pid = int(json.loads(data)["child-pid"])
        except (ValueError, KeyError, TypeError) as error:
            said = _pipe(self.process.stderr).read() or b"it said nothing"
            raise SandboxError(
                f"bubblewrap did not start: {said.decode('utf-8', 'replace').strip()[:200]}", where="sandbox"
            ) from error
        limits, seconds = self.limits, self.limits.processor_seconds
        for kind, soft, hard in (
            # The soft limit ends a program that does not catch its signal. The hard one ends every
            # program.
            (resource.RLIMIT_CPU, seconds, seconds + 1),
            (resource.RLIMIT_AS, self._address_space, self._address_space),
            (resource.RLIMIT_FSIZE, limits.disk_bytes, limits.disk_bytes),
            (resource.RLIMIT_NOFILE, limits.n_files, limits.n_files),
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_MEMLOCK, 0, 0),
            (resource.RLIMIT_MSGQUEUE, 0, 0),
            (resource.RLIMIT_NPROC, limits.n_processes, limits.n_processes),
        ):
            resource.prlimit(self._pid, kind, (soft, hard))
        self._group.add(self._pid)

    def __enter__(self) -> Confined:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the whole tree and free its resources. The facts about its end stay."""
        self._kill()
        used = self._group.processor_seconds()
        self.seconds = used if used is not None else self.seconds
        self._group.close()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _kill(self) -> None:
        if self.exit_code is not None:
            return
        if self.process.returncode is None:
            # This is the first process of the namespace. The kernel ends the others with it, and
            # bubblewrap, which waits for it, ends by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid or self.process.pid, signal.SIGKILL)
            _, status, used = os.wait4(self.process.pid, 0)
            self.seconds = used.ru_utime + used.ru_stime
            self.process.returncode = os.waitstatus_to_exitcode(status)
        self.exit_code = self.process.returncode

    def send(self, data: bytes) -> bool:
        """Return whether the program took all of `data`."""
        pipe = _pipe(self.process.stdin)
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(pipe.fileno(), view) :]
            except BlockingIOError:
                if not self._wait([], [pipe]):
                    return False
            except BrokenPipeError:
                return False
        return True

    def end_of_input(self) -> None:
        """Close the program's standard input."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.process.stdin).close()

    def receive(self, n_bytes: int) -> bytes | None:
        """Return exactly `n_bytes` of standard output, or None when the tree ended before."""
        pipe, data = _pipe(self.process.stdout), bytearray()
        while len(data) < n_bytes:
            if not self._wait([pipe], []):
                return None
            try:
                block = os.read(pipe.fileno(), min(n_bytes - len(data), _BLOCK))
            except BlockingIOError:
                continue
            if not block:
                self._judge_end()
                return None
            data += block
        return bytes(data)

    def run(self, stdin: bytes = b"") -> tuple[bytes, bytes]:
        """Give a program its input, wait for its end, and return standard output and error.

        A program that writes more than `output_bytes` is ended.
        """
        streams = {_pipe(self.process.stdout): bytearray(), _pipe(self.process.stderr): self.error_text}
        out = streams[_pipe(self.process.stdout)]
        is_open = set(streams)
        rest = memoryview(stdin)
        if not rest:
            self.end_of_input()
        while is_open:
            writing = [_pipe(self.process.stdin)] if rest else []
            if not self._wait(list(is_open), writing):
                break
            if rest:
                try:
                    rest = rest[os.write(_pipe(self.process.stdin).fileno(), rest) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    rest = rest[:0]
                if not rest:
                    self.end_of_input()
            for pipe in list(is_open):
                with contextlib.suppress(BlockingIOError):
                    block = os.read(pipe.fileno(), _BLOCK)
                    streams[pipe] += block
                    if not block:
                        is_open.discard(pipe)
            if sum(map(len, streams.values())) > self.limits.output_bytes:
                self.ending = Ending.OUTPUT
                break
        if not is_open:
            self._judge_end()
        self.close()
        return bytes(out[: self.limits.output_bytes]), bytes(self.error_text[: self.limits.output_bytes])

    def _judge_end(self) -> None:
        """Wait for the end of a tree that closed its output, and find out whether a limit ended it."""
        while self.process.returncode is None:
            done, status, used = os.wait4(self.process.pid, os.WNOHANG)
            if done:
                self.seconds = used.ru_utime + used.ru_stime
                self.process.returncode = os.waitstatus_to_exitcode(status)
                break
            if not self._is_in_time():
                return
            time.sleep(0.001)
        self.exit_code = self.process.returncode
        counted = self._group.processor_seconds()
        self.seconds = counted if counted is not None else self.seconds
        if self.exit_code == 128 + signal.SIGXCPU:
            self.ending = Ending.TIME
        elif self.exit_code == 128 + signal.SIGKILL:
            self.ending = self._who_killed()

    def _who_killed(self) -> Ending:
        """Return why the kernel killed a program. A program cannot kill itself."""
        if self._group.n_out_of_memory():
            return Ending.MEMORY
        if self.seconds >= self.limits.processor_seconds:
            return Ending.TIME
        # When the whole machine ran out of memory, the program is not at fault.
        return Ending.NONE if n_out_of_memory_here() > self._n_killed_before else Ending.EXIT

    def _wait(self, reading: list[IO[bytes]], writing: list[IO[bytes]]) -> bool:
        """Return True when a stream is ready, or False when a limit ended the tree."""
        while True:
            ready = select.select(reading, writing, [], _POLL_SECONDS)
            if ready[0] or ready[1]:
                self._idle_since = time.monotonic()
                return True
            if not self._is_in_time():
                return False

    @property
    def is_running(self) -> bool:
        """Return whether the first process of the tree still runs."""
        if self.process.returncode is None and self.exit_code is None:
            return self.process.poll() is None
        return False

    def usage(self) -> TreeUsage:
        """Return the use of the tree until now."""
        ticks, wants = _activity(self._pid)
        return TreeUsage(
            ticks=ticks,
            wants=wants,
            seconds=self._group.processor_seconds(),
            n_out_of_memory=self._group.n_out_of_memory(),
        )

    def _is_in_time(self) -> bool:
        """Return whether the tree may go on; end it otherwise."""
        now = time.monotonic()
        ticks, wants = _activity(self._pid)
        if wants or ticks != self._idle_ticks:
            self._idle_since, self._idle_ticks = now, ticks
        used = self._group.processor_seconds()
        if used is not None and used > self.limits.processor_seconds + 1:
            # Several processes of a tree can be over the limit together, while each is below the
            # kernel's limit of one process.
            self.ending = Ending.TIME
        elif now - self._idle_since > self._idle_seconds:
            self.ending = Ending.IDLE
        elif now - self._began > CEILING_SECONDS:
            self.ending = Ending.NONE
        else:
            return True
        self._kill()
        return False


def _rules(language: str, may_fork: bool, *, is_server: bool) -> bytes:
    """Return the filter of a tree. A tool may make calls that a built program may not."""
    tools = LANGUAGES[language]
    more = tools.calls if may_fork or not tools.build else ()
    return filter_program(may_fork=may_fork, more=(*more, *ALLOWED_TO_SERVE) if is_server else more)


class _Descriptors:
    """Descriptors that are passed to the program. They are closed here once it runs."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def close(self) -> None:
        for number in self._numbers:
            os.close(number)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise SandboxError("a confined program has no streams", where="sandbox")
    return pipe


def _activity(root: int) -> tuple[int, bool]:
    """Return the processor ticks of a tree of processes, and whether one of its threads wants the
    processor.
    """
    ticks, wants, waiting = 0, False, [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError, ValueError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    fields = (thread / "stat").read_text().rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
                    wants = wants or fields[0] in "RD"
                    waiting += map(int, (thread / "children").read_text().split())
    return ticks, wants
