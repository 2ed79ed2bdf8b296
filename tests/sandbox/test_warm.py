"""Programs that are forked in warm trees: nothing passes from one to the next, and what ends one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import abuses
import pytest

from sevenfold.sandbox import groups, warm
from sevenfold.sandbox.confined import Ending, ProcessLimits
from sevenfold.sandbox.grading import PythonTests, judge_python

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
LIMITS = ProcessLimits(processor_seconds=1)
# The descriptors of a sample that are neither nothing nor its conversation.
OTHER_DESCRIPTORS = (
    "[n for n in range(64) if is_open(n) and os.fstat(n).st_rdev != os.stat('/dev/null').st_rdev"
    " and os.fstat(n).st_ino != os.fstat(3).st_ino]"
)


@pytest.fixture(autouse=True)
def no_trees() -> Iterator[None]:
    warm.release()
    yield
    warm.release()


def value_of(source: str, limits: ProcessLimits = LIMITS) -> str:
    """The verdict of a sample whose f(1) has to be 1."""
    task = PythonTests(source=source, prelude="", tests="assert f(1) == 1", functions=("f",))
    found = judge_python(task, limits)
    return found.reason or found.verdict


def test_no_attempt_succeeds_in_a_forked_sample() -> None:
    # Its conversation and its parent are there by design; what they are worth is tried below.
    names = [name for name in abuses.PROBES if name not in ("inherited_descriptors", "other_processes")]
    source = f"{abuses.program(names)}\ndef f(x): return x if not escaped else 0\n"
    assert value_of(source, ProcessLimits(processor_seconds=10)) == "pass"


def test_an_attempt_that_succeeds_is_seen() -> None:
    source = abuses.HEAD + "attempt('allowed', 'call(39)')\ndef f(x): return x if not escaped else 0\n"
    assert value_of(source) == "AssertionError"


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/tmp/left', 'w')",
        "__import__('os').mkdir('/tmp/d')",
        "__import__('os').kill(1, 15)",
        "__import__('os').kill(__import__('os').getppid(), 9)",
        "__import__('os').kill(__import__('os').getppid(), 19)",
        "call(234, __import__('os').getppid(), __import__('os').getppid(), 15)",
        "call(234, __import__('os').getppid(), __import__('os').getppid(), 19)",
        "call(200, __import__('os').getppid(), 15)",
        "__import__('os').fork()",
        "__import__('os').pidfd_open(__import__('os').getppid())",
        "__import__('socket').socketpair()",
        OTHER_DESCRIPTORS,
    ],
)
def test_a_forked_sample_reaches_neither_its_parent_nor_a_file(attempt: str) -> None:
    source = abuses.HEAD + f"attempt('it', {attempt!r})\ndef f(x): return x if not escaped else 0\n"
    assert value_of(source) == "pass"
    # The tree serves the next sample.
    assert value_of("def f(x): return x") == "pass"


def test_a_sample_leaves_nothing_for_the_next() -> None:
    spoiled = (
        "import builtins, math\nbuiltins.abs = lambda _: 7\nmath.pi = 3\nbuiltins.left = 1\n"
        "def f(x): return x\n"
    )
    assert value_of(spoiled) == "pass"
    clean = (
        "import builtins, math\ndef f(x):\n"
        "    return x if abs(0) == 0 and math.pi > 3.1 and not hasattr(builtins, 'left') else 0\n"
    )
    assert value_of(clean) == "pass"


def test_one_pair_of_trees_serves_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[warm.WarmTree] = []
    make = warm.WarmTree.__init__

    def counted(self: warm.WarmTree, limits: ProcessLimits) -> None:
        started.append(self)
        make(self, limits)

    monkeypatch.setattr(warm.WarmTree, "__init__", counted)
    for _ in range(6):
        assert value_of("def f(x): return x") == "pass"
    assert len(started) == 2
    monkeypatch.setattr(warm, "PROGRAMS_PER_TREE", 7)
    for _ in range(3):
        assert value_of("def f(x): return x") == "pass"
    assert len(started) == 4


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("while True: pass", "limit: processor time"),
        ("import os\nos._exit(0)", "the sample ended"),
        ("import ctypes\nctypes.string_at(0)", "the sample ended"),
        ("def f(x):\n    import os\n    os._exit(3)", "the sample ended"),
    ],
)
def test_what_ends_a_sample_ends_no_tree(source: str, reason: str) -> None:
    assert value_of(source) == reason
    assert value_of("def f(x): return x") == "pass"


def test_a_tree_that_was_killed_is_replaced() -> None:
    assert value_of("def f(x): return x") == "pass"
    (pair,) = warm._IDLE[LIMITS]
    os.kill(pair.sample.tree.process.pid, signal.SIGKILL)
    pair.sample.tree.process.wait()
    assert value_of("def f(x): return x") in ("pass", "the machine stopped it")
    assert value_of("def f(x): return x") == "pass"


def test_a_tree_that_is_killed_while_a_sample_runs_gives_no_verdict() -> None:
    with warm.warm_pair(LIMITS) as pair, pair.sample.begin(warm.SAMPLE) as program:
        os.kill(pair.sample.tree._pid, signal.SIGKILL)
        assert program.receive(1) is None
        assert program.ending is Ending.NONE


def test_nothing_of_the_trees_is_left() -> None:
    def mine() -> set[str]:
        return {
            path.name
            for directory in groups.parents().values()
            for path in directory.iterdir()
            if path.name.startswith(f"sevenfold-{os.getpid()}-")
        }

    before = mine()
    assert value_of("def f(x): return x") == "pass"
    (pair,) = warm._IDLE[LIMITS]
    pids = [tree.tree._pid for tree in (pair.judge, pair.sample)]
    warm.release()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert mine() == before
