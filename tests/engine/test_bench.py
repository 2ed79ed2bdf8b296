"""`s7 bench`: what is measured and how it is said. No test asserts a time."""

from __future__ import annotations

import json
import re

import pytest
from test_session import CONTEXT, dictionary, seal_input, small  # noqa: F401  # fixtures
from tiny_models import tiny
from typer.testing import CliRunner

from sevenfold.artifact import SealInput, build_contents, write_artifact
from sevenfold.cli import app
from sevenfold.cli.models.bench import thread_counts
from sevenfold.core.errors import GateError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.engine import bench, native
from sevenfold.engine.session import Model

REASON = native.unavailable()
PROMPT, STEPS = CONTEXT * 3 // 4, CONTEXT - CONTEXT * 3 // 4


@pytest.fixture(scope="module")
def path(seal_input: SealInput, tmp_path_factory: pytest.TempPathFactory):  # noqa: F811  # the fixture above
    path = tmp_path_factory.mktemp("sealed") / "model.s7l"
    write_artifact(path, build_contents(seal_input))
    return path


def test_the_work_of_a_model() -> None:
    # Two layers of 4 heads of 6; 24 x 24 for each of q, k, v, o; three of 24 x 10; a head of 37 x 24.
    work = bench.work_of(tiny("dense").load())
    weights = 2 * (4 * 24 * 24 + 3 * 24 * 10)
    assert (work.prompt, work.steps) == (18, 6)
    assert work.macs == 18 * weights + 37 * 24 + 2 * 4 * 6 * (2 * sum(range(1, 19)))
    assert work.n_bytes == weights + 37 * 24 + 2 * 2 * 4 * (6 + 6) * (18 + 3)
    assert bench.work_of(tiny("moe").load()).macs < 1.2 * work.macs, "a token goes through one expert"
    long = bench.work_of(tiny("dense", context=4096).load())
    assert (long.prompt, long.steps) == (512, 128)


def test_a_context_without_room() -> None:
    with pytest.raises(GateError, match="a context of 1 has no room"):
        bench.work_of(tiny("dense", context=1).load())
    value = bench.measure(tiny("dense", context=2).load(), "reference", [1], 1, Silent())
    assert (value["work"]["prompt"], value["work"]["steps"]) == (1, 1)


@pytest.mark.skipif(REASON is not None, reason=f"native engine: {REASON}")
def test_the_native_engine_has_both_peaks(path) -> None:
    done = CliRunner().invoke(app, ["bench", str(path), "--threads", "2,1", "--rounds", "2", "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert (value["backend"], value["rounds"], value["path"]) == ("native", 2, str(path))
    assert re.fullmatch("[0-9a-f]{64}", value["root"])
    assert [(row["threads"], row["phase"]) for row in value["rows"]] == [
        (2, "prompt"), (2, "generate"), (2, "decode"), (1, "prompt"), (1, "generate"), (1, "decode"),
    ]  # fmt: skip
    for row in value["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["tokens_per_second"] <= high
        assert row["share_of_roof"] > 0
    assert [peak["threads"] for peak in value["roofs"]] == [2, 1]
    assert all(peak["macs_per_second"] > 0 and peak["bytes_per_second"] > 0 for peak in value["roofs"])
    assert value["work"]["prompt"] == PROMPT
    assert value["work"]["steps"] == STEPS


def test_the_reference_has_one_thread_and_one_peak(path, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "libs7.so")
    done = CliRunner().invoke(app, ["bench", str(path), "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["backend"] == "reference"
    assert [(row["threads"], row["share_of_roof"] is None) for row in value["rows"]] == [
        (1, True),
        (1, False),
        (1, False),
    ]


def test_the_table_says_what_the_peaks_are(path) -> None:
    done = CliRunner().invoke(app, ["bench", str(path), "--rounds", "1", "--threads", "1"])
    assert done.exit_code == 0, done.output
    for text in (
        f"prompt of {PROMPT}",
        f"{STEPS} tokens after it (generate)",
        "(engine)",
        "of the peak",
        "peak of a step",
        "GB/s",
    ):
        assert text in done.stdout, text
    lines = done.stdout.splitlines()
    assert sum(line.startswith("peak of the prompt, 1 thread: ") for line in lines) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--threads", text] for text in ("0", "65", "-1", "1,1", "1,", "two", "", "1.5", "\u0661")]
    + [["--rounds", "0"], ["--rounds", "x"]],
    ids=lambda a: "=".join(a).encode("ascii", "replace").decode(),
)
def test_nonsense_is_refused(path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["bench", str(path), *arguments])
    assert done.exit_code == 2


def test_a_refused_list_of_threads_is_one_line(path) -> None:
    done = CliRunner().invoke(app, ["bench", str(path), "--threads", "9,9"])
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("s7: ")
    assert "'9,9' is not a list of thread counts" in done.stderr


def test_thread_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thread_counts("3,1") == [3, 1]
    for here, expected in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, here=here: set(range(here)))
        assert thread_counts(None) == expected
    with pytest.raises(UsageError):
        thread_counts("1;2")


def test_the_prompt_of_the_user_passes_the_gate(path) -> None:
    model = Model.open(path)
    chosen = bench.readable_ids(model, 3 * model.weights.shape.vocab_size)
    assert len(set(chosen)) > 80, "spread over the vocabulary"
    with model.session() as session:
        for at in range(0, len(chosen), 9):
            session.gate.feed(model.tokenizer.decode_bytes(chosen[at : at + 9]))
    assert model.on(model.engine).tokenizer is model.tokenizer


def test_a_file_that_is_none(tmp_path) -> None:
    (tmp_path / "x.s7l").write_bytes(b"x")
    assert CliRunner().invoke(app, ["bench", str(tmp_path / "x.s7l")]).exit_code == 3
    assert CliRunner().invoke(app, ["bench", str(tmp_path / "none.s7l")]).exit_code == 4
