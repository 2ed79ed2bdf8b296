"""What a tuned model is compared in with the weights that it began with, before it is taken
(specs/tune.md).

Held-out text: bits per byte. Held-out pairs of answers: how often the chosen one is the more likely
one; and, as a watch without a bound, how long greedy answers are and how many of them refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sevenfold.core.errors import TrainingError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.intervals import paired_increase, wilson
from sevenfold.core.run_files import HELDOUT_TOKENS
from sevenfold.model import loss as head
from sevenfold.model.kernels import operators
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import PreferenceSpec
from sevenfold.runs.job import Job
from sevenfold.runs.tuning import tuning_file
from sevenfold.tokenizer.token_file import TokenFile, open_tokens
from sevenfold.train.data.dataset import held_out, load_tokenizer, token_lengths
from sevenfold.train.data.packing import SampleBatches
from sevenfold.train.evaluation.evaluate import float_score
from sevenfold.train.phases import TrainingPhase
from sevenfold.train.run_builder import build_model
from sevenfold.train.tuning.preferences import measured, pairs_of

# Of greedy answers: how many are drawn, and how long one gets.
N_ANSWERS = 16
MOST_TOKENS = 48
# How an answer that refuses begins, in lower case.
REFUSALS = ("i cannot", "i can't", "i can not", "i am unable", "i'm unable", "i won't", "sorry", "i'm sorry")


def tuning_gate(
    job: Job, phase: TrainingPhase, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, Json]:
    """Return the figures of the weights `before` and `after` a phase of a tuning.

    Raises:
        TrainingError: held-out text costs more than the recipe allows, or held-out pairs are won less
            often than it asks.
    """
    tune = phase.tune
    if tune is None:
        return {}
    parent, tuned = _model(job, before), _model(job, after)
    job.progress.start(f"compare with the parent{phase.path}", None, "windows")
    was, now = (_bits_per_byte(job, model) for model in (parent, tuned))
    key = f"tune.{phase.name}" if phase.name else "tune"
    if not now <= was * (1 + tune.max_bpb_increase):
        raise TrainingError(
            f"held-out text costs {now:.4f} bits per byte, {now / was - 1:.2%} more than with the"
            f" parent; the recipe allows {tune.max_bpb_increase:.2%}",
            where=f"{key}.max_bpb_increase",
            remedy="lower train.learning_rate or train.tokens, or raise tune.pretraining",
        )
    facts: dict[str, Json] = {"heldout_bpb": now, "heldout_bpb_parent": was}
    if phase.preferences is not None:
        facts["heldout_pairs"] = _preferred(job, phase, phase.preferences, parent, tuned, key)
    return facts


def _model(job: Job, weights: Mapping[str, Tensor]) -> Transformer:
    model = build_model(job)
    model.load_state_dict(dict(weights))
    return model.eval()


def _bits_per_byte(job: Job, model: Transformer) -> float:
    lengths, windows = token_lengths(load_tokenizer(job)), held_out(job, job.recipe.train.eval_windows)
    scores = [float_score(model, group.rows, lengths, job.progress, group.stack)[0] for group in windows]
    return sum(scores[1:], scores[0]).bits_per_byte


def _preferred(
    job: Job,
    phase: TrainingPhase,
    spec: PreferenceSpec,
    parent: Transformer,
    tuned: Transformer,
    key: str,
) -> dict[str, Json]:
    """Return the share of held-out pairs of which the chosen answer is the more likely one, with both
    models, and the watch over their greedy answers. Raises TrainingError.
    """
    file = open_tokens(tuning_file(job, HELDOUT_TOKENS, phase.name))
    end = load_tokenizer(job).eot_id
    rows = SampleBatches(file=file, sequence=phase.spec.sequence, batch_sequences=1, end=end, is_paired=True)
    was, now = (_wins(model, rows, spec) for model in (parent, tuned))
    gain, low, high = paired_increase(was, now)
    n_pairs = len(was)
    if gain < spec.min_win_increase:
        raise TrainingError(
            f"the chosen answer is the more likely one of {sum(now):g} of {n_pairs} held-out pairs, with the"
            f" parent of {sum(was):g}: {gain:+.1%} (95 %: {low:+.1%} to {high:+.1%}); the recipe asks for"
            f" {spec.min_win_increase:+.1%}",
            where=f"{key}.preferences.min_win_increase",
            remedy="give the phase more tokens or pairs, or a higher learning rate",
        )
    shares = {name: sum(wins) / n_pairs for name, wins in (("win_rate_parent", was), ("win_rate", now))}
    return {
        "n_pairs": n_pairs,
        **shares,
        **{f"{name}_interval": list(wilson(share, n_pairs)) for name, share in shares.items()},
        "increase": gain,
        "increase_interval": [low, high],
        "watch_parent": _watch(job, parent, file).as_json(),
        "watch": _watch(job, tuned, file).as_json(),
    }


def _wins(model: Transformer, rows: SampleBatches, spec: PreferenceSpec) -> list[float]:
    """Return for each held-out pair 1 when its chosen answer costs less than the rejected one, by the
    token where the recipe normalises, else 0; half for the same.
    """
    found = []
    for step in range(rows.n_rows):
        ids, segments = torch.from_numpy(rows.batch(step)), rows.counted(step)
        with torch.no_grad():
            nats = head.token_nats(*model.states(ids[:, :-1]), ids[:, 1:])
        for pair in measured(pairs_of(segments), torch.from_numpy(segments), nats, nats):
            chosen, rejected = pair.nats[:2]
            if spec.normalised:
                chosen, rejected = chosen / pair.tokens[0], rejected / pair.tokens[1]
            found.append(0.5 if chosen == rejected else float(chosen < rejected))
    return found


@dataclass(frozen=True, kw_only=True)
class AnswerWatch:
    """Greedy answers to held-out prompts: how many, how many ended, their mean tokens, the share that
    refuses.
    """

    n_answers: int
    n_ended: int
    mean_tokens: float
    refusal_rate: float

    def as_json(self) -> dict[str, Json]:
        """Return the figures as a JSON object."""
        return dict(vars(self))


@torch.no_grad()
def _watch(job: Job, model: Transformer, file: TokenFile) -> AnswerWatch:
    """Return the watch over the answers to the first `N_ANSWERS` prompts."""
    tokenizer = load_tokenizer(job)
    end, room = tokenizer.eot_id, job.recipe.model.context
    prompts = []
    for pair in range(min(file.n_documents // 4, N_ANSWERS)):
        prompt = [end, *map(int, file.document(4 * pair))]
        prompts.append(prompt[-(room - MOST_TOKENS) :])
    rows, done = [list(prompt) for prompt in prompts], [False] * len(prompts)
    for _ in range(MOST_TOKENS):
        width = max(map(len, rows))
        # Attention is causal, so what stands behind a row decides nothing in it.
        ids = torch.from_numpy(np.array([row + [end] * (width - len(row)) for row in rows], np.int64))
        places = torch.tensor([len(row) - 1 for row in rows])
        hidden, head_VD = model.states(ids)
        last = hidden[torch.arange(len(rows)), places].contiguous()
        logits = operators.project(last, head_VD) if operators.is_taken(last) else last @ head_VD.t()
        chosen = logits.argmax(-1).tolist()
        for number, token in enumerate(chosen):
            if done[number]:
                continue
            done[number] = token == end
            if token != end:
                rows[number].append(token)
        if all(done):
            break
    answers = [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]
    texts = [tokenizer.decode(answer).strip().lower() for answer in answers]
    return AnswerWatch(
        n_answers=len(answers),
        n_ended=sum(done),
        mean_tokens=sum(map(len, answers)) / len(answers),
        refusal_rate=sum(text.startswith(REFUSALS) for text in texts) / len(texts),
    )
