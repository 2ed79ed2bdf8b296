"""Run one export: write to a temporary name, compare with the runtimes, and only then rename."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sevenfold.artifact.bundle import write_bundle
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Progress
from sevenfold.core.run_files import ARTIFACT, TOKENS, WEIGHTS
from sevenfold.export import servers
from sevenfold.export.gguf import gguf_file, vocabulary
from sevenfold.export.gguf.quants import find_quant
from sevenfold.export.hf import hf_directory
from sevenfold.export.names import foreign_names
from sevenfold.export.proof import parity_corpus, runtimes
from sevenfold.export.source import ExportSource, open_source
from sevenfold.export.staged_output import beside
from sevenfold.export.store import Floats, narrow, open_tensors, widen
from sevenfold.recipe.sizing import count, tensors
from sevenfold.tokenizer.token_file import open_tokens

if TYPE_CHECKING:
    from sevenfold.export.proof.parity import FloatReference, ParityCheck

TARGETS = ("gguf", "hf", "safetensors", "bundle", "vllm-config")
# The only type of a bundle.
SEALED = "int8"
WINDOW, N_WINDOWS, N_CALIBRATION = 256, 12, 8
# The largest context of a runtime. No question is longer, and keys and values take memory.
CONTEXT = 1024
# Above this number of parameters there are fewer windows, and the Go program, which takes half a
# second for each token, gets fewer questions.
LARGE = 50_000_000
# Two best tokens closer than this are a tie. The first margin is for FP32, the second for types in
# which llama.cpp multiplies FP16 or BF16, because it rounds activations to the type of the weights.
MARGIN, HALF_MARGIN, HALF_TOLERANCE = 1e-3, 0.1, 0.25


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request for an export. Unless `proven` is set, the file is only written and read back."""

    target: str
    quant: str = "f32"
    ids_only: bool = False
    proven: bool = True


def export(path: Path, out: Path, request: Request, progress: Progress) -> dict[str, Json]:
    """Write `out` from the model at `path`, and return the report with every check.

    Raises:
        UsageError: the target or type is unknown, or the target cannot express the model.
        StorageError: there is nothing to export, the tokenizer is missing, or the disk is full.
        ParityError: a runtime answers differently. Nothing is left at `out`.
    """
    if request.target not in TARGETS:
        raise UsageError(
            f"no target {request.target!r}", where="--to", remedy=f"targets are {', '.join(TARGETS)}"
        )
    if request.target == "bundle":
        return _bundle(path, out, request.quant)
    if request.target != "gguf" and request.quant not in hf_directory.DTYPES:
        raise UsageError(
            f"{request.target} has no type {request.quant!r}",
            where="--quant",
            remedy=f"its types are {', '.join(hf_directory.DTYPES)}; --to gguf has more",
        )
    source = open_source(path)
    progress.note(f"export {source.name} as {request.target} {request.quant}")
    with beside(out) as work:
        if request.target == "gguf":
            n_fallback, checks = _gguf(source, work, request, progress)
        else:
            n_fallback, checks = 0, _stored(source, work, request, progress)
        report: dict[str, Json] = {
            "model": source.name,
            "root": source.provenance.get("root"),
            "target": request.target,
            "quant": request.quant,
            "n_bytes": sum(f.stat().st_size for f in ([work] if work.is_file() else work.iterdir())),
            "n_fallback": n_fallback,
            "checks": [check.as_json() for check in checks],
        }
        failed = next((check for check in checks if check.status == "fail"), None)
        if failed:
            from sevenfold.export.proof.parity import ParityError

            raise ParityError(
                f"the export answers differently in {failed.runtime}, {failed.name}: {failed.detail}",
                where=str(out),
                remedy="nothing was written; please report it",
            )
    return report


def _bundle(path: Path, out: Path, quant: str) -> dict[str, Json]:
    if quant != SEALED:
        raise UsageError(
            f"a bundle holds the sealed integers, not {quant}", where="--quant", remedy="leave --quant out"
        )
    sealed = path / ARTIFACT if path.is_dir() else path
    if path.is_dir() and not sealed.is_file():
        raise StorageError(
            "this run is not sealed", where=str(path), remedy="run `s7 make` on it until it ends"
        )
    write_bundle(sealed, out)
    return {"model": sealed.stem, "target": "bundle", "quant": quant, "checks": []}


def _windows(source: ExportSource, split: str, n: int) -> NDArray[np.int64]:
    """Return windows of text, [n, length + 1], from the held-out or training tokens of the run, or
    else from the interpreter's library.
    """
    length = min(WINDOW, source.spec.context - 1)
    path = source.path / "tokenizer" / TOKENS[split]
    if path.is_file():
        tokens: NDArray[np.integer] = open_tokens(path, verify=False).tokens
    else:
        text = parity_corpus.library_text(2_000_000)
        half = text[: len(text) // 2] if split == "train" else text[len(text) // 2 :]
        tokens = np.array(source.vocabulary().encode(half[: n * length * 12]))
    starts = np.linspace(0, max(0, len(tokens) - length - 1), n).astype(int)
    return np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64)


def _gguf(
    source: ExportSource, work: Path, request: Request, progress: Progress
) -> tuple[int, list[ParityCheck]]:
    gguf_file.check_text(source, ids_only=request.ids_only)
    quant = find_quant(request.quant)
    with ExitStack() as stack:
        llama = stack.enter_context(runtimes.llama_cpp())
        model: FloatReference | None = None
        importance = None
        if request.proven or quant.maker == "llama.cpp":
            from sevenfold.export.proof.parity import FloatReference

            model = FloatReference(source.spec, source.read)
        if quant.maker == "llama.cpp" and model:
            importance = model.importance(_windows(source, "train", N_CALIBRATION)[:, :-1])
        plan = gguf_file.write_gguf(source, work, quant, llama.quantize if llama else None, importance)
        checks = [_read_back(source, gguf_file.stored_reader(work, source.spec), _exact_type(request), "F32")]
        if model and request.proven:
            from sevenfold.export.proof.parity import FloatReference

            stored = FloatReference(source.spec, gguf_file.stored_reader(work, source.spec))
            go = stack.enter_context(runtimes.go_runtime())
            checks += _ask(source, work, request, (model, stored), llama, go, progress)
    return plan.n_fallback, checks


def _exact_type(request: Request) -> str | None:
    return hf_directory.DTYPES[request.quant][0] if request.quant in hf_directory.DTYPES else None


def _read_back(
    source: ExportSource, read: Callable[[str], Floats], dtype: str | None, gains: str
) -> ParityCheck:
    """Compare every tensor of the written file with the model. F32, F16 and BF16 must be equal to
    the bit; other types are measured.
    """
    from sevenfold.export.proof.parity import ParityCheck

    worst = 0.0
    for name in tensors(source.spec):
        want, got = source.read(name), read(name)
        stored = gains if want.ndim == 1 else dtype
        if stored:
            want = widen(narrow(want, stored, name), stored)
        if not np.isfinite(got).all() or (stored and not np.array_equal(want, got)):
            return ParityCheck(
                runtime="re-read", name="weights", status="fail", detail=f"{name} is not what was written"
            )
        worst = max(worst, float(np.abs(want - got).max() / (np.abs(want).max() or 1)))
    detail = (
        "every tensor is equal to the bit"
        if dtype
        else f"largest difference {100 * worst:.2g} % of a tensor's largest"
    )
    return ParityCheck(
        runtime="re-read", name="weights", status="pass" if dtype else "measured", detail=detail
    )


@dataclass(frozen=True, kw_only=True)
class _Questions:
    """The questions for one runtime: prompts and windows of ids, and the number of greedy tokens
    after each prompt.
    """

    prompts: list[list[int]]
    rows: NDArray[np.int64]
    # 0 means the usual number.
    steps: int = 0


def _questions(source: ExportSource, name: str) -> _Questions:
    """Return the questions. A runtime that would take hours gets fewer."""
    from sevenfold.export.proof import parity

    n_parameters, prompts = count(source.spec), parity.prompt_ids(source.vocabulary(), source.spec.context)
    rows = _windows(source, "heldout", N_WINDOWS)
    # The reference also reads the whole file for every answer.
    if n_parameters > parity.STREAMED:
        return _Questions(prompts=prompts[:1], rows=rows[:1, : WINDOW // 8 + 1], steps=1)
    if n_parameters > LARGE and name == "go":
        return _Questions(prompts=prompts[:2], rows=rows[:1, : WINDOW // 4 + 1], steps=16)
    if n_parameters > LARGE:
        return _Questions(prompts=prompts, rows=rows[:: N_WINDOWS // 3])
    return _Questions(prompts=prompts, rows=rows)


def _unread(name: str, request: Request, n_parameters: int) -> str:
    """Return why a runtime is skipped; "" when it is not."""
    from sevenfold.export.proof import parity

    if name == "go" and n_parameters > parity.STREAMED:
        return f"not asked past {parity.STREAMED:,} parameters: it holds every weight in FP32"
    readable = (
        request.quant != "i2_s"
        if name == "llama.cpp"
        else request.quant in (*hf_directory.DTYPES, "q8_0", "i2_s")
    )
    return "" if readable else f"{name} does not read type {request.quant}"


def _ask(
    source: ExportSource,
    path: Path,
    request: Request,
    references: tuple[FloatReference, FloatReference],
    llama: runtimes.Process | None,
    go: runtimes.Process | None,
    progress: Progress,
) -> list[ParityCheck]:
    """Compare the answers of the runtimes for a GGUF file."""
    from sevenfold.export.proof import parity

    model, stored = references
    tokenizer, is_float, lines = (
        source.vocabulary(),
        request.quant in hf_directory.DTYPES,
        parity_corpus.library_lines(),
    )
    exact_text = vocabulary.pieces_of(source.tokenizer) == "llama3" and not vocabulary.stray_tokens(
        source.tokenizer
    )
    checks: list[ParityCheck] = []
    for name, runtime in (("llama.cpp", llama), ("go", go)):
        progress.note(f"parity: {name}")
        if runtime is None:
            checks.append(parity.skipped(name))
            continue
        if reason := _unread(name, request, count(source.spec)):
            checks.append(parity.ParityCheck(runtime=name, name="all", status="skipped", detail=reason))
            continue
        asked = _questions(source, name)
        runtime.open(path, min(source.spec.context, CONTEXT))
        checks.append(parity.compare_ids(runtime, tokenizer, lines, exact=exact_text or name == "go"))
        # Our program multiplies the stored floats. llama.cpp rounds activations for every type
        # except F32.
        full = name == "go" or request.quant == "f32"
        if full or is_float:
            tolerance = parity.LOGIT_TOLERANCE * 10 if full else HALF_TOLERANCE
            margin = MARGIN if full else HALF_MARGIN
            checks.append(parity.compare_logits("logits", runtime, stored, asked.prompts, tolerance))
            checks.append(parity.compare_greedy(runtime, stored, asked.prompts, margin, asked.steps))
        limit = parity.PERPLEXITY_TOLERANCE if request.quant in ("f32", "f16") else None
        checks.append(parity.compare_perplexity(runtime, model, asked.rows, limit))
    return checks


def _stored(source: ExportSource, work: Path, request: Request, progress: Progress) -> list[ParityCheck]:
    """Write safetensors or a Hugging Face directory, and compare it by its reader."""
    dtype = hf_directory.DTYPES[request.quant][0]
    if request.target == "safetensors":
        hf_directory.write_safetensors(source, work, request.quant)
        return [_read_back(source, open_tensors(work).read, dtype, dtype)]
    work.mkdir(parents=True)
    hf_directory.write_hf(source, work, request.quant)
    if request.target == "vllm-config":
        servers.write_configs(source, work, request.quant)
    names = foreign_names(source.spec, "hf")
    file = open_tensors(work / WEIGHTS)

    def read(name: str) -> Floats:
        return file.read(names[name])

    checks = [_read_back(source, read, dtype, dtype)]
    if request.proven:
        from sevenfold.export.proof import parity
        from sevenfold.export.proof.transformers_runtime import Transformers

        progress.note("parity: transformers")
        runtime = Transformers.load(work)
        if runtime is None:
            return [
                *checks,
                parity.ParityCheck(
                    runtime="transformers", name="all", status="skipped", detail="not installed"
                ),
            ]
        tokenizer = source.vocabulary()
        asked = _questions(source, "transformers")
        model, stored = (
            parity.FloatReference(source.spec, source.read),
            parity.FloatReference(source.spec, read),
        )
        checks.append(parity.compare_ids(runtime, tokenizer, parity_corpus.library_lines()))
        checks.append(parity.compare_logits("logits", runtime, stored, asked.prompts, parity.LOGIT_TOLERANCE))
        checks.append(parity.compare_greedy(runtime, stored, asked.prompts, MARGIN, asked.steps))
        limit = parity.PERPLEXITY_TOLERANCE if request.quant in ("f32", "f16") else None
        checks.append(parity.compare_perplexity(runtime, model, asked.rows, limit))
    return checks
