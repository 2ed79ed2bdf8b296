"""The sandbox against what a hostile sample may try: a table of attempts, bombs and forgeries."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import abuses
import pytest

from sevenfold.sandbox import confined, groups, toolchains
from sevenfold.sandbox.confined import Confined, Ending, ProcessLimits
from sevenfold.sandbox.executor import SandboxError
from sevenfold.sandbox.grading import (
    GradingVerdict,
    Printed,
    PythonTests,
    judge_python,
    run_program,
)

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
LIMITS = ProcessLimits(processor_seconds=1)
SLOW_FORGERIES = (
    "sleeps_in_a_call",
    "loops_in_a_call",
    "endless_iterator",
    "endless_frame",
    "number_of_a_million_digits",
)
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(41) == 42\n"


def run(source: str, language: str = "python", limits: ProcessLimits = LIMITS) -> Printed:
    return run_program(language, source, limits)


def graded(source: str) -> GradingVerdict:
    task = PythonTests(source=source, prelude="", tests=TESTS, functions=("f",), check="f")
    return judge_python(task, LIMITS)


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(abuses.PROBES) + len(abuses.BOMBS) + len(abuses.FORGERIES) >= 120


def test_no_attempt_succeeds() -> None:
    found = run(abuses.program(list(abuses.PROBES)), limits=ProcessLimits(processor_seconds=3))
    assert found.out == b"escaped: []\n", found
    assert found.exit_code == 0


def test_an_attempt_that_succeeds_is_seen() -> None:
    # The canary of the table: what the sandbox allows is reported.
    source = (
        abuses.HEAD
        + "attempt('allowed', 'call(39)')\nattempt('file', \"open('/tmp/x', 'w')\")\nprint(escaped)\n"
    )
    assert run(source).out == b"['allowed', 'file']\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", abuses.PROBES)
def test_each_attempt_alone(name: str) -> None:
    assert run(abuses.program([name])).out == b"escaped: []\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", abuses.BOMBS)
def test_each_bomb_ends_as_it_must(name: str) -> None:
    source, ending = abuses.BOMBS[name]
    # Where memory is slow, filling it takes about a second of processor time.
    found = run(source, limits=ProcessLimits(processor_seconds=5) if name == "memory" else LIMITS)
    assert ending in ("any", found.ending.value), found
    if found.ending is Ending.EXIT:
        assert found.exit_code != 0


@pytest.mark.parametrize(
    "name", ["endless_output", "fork", "memory", "disk", "descriptors", "another_instruction_set"]
)
def test_quick_bombs(name: str) -> None:
    test_each_bomb_ends_as_it_must(name)


@pytest.mark.parametrize("name", [n for n in abuses.FORGERIES if n not in SLOW_FORGERIES])
def test_no_verdict_is_forged(name: str) -> None:
    assert graded(abuses.FORGERIES[name]).verdict == "fail"


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_FORGERIES)
def test_no_verdict_is_forged_slowly(name: str) -> None:
    assert graded(abuses.FORGERIES[name]).verdict == "fail"


def test_a_right_sample_passes_and_a_wrong_one_says_why() -> None:
    found = graded("def f(x): return x + 1")
    assert (found.verdict, found.reason) == ("pass", "")
    assert graded("def f(x): return x").reason == "AssertionError"
    assert graded("def f(x): return {}[x]").reason == "KeyError"
    assert graded("def g(x): return x").reason == "missing: f"
    assert graded("import nothing_of_this_name").reason == "import: ModuleNotFoundError"


def test_a_sample_leaves_nothing_for_the_next() -> None:
    assert run("open('/tmp/left', 'w').write('x')\nprint(1)").out == b"1\n"
    assert run("import os\nprint(os.listdir('/tmp'))").out == b"[]\n"


def test_nothing_of_a_tree_is_left() -> None:
    before = {
        p.name
        for d in groups.parents().values()
        for p in d.iterdir()
        if p.name.startswith(f"sevenfold-{os.getpid()}-")
    }
    source = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\nprint(1,"
        " flush=True)\n"
    )
    language = toolchains.LANGUAGES["python"]
    with Confined("python", language.start, {language.source: source.encode()}, LIMITS) as tree:
        assert tree.receive(2) == b"1\n"
        pid = tree._pid
    assert not Path(f"/proc/{pid}").exists()
    after = {
        p.name
        for d in groups.parents().values()
        for p in d.iterdir()
        if p.name.startswith(f"sevenfold-{os.getpid()}-")
    }
    assert after == before


def test_samples_in_parallel_keep_their_order() -> None:
    tasks = [
        PythonTests(
            source=f"def f(x): return x + {i % 2}", prelude="", tests=TESTS, functions=("f",), check="f"
        )
        for i in range(8)
    ]
    with ThreadPoolExecutor(2) as pool:
        verdicts = [v.verdict for v in pool.map(lambda task: judge_python(task, LIMITS), tasks)]
    assert verdicts == ["fail", "pass"] * 4


def test_values_of_every_kind_cross() -> None:
    values = [
        "None", "True", "-5", "10 ** 5000", "1.5", "float('inf')", "2j", "'\\u00e9\\ud800'", "b'x'",
        "bytearray(b'y')", "[1, [2]]",
        "(1, (2,))", "{1, 2}", "frozenset({3})", "{'a': {1: (2, 3)}}", "range(2, 9, 3)",
        "__import__('collections').deque([1])",
    ]  # fmt: skip
    tests = "def check(c):\n" + "".join(
        f"    got = c({value})\n    assert type(got) is type({value}) and got == {value}\n"
        for value in values
    )
    tests += "    assert str(c(float('nan'))) == 'nan'\n    assert list(c(map(abs, [-1]))) == [1]\n"
    task = PythonTests(source="def f(x): return x", prelude="", tests=tests, functions=("f",), check="f")
    assert judge_python(task, LIMITS).verdict == "pass"


def test_an_object_of_the_sample_comes_back_to_it() -> None:
    source = "class P:\n    def __init__(self, a): self.a = a\ndef f(ps): return sum(p.a for p in ps)\n"
    task = PythonTests(source=source, prelude="", tests="assert f([P(1), P(2)]) == 3", functions=("f", "P"))
    assert judge_python(task, LIMITS).verdict == "pass"


def test_what_a_test_sets_on_an_object_is_set_in_the_sample() -> None:
    source = "class P: pass\ndef f(p): return p.a + p.b.a\n"
    tests = "p = P()\np.a = 1\np.b = P()\n"
    task = PythonTests(source=source, prelude="", tests=tests + "assert f(p) == 2", functions=("f", "P"))
    assert judge_python(task, LIMITS).verdict == "fail"
    tests += "q = P()\nq.a = 1\np.b = q\n"
    task = PythonTests(source=source, prelude="", tests=tests + "assert f(p) == 2", functions=("f", "P"))
    assert judge_python(task, LIMITS).verdict == "pass"


def test_a_judge_that_cannot_run_gives_no_verdict() -> None:
    task = PythonTests(
        source="def f(x): return 1", prelude="import nothing_here", tests=TESTS, functions=("f",), check="f"
    )
    assert judge_python(task, LIMITS).verdict == "none"


@pytest.mark.parametrize("language", ["cpp", "javascript"])
def test_other_languages(language: str) -> None:
    if language not in toolchains.here():
        pytest.skip(f"no tool for {language}")
    source = {"cpp": '#include <cstdio>\nint main() { puts("7"); }', "javascript": "console.log(7)"}[language]
    found = run(source, language)
    assert (found.out, found.exit_code) == (b"7\n", 0), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "source", "error"),
    [
        ("rust", 'fn main() { println!("7"); }', ""),
        ("rust", "fn main() { let x: u8 = 1 }; nothing", "build: error"),
        (
            "rust",
            'const X: &str = include_str!("/etc/passwd"); fn main() { println!("{}", X); }',
            "build: error",
        ),
        ("rust", 'fn main() { std::process::Command::new("/bin/true").status().unwrap(); }', "panicked"),
        ("rust", 'fn main() { std::net::TcpStream::connect("127.0.0.1:1").unwrap(); }', "panicked"),
        ("java", "public class Main { public static void main(String[] a) { System.out.println(7); } }", ""),
        ("cpp", "int main() { return", "build: "),
        ("cpp", '#include "/etc/shadow"\nint main() {}', "build: "),
        ("javascript", "require('child_process').execSync('true')", "Error"),
        ("javascript", "require('net').connect(1).on('error', () => process.exit(3))", "any"),
    ],
)
def test_other_languages_are_confined(language: str, source: str, error: str) -> None:
    if language not in toolchains.here():
        pytest.skip(f"no tool for {language}")
    found = run(source, language, ProcessLimits(processor_seconds=10, memory_bytes=1 << 30, n_processes=64))
    if not error:
        assert (found.out, found.exit_code) == (b"7\n", 0), found
    else:
        assert found.exit_code != 0
        assert error == "any" or error in found.error


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_a, **_k: None)
    confined.bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxError, match="bubblewrap") as raised:
            graded("def f(x): return x + 1")
        assert raised.value.exit_code == 4
    finally:
        confined.bubblewrap.cache_clear()


def test_a_bubblewrap_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda *_a, **_k: str(broken))
    confined.bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxError, match="No permissions to create"):
            graded("def f(x): return x + 1")
    finally:
        confined.bubblewrap.cache_clear()


def test_without_the_filter_nothing_runs() -> None:
    code = (
        "import sys; sys.modules['pyseccomp'] = None\n"
        "from sevenfold.sandbox.grading import *\n"
        "try: run_program('python', 'print(1)', ProcessLimits())\n"
        "except Exception as error: print(type(error).__name__, error.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "FilterError 4\n"
