"""The test vectors of specs/arithmetic.md, on the reference and on the oracle."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import oracle
import pytest
from oracle import Oracle
from page_vectors import N_STEPS, PROMPT, SIZES, page_model
from tiny_models import Tiny

from sevenfold.engine import reference
from sevenfold.engine.session import greedy_run

PAGE = (Path(__file__).resolve().parents[2] / "specs" / "arithmetic.md").read_text(encoding="utf-8")
ROW = r"^\| (%s) \| ([\d, ]+) \| ([-\d, ]+) \| `([0-9a-f]{64})` \|$"
VECTORS = re.findall(ROW % "[12]", PAGE, re.MULTILINE)
STACK_VECTORS = re.findall(ROW % "2, Y 1", PAGE, re.MULTILINE)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def build(experts: str) -> Tiny:
    """The model of a row: "1", "2" or "2, Y 1"."""
    n_experts, _, stack_layers = experts.partition(", Y ")
    return page_model(int(n_experts), int(stack_layers or 0))


def test_all_vectors_are_on_the_page() -> None:
    rows = VECTORS + STACK_VECTORS
    assert [v[0] for v in rows] == ["1", "2", "2, Y 1"]
    assert len({v[3] for v in rows}) == 3


def test_the_page_states_what_is_built_here() -> None:
    text = " ".join(PAGE.split("## 7.")[1].split())
    sizes = [("D", "d_model"), ("L", "n_layers"), ("H", "n_heads"), ("K", "n_kv_heads"), ("E", "head_dim")]
    sizes += [("F", "d_ffn"), ("V", "vocab_size"), ("C", "context")]
    assert f"Sizes: {', '.join(f'{letter} {SIZES[name]}' for letter, name in sizes)};" in text
    graph = page_model(1).graph
    assert f"`residual_exponent` {graph['residual_exponent']}, `norm_eps` {graph['norm_eps']}" in text
    assert f"`score_scale` ({graph['score_scale']['m']}, {graph['score_scale']['e']})" in text
    assert f"`ids` are {', '.join(map(str, PROMPT))} and `n_steps` is {N_STEPS}" in text


@pytest.mark.parametrize(("experts", "tokens", "logits", "digest"), VECTORS + STACK_VECTORS)
def test_the_reference_gives_them(experts: str, tokens: str, logits: str, digest: str) -> None:
    model = build(experts).load()
    run = greedy_run(model, PROMPT, N_STEPS)
    assert list(run.tokens) == numbers(tokens)
    assert run.logits_sha256 == digest
    first = reference.forward(model, np.array(PROMPT), reference.Cache(model.shape), last_only=True)
    assert first[0].tolist() == numbers(logits)


@pytest.mark.parametrize(("experts", "tokens", "logits", "digest"), VECTORS + STACK_VECTORS)
def test_the_oracle_gives_them(experts: str, tokens: str, logits: str, digest: str) -> None:
    built = build(experts)
    engine, raw = Oracle(built.raw(), built.graph), b""
    row = [engine.step(token) for token in PROMPT][-1]
    assert row == numbers(logits)
    for step, token in enumerate(numbers(tokens)):
        if step:
            row = engine.step(numbers(tokens)[step - 1])
        raw += b"".join(v.to_bytes(4, "big", signed=True) for v in row)
        assert oracle.argmax(row) == token
    assert hashlib.sha256(raw).hexdigest() == digest


def test_both_experts_are_used() -> None:
    model = page_model(2).load()
    assert set(model.router_V[PROMPT].tolist()) == {0, 1}
