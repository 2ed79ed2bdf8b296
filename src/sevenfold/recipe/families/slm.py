"""Rules of the SLM family (2B with 512k context, its 300M draft, and the 10M proxy of both):
requirements C.

The proxy runs every mechanism on one core. It need not have what only the full size can have
(vocabulary, mix, FP8, ZeRO-3).
"""

from __future__ import annotations

from sevenfold.recipe.families.rule import (
    Check,
    FamilyRule,
    around,
    budget,
    check_adamw,
    check_checkpointing,
    check_dense,
    check_licences,
    check_rope,
    missing_from,
    mix_is,
    precision_in,
    warmup_between,
)
from sevenfold.recipe.schema import Family, HybridAttentionSpec, Recipe

SLM: tuple[Family, ...] = ("slm",)
MIX = {"code": 0.40, "math": 0.15, "text": 0.30, "synthetic_cot": 0.15}
PROXY = "10M"
SPECIALS = ("<nl>", "<tab>", "<indent>", "<dedent>", "<scratchpad>", "<call_tool>", "<tool_result>")


def _at_full_size(check: Check) -> Check:
    return lambda recipe: None if recipe.tier == PROXY else check(recipe)


def _tokenizer(recipe: Recipe) -> str | None:
    tokenizer = recipe.tokenizer
    if (tokenizer.algo, tokenizer.vocab_size, tokenizer.byte_fallback) == (
        "sentencepiece_unigram",
        150000,
        True,
    ):
        return None
    return f"{tokenizer.algo}, {tokenizer.vocab_size} entries, byte fallback {tokenizer.byte_fallback}"


def _specials(recipe: Recipe) -> str | None:
    lacking = missing_from(recipe.tokenizer.special_tokens, SPECIALS)
    return f"tokenizer.special_tokens lacks {lacking}" if lacking else None


def _hybrid(recipe: Recipe) -> str | None:
    return None if isinstance(recipe.model.attention, HybridAttentionSpec) else "model.attention is causal"


def _curriculum(recipe: Recipe) -> str | None:
    context = recipe.context
    if context is None:
        return "there is no context block"
    if (context.train_base, context.target_stage1) == (recipe.train.sequence, recipe.model.context):
        return None
    return (
        f"train_base {context.train_base} and target_stage1 {context.target_stage1}, but train.sequence "
        f"{recipe.train.sequence} and model.context {recipe.model.context}"
    )


def _weight_decay(recipe: Recipe) -> str | None:
    return (
        None if recipe.train.weight_decay == 0.1 else f"train.weight_decay is {recipe.train.weight_decay:g}"
    )


def _heads(recipe: Recipe) -> str | None:
    return (
        f"model.n_heads is {recipe.model.n_heads}"
        if recipe.tier == "2B" and recipe.model.n_heads != 24
        else None
    )


def _sharding(recipe: Recipe) -> str | None:
    return None if recipe.hardware.sharding == "zero3" else f"hardware.sharding is {recipe.hardware.sharding}"


RULES = (
    FamilyRule(
        "C2.tokenizer",
        SLM,
        "SentencePiece Unigram, 150000 entries, byte fallback",
        "tokenizer",
        _at_full_size(_tokenizer),
    ),
    FamilyRule(
        "C2.specials",
        SLM,
        "the tokenizer has the special tokens of C2",
        "tokenizer.special_tokens",
        _at_full_size(_specials),
    ),
    FamilyRule(
        "C3.mix",
        SLM,
        "40 code / 15 maths / 30 text / 15 synthetic",
        "corpus.mix",
        mix_is(MIX, lambda recipe: recipe.tier != PROXY),
    ),
    FamilyRule("C3.licences", SLM, "permissive licences only", "corpus.licences", check_licences),
    FamilyRule("C5.dense", SLM, "no mixture of experts", "model.moe", check_dense),
    FamilyRule("C5.rope", SLM, "positions are rotary (RoPE)", "model.position", check_rope),
    FamilyRule("C5.hybrid", SLM, "hybrid attention", "model.attention", _hybrid),
    FamilyRule("C5.heads", SLM, "tier 2B: 24 heads", "model.n_heads", _heads),
    FamilyRule(
        "C5.curriculum",
        SLM,
        "training starts at train_base, and the model is made for target_stage1",
        "context",
        _curriculum,
    ),
    FamilyRule("C5.optimizer", SLM, "AdamW with betas 0.9 and 0.95", "train.optimizer", check_adamw),
    FamilyRule("C5.weight-decay", SLM, "weight decay 0.1", "train.weight_decay", _weight_decay),
    FamilyRule("C5.warmup", SLM, "warm-up of 2 to 3 %", "train.warmup_ratio", warmup_between(0.02, 0.03)),
    FamilyRule("C5.precision", SLM, "FP8", "train.precision", _at_full_size(precision_in("fp8"))),
    FamilyRule(
        "C5.checkpointing",
        SLM,
        "gradient checkpointing",
        "train.activation_checkpointing",
        check_checkpointing,
    ),
    FamilyRule("C5.sharding", SLM, "FSDP ZeRO-3", "hardware.sharding", _at_full_size(_sharding)),
    FamilyRule("C5.budget", SLM, "tier 2B within 1 %", "model", budget({"2B": around(2e9, 0.01)})),
    FamilyRule(
        "C5.proxy", SLM, "tier 10M, the proxy, within 5 %", "model", budget({PROXY: around(10e6, 0.05)})
    ),
    FamilyRule(
        "C13.draft", SLM, "the draft, tier 300M, within 5 %", "model", budget({"300M": around(300e6, 0.05)})
    ),
)
