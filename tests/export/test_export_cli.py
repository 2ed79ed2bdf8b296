"""`s7 export` and `s7 import` as a user meets them: bad input is one line and a documented code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sevenfold.cli import app
from sevenfold.runs.job import Job


@pytest.fixture(autouse=True)
def no_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S7_INTEROP", "/nowhere")


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def s7(*arguments: object) -> Done:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def one_line(done: Done | subprocess.CompletedProcess[str], code: int, words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("s7: ")]
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert words in lines[0]
    assert "Traceback" not in done.stderr


def test_export_prints_its_checks_and_says_what_was_not_asked(llama_run: Path, tmp_path: Path) -> None:
    done = s7("export", llama_run, "--to", "gguf", "--quant", "q8_0", "--out", tmp_path / "x.gguf", "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["runtime"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["re-read"]["status"] == "measured"
    assert {checks[name]["status"] for name in ("llama.cpp", "go")} == {"skipped"}
    assert "make interop" in checks["go"]["detail"]


def test_bad_input(llama_run: Path, finished_run: Job, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "x")
    cases = [
        (("export", llama_run, "--to", "onnx", *out), 2, "no target 'onnx'"),
        (("export", llama_run, "--to", "gguf", "--quant", "q9", *out), 2, "no type 'q9'"),
        (("export", llama_run, "--to", "hf", "--quant", "q8_0", *out), 2, "hf has no type"),
        (("export", llama_run, "--to", "gguf", "--quant", "iq4_nl", "--no-parity", *out), 2, "make interop"),
        (("export", llama_run, "--to", "bundle", "--quant", "q8_0", *out), 2, "holds the sealed integers"),
        (("export", llama_run, "--to", "bundle", *out), 4, "not sealed"),
        (("export", tmp_path / "none", "--to", "hf", *out), 4, "no such file"),
        (("export", tmp_path, "--to", "hf", *out), 4, "no trained model"),
        (("import", "onnx", tmp_path, *out), 2, "no kind"),
        (("import", "gguf", __file__, *out), 4, "not a GGUF file"),
        (("import", "hf", tmp_path, *out), 4, "config.json"),
    ]
    if finished_run.recipe.model.moe:
        cases = [(("export", finished_run.out, "--to", "gguf", *out), 2, "token-routed experts")]
    for arguments, code, words in cases:
        one_line(s7(*arguments), code, words)
    assert not list(tmp_path.glob("*x*"))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("interop/tiny-15m.yaml", "exports: gguf, hf, safetensors, bundle"),
        ("s7/demo-1m", "exports: gguf, hf, safetensors, bundle"),
        ("slm/proxy-10m", "exports: bundle; nothing else"),
        (
            "m31r/60m",
            "exports: hf, safetensors, bundle; no gguf, because llama.cpp has no name for protected symbols",
        ),
        ("llama/tiny-30m", "no gguf, because llama.cpp has no name for sentencepiece_unigram over bytes"),
        ("s7/moe-8m", "exports: bundle; nothing else, the model has token-routed experts"),
    ],
)
def test_the_plan_says_where_a_model_will_leave_to(recipe: str, words: str) -> None:
    done = s7("plan", recipe, "--json")
    assert words in json.loads(done.stdout)["assumptions"][-1]


def test_every_dense_recipe_that_ships_leaves_as_a_llama() -> None:
    from sevenfold.export.names import outlook
    from sevenfold.recipe import list_shipped, load_recipe

    recipes = [load_recipe(shipped.path) for shipped in list_shipped()]
    dense = {r.name for r in recipes if r.model.moe is None and r.model.attention == "causal"}
    assert {"llama-tiny-30m", "llama-medium-150m", "llama-1.5b", "demo-1m"} <= dense
    assert {r.name for r in recipes if "hf, safetensors" in outlook(r)} == dense
    assert {r.name for r in recipes if r.family == "m31r"} <= dense


def test_a_bundle_leaves_and_verifies(finished_run: Job, tmp_path: Path) -> None:
    done = s7("export", finished_run.out, "--to", "bundle", "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert f"s7 verify {tmp_path / 'bundle'}" in done.stdout
    verified = s7("verify", tmp_path / "bundle", "--json")
    assert json.loads(verified.stdout)["root"] == finished_run.manifest("seal").facts["root"]
    (tmp_path / "bundle" / "tokenizer.json").chmod(0o644)
    (tmp_path / "bundle" / "tokenizer.json").write_bytes(b"{}")
    assert s7("verify", tmp_path / "bundle").returncode == 3


@pytest.mark.subprocess
def test_a_full_disk_leaves_nothing(llama_run: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    assert s7("export", llama_run, "--to", "hf", "--no-parity", "--out", source).returncode == 0
    verbs = [("export", llama_run, "--no-parity", "--to", target) for target in ("gguf", "hf", "safetensors")]
    for verb in [*verbs, ("import", "hf", source)]:
        command = [sys.executable, "-m", "sevenfold.cli", *verb, "--out", tmp_path / "x"]
        limited = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", *map(str, command)]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        one_line(done, 4, "ulimit -f")
        assert [f.name for f in tmp_path.iterdir()] == ["source"]


def test_a_missing_tokenizer(llama_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", llama_run, run], check=True)
    (run / "tokenizer" / "tokenizer.json").unlink()
    one_line(s7("export", run, "--to", "gguf", "--out", tmp_path / "x"), 4, "the tokenizer is missing")


def test_padding_and_settings_as_a_user_meets_them(tmp_path: Path) -> None:
    import foreign_models as foreign

    model = foreign.make(tmp_path / "hf", vocab_size=320)
    foreign.edit(model / "generation_config.json", lambda v: v.update(repetition_penalty=1.1))
    one_line(s7("import", "hf", model, "--out", tmp_path / "in"), 2, "--cut-padding")
    done = s7("import", "hf", model, "--out", tmp_path / "in", "--cut-padding")
    assert done.returncode == 0, done.stderr
    assert "note: generation_config.json: repetition_penalty 1.1" in done.stderr
    one_line(s7("import", "hf", model, "--out", tmp_path / "in", "--cut-padding"), 4, "nothing is replaced")
