"""Grade programs: pass, fail, or none when the machine and not the program is at fault.

A Python task runs as two confined processes in separate trees: the sample, and the judge with the
tests. This process passes frames between them and does not parse those of the sample. A program of
another language is built and run once, and prints the values that the tests ask for. They are compared
here with the expected values, which a second program, built without the sample, prints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.sandbox import toolchains, warm
from sevenfold.sandbox.confined import BUILD_LIMITS, IDLE_SECONDS, Confined, Ending, ProcessLimits
from sevenfold.sandbox.warm import ForkedProgram
from sevenfold.sandbox.wire import LENGTH, MAX_FRAME_BYTES

EXECUTOR_VERSION = 2
PASS, FAIL, NONE = "pass", "fail", "none"
MAX_CALLS = 100_000


@dataclass(frozen=True, kw_only=True)
class PythonTests:
    """Tests of a Python sample.

    `prelude` is the code that the task itself defines. `functions` are the functions of the sample
    that the tests call. `check` names the function that is passed to the tests' own `check`. It is
    "" where the tests are asserts.
    """

    source: str
    prelude: str
    tests: str
    functions: tuple[str, ...]
    check: str = ""


@dataclass(frozen=True, kw_only=True)
class GradingVerdict:
    """The verdict, its reason, and the processor time of the sample."""

    verdict: str
    reason: str = ""
    seconds: float = 0.0


def executor_facts(limits: ProcessLimits, languages: Sequence[str] = ("python",)) -> dict[str, object]:
    """Return the facts that decide a verdict besides the sample: version, limits and tools."""
    return {
        "version": EXECUTOR_VERSION,
        "limit": "processor time of the sample's tree",
        "limits": limits.facts(),
        "tools": {name: toolchains.version(name) for name in languages},
    }


def judge_python(task: PythonTests, limits: ProcessLimits) -> GradingVerdict:
    """Return the verdict over one sample.

    Raises:
        SandboxError: nothing can be confined here.
    """
    with (
        warm.warm_pair(limits) as pair,
        pair.judge.begin(warm.JUDGE) as judge,
        pair.sample.begin(warm.SAMPLE) as sample,
    ):
        told = {
            "prelude": task.prelude,
            "tests": task.tests,
            "functions": task.functions,
            "check": task.check,
        }
        if not judge.send(_framed(told)):
            return GradingVerdict(verdict=NONE, reason="the judge did not start")
        sample.send(_framed({"source": task.source}))
        found = _converse(judge, sample)
    return GradingVerdict(verdict=found[0], reason=found[1], seconds=round(sample.seconds, 3))


def _converse(judge: ForkedProgram, sample: ForkedProgram) -> tuple[str, str]:
    """Carry calls and answers until the judge decides, or one of the two ends."""
    reply = _frame_of(sample)
    for _ in range(MAX_CALLS):
        if reply is None:
            return _ended(sample, "the sample ended")
        # A judge that has decided reads no more. Its verdict is in its stream.
        judge.send(LENGTH.pack(len(reply)) + reply)
        request = _frame_of(judge)
        if request is None:
            # Each value of a sample is bounded, but together they were too much for the tests.
            return _ended(judge, "the judge ended")
        said = json.loads(request)
        if "verdict" in said:
            return str(said["verdict"]), str(said["reason"])
        reply = _frame_of(sample) if sample.send(LENGTH.pack(len(request)) + request) else None
    return FAIL, "too many calls"


def _ended(tree: ForkedProgram, otherwise: str) -> tuple[str, str]:
    if tree.ending is Ending.NONE:
        return NONE, "the machine stopped it"
    return FAIL, otherwise if tree.ending is Ending.EXIT else f"limit: {tree.ending.value}"


def _frame_of(tree: ForkedProgram) -> bytes | None:
    """Return the bytes of the next frame, or None when the tree ended or the frame is too large."""
    head = tree.receive(LENGTH.size)
    if head is None:
        return None
    (n_bytes,) = LENGTH.unpack(head)
    if n_bytes > MAX_FRAME_BYTES:
        tree.ending = Ending.OUTPUT
        return None
    return tree.receive(n_bytes)


def _framed(value: object) -> bytes:
    data = json.dumps(value).encode()
    return LENGTH.pack(len(data)) + data


def build(language: str, source: str, limits: ProcessLimits = BUILD_LIMITS) -> tuple[bytes | None, str]:
    """Return a built program and "", or None and the output of the compiler.

    Raises SandboxError or UsageError.
    """
    tools = toolchains.LANGUAGES[language]
    command = tools.build.format(tool=toolchains.tool_mounts(language).tool)
    files = {tools.source: source.encode("utf-8", "surrogatepass")}
    with Confined(language, ["/bin/sh", "-c", command], files, limits, may_fork=True) as tree:
        program, said = tree.run()
        if tree.ending is Ending.NONE:
            return None, "the machine stopped it"
        is_built = tree.exit_code == 0 and tree.ending is Ending.EXIT
    return (program, "") if is_built else (None, said.decode("utf-8", "replace")[-2000:] or tree.ending.value)


def compiles(language: str, source: str) -> tuple[Ending, str]:
    """Check a source with a compiler. Return how the compiler ended, and its output when it refused
    the source.

    Raises SandboxError or UsageError.
    """
    tools = toolchains.LANGUAGES[language]
    command = tools.check.format(tool=toolchains.tool_mounts(language).tool)
    files = {tools.source: source.encode("utf-8", "surrogatepass")}
    with Confined(language, ["/bin/sh", "-c", command], files, BUILD_LIMITS, may_fork=True) as tree:
        _, said = tree.run()
        refused = "" if tree.exit_code == 0 else said.decode("utf-8", "replace")[:2000] or "refused"
        return tree.ending, refused


@dataclass(frozen=True, kw_only=True)
class Printed:
    """The output of a program of any language, and how it ended."""

    out: bytes
    error: str
    ending: Ending
    exit_code: int | None
    seconds: float


def run_program(
    language: str,
    source: str,
    limits: ProcessLimits,
    stdin: bytes = b"",
    *,
    build_limits: ProcessLimits = BUILD_LIMITS,
    idle_seconds: float = IDLE_SECONDS,
) -> Printed:
    """Build a program if its language needs it, run it once, and return its output.

    Args:
        idle_seconds: of the clock, after which a program that only waits is ended.

    Raises:
        SandboxError: nothing can be confined here.
        UsageError: the language is unknown, or its tool is missing.
    """
    toolchains.tool_path(language)
    tools = toolchains.LANGUAGES[language]
    files = {tools.source: source.encode("utf-8", "surrogatepass")}
    if tools.build:
        program, said = build(language, source, build_limits)
        if program is None:
            return Printed(out=b"", error=f"build: {said}", ending=Ending.EXIT, exit_code=1, seconds=0.0)
        files = {"program": program}
    with Confined(language, tools.start, files, limits, idle_seconds=idle_seconds) as tree:
        out, error = tree.run(stdin)
    return Printed(
        out=out,
        error=error.decode("utf-8", "replace"),
        ending=tree.ending,
        exit_code=tree.exit_code,
        seconds=round(tree.seconds, 3),
    )
