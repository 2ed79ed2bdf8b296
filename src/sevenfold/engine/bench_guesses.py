"""Measure what guesses cost and save on this machine (`s7 bench --speculate`).

The texts are beginnings of modules of the interpreter's library. Each is decoded greedily twice: in
blocks of the engine, and with guesses wherever possible, which shows how many are right at each
place. The tokens must be the same, or the measurement fails. A server guesses only when the
measured costs say that it saves time, so its gain is at least 1 up to noise.
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.fixed import as_ints
from sevenfold.engine.native import NativeEngine
from sevenfold.engine.reference import argmax
from sevenfold.engine.sampling import GREEDY
from sevenfold.engine.session import Model
from sevenfold.engine.speculation import MOST, Costs, DraftSession, GuessCounts, History, Lengths

MODULES = ("textwrap", "heapq", "bisect", "string", "fnmatch", "copy")
# The shares of the context for prompt and answer.
PROMPT_SHARE, MOST_PROMPT, MOST_STEPS = 0.5, 400, 256
BLOCK = 32


def engine_of(model: Model) -> NativeEngine:
    """Return the native engine of a model. Raises UsageError when it runs on another engine."""
    if not isinstance(model.engine, NativeEngine):
        raise UsageError("guesses are measured on the native engine", remedy="build it with scripts/setup.sh")
    return model.engine


def prompts(model: Model) -> list[list[int]]:
    """Return the ids of the beginnings of the modules that fit the context."""
    library = Path(sysconfig.get_paths()["stdlib"])
    n = max(1, min(MOST_PROMPT, int(model.context * PROMPT_SHARE)))
    texts = ((library / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)
    return [model.tokenizer.begun(model.tokenizer.encode(text[: 8 * n]))[:n] for text in texts]


def _plain(engine: NativeEngine, ids: Sequence[int], steps: int) -> tuple[list[int], float]:
    session, tokens = engine.session(), list[int]()
    pending = list(ids)
    began = 0.0
    while len(tokens) < steps:
        tokens += session.greedy(np.array(pending), min(BLOCK, steps - len(tokens)) if tokens else 1)
        pending = tokens[-1:]
        # Neither figure includes the time of the prompt.
        began = began or time.perf_counter()
    session.close()
    return tokens, time.perf_counter() - began


def _guessed(
    engine: NativeEngine, ids: Sequence[int], steps: int, draft: NativeEngine | None, counts: GuessCounts
) -> tuple[list[int], float]:
    session, history = engine.session(), History((), ids, steps)
    drafter = DraftSession(draft) if draft is not None else None
    tokens = [argmax(as_ints(session.forward(np.array(ids), last_only=True)[0]))]
    history.extend(tokens)
    began = time.perf_counter()
    while len(tokens) < steps:
        n = min(MOST, steps - len(tokens) - 1)
        found = history.propose(n) if n else []
        if not found and drafter is not None and n:
            found = drafter.propose([*ids, *tokens], n, GREEDY, 0)
        rows = session.forward(np.array([tokens[-1], *found]))
        new = [argmax(as_ints(row)) for row in rows]
        n_held = next((i for i, guess in enumerate(found) if new[i] != guess), len(found))
        if found:
            counts.add(len(found), n_held)
        session.truncate(len(ids) + len(tokens) + n_held)
        tokens += new[: n_held + 1]
        history.extend(new[: n_held + 1])
    seconds = time.perf_counter() - began
    for each in (session, drafter):
        if each is not None:
            each.close()
    return tokens, seconds


def measure_guesses(model: Model, draft: Model | None = None) -> dict[str, Json]:
    """Return the costs of passes, the share of right guesses by place, and tokens per second.

    Raises:
        UsageError: there is no native engine, or the draft model has another vocabulary.
        SevenfoldError: a guess changed a token, which is a fault of the engine.
    """
    engine = engine_of(model)
    if draft is not None and draft.artifact.dictionary != model.artifact.dictionary:
        raise UsageError(
            "the draft model has another vocabulary", where="--draft", remedy="use one of the same tokenizer"
        )
    costs, counts = Costs.measure(engine), GuessCounts()
    seconds = {"plain": 0.0, "guessed": 0.0}
    n_tokens = 0
    for ids in prompts(model):
        steps = min(MOST_STEPS, model.context - len(ids))
        plain, took = _plain(engine, ids, steps)
        seconds["plain"] += took
        guessed, took = _guessed(engine, ids, steps, engine_of(draft) if draft else None, counts)
        seconds["guessed"] += took
        if plain != guessed:
            raise SevenfoldError("guesses changed the tokens", remedy="please report it")
        n_tokens += steps - 1
    lengths = Lengths(costs)
    return {
        "texts": list(MODULES),
        "tokens": n_tokens,
        "step_microseconds": round(costs.step * 1e6, 1),
        "cost_by_guesses": [round(costs.ratio(n), 3) for n in range(1, MOST + 1)],
        "guesses_that_pay": {str(share): lengths.best(share, 1) for share in (0.3, 0.5, 0.7, 0.9, 1.0)},
        "checks": counts.n_checks,
        "guessed_by_place": list(counts.guessed),
        "held_by_place": list(counts.held),
        "tokens_per_second": {name: round(n_tokens / took, 1) for name, took in seconds.items()},
    }
