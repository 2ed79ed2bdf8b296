"""Rules of the Llama family (1.5B for a Go runtime, and its smaller milestones): requirements E."""

from __future__ import annotations

from sevenfold.recipe.families.rule import (
    FamilyRule,
    around,
    budget,
    check_adamw,
    check_causal,
    check_checkpointing,
    check_dense,
    check_order,
    check_rope,
    precision_in,
    warmup_between,
)
from sevenfold.recipe.schema import Family, Recipe

LLAMA: tuple[Family, ...] = ("llama",)
MILESTONES = {"30M": (10e6, 50e6), "150M": (100e6, 300e6)}


def _rope_base(recipe: Recipe) -> str | None:
    return None if recipe.model.rope_theta == 10000.0 else f"model.rope_theta is {recipe.model.rope_theta:g}"


def _vocabulary(recipe: Recipe) -> str | None:
    size = recipe.model.vocab_size
    return None if size in (32000, 32768) else f"model.vocab_size is {size}"


def _context(recipe: Recipe) -> str | None:
    return None if recipe.model.context == 4096 else f"model.context is {recipe.model.context}"


def _contract(recipe: Recipe) -> str | None:
    model = recipe.model
    inside = (
        24 <= model.n_layers <= 28
        and 2048 <= model.d_model <= 2560
        and 16 <= model.n_heads <= 20
        and model.head_dim == 128
        and 4 <= model.n_kv_heads <= 8
    )
    if inside or recipe.tier != "1.5B":
        return None
    return (
        f"{model.n_layers} layers, d_model {model.d_model}, {model.n_heads} heads of {model.head_dim}, "
        f"{model.n_kv_heads} key/value heads"
    )


def _tokenizer(recipe: Recipe) -> str | None:
    algo = recipe.tokenizer.algo
    return None if algo == "sentencepiece_unigram" else f"tokenizer.algo is {algo}"


def _clip(recipe: Recipe) -> str | None:
    return None if recipe.train.clip_norm == 1.0 else f"train.clip_norm is {recipe.train.clip_norm:g}"


RULES = (
    FamilyRule("E1.dense", LLAMA, "no mixture of experts", "model.moe", check_dense),
    FamilyRule("E1.rope", LLAMA, "positions are rotary (RoPE)", "model.position", check_rope),
    FamilyRule("E1.rope-base", LLAMA, "RoPE base 10000", "model.rope_theta", _rope_base),
    FamilyRule("E1.causal", LLAMA, "attention is full causal", "model.attention", check_causal),
    FamilyRule(
        "E1.vocabulary", LLAMA, "a vocabulary of 32k (32000 or 32768)", "model.vocab_size", _vocabulary
    ),
    FamilyRule("E1.context", LLAMA, "a context of 4096", "model.context", _context),
    FamilyRule(
        "E1.contract",
        LLAMA,
        "tier 1.5B: 24 to 28 layers, hidden 2048 to 2560, 16 to 20 heads of 128, 4 to 8 key/value heads",
        "model",
        _contract,
    ),
    FamilyRule("E1.budget", LLAMA, "tier 1.5B within 0.5 %", "model", budget({"1.5B": around(1.5e9, 0.005)})),
    FamilyRule("E2.tokenizer", LLAMA, "a SentencePiece tokenizer", "tokenizer.algo", _tokenizer),
    FamilyRule("E3.optimizer", LLAMA, "AdamW with betas 0.9 and 0.95", "train.optimizer", check_adamw),
    FamilyRule("E3.warmup", LLAMA, "warm-up of 1 to 2 %", "train.warmup_ratio", warmup_between(0.01, 0.02)),
    FamilyRule("E3.clip", LLAMA, "gradients are clipped at 1.0", "train.clip_norm", _clip),
    FamilyRule("E3.precision", LLAMA, "bf16", "train.precision", precision_in("bf16")),
    FamilyRule(
        "E3.checkpointing",
        LLAMA,
        "activation checkpointing",
        "train.activation_checkpointing",
        check_checkpointing,
    ),
    FamilyRule("E3.order", LLAMA, "deterministic loader order: no shuffle", "train.shuffle", check_order),
    FamilyRule(
        "E7.milestone", LLAMA, "tier 30M: 10 to 50M; tier 150M: 100 to 300M", "model", budget(MILESTONES)
    ),
)
