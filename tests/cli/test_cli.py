"""The command line as a user meets it: flags, help, streams, exit codes, one line per mistake."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.models import TyperPath

from command_line import s7
from sevenfold import __version__
from sevenfold.cli import app
from sevenfold.cli.table import VERBS
from sevenfold.core.errors import EXIT_CODES
from sevenfold.engine import native
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess
SNAPSHOT = Path(__file__).parent / "flags.json"


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on stderr that says what, with the documented code and no traceback."""
    assert done.returncode == code, done.stderr
    assert code in EXIT_CODES
    lines = [line for line in done.stderr.splitlines() if line.startswith("s7: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


def flags() -> dict[str, list[str]]:
    """Every verb with its arguments and options, as a user types them."""
    group = typer.main.get_command(app)
    verbs: dict[str, Any] = {"": group}
    for verb in VERBS:
        verbs[verb.name] = group.get_command(None, verb.name)  # type: ignore[attr-defined]  # group
    inner = {f"corpus {name}": command for name, command in verbs.pop("corpus").commands.items()}
    verbs |= {"corpus": inner["corpus build"]} | inner  # `s7 corpus RECIPE` is the stage
    for outer in ("memory", "tools"):
        verbs |= {f"{outer} {name}": command for name, command in verbs.pop(outer).commands.items()}
    return {
        name: sorted(
            "/".join([*p.opts, *p.secondary_opts]) if p.param_type_name == "option" else (p.metavar or p.name)
            for p in command.params
        )
        for name, command in verbs.items()
    }


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory, dense_run: Job) -> Path:
    """The tiny dense recipe as a file."""
    path = dense_run.recipe_dir / "tiny.yaml"
    path.write_text(yaml.safe_dump(dense_run.recipe.resolved()))
    return path


@pytest.fixture(scope="module")
def artifact(dense_run: Job) -> Path:
    return dense_run.out / "model.s7l"


def test_flags_are_frozen() -> None:
    # A contract: scripts of users break when a flag goes. Adding one is a
    # change of this file, in review.
    assert flags() == json.loads(SNAPSHOT.read_text())


def test_a_file_that_may_not_be_read_is_an_input_error_for_every_flag() -> None:
    # The command-line library would call it a usage error; the rooms say what it is (exit code 4).
    group = typer.main.get_command(app)
    strict = [
        (name, p.name)
        for name, command in (
            {
                verb.name: group.get_command(None, verb.name)  # type: ignore[attr-defined]  # a group
                for verb in VERBS
            }
            | group.get_command(None, "corpus").commands  # type: ignore[attr-defined]  # group
        ).items()
        for p in command.params
        if isinstance(p.type, TyperPath) and p.type.readable
    ]
    assert strict == []


def test_help_answers_at_once_without_pytorch() -> None:
    code = (
        "import sys\nfrom sevenfold.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', sorted({'torch', 'numpy', 'pydantic', 'pyarrow', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert "LOADED []" in done.stdout


def test_version() -> None:
    assert s7("--version").stdout == f"s7 {__version__}\n"


def test_a_wrong_argument_is_a_usage_error() -> None:
    refused(s7("make", "recipes/nowhere.yaml"), 2, "--out", "s7 make --help")
    refused(s7("mkae"), 2, "mkae", "--help")
    refused(s7("run", "model.s7l", "x", "--max-tokens", "0"), 2, "--max-tokens")
    refused(s7("plan", "s7/demo-1m", "--jsn"), 2, "--jsn")
    refused(s7("train", "s7/demo-1m", "--dry-run", "--phase", "trunk"), 2, "--phase")
    refused(s7("train", "s7/demo-1m", "--dry-run", "--expert", "math"), 2, "--expert needs --phase")
    nothing = s7()
    assert nothing.returncode == 2
    assert "Usage" in nothing.stdout


@pytest.mark.parametrize("as_json", [False, True])
def test_recipes_and_plan(as_json: bool) -> None:
    extra = ["--json"] if as_json else []
    listed, planned = s7("recipes", *extra), s7("plan", "s7/moe-140m", *extra)
    assert listed.returncode == planned.returncode == 0, planned.stderr
    if as_json:
        assert {"s7/demo-1m", "slm/2b"} <= {row["name"] for row in json.loads(listed.stdout)}
        json.loads(planned.stdout)
    else:
        assert "s7/demo-1m" in listed.stdout
        assert "trunk" in planned.stdout.lower()


def test_verify_inspect_run(artifact: Path) -> None:
    table = s7("verify", artifact, "--replay")
    assert table.returncode == 0
    assert table.stdout.count("pass") >= 8
    value = json.loads(s7("verify", artifact, "--json").stdout)
    assert value["ok"] is True
    shown = json.loads(s7("inspect", artifact, "--json").stdout)
    assert shown["root"] == value["root"]
    assert "lm_head.weight" in s7("inspect", artifact).stdout
    text = s7("run", artifact, "def f(", "--max-tokens", 8)
    answer = json.loads(s7("run", artifact, "def f(", "--max-tokens", 8, "--json").stdout)
    assert text.returncode == 0
    assert text.stdout == answer["text"] + "\n"
    assert len(answer["tokens"]) <= 8


def test_replay_says_what_it_ran_on_and_s7_isa_chooses(artifact: Path) -> None:
    has_native = native.unavailable() is None
    for isa in native.instruction_sets() if has_native else ["scalar"]:
        done = s7("verify", artifact, "--replay", env=os.environ | {"S7_ISA": isa})
        assert done.returncode == 0, done.stderr
        (said,) = [line for line in done.stdout.splitlines() if line.startswith("replayed on")]
        assert said.startswith(f"replayed on native ({isa}" if has_native else "replayed on reference")
        assert said.endswith("reference (NumPy)")
    if has_native:
        refused(s7("verify", artifact, "--replay", env=os.environ | {"S7_ISA": "sse9"}), 2, "S7_ISA", "sse9")
    value = json.loads(s7("verify", artifact, "--replay", "--json").stdout)
    assert len(value["replayed_on"]) == 1 + has_native


@pytest.mark.parametrize("name", ["BS", "VT", "FF", "CAN", "SUB", "ESC"])
def test_forbidden_control_characters_are_refused(name: str, artifact: Path) -> None:
    code = {"BS": 8, "VT": 11, "FF": 12, "CAN": 24, "SUB": 26, "ESC": 27}[name]
    refused(s7("run", artifact, f"a{chr(code)}b"), 5, name, "offset 1")


def test_bad_prompts_and_backends_are_refused(artifact: Path) -> None:
    refused(s7("run", artifact, "x = 1\n" * 100), 5, "context")
    refused(s7("run", artifact, "x", "--max-tokens", 1000), 5, "context", "--max-tokens")
    refused(s7("run", artifact, "x", "--backend", "cuda"), 2, "cuda", "reference")


def test_a_prompt_from_standard_input(artifact: Path, tmp_path: Path) -> None:
    text = "def f(x):\n    caf\u00e9"
    told, asked = s7("run", artifact, text, "--json"), s7("run", artifact, "-", "--json", input=text)
    assert (told.returncode, asked.returncode) == (0, 0)
    assert json.loads(told.stdout) == json.loads(asked.stdout)
    assert json.loads(asked.stdout)["prompt"] == text  # byte for byte, in any locale
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert json.loads(s7("run", artifact, text, "--json", env=plain).stdout) == json.loads(told.stdout)
    assert json.loads(
        s7("run", artifact, "-", "--json", env=plain, input=text, encoding="utf-8").stdout
    ) == json.loads(told.stdout)
    refused(s7("run", artifact, "-", input=""), 5, "standard input", "empty")
    refused(s7("run", artifact, "-", input="x = 1\n" * 1000), 5, "context has 64")
    for argument, options in (("-", {"input": b"ab\xff"}), (b"ab\xff", {"input": b""})):
        command = [sys.executable, "-m", "sevenfold.cli", "run", str(artifact), argument]
        done = subprocess.run(command, capture_output=True, check=False, timeout=300, **options)
        assert (done.returncode, b"Traceback" in done.stderr) == (5, False)
        assert b"not UTF-8: byte 0xff at offset 2" in done.stderr
    # A file of holes, in a directory of its own: other tests copy the run, and a copy has no holes.
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    with huge.open("rb") as file:
        command = [sys.executable, "-m", "sevenfold.cli", "run", str(artifact), "-"]
        done = subprocess.run(command, stdin=file, capture_output=True, check=False, timeout=300)
    assert (done.returncode, b"more than 16777216 bytes" in done.stderr) == (5, True)


def test_what_fits_is_generated_and_more_is_refused_with_numbers(artifact: Path) -> None:
    answer = json.loads(s7("run", artifact, "def f(", "--json").stdout)
    assert 0 < len(answer["tokens"]) < 64  # the context
    full = s7("run", artifact, "def f(", "--max-tokens", 64)
    refused(full, 5, "64 are to follow", "the context has 64", "lower --max-tokens to")
    most = full.stderr.rpartition("--max-tokens to ")[2].split()[0]
    assert s7("run", artifact, "def f(", "--max-tokens", most).returncode == 0
    refused(
        s7("run", artifact, "def f(", "--max-tokens", int(most) + 1),
        5,
        f"lower --max-tokens to {most} at most",
    )


STREAMS = {
    "closed output": (">&-", 0),
    "closed error": ("2>&-", 0),
    "closed input": ("<&-", 0),
    "all closed": (">&- 2>&- <&-", 0),
    "full disk": (">/dev/full", 4),
    "full disk of errors": ("2>/dev/full", 0),
    "no reader": ("| head -n 0", 0),
    "no reader of both": ("2>&1 | head -n 0", 0),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_that_are_ascii_closed_full_or_gone(name: str, artifact: Path) -> None:
    redirection, code = STREAMS[name]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    for words in ("recipes", "--help", f"verify {artifact}", f"run {artifact} 'caf\u00e9' --max-tokens 2"):
        command = f"{sys.executable} -m sevenfold.cli {words} {redirection}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=environment)
        assert done.returncode == code, (words, done.stderr)
        for word in (b"Traceback", b"ignored", b"Broken"):
            assert word not in done.stderr, (words, done.stderr)
        if name == "full disk":
            assert done.stderr.startswith(b"s7: standard output: no space left"), (words, done.stderr)


def test_a_failure_is_told_by_its_code_on_any_stream(artifact: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.s7l"
    data = bytearray(artifact.read_bytes())
    data[len(data) // 2] ^= 1
    bad.write_bytes(data)
    for redirection in (">&-", ">/dev/full", "| head -n 0"):
        command = f"{sys.executable} -m sevenfold.cli verify {bad} {redirection}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        assert done.returncode == 3, (redirection, done.stderr)
        assert b"Traceback" not in done.stderr
    # Nothing of standard error goes to standard output where the first is closed.
    command = f"{sys.executable} -m sevenfold.cli verify {bad} 2>&-"
    assert subprocess.run(["bash", "-c", command], capture_output=True, check=False).stdout == b""


def test_a_closed_input_is_an_empty_stream(artifact: Path) -> None:
    for words, code in ((f"run {artifact} -", 5), ("verify -", 3)):
        command = f"{sys.executable} -m sevenfold.cli {words} <&-"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        refused(done, code)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    refused(s7("verify", tmp_path / "none.s7l"), 4, "none.s7l", "no such file")
    refused(s7("plan", tmp_path / "none.yaml"), 4, "none.yaml")
    refused(s7("run", tmp_path, "x"), 4, "directory")
    text = tmp_path / "text.s7l"
    text.write_text("hello\n")
    refused(s7("verify", text), 3, "text.s7l")


def test_a_truncated_flipped_or_newer_artifact(artifact: Path, tmp_path: Path) -> None:
    data, path = artifact.read_bytes(), tmp_path / "model.s7l"
    for length in (0, 3, 39, 40, 41, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        refused(s7("verify", path), 3, "model.s7l")
        refused(s7("run", path, "x"), 3, "model.s7l")
    path.write_bytes(data[:4] + b"\x00\x09" + data[6:])
    refused(s7("verify", path), 3, "version 9")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 4
    path.write_bytes(flipped)
    refused(s7("verify", path), 3, "FIELD")


def test_a_typo_in_a_recipe_names_line_and_key(recipe_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text(recipe_file.read_text().replace("learning_rate:", "learning_rat:"))
    line = next(i for i, x in enumerate(path.read_text().splitlines(), 1) if "learning_rat:" in x)
    refused(
        s7("make", path, "--out", tmp_path / "out"), 2, f"typo.yaml:{line}", "learning_rat", "learning_rate"
    )
    assert not (tmp_path / "out").exists()


def test_no_documents_is_an_error(recipe_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(recipe_file.read_text())
    (tmp_path / "code").mkdir()
    refused(s7("make", path, "--out", tmp_path / "out"), 4, "no corpus files")
    assert not (tmp_path / "out" / "corpus" / "manifest.json").exists()


def test_an_unwritable_place(recipe_file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused(s7("make", recipe_file, "--out", blocked / "out"), 4, "file")


def _small_files_only() -> None:
    # Every write past 20 kB fails, as on a full disk; SIGXFSZ must not
    # kill before the error is seen.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize("stage", ["corpus", "tokenizer", "train", "quantize", "seal"])
def test_no_space_left_is_one_line_and_no_manifest(stage: str, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = ["corpus", "tokenizer", "train", "quantize", "seal"].index(stage)
    if before:
        names = ["corpus", "tokenizer", "train", "quantize", "seal"]
        assert s7("make", recipe_file, "--out", out, "--until", names[before - 1]).returncode == 0
    refused(s7("make", recipe_file, "--out", out, "--until", stage, preexec_fn=_small_files_only), 4, "(")
    assert not (out / stage / "manifest.json").exists()
    assert not (out / "model.s7l").exists()


def _start_training(recipe_file: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sevenfold.cli", "make", str(recipe_file), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def test_interrupt_then_the_same_command_goes_on(recipe_file: Path, tmp_path: Path, artifact: Path) -> None:
    out = tmp_path / "out"
    process = _start_training(recipe_file, out)
    _wait_for(lambda: (out / "train" / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert b"run the same command again" in stderr
    assert b"Traceback" not in stderr
    done = s7("make", recipe_file, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "model.s7l").read_bytes() == artifact.read_bytes()
    assert "held-out bits per byte" in done.stdout


def test_killed_three_times_and_resumed_gives_the_same_root(
    recipe_file: Path, tmp_path: Path, artifact: Path
) -> None:
    out = tmp_path / "out"
    for n_checkpoints in (1, 2, 3):
        process = _start_training(recipe_file, out)
        newest = out / "train" / f"checkpoint-{n_checkpoints * 10:08d}.safetensors"
        _wait_for(newest.exists, process)
        time.sleep(random.uniform(0.0, 0.2))  # wherever that is: between two steps, in one, in a write
        process.kill()
        process.communicate(timeout=60)
        assert not (out / "model.s7l").exists() or n_checkpoints == 3
    assert s7("make", recipe_file, "--out", out).returncode == 0
    assert (out / "model.s7l").read_bytes() == artifact.read_bytes()


def test_a_reader_that_goes_away_is_no_error(artifact: Path) -> None:
    command = f"{sys.executable} -m sevenfold.cli inspect {artifact} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_stage_verbs_run_one_stage(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(s7("train", recipe_file, "--out", out), 4, "tokenizer", "--until")
    for verb in ("corpus", "tokenizer", "train", "quantize", "seal"):
        assert s7(verb, recipe_file, "--out", out).returncode == 0
    assert (out / "model.s7l").exists()
    for paper in ("card.md", "cdx.json", "notice.txt", "spdx.json", "training.md", "hub.json"):
        assert (out / f"model.{paper}").stat().st_size > 100
    assert "up to date" in s7("seal", recipe_file, "--out", out).stderr
    assert "done" in s7("seal", recipe_file, "--out", out, "--force").stderr


def test_the_environment_does_not_matter(recipe_file: Path, tmp_path: Path, artifact: Path) -> None:
    # Law 2: no clock, hash order, locale or directory order inside a stage.
    environment = os.environ | {
        "PYTHONHASHSEED": "99",
        "LC_ALL": "C",
        "TZ": "Pacific/Auckland",
        "OMP_NUM_THREADS": "1",
    }
    assert s7("make", recipe_file, "--out", tmp_path / "out", env=environment).returncode == 0
    assert (tmp_path / "out" / "model.s7l").read_bytes() == artifact.read_bytes()
