"""Compare an export with the model by the runtimes that will read it (E6).

A difference fails the export. There are two references in PyTorch: `model` has the trained weights,
`stored` has the floats of the written file. A runtime must agree with `stored`. The cost of a
    storage type is the difference between `stored` and `model`, as perplexity and as KL divergence.

To compare greedy tokens, the runtime generates, and the reference reads prompt and tokens once and
chooses a token at each position. When its two best tokens differ by less than `margin` (nats of
logit), the position is a tie. The rest of that prompt is left out, and the report counts it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json
from sevenfold.export.proof import parity_corpus
from sevenfold.export.proof.runtimes import MISSING, Runtime
from sevenfold.export.store import Floats
from sevenfold.model.linear import product
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import count, tensors
from sevenfold.tokenizer.codec import Tokenizer

STEPS = 64
# Above this number of parameters, the reference holds one layer at a time.
STREAMED = 1_000_000_000
# The absolute tolerance of FP32 against FP32 (E6).
LOGIT_TOLERANCE = 1e-4
# The tolerance as a ratio (E6).
PERPLEXITY_TOLERANCE = 1e-3
TOP = 5
# The characters of a long line. The slow suite uses ten million, which takes llama.cpp half a
# minute.
LONG_LINE = 100_000
PROMPTS = (
    "def add(a, b):\n    ",
    "import os\n",
    "class Node:\n    def __init__(self, value):\n        self.",
    "for i in range(10):\n    print(",
    "if __name__ == '__main__':\n    ",
    "    try:\n        value = int(text)\n    except ",
    "# Return the sum of all elements.\n",
    "fn main() {\n    let x = ",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return ",
    "with open(path) as file:\n    ",
    "    raise ValueError(",
    "assert len(items) == 3, ",
    "lambda x: x * ",
    "from typing import ",
    "    def __repr__(self):\n        return ",
    "while True:\n    line = ",
    "x = [1, 2, 3]\ny = ",
    'print("hello, ',
    "\t\treturn None\n\n",
    "The quick brown fox ",
)


class ParityError(SevenfoldError):
    """An export that answers differently from the model."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class ParityCheck:
    """The result of one comparison with one runtime. status: pass, fail, measured (without a
    limit), or skipped (with the reason).
    """

    runtime: str
    name: str
    status: str
    detail: str
    figures: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """Return the check in the form in which it is printed and stored."""
        return asdict(self)


def skipped(runtime: str) -> ParityCheck:
    """Return the check of a runtime that was skipped."""
    return ParityCheck(runtime=runtime, name="all", status="skipped", detail=MISSING)


class FloatReference:
    """The float model with given weights. Above STREAMED parameters it reads one layer at a time,
    in every call.
    """

    def __init__(self, spec: ModelSpec, read: Callable[[str], Floats]) -> None:
        self.spec, self.read = spec, read
        with torch.device("meta"):
            self.model = Transformer(spec)
        self.model.eval()
        self.streamed = count(spec) > STREAMED
        if not self.streamed:
            self._load("", self.model)
            return
        for name, part in self.model.named_modules():
            if name in ("embedding", "final_norm") or re.fullmatch(r"layers\.\d\d", name):
                part.register_forward_pre_hook(partial(self._before, name))
                part.register_forward_hook(self._after)

    def _before(self, name: str, part: torch.nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
        self._load(f"{name}.", part)

    def _after(self, part: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        part.to("meta")

    def _load(self, prefix: str, part: torch.nn.Module) -> None:
        names = [name for name in tensors(self.spec) if name.startswith(prefix)]
        state = {name.removeprefix(prefix): torch.from_numpy(np.array(self.read(name))) for name in names}
        part.load_state_dict(state, assign=True)

    def logits(self, ids: Sequence[int]) -> Floats:
        """Return the logits after each id, float32 [T, V]."""
        with torch.no_grad():
            hidden = self.model.hidden(torch.tensor([list(ids)]))
            head = self.model.head_weight
            if self.streamed:
                name = "embedding.weight" if self.spec.tied else "lm_head.weight"
                head = torch.from_numpy(np.array(self.read(name)))
            return np.asarray(product(hidden, head)[0].numpy(), np.float32)

    def importance(self, rows: NDArray[np.int64]) -> dict[str, Floats]:
        """Return the mean squared input of each column of each matrix over windows of text, by our
        names; float32 [n_in].
        """
        sums: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
                squares = inputs[0].double().square().flatten(0, -2).mean(0)
                sums[name] = sums.get(name, torch.zeros_like(squares)) + squares

            return hook

        hooks = [
            module.register_forward_hook(keep(f"{name}.weight"))
            for name, module in self.model.named_modules()
            if name.endswith("_proj")
        ]
        for row in rows:
            with torch.no_grad():
                last = self.model.hidden(torch.from_numpy(row[None]))
            squares = last.double().square().flatten(0, -2).mean(0)
            for head in ("embedding.weight", "lm_head.weight"):
                sums[head] = sums.get(head, torch.zeros_like(squares)) + squares
        for hook in hooks:
            hook.remove()
        return {name: (total / len(rows)).float().numpy() for name, total in sums.items()}


def prompt_ids(tokenizer: Tokenizer, context: int) -> list[list[int]]:
    """Return the ids of the prompts as a session reads them, with the token that begins a text, cut
    to half the context.
    """
    return [tokenizer.begun(tokenizer.encode(text))[: max(1, context // 2)] for text in PROMPTS]


def losses(logits: Floats, row: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the nats of each next token. logits [T, V] after row[:-1]."""
    return np.asarray(-log_softmax(logits)[np.arange(len(row) - 1), row[1:]])


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the logarithms of the softmax in float64. [T, V] -> the same."""
    real = logits.astype(np.float64)
    peak = real.max(axis=1, keepdims=True)
    return np.asarray(real - peak - np.log(np.exp(real - peak).sum(axis=1, keepdims=True)))


def compare_logits(
    name: str, runtime: Runtime, stored: FloatReference, prompts: list[list[int]], tolerance: float
) -> ParityCheck:
    """Compare the logits of all prompts: the largest difference, and the largest one among the five
    best tokens of the reference.
    """
    worst = top = 0.0
    for ids in prompts:
        mine, theirs = stored.logits(ids), runtime.logits(ids)
        apart = np.abs(mine - theirs)
        best = np.argpartition(mine, -TOP, axis=1)[:, -TOP:]
        worst, top = max(worst, float(apart.max())), max(top, float(np.take_along_axis(apart, best, 1).max()))
    status = "pass" if worst <= tolerance else "fail"
    detail = f"largest difference {worst:.2g}, in the top {TOP} {top:.2g} (allowed {tolerance:g})"
    return ParityCheck(
        runtime=runtime.name, name=name, status=status, detail=detail, figures={"largest": worst, "top": top}
    )


def compare_greedy(
    runtime: Runtime, stored: FloatReference, prompts: list[list[int]], margin: float, most: int | None = None
) -> ParityCheck:
    """Compare `most` (STEPS) greedy tokens after each prompt, by the rule at the top of this
    module.
    """
    n_same = n_ties = n_tokens = 0
    for ids in prompts:
        steps = min(most or STEPS, stored.spec.context - len(ids))
        made = runtime.greedy(ids, steps)
        read = stored.logits([*ids, *made[:-1]])[len(ids) - 1 :]
        best = np.argsort(read, axis=1)[:, -2:]
        apart = np.nonzero(best[:, 1] != np.array(made))[0]
        if len(apart) == 0 and len(made) == steps:
            n_same, n_tokens = n_same + 1, n_tokens + steps
            continue
        place = int(apart[0]) if len(apart) else len(made)
        gap = float(read[place, best[place, 1]] - read[place, made[place]]) if len(apart) else np.inf
        n_tokens += place
        if gap > margin:
            after = PROMPTS[prompts.index(ids)]
            detail = (
                f"token {place} after {after!r} is {made[place]}, PyTorch has {best[place, 1]} by {gap:.3g}"
            )
            return ParityCheck(runtime=runtime.name, name="greedy", status="fail", detail=detail)
        n_ties += 1
    detail = f"{n_same} of {len(prompts)} prompts the same, {n_tokens} tokens" + (
        f"; {n_ties} end at a tie below {margin:g}" if n_ties else ""
    )
    figures = {"same": float(n_same), "ties": float(n_ties), "tokens": float(n_tokens)}
    return ParityCheck(runtime=runtime.name, name="greedy", status="pass", detail=detail, figures=figures)


def compare_perplexity(
    runtime: Runtime, model: FloatReference, rows: NDArray[np.int64], tolerance: float | None
) -> ParityCheck:
    """Compare the perplexity of the runtime on windows of text with that of the trained model, and
    measure the KL divergence from it.

    A `tolerance` (a ratio) must be met. Without one the figures are only reported.
    """
    theirs, mine, divergence = [], [], []
    for row in rows:
        read, want = runtime.logits([int(i) for i in row[:-1]]), model.logits(row[:-1])
        theirs.append(losses(read, row))
        mine.append(losses(want, row))
        p, q = log_softmax(want), log_softmax(read)
        divergence.append((np.exp(p) * (p - q)).sum(axis=1))
    ours, ppl = float(np.exp(np.mean(mine))), float(np.exp(np.mean(theirs)))
    change, kl = ppl / ours - 1, float(np.mean(divergence))
    detail = f"perplexity {ppl:.4f}, PyTorch FP32 {ours:.4f} ({100 * change:+.4f} %), KL {kl:.3g} nats"
    if not np.isfinite(ppl) or (tolerance is not None and abs(change) > tolerance):
        status = "fail"
    else:
        status = "measured" if tolerance is None else "pass"
    figures = {"perplexity": ppl, "pytorch": ours, "change": change, "kl": kl}
    return ParityCheck(runtime=runtime.name, name="perplexity", status=status, detail=detail, figures=figures)


def compare_ids(
    runtime: Runtime, tokenizer: Tokenizer, lines: list[str], *, exact: bool = True
) -> ParityCheck:
    """Compare the ids of real lines, blocks of lines, unusual texts, random texts and a long line.
    Unless `exact` is set, differences are counted and allowed.
    """
    blocks = ["".join(lines[i : i + 40]) for i in range(0, len(lines), 40)]
    groups = {
        "lines": lines,
        "blocks of 40 lines": blocks,
        "odd texts": list(parity_corpus.ODD),
        "random texts": list(parity_corpus.random_texts()),
        "long line": [parity_corpus.long_line(LONG_LINE)],
    }
    counts = {}
    for name, group in groups.items():
        mine, theirs = tokenizer.encode_batch(group), runtime.tokenize(group)
        counts[name] = sum(a != b for a, b in zip(mine, theirs, strict=True))
    wrong = sum(counts.values())
    detail = ", ".join(f"{counts[name]} of {len(group)} {name}" for name, group in groups.items()) + " differ"
    status = ("pass" if not wrong else "fail") if exact else "measured"
    figures = {name: float(count) for name, count in counts.items()}
    return ParityCheck(runtime=runtime.name, name="ids", status=status, detail=detail, figures=figures)
