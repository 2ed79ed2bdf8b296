"""Synthetic samples: every check can fail, the sandbox holds, and the same order gives the
same bytes however it is made.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus.sources import read_source
from sevenfold.corpus.sources.synthetic import make_samples
from sevenfold.recipe.corpus_schema import SyntheticSource
from sevenfold.sandbox import executor
from sevenfold.sandbox.executor import Sandbox, SandboxError
from sevenfold.sandbox.request import ExecutionRequest
from sevenfold.synthetic import blocks
from sevenfold.synthetic import generate as generating
from sevenfold.synthetic.files import LICENCE, cached, read_samples, write_samples
from sevenfold.synthetic.generate import GenerationReport, GenerationRequest, attempt, generate, spread
from sevenfold.synthetic.generators import python
from sevenfold.synthetic.generators.arithmetic import Worked, holds, value_of, written
from sevenfold.synthetic.generators.mutate import Bug, bugs
from sevenfold.synthetic.generators.programs import inputs, program, render, styles
from sevenfold.synthetic.generators.stories import EVENTS, _applied
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import INSTRUCTION, RESPONSE, SyntheticSample
from sevenfold.synthetic.table import GENERATORS
from sevenfold.synthetic.variety import Variety, code_shape, parses, text_shape


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(silent_seconds=3.0) as one:
        yield one


def result(box: Sandbox, source: str, calls: tuple[str, ...] = ("()",)) -> list[str]:
    return box.run(ExecutionRequest({"a": source}, "f", calls))["a"]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_makes_samples_in_the_form_of_a6(name: str, box: Sandbox) -> None:
    samples = [sample for i in range(12) if (sample := attempt(name, 3, i, box)) is not None]
    assert len(samples) >= 3
    for sample in samples:
        head, _, tail = sample.text.partition(f"\n\n{RESPONSE}\n")
        assert head.startswith(f"{INSTRUCTION}\n")
        assert tail.strip()
        assert sample.text.isascii()
    assert len({sample.shape for sample in samples}) > len(samples) // 2


ESCAPES = {
    "read a file": "def f():\n    return open('/etc/passwd').read()",
    "write a file": "def f():\n    return open('/tmp/escaped', 'w').write('x')",
    "start a program": "import os\ndef f():\n    return os.execv('/bin/true', ['true'])",
    "fork": "import os\ndef f():\n    return os.fork()",
    "signal the parent": "import os\ndef f():\n    return os.kill(os.getppid(), 9)",
    "list a directory": "import os\ndef f():\n    return os.listdir('/')",
    "raise its limits": (
        "import resource\ndef f():\n    return resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    ),
}


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
def test_a_sample_reaches_nothing(source: str, box: Sandbox) -> None:
    assert result(box, source)[0] in ("!PermissionError", "!OSError", "!ValueError")
    assert result(box, "def f():\n    return 1") == ["1"]


def test_a_sample_has_no_network(box: Sandbox) -> None:
    assert result(box, "import socket\ndef f():\n    return 1") == [
        "!ModuleNotFoundError"
    ]  # its file cannot be opened
    raw = "import posix\ndef f():\n    return posix.open('/proc/net/tcp', 0)"
    assert result(box, raw) == ["!PermissionError"]


def test_limits_end_a_sample_and_not_the_worker(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "SAMPLE_SECONDS", 0.2)
    with Sandbox(silent_seconds=3.0) as quick:
        assert result(quick, "def f():\n    while True:\n        pass") == ["!OutOfTime"]
        assert result(quick, "def f():\n    return len('x' * (1 << 30))") == ["!MemoryError"]
        assert result(quick, "def f():\n    return f()") == ["!RecursionError"]
        assert result(quick, "def f(:") == ["!SyntaxError"]
        assert result(quick, "def f():\n    return 'x' * 5000") == ["!TooLong"]
        assert quick.n_lost == 0


def test_a_worker_that_ends_or_never_answers_is_replaced() -> None:
    with Sandbox(silent_seconds=2.0) as fragile:
        assert result(fragile, "import os\ndef f():\n    os._exit(0)") == ["!Lost"]
        assert result(fragile, "import os\ndef f():\n    return os.read(0, 1)") == ["!Lost"]
        assert result(fragile, "import os\ndef f():\n    os.write(1, b'{}\\n')") == ["!Lost"]
        assert result(fragile, "def f(x):\n    return x + 1", ("(1,)",)) == ["2"]
        assert fragile.n_lost == 3


def test_without_the_filter_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with Sandbox() as closed, pytest.raises(SandboxError, match="pyseccomp"):
        result(closed, "def f():\n    return 1")


def test_a_filter_that_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Canary: a library that loads nothing. The worker's own proof must notice.
    (tmp_path / "pyseccomp.py").write_text(
        "ALLOW = 0\ndef ERRNO(n):\n    return n\n"
        "class SyscallFilter:\n    def __init__(self, defaction):\n        pass\n"
        "    def add_rule(self, *a):\n        pass\n    def load(self):\n        pass\n"
    )
    found = type("Spec", (), {"origin": str(tmp_path / "pyseccomp.py")})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    with Sandbox() as leaky, pytest.raises(SandboxError, match="does not hold"):
        result(leaky, "def f():\n    return 1")


def test_styles_agree_and_a_wrong_one_is_noticed(box: Sandbox) -> None:
    agreed = 0
    for i in range(25):
        rng = SeededChoices(5, f"styles/{i}")
        task = program(rng)
        sources = {style: render(task, style) for style in styles(task)}
        outcome = box.run(ExecutionRequest(sources, task.name, inputs(task, rng)))
        agreed += len({tuple(results) for results in outcome.values()}) == 1
    assert agreed >= 23  # a style that is wrong somewhere would fail in many


def test_a_pair_that_disagrees_is_dropped(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = python.PythonTask(
        "f",
        "",
        "def f(x):\n    return x\n",
        "def f(x):\n    return x + (x == 4)\n",
        "other",
        tuple(f"({i},)" for i in range(8)),
    )
    monkeypatch.setattr(python, "drawn", lambda rng: wrong)
    for name in ("python-function", "python-tests", "python-refactor"):
        assert attempt(name, 0, 0, box) is None


# Functions that would pass any test in whose process they run.
FORGED = {
    "equal to everything": (
        "class Same:\n    def __eq__(self, other):\n        return True\n\ndef f(x):\n    return Same()\n"
    ),
    "shown as a call": (
        "class Shown:\n    def __eq__(self, other):\n        return True\n    def __repr__(self):\n       "
        ' return \'type("Same", (), {"__eq__": lambda *a: True})()\'\n\ndef f(x):\n    return Shown()\n'
    ),
    "an end": "import os\n\ndef f(x):\n    os._exit(0)\n",
}


@pytest.mark.parametrize("source", FORGED.values(), ids=FORGED)
def test_unit_tests_are_judged_outside_the_function(
    source: str, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = "def f(x):\n    return 2 * x\n"
    task = python.PythonTask("f", "", right, right, "other", tuple(f"({i},)" for i in range(1, 9)))
    monkeypatch.setattr(python, "drawn", lambda rng: task)
    # The only bug known is one that forges: the sample is kept because its tests fail on it.
    monkeypatch.setattr(python, "bugs", lambda _: [Bug(source, 1, "", "", "", "")])
    assert attempt("python-tests", 0, 0, box) is not None
    # Canary: a bug that no test shows drops the sample.
    monkeypatch.setattr(python, "bugs", lambda _: [Bug("def f(x):\n    return x + x\n", 1, "", "", "", "")])
    assert attempt("python-tests", 0, 0, box) is None


def test_bugs_are_bugs(box: Sandbox) -> None:
    source = (
        "def f(values):\n    total = 0\n    for value in values:\n"
        "        if value >= 3 and value < 9:\n            total += value * 2\n    return total\n"
    )
    found = bugs(source)
    assert {bug.kind for bug in found} == {"Assign", "Compare", "BoolOp", "AugAssign", "BinOp", "Return"}
    calls = ("([],)", "([3, 9, 1, 4, 10],)")
    right = result(box, source, calls)
    assert all(result(box, bug.source, calls) != right for bug in found)


def test_a_diff_applies_to_its_own_text_only() -> None:
    old, new = "a\nb\nc\nd\n", "a\nB\nc\nd\ne\n"
    diff = python.unified(old, new)
    assert python.apply(old, diff) == new
    with pytest.raises(ValueError, match="is not line"):
        python.apply("a\nx\nc\nd\n", diff)


@pytest.mark.parametrize(
    ("response", "answer", "good"),
    [
        ("<THINK> 2 + 3 = 5\n<FINAL> 5", 5, True),
        ("<THINK> 2 + 3 = 6\n<FINAL> 5", 5, False),  # a step that is wrong
        ("<THINK> 2 + 3 = 5\n<FINAL> 6", 5, False),  # an answer that is wrong
        ("<THINK> easy\n<FINAL> 5", 5, False),  # no step at all
        ("<scratchpad>\nstep 1: 7 - 9 = -2\n</scratchpad>\n-2", -2, True),
        ("<THINK> test: 2 * (3) = 6 = 12 / 2\n<FINAL> 6", 6, True),
        ("<THINK> test: 2 * (3) = 6 = 12 / 3\n<FINAL> 6", 6, False),
    ],
)
def test_steps_are_evaluated(response: str, answer: int, good: bool) -> None:
    assert holds(response, Fraction(answer)) is good
    worked = Worked("?", "plan", ("2 + 2 = 5",), Fraction(5))
    assert written(worked, SeededChoices(0, "x")) is None


@pytest.mark.parametrize("text", ["__import__('os')", "2 ** 9", "x", "[1]", "1 if 1 else 2"])
def test_only_arithmetic_is_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match="is no arithmetic"):
        value_of(text)


def test_every_event_of_a_story_has_its_exact_form() -> None:
    for event in EVENTS:
        text = event.formula.replace("{q}", "60").replace("{a}", "5").replace("{b}", "4")
        assert value_of(text) == _applied(event.formula, Fraction(60), 5, 4)


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("javascript", "const f = (x) => x + 1;", "const f = (x) =>"),
        ("c", "int f(int x) { return x; }", "int f(int x) { return x;"),
        ("rust", "fn f(x: i64) -> i64 { x }", "fn f(x: i64) -> { x }"),
        ("bash", 'f() { echo "$1"; }', 'f() { echo "$1'),
    ],
)
def test_parsers_refuse_broken_code(language: str, good: str, bad: str) -> None:
    assert parses(good, language)
    assert not parses(bad, language)


def test_shapes_leave_names_and_numbers_out() -> None:
    assert code_shape("def f(a):\n    return a + 1", "python") == code_shape(
        "def g(b):\n    return b + 2", "python"
    )
    assert code_shape("def f(a):\n    return a + 1", "python") != code_shape(
        "def f(a):\n    return a - 1", "python"
    )
    assert (
        text_shape("Ada has 3 lamps.") == text_shape("Hugo has 41 mugs.") != text_shape("Ada sees 3 lamps.")
    )


def test_the_cap_holds_and_its_shortfall_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating, "BLOCK", 20)
    report = GenerationReport()
    made = list(generate(GenerationRequest({"methods": 60}, 1, 1), report))
    shapes = [sample.shape for _, _, sample in made]
    assert len(set(shapes)) == len(shapes)
    facts = report.facts()["generators"]["methods"]
    assert facts["most_samples_of_a_shape"] == 1
    assert facts["n_refused_by_cap"] > 0
    monkeypatch.setattr(generating, "MAX_ATTEMPTS", 1)
    short = GenerationReport()
    made = list(generate(GenerationRequest({"methods": 60}, 1, 1), short))
    assert short.facts()["n_shortfall"] == 60 - len(made) > 0


def test_a_repeated_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        generating, "SeededChoices", lambda seed, purpose: SeededChoices(seed, "always the same")
    )
    report = GenerationReport()
    assert len(list(generate(GenerationRequest({"arithmetic": 10}, 1, 99), report))) == 1
    assert report.by_generator["arithmetic"].n_repeats == 99


def test_same_bytes_with_one_worker_and_two(tmp_path: Path) -> None:
    order = GenerationRequest({"python-repair": 12, "word-problems": 12, "rust-reasoning": 5}, 11, 24)
    write_samples(tmp_path / "one", order, workers=1)
    write_samples(tmp_path / "two", order, workers=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    write_samples(tmp_path / "other", GenerationRequest(order.counts, 12, 24), workers=1)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_a_killed_run_leaves_nothing_and_no_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sevenfold.cli",
        "synth",
        "--count",
        "50000",
        "--workers",
        "2",
        "--out",
        str(tmp_path / "s.jsonl"),
    ]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "s.jsonl").exists()
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)  # whoever is left of its session
        except ProcessLookupError:
            return
        time.sleep(0.3)
    pytest.fail("a worker outlived its parent")


def test_a_killed_run_goes_on_behind_its_finished_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = GenerationRequest({"arithmetic": 350, "word-problems": 150}, 3, 24)
    write_samples(tmp_path / "straight", order, workers=1)
    killed, kept = tmp_path / "killed", blocks.directory_of(tmp_path / "killed")
    script = (
        "import sys; from pathlib import Path; from sevenfold.synthetic.files import write_samples; "
        "from sevenfold.synthetic.generate import GenerationRequest; "
        f"write_samples(Path(sys.argv[1]), GenerationRequest({dict(order.counts)!r}, 3, 24), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, killed])
    # A file with a suffix is being written.
    while len([f for f in kept.glob("*") if not f.suffix]) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    whole = [file for file in sorted(kept.iterdir()) if blocks.load(file) is not None]
    assert len(whole) >= 2
    assert not killed.exists()
    whole[0].write_bytes(whole[0].read_bytes()[:-3])  # cut off: made again
    made = []
    real = generating.attempt
    monkeypatch.setattr(generating, "attempt", lambda *of: made.append(of[:3]) or real(*of))
    write_samples(killed, order, workers=1)
    assert killed.read_bytes() == (tmp_path / "straight").read_bytes()
    n_straight = 100 * (len(made) // 100) + 100 * (len(whole) - 1)
    assert 0 < len(made) < n_straight
    assert not kept.exists(), "nothing is left beside a whole file"
    made.clear()
    write_samples(tmp_path / "straight", order, workers=1)
    assert len(made) == n_straight, "canary: without blocks all is made"


def test_blocks_of_another_order_are_not_taken(tmp_path: Path) -> None:
    paths = {
        blocks.path_of(tmp_path, name, seed, numbers)
        for name in ("arithmetic", "methods")
        for seed in (1, 2)
        for numbers in (range(100), range(100, 200), range(50))
    }
    assert len(paths) == 12
    file = paths.pop()
    made = [None, SyntheticSample("i\n", "r \u2028 \U0001f40d", "text", "ab")]
    blocks.save(file, made)
    assert blocks.load(file) == made
    altered = file.read_bytes().replace(b'"i', b'"j')
    file.write_bytes(altered)
    assert blocks.load(file) is None
    assert blocks.load(tmp_path / "none") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        blocks.save(tmp_path / "file" / "block", made)


def test_the_source_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = SyntheticSource(
        kind="synthetic", generators={"arithmetic": 20, "methods": 5}, seed=4, domain="math"
    )
    found = list(read_source(source, tmp_path, 1 << 20))
    assert len(found) == 25
    assert {(one.origin.licence, one.origin.domain, one.problem) for one in found} == {
        (LICENCE, "math", None)
    }
    file, other = cached(GenerationRequest(source.generators, 4, 24))
    assert cached(GenerationRequest({"methods": 5}, 4, 24)) == [
        other
    ]  # another order with the same generator shares its file
    before = file.read_bytes()
    file.write_bytes(before[:-200])  # damaged in the cache: made again
    with pytest.raises(StorageError, match="whole file of samples"):
        list(read_samples(file))
    assert [one.sha256 for one in read_source(source, tmp_path, 1 << 20)] == [one.sha256 for one in found]
    assert file.read_bytes() == before
    assert all(one.problem == "too_large" and one.data is None for one in read_source(source, tmp_path, 10))


def test_who_waits_for_samples_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = SyntheticSource(kind="synthetic", generators={"arithmetic": 250}, seed=4, domain="math")
    told: list[tuple[object, ...]] = []
    listener = Silent()
    monkeypatch.setattr(listener, "start", lambda *what: told.append(what))
    monkeypatch.setattr(listener, "advance", lambda done, **fields: told.append((done, fields["generator"])))
    make_samples(source, listener)
    assert told == [("synthetic", 250, "samples"), (100, "arithmetic"), (200, "arithmetic")]
    make_samples(source, listener)  # nothing is made twice, so there is nothing to tell
    assert len(told) == 3
    assert len(list(read_source(source, tmp_path, 1 << 20))) == 250


def test_an_unknown_generator_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no generator 'python-poem'.*python-function"):
        GenerationRequest({"python-poem": 1}, 0, 1)


def test_counts_are_spread_without_loss() -> None:
    for count in (1, 7, 1000, 100_000):
        assert sum(spread(count).values()) == count
    assert len(spread(100_000)) == len(GENERATORS)


def test_figures_of_variety() -> None:
    variety = Variety()
    variety.add("one two three four five", "s")
    facts = variety.facts()
    assert facts["entropy_4grams_bits"] == 1.0  # two different ones
    assert facts["distinct_4grams_share"] == 1.0
    assert json.loads(json.dumps(facts)) == facts
