"""Offer a sealed model as a model class of lm-eval, so that its tasks run on it.

Log-likelihoods are those of specs/likelihood.md, and answers are greedy, so the scores of lm-eval
are the same everywhere. It needs an installation with `sevenfold[eval]` and lm-eval:

    import lm_eval
    from sevenfold.evals.lm import SevenfoldLM

    lm_eval.simple_evaluate(model=SevenfoldLM("model.s7l"), tasks=["hellaswag"])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from sevenfold.core.errors import UsageError
from sevenfold.engine.likelihood import as_float
from sevenfold.engine.sampling import GREEDY
from sevenfold.engine.session import Model
from sevenfold.evals.decoding.decoder import EvaluationDecoder, Likelihood
from sevenfold.evals.grading.graders import cut
from sevenfold.evals.tasks.cards import Item

DEFAULT_TOKENS = 256


@register_model("sevenfold")
class SevenfoldLM(LM):  # type: ignore[misc]  # lm-eval ships no types
    """A sealed model behind lm-eval's interface.

    Args:
        model: path of a sealed file.
        batch_size: the number of sequences in a call; changes no score.
        truncation: the treatment of prompts that do not fit the context: none (refuse) or left.
    """

    def __init__(
        self, model: str | Path, batch_size: int | str = 16, truncation: str = "none", **_: object
    ) -> None:
        super().__init__()
        self.decoder = EvaluationDecoder(
            Model.open(Path(model)), batch=int(batch_size), truncation=truncation
        )

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002  - lm-eval's signature
        """Return (log-likelihood, whether greedy decoding gives it) of each continuation.

        Raises:
            GateError: a prompt is refused, or does not fit.
        """
        asked = [request.args for request in requests]
        items = [
            Item(
                id=f"request {number}",
                prompt=context,
                choices=tuple(continuation for _, continuation in group),
            )
            for number, (context, group) in enumerate(groupby(asked, key=lambda pair: pair[0]))
        ]
        found: list[Likelihood] = [x for _, row in self.decoder.likelihoods(items) for x in row]
        return [(as_float(x.total), x.is_greedy) for x in found]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002  - lm-eval's signature
        """Return the log-likelihood of each text, over windows of the context that do not overlap."""
        tokenizer, context = self.decoder.tokenizer, self.decoder.model.context
        found = []
        for number, request in enumerate(requests):
            (text,) = request.args
            windows = get_rolling_token_windows(
                token_list=tokenizer.encode(text),
                prefix_token=tokenizer.eot_id,
                max_seq_len=context - 1,
                context_len=1,
            )
            pairs = [make_disjoint_window(window) for window in windows]
            rows = [([int(i) for i in before], [int(i) for i in after]) for before, after in pairs]
            found.append(
                as_float(sum(x.total for x in self.decoder.likelihoods_of_ids(rows, text, str(number))))
            )
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002  - lm-eval's signature
        """Return the greedy answer to each prompt, cut at its stop texts.

        Raises:
            UsageError: the task requests sampling.  GateError: a prompt is refused, or does not fit.
        """
        answers = []
        for (stops, most), group in groupby(requests, key=lambda request: _asked(request.args[1])):
            items = [Item(id=f"request {n}", prompt=request.args[0]) for n, request in enumerate(group)]
            for _, (answer,) in self.decoder.generate(items, stops, most, GREEDY):
                answers.append(cut(self.decoder.tokenizer.decode(answer.ids), stops))
        return answers


def _asked(arguments: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the stop texts and the token limit of a request. Raises UsageError for sampling."""
    if arguments.get("do_sample") and float(arguments.get("temperature", 1.0)) > 0:
        raise UsageError(
            "lm-eval requests sampling", remedy="tasks run greedily here; `s7 eval` samples by a law"
        )
    until = arguments.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    return stops, int(arguments.get("max_gen_toks", arguments.get("max_tokens", DEFAULT_TOKENS)))
