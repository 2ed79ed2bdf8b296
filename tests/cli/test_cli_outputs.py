"""No verb writes over what it did not make: every output option meets a file of somebody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import s7
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess
MINE = b"the only copy of my notes\n"
PIN = '{"format": 1, "pypi": [], "npm": [], "deb": [], "dsc": []}'


def sets(directory: Path) -> Path:
    (directory / "sets" / "gsm8k").mkdir(parents=True)
    question = " ".join(f"word{n}" for n in range(40))
    row = json.dumps({"question": question, "answer": "7"})
    (directory / "sets" / "gsm8k" / "test.jsonl").write_text(row)
    return directory / "sets"


# Name of the file -> the command that would write it.
COMMANDS: dict[str, Callable[[Job, Path], tuple[object, ...]]] = {
    "model.card.md": lambda run, out: ("model-card", run.out, "--out", out),
    "model.cdx.json": lambda run, out: ("model-card", run.out, "--out", out),
    "model.notice.txt": lambda run, out: ("model-card", run.out, "--out", out),
    "chain.svg": lambda run, out: ("lineage", run.out, "--picture", out / "chain.svg"),
    "curves.png": lambda run, out: ("compare", run.out, run.out, "--png", out / "curves.png"),
    "samples.jsonl": lambda _, out: (
        "synth",
        "--out",
        out / "samples.jsonl",
        "--count",
        8,
        "--only",
        "arithmetic",
    ),
    "plot.png": lambda _, out: (
        "synth",
        "--out",
        out / "other.jsonl",
        "--count",
        8,
        "--only",
        "arithmetic",
        "--plot",
        out / "plot.png",
    ),
    "report.json": lambda run, out: (
        "tokenizer-report",
        run.out / "tokenizer/tokenizer.json",
        run.out / "corpus/heldout.parquet",
        "--out",
        out,
    ),
    "report.png": lambda run, out: (
        "tokenizer-report",
        run.out / "tokenizer/tokenizer.json",
        run.out / "corpus/heldout.parquet",
        "--out",
        out,
    ),
    "eval.s7eh": lambda _, out: ("eval-hashes", sets(out.parent), "--out", out / "eval.s7eh"),
    "model.sig": lambda run, out: (
        "sign",
        run.out / "model.s7l",
        "--key",
        out.parent / "key",
        "--out",
        out / "model.sig",
    ),
    "new.key": lambda _, out: ("keygen", out / "new.key"),
    "lock.json": lambda _, out: (
        "corpus",
        "pin",
        "pypi:attrs",
        "--from",
        out.parent / "lock",
        "--out",
        out / "lock.json",
    ),
}
ONCE = ("model.sig", "new.key")  # never replaced, not even by their own kind


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_of_somebody_else_is_kept_and_named(name: str, dense_run: Job, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(MINE)
    (tmp_path / "lock").write_text(PIN)
    if name == "model.sig":
        assert s7("keygen", tmp_path / "key").returncode == 0
    command = COMMANDS[name](dense_run, out)
    done = s7(*command)
    assert (out / name).read_bytes() == MINE
    assert (done.returncode, "Traceback" in done.stderr) == (4, False), done.stderr
    line = next(line for line in done.stderr.splitlines() if line.startswith("s7: "))
    assert str(out / name) in line
    for advice in ("delete", "remove", "--force", "overwrite"):
        assert advice not in line
    assert [path.name for path in out.iterdir()] == [name]  # nothing else was written either
    if name == "lock.json":
        return  # pinning asks a registry
    (out / name).unlink()
    for _ in range(1 if name in ONCE else 2):  # what an earlier run of the verb wrote is replaced
        if (tmp_path / "sets").exists():
            command = (command[0], tmp_path / "sets", *command[2:])
        done = s7(*command)
        assert done.returncode == 0, done.stderr
        assert (out / name).read_bytes() != MINE


def test_no_remedy_advises_to_lose_what_a_user_named(dense_run: Job, tmp_path: Path) -> None:
    text = tmp_path / "mine.parquet"
    text.write_bytes(MINE)
    for words in (
        ("tokenizer-report", dense_run.out / "tokenizer/tokenizer.json", text),
        ("tokenizer-report", text, dense_run.out / "corpus/heldout.parquet"),
        ("corpus", "licences", text),
        ("corpus", "fetch", text),
        ("inspect", text),
        ("audit", text, "--full"),
        ("compare", tmp_path, tmp_path),
    ):
        done = s7(*words)
        assert done.returncode in (2, 3, 4), done.stderr
        assert "Traceback" not in done.stderr
        for advice in ("delete", "remove", "--force", "overwrite"):
            assert advice not in done.stderr, done.stderr
        assert text.read_bytes() == MINE
