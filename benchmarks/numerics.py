"""What each choice of the integer law costs on our models, and whether it holds past them: the
study behind specs/arithmetic.md.

    python benchmarks/numerics.py choices RUN [--windows 16]
    python benchmarks/numerics.py massive RUN [--windows 16]
    python benchmarks/numerics.py shapes --work DIR
    python benchmarks/numerics.py heads

`choices` changes one choice at a time on a finished run (`s7 make`). `massive` makes activations a
thousand times too large on single tokens. `shapes` trains grouped heads, routed experts and a
context of 2,048 briefly. `heads` takes the weights and values of one head with contexts up to 2^20.

Figures go to benchmarks/results/numerics.json, one entry a row; a row that is there is not
measured again (--again does). `change` is bits per byte against FP32 on the same held-out windows,
+- its paired standard error over windows; `agree` is the share of tokens where both choose the
same next token. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from sevenfold import pipeline
from sevenfold.core.manifest import read_manifest
from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import Ints, Scale, as_ints, bit_length, mulsh
from sevenfold.core.run_files import WEIGHTS
from sevenfold.engine import ops, reference
from sevenfold.engine.weights import load_weights
from sevenfold.model.transformer import Transformer
from sevenfold.quantize import convert
from sevenfold.quantize.stage import largest_residual
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import ModelSpec, Recipe
from sevenfold.runs.job import Job
from sevenfold.train.data.dataset import held_out, load_tokenizer, read_router, token_lengths

State = dict[str, torch.Tensor]
Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results" / "numerics.json"


# A variant of the law is a few functions or constants put in place of its own.


def power_of_two(v: Ints) -> tuple[Ints, Scale]:
    """QUANT with a scale rounded up to a power of two."""
    zeros = 32 - bit_length(np.maximum(np.max(np.abs(v), axis=-1), 1))
    codes = mulsh(v << (zeros - 1)[..., None], 32512, 39)
    return codes, Scale(np.full_like(zeros, 32768), zeros - 17)


def exact_division(v: Ints) -> tuple[Ints, Scale]:
    """QUANT with the exact quotient, rounded half up."""
    peak = np.maximum(np.max(np.abs(v), axis=-1), 1)
    zeros = 32 - bit_length(peak)
    return (254 * v + peak[..., None]) // (2 * peak[..., None]), Scale((peak << zeros) >> 16, zeros - 16)


def no_newton(v: Ints) -> Scale:
    """RSQRT from the table alone."""
    half = (bit_length(v) - 31) >> 1
    big = (v << np.maximum(-2 * half, 0)) >> np.maximum(2 * half, 0)
    return Scale(as_ints(fixed.rsqrt_table())[(big >> 24) - 64], 31 + half)


def round_down(v: Ints, s: Ints | int) -> Ints:
    """RSHIFT without the half."""
    return np.where(as_ints(s) > 62, 0, v >> np.minimum(as_ints(s), 62))


def coarse_scores(*arguments: Any) -> Ints:
    """Scores with 10 fraction bits instead of 16."""
    return fixed.rshift(_scores(*arguments), 6) << 6


def one_scale(weight: Any) -> tuple[Any, Any]:
    """Codes with one scale for the whole tensor."""
    scale = float(np.max(np.abs(weight))) / 127
    codes = np.floor(weight / scale + 0.5).astype(np.int8)
    return codes, np.full(len(weight), scale)


_scores = ops.attention_scores
Patch = tuple[Any, str, Any]
CHOICES: dict[str, tuple[Patch, ...]] = {
    "the law": (),
    "QUANT by exact division": ((ops, "quantize", exact_division), (reference, "quantize", exact_division)),
    "QUANT to powers of two": ((ops, "quantize", power_of_two), (reference, "quantize", power_of_two)),
    "rounding down": ((fixed, "rshift", round_down), (ops, "rshift", round_down)),
    "one scale per weight tensor": ((convert, "quantize_rows", one_scale),),
    "residual of 12 bits": ((convert, "residual_exponent", lambda _: 12),),
    "residual of 8 bits": ((convert, "residual_exponent", lambda _: 8),),
    "RSQRT without Newton": ((ops, "rsqrt", no_newton),),
    "scores of 10 bits": ((ops, "attention_scores", coarse_scores),),
    "sum of P in 23 bits": ((ops, "P_SUM_BITS", 23),),
    "sum of P in 16 bits": ((ops, "P_SUM_BITS", 16),),
}


@contextmanager
def patched(patches: tuple[Patch, ...]) -> Iterator[None]:
    """Within this block the law is another."""
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


# Measuring: FP32 and integers on the same windows.


def open_run(path: Path) -> Job:
    """A finished run as a job, with the recipe that its artifact's seal holds resolved."""
    manifest = read_manifest(path / "train")
    if manifest is None:
        raise SystemExit(f"{path}: no finished training here; run `s7 make` first")
    return Job(recipe=load_recipe(resolve_recipe_path(f"s7/{manifest.recipe_name}")), out=path)


def losses(logits: Any, target: Any) -> float:
    """Nats of one window."""
    peak = logits.max(axis=1)
    log_sum = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return float((log_sum - logits[np.arange(len(target)), target]).sum())


def measure(spec: ModelSpec, state: State, job: Job, n_windows: int, patches: tuple[Patch, ...] = ()) -> Row:
    """One row: the float model and its integers on held-out windows."""
    router = read_router(job)
    model = Transformer(spec)
    model.load_state_dict(state)
    model.expert_of_token = router
    model.eval()
    rows = held_out(job, n_windows)[0].rows
    n_bytes = int(token_lengths(load_tokenizer(job))[rows[:, 1:]].sum())
    largest = largest_residual(model, job)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    nats: list[tuple[float, float]] = []
    same = 0
    with patched(patches), torch.no_grad():
        records, graph = convert.convert(arrays, spec, largest, None if router is None else router.tolist())
        integers = load_weights({r.name: r for r in records}, graph, "numerics")
        for row in rows:
            exact = model(torch.from_numpy(row[None, :-1]))[0].double().numpy()
            held = reference.Cache(integers.shape)
            logits = reference.forward(integers, row[:-1], held) * 2.0**-ops.LOGIT_FRACTION
            nats.append((losses(exact, row[1:]), losses(logits, row[1:])))
            same += int((exact.argmax(axis=1) == logits.argmax(axis=1)).sum())
    per_byte = np.array(nats) / math.log(2) / n_bytes
    change = per_byte[:, 1] - per_byte[:, 0]
    return {
        "fp32": per_byte[:, 0].sum(),
        "change": change.sum(),
        "se": float(change.std(ddof=1) * math.sqrt(len(change))),
        "agree": same / rows[:, 1:].size,
        "tokens": rows[:, 1:].size,
        "largest": largest,
        "residual_exponent": graph["residual_exponent"],
    }


# Activations that are huge on single tokens, as large models have them; no rescaling
# of channels removes these.

CHANNELS, MASSIVE = (5, 77), (0, 30, 300, 3000)


def with_massive_tokens(state: State, ids: list[int], size: float) -> State:
    """The same model with `size` added to two channels of these tokens' embeddings.

    Norm gains of these channels are divided alike, as training does it, so that the
    model still works; the head keeps the old embedding. FP32 of the result is what
    its integers are compared with.
    """
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["lm_head.weight"] = state["embedding.weight"].clone()
    if size:
        for channel in CHANNELS:
            changed["embedding.weight"][ids, channel] += size
            for name in changed:
                if name.endswith("norm.weight"):
                    changed[name][channel] /= size
    return changed


# Shapes that the study before did not have, trained for long enough that
# they have learnt something.

SHAPES: dict[str, dict[str, Any]] = {
    "4 heads of 32 on 1": {"model": {"n_heads": 4, "n_kv_heads": 1, "head_dim": 32}},
    "2 routed experts": {
        "model": {
            "moe": {"kind": "token_routed", "experts": ["code", "general"], "code_markers": ["{", "def", ";"]}
        }
    },
    "context 2048": {"model": {"context": 2048}, "train": {"sequence": 2048, "batch_sequences": 2}},
}


def short_recipe(changes: dict[str, Any], tokens: int) -> Recipe:
    """demo-1m with some keys changed, trained on fewer tokens, without a gate of its own."""
    value = load_recipe(resolve_recipe_path("s7/demo-1m")).resolved()
    for section, keys in changes.items():
        value[section] |= keys
    value["train"]["tokens"] = tokens
    value["quantize"] |= {"max_bpb_increase": 0.02, "min_top1_agreement": 0.0, "eval_windows": 20}
    return Recipe.model_validate_json(json.dumps(value))


# One head by itself: weights from random scores, values of 8 bits, the law against exact
# arithmetic on the same codes.


def head_error(sigma: float, n_keys: int, outlier_bits: int, bits: int | None, seed: int) -> float:
    """Relative L2 error of a head's output.

    `outlier_bits`: how much larger one value's scale is than all others.
    """
    rng = np.random.default_rng(seed)
    nats = rng.normal(0.0, sigma, n_keys)
    scores = np.floor(nats / math.log(2) * 65536 + 0.5).astype(np.int64)[None]
    v = rng.integers(-127, 128, (n_keys, 64))
    e = np.full(n_keys, 20)
    e[n_keys // 2] -= outlier_bits
    scale = Scale(rng.integers(32768, 65536, n_keys), e)
    dummy, one = np.zeros((1, 2), np.int64), Scale(np.array([32768]), np.array([0]))
    keep: tuple[Patch, ...] = ((ops, "P_SUM_BITS", bits),) if bits else ()
    with patched((*keep, (ops, "attention_scores", lambda *_: scores))):
        o, low = ops.attention_head(dummy, one, dummy[:1].repeat(n_keys, 0), scale, v, scale, n_keys - 1)
    p = np.exp2((scores[0] - scores.max()) / 65536)
    exact = (p * scale.m * np.exp2(-scale.e.astype(float))) @ v / p.sum()
    got = o[0] * 2.0 ** -float(low[0])
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


HEADS = [(sigma, n) for sigma in (0.5, 2.0) for n in (512, 16384, 131072, 2**20)]


def head_row(sigma: float, n_keys: int, outlier_bits: int, bits: int | None) -> Row:
    errors = [head_error(sigma, n_keys, outlier_bits, bits, seed) for seed in range(4)]
    return {"error": float(np.sqrt(np.mean(np.square(errors))))}


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Key and measurement of every row of a part."""
    n = arguments.windows
    if arguments.part == "heads":
        for sigma, n_keys in HEADS:
            for outlier, bits in ((0, None), (0, 20), (6, None), (12, None)):
                key = (
                    f"sigma {sigma}, {n_keys} keys, one V scale x 2^{outlier}, sum of {bits or 'the law'}"
                    " bits"
                )
                yield key, lambda s=sigma, k=n_keys, o=outlier, b=bits: head_row(s, k, o, b)
    elif arguments.part == "shapes":
        for name, changes in SHAPES.items():
            yield name, lambda name=name, changes=changes: train_and_measure(name, changes, arguments)
    else:
        job = open_run(arguments.run)
        spec, state = job.recipe.model, load_file(arguments.run / "train" / WEIGHTS)
        if arguments.part == "choices":
            for name, patches in CHOICES.items():
                yield f"{job.recipe.name}, {name}", lambda p=patches: measure(spec, state, job, n, p)
        else:
            ids = [load_tokenizer(job).eot_id, *load_tokenizer(job).encode("\n")]
            untied = spec.model_copy(update={"tied": False})
            for size in MASSIVE:
                yield (
                    f"{job.recipe.name}, {size} on ids {ids}",
                    lambda size=size: measure(untied, with_massive_tokens(state, ids, size), job, n),
                )


def train_and_measure(name: str, changes: dict[str, Any], arguments: argparse.Namespace) -> Row:
    recipe = short_recipe(changes, arguments.tokens)
    job = Job(recipe=recipe, out=arguments.work / name.replace(" ", "-"))
    pipeline.make(job, until="train")
    return measure(recipe.model, load_file(job.out / "train" / WEIGHTS), job, arguments.windows)


def main() -> None:
    """Measure what is missing, print the part's table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["choices", "massive", "shapes", "heads"])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=600_000, help="training tokens of a shape")
    parser.add_argument("--work", type=Path, default=Path("out/numerics"))
    parser.add_argument("--again", action="store_true", help="measure rows that are there")
    arguments = parser.parse_args()
    # The engine under study is NumPy; waiting threads would only be in its way.
    torch.set_num_threads(1)
    if arguments.part in ("choices", "massive") and arguments.run is None:
        parser.error("name a run directory")
    done = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    part = done.setdefault(arguments.part, {})
    for key, run in cases(arguments):
        if key not in part or arguments.again:
            part[key] = run()
            RESULTS.write_text(json.dumps(done, indent=2, sort_keys=True) + "\n")
        shown = {
            name: f"{value:.5f}" if isinstance(value, float) else value for name, value in part[key].items()
        }
        print(f"{key:60s} " + "  ".join(f"{name} {value}" for name, value in shown.items()), flush=True)


if __name__ == "__main__":
    main()
