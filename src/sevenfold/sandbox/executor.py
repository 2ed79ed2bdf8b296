"""A long-lived worker that executes samples, and can reach nothing: the side outside.

Without the kernel's filter nothing is executed (`SandboxError`), never with less protection. The
worker starts a process for each job. It holds no file, no network and no right to start another
(seccomp; proved by itself before the first source), 512 MiB of address space, and two seconds of
processor time for a source. So a hostile program can spoil the answer of its own job and no
other's: what it returns is its own word in any case.

A reply is bound to its request: it starts with a nonce of 16 bytes that the worker reads after that
process has ended. It is a frame of bounded length, and it is waited for in bounded time. A process
whose reply is malformed is killed, and the job that it was on is lost, not the run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import secrets
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from sevenfold.core.errors import SevenfoldError
from sevenfold.sandbox.request import ERROR_MARK, ExecutionRequest, Outcome

MEMORY_BYTES = 512 << 20
# Processor time of a source: it is told to end after the first, and killed after the second.
SAMPLE_SECONDS = 2.0
STUCK_SECONDS = 10.0
# Of the clock, for each source: a program that waits for ever uses no processor time.
SILENT_SECONDS = 120.0
# What the worker may take longer than its sources, in seconds of the clock.
GRACE_SECONDS = 30.0
START_SECONDS = 120.0
JOBS_PER_WORKER = 20_000
# Bytes of JSON for one value that a call gave; `worker.MAX_VALUE_BYTES` is less.
MAX_VALUE_BYTES = 1 << 15
MAX_REPLY_BYTES = 64 << 20
_N_NONCE = 16
_LENGTH = struct.Struct(">I")


class SandboxError(SevenfoldError):
    """Samples cannot be executed safely here."""

    exit_code = 4


class Sandbox:
    """One worker, started when it is needed and again when it was lost. Use it as a context."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._n_jobs = 0
        self.n_lost = 0

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, with the process of a source that it may have."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def run(self, job: ExecutionRequest) -> Outcome:
        """Execute a job. A source that breaks its limits has `!Lost` or `!OutOfTime` for every call.

        Raises:
            SandboxError: no worker can be confined on this machine.
        """
        if self._process is None or self._n_jobs >= JOBS_PER_WORKER or self._has_said_more():
            self.close()
            self._start()
        request = {"sources": dict(job.sources), "entry": job.entry, "inputs": list(job.inputs)}
        self._n_jobs += 1
        limit = 1024 + len(job.sources) * (1024 + len(job.inputs) * MAX_VALUE_BYTES)
        seconds = GRACE_SECONDS + self._silent_seconds * len(job.sources)
        reply = self._ask(request, min(limit, MAX_REPLY_BYTES), seconds)
        if not isinstance(reply, dict) or reply.keys() != {"found"}:
            self.close()
            reply = {"found": None}
        found = reply["found"]
        if not _is_outcome(found, job):
            self.n_lost += 1
            return {key: [f"{ERROR_MARK}Lost"] * len(job.inputs) for key in job.sources}
        return found

    def _has_said_more(self) -> bool:
        """Return whether the worker wrote what answers no request, or ended."""
        answers = self._process.stdout if self._process else None
        return answers is not None and bool(select.select([answers.fileno()], [], [], 0)[0])

    def _start(self) -> None:
        found = importlib.util.find_spec("pyseccomp")
        if found is None or found.origin is None:
            raise SandboxError(
                "samples are not executed without a filter of system calls: pyseccomp is not installed",
                where="synthetic samples",
                remedy="pip install 'sevenfold[train]', on Linux",
            )
        # -I -S: no environment, no site packages. The library's own directory is the one thing that is added.
        library, worker = str(Path(found.origin).parent), str(Path(__file__).with_name("worker.py"))
        start = f"import sys, runpy; sys.path.append({library!r}); runpy.run_path({worker!r}, run_name='__main__')"
        limits = [MEMORY_BYTES, math.ceil(STUCK_SECONDS), SAMPLE_SECONDS, self._silent_seconds]
        # A session of its own: the worker and its children are ended together.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", start, *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        self._n_jobs = 0
        greeting = self._ask({}, 1 << 16, START_SECONDS)
        if greeting != {"refused": ""}:
            self.close()
            told = greeting.get("refused") if isinstance(greeting, dict) else None
            raise SandboxError(
                f"the worker cannot be confined: {told or 'it did not start'}",
                where="synthetic samples",
                remedy="a Linux kernel with seccomp and the library libseccomp2 are needed; samples are not executed without",
            )

    def _ask(self, request: Mapping[str, object], limit: int, seconds: float) -> Any:
        """Return the worker's reply to a request, of at most `limit` bytes of JSON; None when it is
        lost or malformed.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        nonce, text = secrets.token_bytes(_N_NONCE), json.dumps(request).encode()
        deadline = time.monotonic() + seconds
        sent = _write(process.stdin.fileno(), _LENGTH.pack(len(text)) + text + nonce, deadline)
        answer = process.stdout.fileno()
        head = _read(answer, _N_NONCE + _LENGTH.size, deadline) if sent else None
        if head is None or head[:_N_NONCE] != nonce:
            return None
        (n_bytes,) = _LENGTH.unpack_from(head, _N_NONCE)
        data = _read(answer, n_bytes, deadline) if n_bytes <= limit else None
        if data is None or select.select([answer], [], [], 0)[0]:
            # What stands behind a reply answers no request.
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return None


def _write(descriptor: int, data: bytes, deadline: float) -> bool:
    """Return whether all of `data` was taken before the deadline."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [descriptor], [], left)[1]:
                return False
        except BrokenPipeError:
            return False
    return True


def _read(descriptor: int, n_bytes: int, deadline: float) -> bytes | None:
    """Return exactly `n_bytes`; None when they do not come before the deadline."""
    data = bytearray()
    while len(data) < n_bytes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        block = os.read(descriptor, min(n_bytes - len(data), 1 << 16))
        if not block:
            return None
        data += block
    return bytes(data)


def _is_outcome(reply: object, job: ExecutionRequest) -> TypeGuard[Outcome]:
    return (
        isinstance(reply, dict)
        and reply.keys() == job.sources.keys()
        and all(
            isinstance(found, list)
            and len(found) == len(job.inputs)
            and all(isinstance(value, str) for value in found)
            for found in reply.values()
        )
    )
