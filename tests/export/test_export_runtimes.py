"""The whole harness on real runtimes, llama.cpp and our Go program; skipped, and said, where
`make interop` has not built them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sevenfold.core.errors import SevenfoldError, StorageError
from sevenfold.core.process.log import Silent
from sevenfold.export.gguf.gguf_file import stored_reader, write_gguf
from sevenfold.export.gguf.quants import find_quant
from sevenfold.export.proof import parity, parity_corpus, runtimes
from sevenfold.export.proof.parity import FloatReference, ParityError
from sevenfold.export.proof.transformers_runtime import Transformers
from sevenfold.export.run import Request, export
from sevenfold.export.source import ExportSource, open_source
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors
from sevenfold.runs.job import Job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("interop")]
ROOT = Path(__file__).parents[2]
PINNED = ["f32", "f16", "bf16", "q8_0", "i2_s"]
OTHERS = [
    *("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "iq3_s", "iq3_xxs"),
    *("iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "tq1_0", "tq2_0"),
]


def code_points() -> Iterator[str]:
    """Yield every Unicode character between two letters, 4096 to a text: do two libraries put it in
    the same class?
    """
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF]
    for start in range(0, len(points), 4096):
        yield " ".join(f"a{c}b {c}{c}" for c in points[start : start + 4096])


@pytest.fixture(scope="module")
def wide(llama_run: Path) -> ExportSource:
    """Random weights in rows of 256 and 512, so that no type falls back; the
    vocabulary of a trained run.
    """
    trained = open_source(llama_run)
    shape = {"d_model": 256, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "d_ffn": 512}
    spec = ModelSpec(**shape, vocab_size=400, context=64)

    def read(name: str) -> np.ndarray:
        rng = np.random.default_rng(len(name))
        dims = tensors(spec)[name]
        return rng.normal(1 if len(dims) == 1 else 0, 0.05, dims).astype(np.float32)

    return ExportSource(
        path=llama_run, spec=spec, tokenizer=trained.tokenizer, provenance={"name": "wide"}, read=read
    )


@pytest.mark.parametrize("quant", PINNED)
def test_float_types_and_those_of_go_pass_everything(llama_run: Path, tmp_path: Path, quant: str) -> None:
    report = export(llama_run, tmp_path / "x.gguf", Request(target="gguf", quant=quant), Silent())
    found = {(check["runtime"], check["name"]): check["status"] for check in report["checks"]}
    asked = {runtime for (runtime, name), status in found.items() if status != "skipped"}
    assert {"re-read", "go"} <= asked
    assert ("llama.cpp" in asked) == (quant != "i2_s")
    assert found["go", "greedy"] == found["go", "ids"] == "pass"


@pytest.mark.parametrize("quant", OTHERS)
def test_llama_cpp_reads_every_type_that_its_quantiser_made(
    wide: ExportSource, tmp_path: Path, quant: str
) -> None:
    rows = np.random.default_rng(0).integers(0, 400, (2, 33))
    model = FloatReference(wide.spec, wide.read)
    with runtimes.llama_cpp() as llama:
        assert llama is not None
        plan = write_gguf(
            wide, tmp_path / "x.gguf", find_quant(quant), llama.quantize, model.importance(rows[:, :-1])
        )
        assert plan.n_fallback == 0
        llama.open(tmp_path / "x.gguf", 64)
        # Ours is the dequantisation of the `gguf` library: what llama.cpp computes must be near
        # it, and it from the weights.
        stored = FloatReference(wide.spec, stored_reader(tmp_path / "x.gguf", wide.spec))
        theirs, ours = llama.logits([int(i) for i in rows[0]]), stored.logits(rows[0])
    spread = float(np.std(ours))
    assert np.abs(theirs - ours).mean() < 0.1 * spread
    assert np.isfinite(theirs).all()


def test_ids_are_equal_on_a_line_of_ten_million_characters_and_every_code_point(
    llama_run: Path, tmp_path: Path
) -> None:
    source = open_source(llama_run)
    write_gguf(source, tmp_path / "x.gguf", find_quant("f16"))
    export(llama_run, tmp_path / "hf", Request(target="hf", proven=False), Silent())
    groups = [[parity_corpus.long_line(10_000_000)], list(code_points())]
    wanted = [source.vocabulary().encode_batch(group) for group in groups]
    with runtimes.llama_cpp() as llama, runtimes.go_runtime() as go:
        for runtime in (llama, go, Transformers.load(tmp_path / "hf")):
            assert runtime is not None
            runtime.open(tmp_path / "x.gguf", 64)
            for group, want in zip(groups, wanted, strict=True):
                assert runtime.tokenize(group) == want, runtime.name


def test_transformers_passes_on_every_line(llama_run: Path, tmp_path: Path) -> None:
    report = export(llama_run, tmp_path / "hf", Request(target="hf"), Silent())
    found = {check["name"]: check for check in report["checks"] if check["runtime"] == "transformers"}
    assert {check["status"] for check in found.values()} == {"pass"}
    assert "0 of 20000 lines" in found["ids"]["detail"]


def test_go_cuts_code_pieces_too_and_llama_cpp_is_counted(dense_run: Job, tmp_path: Path) -> None:
    report = export(dense_run.out, tmp_path / "x.gguf", Request(target="gguf", ids_only=True), Silent())
    ids = {check["runtime"]: check for check in report["checks"] if check["name"] == "ids"}
    assert ids["go"]["status"] == "pass"
    assert ids["llama.cpp"]["status"] == "measured"
    assert ids["llama.cpp"]["figures"]["blocks of 40 lines"] > 0


@pytest.mark.parametrize("runtime", ["llama.cpp", "go"])
def test_a_wrong_file_fails_the_export(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    # The canary: half-split rows under the name of neighbours is the classic mistake,
    # and loads without complaint.
    monkeypatch.setattr(
        "sevenfold.export.gguf.gguf_file.interleave", lambda weight, heads: weight, raising=False
    )
    monkeypatch.setattr("sevenfold.export.names.interleave", lambda weight, heads: weight)
    monkeypatch.setattr("sevenfold.export.gguf.gguf_file.deinterleave", lambda weight, heads: weight)
    other = "go_runtime" if runtime == "llama.cpp" else "llama_cpp"
    monkeypatch.setattr(runtimes, other, Absent)
    with pytest.raises(ParityError, match=runtime):
        export(llama_run, tmp_path / "x.gguf", Request(target="gguf"), Silent())
    assert not list(tmp_path.iterdir())


class Absent:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize("started", [runtimes.llama_cpp, runtimes.go_runtime])
def test_a_damaged_file_is_refused_by_the_runtime_in_one_line(
    llama_run: Path, tmp_path: Path, started
) -> None:
    source = open_source(llama_run)
    path = tmp_path / "x.gguf"
    write_gguf(source, path, find_quant("f16"))
    path.write_bytes(path.read_bytes()[:5000])
    with started() as runtime:
        with pytest.raises(StorageError) as caught:
            runtime.open(path, 64)
        assert "\n" not in str(caught.value)
        with pytest.raises(SevenfoldError):
            runtime.ask("no such request")


def test_the_go_program_prints_ids(llama_run: Path, tmp_path: Path) -> None:
    source = open_source(llama_run)
    write_gguf(source, tmp_path / "x.gguf", find_quant("f32"))
    program = runtimes.go_program()
    command = [str(program), "-model", str(tmp_path / "x.gguf"), "-prompt", "def f(", "-tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    prompt = [source.vocabulary().eot_id, *source.vocabulary().encode("def f(")]
    want = list(prompt)
    model = FloatReference(source.spec, source.read)
    for _ in range(8):
        want.append(int(model.logits(want)[-1].argmax()))
    assert json.loads(done.stdout.splitlines()[0].replace(" ", ",")) == want[len(prompt) :]
    drawn = [
        subprocess.run(
            [*command, "-temperature", "1", "-seed", seed], capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "1", "2")
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    refused = subprocess.run([str(program), "-model", __file__], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)


def greedy_cases(source: ExportSource) -> list[tuple[list[int], list[int]]]:
    """Prompts and the greedy tokens of PyTorch after them."""
    model, cases = FloatReference(source.spec, source.read), []
    for prompt in parity.prompt_ids(source.vocabulary(), source.spec.context):
        made: list[int] = []
        for _ in range(16):
            made.append(int(model.logits([*prompt, *made])[-1].argmax()))
        cases.append((prompt, made))
    return cases


def go(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(runtimes.interop_home() / "bin" / "go"), *arguments, "./..."]
    local = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    environment = {**os.environ, **local, **more}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "interop" / "go", env=environment
    )


def test_go_test(llama_run: Path, tmp_path: Path) -> None:
    source = open_source(llama_run)
    write_gguf(source, tmp_path / "x.gguf", find_quant("f32"))
    lines = [*parity_corpus.library_lines()[:10_000], *parity_corpus.ODD, *parity_corpus.random_texts()]
    prompts, greedy = zip(*greedy_cases(source), strict=True)
    cases = {"model": str(tmp_path / "x.gguf"), "texts": lines, "prompts": prompts, "greedy": greedy}
    cases["ids"] = source.vocabulary().encode_batch(lines)
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    done = go("vet")
    assert done.returncode == 0, done.stdout + done.stderr
    done = go("test", "-v", S7_CASES=str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- PASS: TestAgainstPyTorch" in done.stdout
    cases["ids"][5000] = [*cases["ids"][5000], 1]
    path.write_text(json.dumps(cases))
    done = go("test", "-run", "TestAgainstPyTorch", S7_CASES=str(path))
    assert done.returncode != 0, "the canary"
    assert "want" in done.stdout


def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    # 96 MB of weights in tensors of 2 MB: writing and reading back may not hold the model.
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from sevenfold.export import run, source, store
from sevenfold.export.gguf import gguf_file, quants
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors
spec = ModelSpec(d_model=512, n_layers=8, n_heads=8, n_kv_heads=8, head_dim=64, d_ffn=1024,
                 vocab_size=400, context=64)
shapes = tensors(spec)
store.write_tensors(Path(sys.argv[1]), shapes, lambda n: np.ones(shapes[n], np.float32), "F32", {})
file = store.open_tensors(Path(sys.argv[1]))
model = source.ExportSource(path=Path("x"), spec=spec, tokenizer=Path(sys.argv[2]).read_bytes(),
                            provenance={}, read=file.read)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gguf_file.write_gguf(model, Path(sys.argv[1] + ".gguf"), quants.find_quant("f16"))
read = gguf_file.stored_reader(Path(sys.argv[1] + ".gguf"), spec)
assert all(np.isfinite(read(name)).all() for name in shapes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    from sevenfold.export.gguf.vocabulary import build
    from sevenfold.tokenizer.codec import byte_letters

    tokens = ["<|endoftext|>", *byte_letters(), *(f"a{letter}" for letter in byte_letters()[:143])]
    merges = [f"a {letter}" for letter in byte_letters()[:143]]
    (tmp_path / "t.json").write_bytes(build(tokens, [3] + [1] * 399, merges, "llama3"))
    command = [sys.executable, "-c", code, str(tmp_path / "w"), str(tmp_path / "t.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000, "kilobytes"


def test_the_table_is_made_of_the_results() -> None:
    sys.path.insert(0, str(ROOT / "interop"))
    import parity_table

    text = parity_table.PAGE.read_text()
    assert parity_table.page(text, json.loads(parity_table.RESULTS.read_text())) == text
    assert parity.LOGIT_TOLERANCE == 1e-4
