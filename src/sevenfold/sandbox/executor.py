"""Execute samples in a long-lived confined worker. This is the side outside the worker.

Without the kernel's filter nothing is executed (`SandboxError`). The worker starts a process for
each source. This process has no file, no network and no right to start another one (seccomp, tried
before the source runs), 512 MiB of address space, and two seconds of processor time. It holds its own
source and inputs. It holds neither another source of the job nor an expected result. So a hostile
program can spoil its own answer and no other. Its answer proves nothing, so a verdict has to be made
outside of the process, from the answers.

A reply is bound to its request. It starts with a nonce of 16 bytes, which the worker reads after the
process has ended. It is a frame of bounded length, and the wait for it is bounded. A process whose
reply is malformed is killed. Its job is lost, and the run goes on.
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
from typing import TypeGuard

from sevenfold.core.errors import SevenfoldError
from sevenfold.sandbox.request import ERROR_MARK, ExecutionRequest, Outcome

MEMORY_BYTES = 512 << 20
# Processor time of a source: after the first it gets a signal, after the second it is killed.
SAMPLE_SECONDS = 2.0
STUCK_SECONDS = 10.0
# Seconds of the clock for each source, because a program that waits for ever uses no processor time.
SILENT_SECONDS = 120.0
# Seconds of the clock that the worker may take longer than its sources.
GRACE_SECONDS = 30.0
START_SECONDS = 120.0
JOBS_PER_WORKER = 20_000
# Bytes of JSON for one value that a call gave; `worker.MAX_VALUE_BYTES` is less.
MAX_VALUE_BYTES = 1 << 15
MAX_REPLY_BYTES = 64 << 20
_N_NONCE = 16
# A request: bytes of JSON, number of calls. A reply: bytes of JSON.
_REQUEST = struct.Struct(">II")
_LENGTH = struct.Struct(">I")


class SandboxError(SevenfoldError):
    """Samples cannot be executed safely here."""

    exit_code = 4


class Sandbox:
    """One worker, started when it is needed and again after it was lost. Use it in a `with` block."""

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
        """End the worker, together with the process of a source if one runs."""
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
        """Execute a job.

        A source that breaks its limits has `!Lost` or `!OutOfTime` for every call.

        Raises:
            SandboxError: no worker can be confined on this machine.
        """
        if self._process is None or self._n_jobs >= JOBS_PER_WORKER or self._has_said_more():
            self.close()
            self._start()
        self._n_jobs += 1
        outcome, n_calls, is_lost = {}, len(job.inputs), False
        for key, source in job.sources.items():
            if self._process is None:
                self._start()
            found = self._answer({"source": source, "entry": job.entry, "inputs": list(job.inputs)}, n_calls)
            is_lost = is_lost or found is None
            outcome[key] = [f"{ERROR_MARK}Lost"] * n_calls if found is None else found
        self.n_lost += is_lost
        return outcome

    def _answer(self, request: Mapping[str, object], n_calls: int) -> list[str] | None:
        """Return the result of each call of one source, or None when it was lost.

        A worker that gave a malformed reply is ended.
        """
        limit = min(1024 + n_calls * MAX_VALUE_BYTES, MAX_REPLY_BYTES)
        reply = self._ask(request, n_calls, limit, GRACE_SECONDS + self._silent_seconds)
        if reply is None:
            self.close()
        found = _decoded(reply)
        return found if _is_answer(found, n_calls) else None

    def _has_said_more(self) -> bool:
        """Return whether the worker ended, or wrote something that answers no request."""
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
        # -I -S leaves out the environment and the site packages. Only the directory of the library is
        # added.
        library, worker = str(Path(found.origin).parent), str(Path(__file__).with_name("worker.py"))
        start = (
            f"import sys, runpy; sys.path.append({library!r}); runpy.run_path({worker!r},"
            " run_name='__main__')"
        )
        limits = [MEMORY_BYTES, math.ceil(STUCK_SECONDS), SAMPLE_SECONDS, self._silent_seconds]
        # The worker has a session of its own, so that it and its children are ended together.
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
        greeting = _decoded(self._ask(None, 0, 1 << 16, START_SECONDS))
        if greeting != "":
            self.close()
            raise SandboxError(
                f"the worker cannot be confined: {greeting or 'it did not start'}",
                where="synthetic samples",
                remedy=(
                    "a Linux kernel with seccomp and the library libseccomp2 are needed; samples are not"
                    " executed without"
                ),
            )

    def _ask(
        self, request: Mapping[str, object] | None, n_calls: int, limit: int, seconds: float
    ) -> bytes | None:
        """Return the answer of the child, of at most `limit` bytes, or None when the frame of the
        worker is lost or malformed. Without a request, the confinement is tried.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        nonce, text = secrets.token_bytes(_N_NONCE), json.dumps(request).encode() if request else b""
        deadline = time.monotonic() + seconds
        sent = _write(process.stdin.fileno(), _REQUEST.pack(len(text), n_calls) + text + nonce, deadline)
        answer = process.stdout.fileno()
        head = _read(answer, _N_NONCE + _LENGTH.size, deadline) if sent else None
        if head is None or head[:_N_NONCE] != nonce:
            return None
        (n_bytes,) = _LENGTH.unpack_from(head, _N_NONCE)
        data = _read(answer, n_bytes, deadline) if n_bytes <= limit else None
        if data is None or select.select([answer], [], [], 0)[0]:
            # Bytes after a reply answer no request.
            return None
        return data


def _decoded(reply: bytes | None) -> object:
    """Return the JSON value of a reply, or None when it has none."""
    try:
        return json.loads(reply) if reply else None
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
    """Return exactly `n_bytes`, or None when they do not arrive before the deadline."""
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


def _is_answer(reply: object, n_calls: int) -> TypeGuard[list[str]]:
    return (
        isinstance(reply, list) and len(reply) == n_calls and all(isinstance(value, str) for value in reply)
    )
