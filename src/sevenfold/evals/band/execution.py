"""Run programs in the worker sandbox. Each program of a model has its own process, which holds only
that program and its inputs. Programs of our own generators share a process, because a process costs
more than they do.

This process decides the verdict from the values that the calls returned (`sandbox.executor`). Apart
from these values, nothing that a program says counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from sevenfold.core.hashing import Json
from sevenfold.sandbox import executor
from sevenfold.sandbox.executor import Sandbox
from sevenfold.sandbox.request import ExecutionRequest, Outcome
from sevenfold.sandbox.toolchains import version

LOST, OUT_OF_TIME = "!Lost", "!OutOfTime"
# This program runs call k of source s of request r. A source is compiled at its first call.
_TOGETHER = """
REQUESTS = {requests}
NAMES = {{}}


def run(r, s, k):
    sources, entry, calls = REQUESTS[r]
    if (r, s) not in NAMES:
        names = {{"__name__": "sample"}}
        exec(compile(sources[s], "sample", "exec"), names)
        NAMES[r, s] = names
    return NAMES[r, s][entry](*eval(calls[k], {{}}))
"""
_KNOWN = ExecutionRequest({"known": "def known():\n    return 1\n"}, "known", ("()",))
# Sandboxes that no thread is using.
_IDLE: deque[Sandbox] = deque()


class MachineFault(Exception):  # noqa: N818  (an outcome that the grader records)
    """The machine failed, not the program."""


def facts() -> Json:
    """Return the facts that decide a verdict besides the sample."""
    return {
        "version": 1,
        "sandbox": "a worker process for each program: seccomp, no files, no network, no children",
        "limit": "processor time of the program",
        "limits": {"processor_seconds": executor.SAMPLE_SECONDS, "memory_bytes": executor.MEMORY_BYTES},
        "tools": {"python": version("python")},
    }


def results(sources: Mapping[str, str], entry: str, calls: Sequence[str]) -> dict[str, list[str]]:
    """Return the results of each call of each program.

    Raises:
        SandboxError: no worker can be confined on this machine.
        MachineFault: the sandbox lost a program, and then also one that is known to run.
    """
    box = _IDLE.pop() if _IDLE else Sandbox()
    try:
        request = ExecutionRequest(sources, entry, tuple(calls))
        found = box.run(request)
        if any(LOST in row for row in found.values()):
            if box.run(_KNOWN)["known"] != ["1"]:
                raise MachineFault("the sandbox lost a program that is known to run")
            # It was lost twice, and the known program was not, so it breaks its limits.
            found = box.run(request)
        return dict(found)
    finally:
        _IDLE.append(box)


def check() -> None:
    """Check that programs can be executed here. Raises SandboxError."""
    results(_KNOWN.sources, _KNOWN.entry, _KNOWN.inputs)


def release() -> None:
    """End the idle workers."""
    while _IDLE:
        _IDLE.pop().close()


def together(requests: Sequence[ExecutionRequest], box: Sandbox) -> list[Outcome]:
    """Return the results of requests whose programs were written by generators of this project.

    The results are those of separate requests: when a program is lost or exceeds its time, the
    requests are run one by one.
    """
    if len(requests) < 2:
        return [box.run(request) for request in requests]
    table = [(list(one.sources.values()), one.entry, list(one.inputs)) for one in requests]
    places = [
        (r, s, k)
        for r, (sources, _, calls) in enumerate(table)
        for s in range(len(sources))
        for k in range(len(calls))
    ]
    source = _TOGETHER.format(requests=repr(table))
    shown = box.run(ExecutionRequest({"all": source}, "run", tuple(map(repr, places))))["all"]
    if LOST in shown or OUT_OF_TIME in shown:
        return [box.run(request) for request in requests]
    found: list[dict[str, list[str]]] = [{key: [] for key in one.sources} for one in requests]
    for (r, s, _), value in zip(places, shown, strict=True):
        found[r][list(requests[r].sources)[s]].append(value)
    return list(found)
