"""Rules of the M31R family (Rust only, 60M to 500M): requirements D."""

from __future__ import annotations

from sevenfold.recipe.families.rule import (
    Check,
    FamilyRule,
    around,
    budget,
    check_causal,
    check_dense,
    check_noise,
    check_order,
    check_rope,
    check_tied,
    missing_from,
    number,
    precision_in,
)
from sevenfold.recipe.schema import Family, Recipe, Retrieval, Web
from sevenfold.recipe.sizing import count
from sevenfold.recipe.yamltree import show

M31R: tuple[Family, ...] = ("m31r",)
LARGEST = 500_000_000
BUDGETS = {"60M": around(60e6, 0.05), "200M": around(200e6, 0.05), "450M": around(450e6, 0.05)}
RUST_SYMBOLS = ("::", "->", "=>", "&&", "||", "..", "..=", "==", "!=", "<=", ">=", "&mut", "#[")


def _architecture(forbidden: str) -> Check:
    return lambda recipe: (
        f"model.architecture is {forbidden}" if recipe.model.architecture == forbidden else None
    )


def _heads(recipe: Recipe) -> str | None:
    return None if recipe.model.head_dim == 64 else f"model.head_dim is {recipe.model.head_dim}"


def _context(recipe: Recipe) -> str | None:
    return None if recipe.model.context >= 2048 else f"model.context is {recipe.model.context}"


def _vocabulary(recipe: Recipe) -> str | None:
    size = recipe.model.vocab_size
    return None if 16000 <= size <= 24576 else f"model.vocab_size is {size}"


def _retrieval(recipe: Recipe) -> str | None:
    if recipe.model.retrieval:
        return "model.retrieval is true"
    return "tools has retrieval" if any(isinstance(tool, Retrieval) for tool in recipe.tools) else None


def _reinforcement(recipe: Recipe) -> str | None:
    return "train.rl_alignment is true" if recipe.train.rl_alignment else None


def _pretrained(recipe: Recipe) -> str | None:
    return (
        f"model.pretrained is {show(recipe.model.pretrained)}"
        if recipe.model.pretrained is not None
        else None
    )


def _services(recipe: Recipe) -> str | None:
    if recipe.train.external_services:
        return f"train.external_services has {show(', '.join(recipe.train.external_services))}"
    return "tools has web" if any(isinstance(tool, Web) for tool in recipe.tools) else None


def _size(recipe: Recipe) -> str | None:
    n = count(recipe.model)
    return f"{number(n)} parameters" if n > LARGEST else None


def _objectives(recipe: Recipe) -> str | None:
    weights = recipe.train.objectives
    return None if weights.fim > 0 and weights.cot > 0 else f"fim {weights.fim:g}, cot {weights.cot:g}"


def _symbols(recipe: Recipe) -> str | None:
    lacking = missing_from(recipe.tokenizer.preserve, RUST_SYMBOLS)
    return f"tokenizer.preserve lacks {lacking}" if lacking else None


def _dropout(recipe: Recipe) -> str | None:
    return f"model.dropout is {recipe.model.dropout}" if recipe.model.dropout > 0.1 else None


RULES = (
    FamilyRule("D1.tied", M31R, "embedding and head are tied", "model.tied", check_tied),
    FamilyRule("D1.causal", M31R, "attention is full causal", "model.attention", check_causal),
    FamilyRule("D1.heads", M31R, "heads of 64", "model.head_dim", _heads),
    FamilyRule("D1.context", M31R, "a context of at least 2048 tokens", "model.context", _context),
    FamilyRule("D1.vocabulary", M31R, "a vocabulary of 16k to 24k", "model.vocab_size", _vocabulary),
    FamilyRule("D1.budget", M31R, "tiers 60M, 200M, 450M within 5 %", "model", budget(BUDGETS)),
    FamilyRule(
        "D2.encoder-decoder",
        M31R,
        "no encoder-decoder",
        "model.architecture",
        _architecture("encoder_decoder"),
    ),
    FamilyRule("D2.moe", M31R, "no mixture of experts", "model.moe", check_dense),
    FamilyRule("D2.retrieval", M31R, "no retrieval", "model.retrieval", _retrieval),
    FamilyRule("D2.recurrence", M31R, "no recurrence", "model.architecture", _architecture("recurrent")),
    FamilyRule("D2.learned-positions", M31R, "no learned absolute positions", "model.position", check_rope),
    FamilyRule(
        "D2.rl-alignment",
        M31R,
        "no RL alignment loop",
        "train.rl_alignment",
        _reinforcement,
    ),
    FamilyRule("D2.pretrained", M31R, "no external pretrained weights", "model.pretrained", _pretrained),
    FamilyRule("D2.services", M31R, "no external services", "train.external_services", _services),
    FamilyRule("D2.size", M31R, "at most 500M parameters", "model", _size),
    FamilyRule(
        "D3.objectives", M31R, "fill-in-middle and reasoning have weight", "train.objectives", _objectives
    ),
    FamilyRule(
        "D4.symbols", M31R, "the tokenizer keeps Rust's operators whole", "tokenizer.preserve", _symbols
    ),
    FamilyRule("D5.dropout", M31R, "light dropout: at most 0.1", "model.dropout", _dropout),
    FamilyRule(
        "D5.precision", M31R, "training in bf16 or fp16", "train.precision", precision_in("bf16", "fp16")
    ),
    FamilyRule("D5.order", M31R, "deterministic order: no shuffle", "train.shuffle", check_order),
    FamilyRule(
        "D5.noise", M31R, "no stochastic tricks: no gradient noise", "train.gradient_noise", check_noise
    ),
)
