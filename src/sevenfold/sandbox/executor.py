"""A long-lived worker that executes samples, and can reach nothing: the side outside.

Law 6: without the kernel's filter nothing is executed (`SandboxError`), never with less protection. A worker holds no file,
no network and no right to start a process (seccomp; proved by itself before the first sample), 512 MiB of address space, and
two seconds of processor time for a sample. One that does not answer is killed, and the sample that it was on is lost, not the
run. What it does not do: samples of one worker share a process, so a hostile one could falsify its neighbour's result.
Programs that a model wrote need a process each; these are ours.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

from sevenfold.core.errors import SevenfoldError
from sevenfold.sandbox.request import ERROR_MARK, ExecutionRequest, Outcome

MEMORY_BYTES = 512 << 20
CPU_SECONDS = 3600  # of one worker; it is replaced before (JOBS_PER_WORKER)
SAMPLE_SECONDS = 2.0  # processor time
STUCK_SECONDS = 10.0  # processor time without a reply, after which the worker is killed
SILENT_SECONDS = 120.0  # of the clock: a worker that waits for ever uses no processor time
JOBS_PER_WORKER = 20_000
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class SandboxError(SevenfoldError):
    """Samples cannot be executed safely here."""

    exit_code = 4


class Sandbox:
    """One worker, started when it is needed and again when it was lost. Use it as a context."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS) -> None:
        self._silent_seconds = silent_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._n_jobs = 0
        self.n_lost = 0

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def run(self, job: ExecutionRequest) -> Outcome:
        """Execute a job. A source that breaks its limits has `!Lost` or `!OutOfTime` for every call.

        Raises:
            SandboxError: no worker can be confined on this machine.
        """
        if self._process is None or self._n_jobs >= JOBS_PER_WORKER:
            self.close()
            self._start()
        request = {"sources": dict(job.sources), "entry": job.entry, "inputs": list(job.inputs)}
        self._n_jobs += 1
        reply = self._ask(json.dumps(request).encode() + b"\n")
        if not _is_outcome(reply, job):
            self.n_lost += 1
            self.close()
            return {key: [f"{ERROR_MARK}Lost"] * len(job.inputs) for key in job.sources}
        return reply

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
        limits = [str(MEMORY_BYTES), str(CPU_SECONDS), str(SAMPLE_SECONDS)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", start, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        self._buffer, self._n_jobs = b"", 0
        greeting = self._ask(b"")
        if greeting != {"ready": True}:
            self.close()
            why = (
                greeting.get("refused", "it did not start")
                if isinstance(greeting, dict)
                else "it did not start"
            )
            raise SandboxError(
                f"the worker cannot be confined: {why}",
                where="synthetic samples",
                remedy="a Linux kernel with seccomp and the library libseccomp2 are needed; samples are not executed without",
            )

    def _ask(self, request: bytes) -> Any:
        """The worker's next line as JSON; None when it is lost."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except BrokenPipeError:
            return None
        descriptor, before, waited = process.stdout.fileno(), 0.0, 0.0
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], 1.0)
            if not ready:
                waited += 1.0
                if waited == 1.0:  # nearly all answers come before: /proc is read for the others only
                    before = _cpu_seconds(process.pid)
                if waited >= self._silent_seconds or _cpu_seconds(process.pid) - before >= STUCK_SECONDS:
                    return None
                continue
            block = os.read(descriptor, 1 << 16)
            if not block:
                return None
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return None


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; so a loaded machine cannot make a sample late."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _is_outcome(reply: Any, job: ExecutionRequest) -> bool:
    return (
        isinstance(reply, dict)
        and reply.keys() == job.sources.keys()
        and all(isinstance(found, list) and len(found) == len(job.inputs) for found in reply.values())
    )
