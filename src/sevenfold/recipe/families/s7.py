"""Rules of the S7 family: requirements A (1M to 300M) and B (S7-MOE-140M, the recipes of tier
140M).
"""

from __future__ import annotations

from sevenfold.core.documents import STEP_MARKERS
from sevenfold.recipe.families.rule import (
    Check,
    FamilyRule,
    around,
    budget,
    check_causal,
    check_licences,
    check_noise,
    check_order,
    check_rope,
    check_tied,
    missing_from,
    mix_is,
    number,
    precision_in,
)
from sevenfold.recipe.schema import ExpertStacks, Family, Recipe, TokenRouted
from sevenfold.recipe.sizing import expert_parameters, trunk_parameters
from sevenfold.recipe.yamltree import show

S7: tuple[Family, ...] = ("s7",)
TIERS = ("1M", "8M", "30M", "100M", "300M", "140M")
BUDGETS = {
    "1M": (0.5e6, 2e6),
    "8M": (7e6, 9e6),
    "30M": around(30e6, 0.1),
    "100M": around(100e6, 0.1),
    "300M": around(300e6, 0.1),
}
MARKERS = ("{", "def", ";", "fn")
CODE_MIX = {"code": 0.40, "instructions": 0.25, "math": 0.20, "prose": 0.15}
CLUSTER_MIX = {"code": 0.35, "math": 0.25, "reasoning": 0.20, "general": 0.20}
WARMUP_STEPS = 2000


def _in_a(check: Check) -> Check:
    """Return the check for recipes of requirements A. Others pass."""
    return lambda recipe: None if recipe.tier == "140M" else check(recipe)


def _in_b(check: Check) -> Check:
    """Return the check for recipes of requirements B. Others pass."""
    return lambda recipe: check(recipe) if recipe.tier == "140M" else None


def _tier(recipe: Recipe) -> str | None:
    return (
        None if recipe.tier in ("", *TIERS) else f"tier is {show(recipe.tier)}; allowed: {', '.join(TIERS)}"
    )


def _dropout(recipe: Recipe) -> str | None:
    return f"model.dropout is {recipe.model.dropout}" if recipe.model.dropout else None


def _shape(recipe: Recipe) -> str | None:
    model = recipe.model
    shape = (model.d_model, model.n_layers, model.n_heads, model.head_dim, model.context)
    if recipe.tier != "8M" or shape == (320, 8, 5, 64, 512):
        return None
    return "d_model {}, {} layers, {} heads of {}, context {}".format(*shape)


def _tied(recipe: Recipe) -> str | None:
    return None if recipe.model.pretrained else check_tied(recipe)


def _reserved(recipe: Recipe) -> str | None:
    lacking = missing_from(recipe.tokenizer.special_tokens, STEP_MARKERS)
    return (
        f"tokenizer.special_tokens lacks {lacking}" if recipe.name.startswith("math-") and lacking else None
    )


def _two_experts(recipe: Recipe) -> str | None:
    moe = recipe.model.moe
    if not isinstance(moe, TokenRouted) or len(moe.experts) == 2:
        return None
    return f"{len(moe.experts)} experts"


def _markers(recipe: Recipe) -> str | None:
    moe = recipe.model.moe
    if not isinstance(moe, TokenRouted) or moe.code_markers == MARKERS:
        return None
    return f"model.moe.code_markers is {show(' '.join(moe.code_markers))}"


def _split(recipe: Recipe) -> str | None:
    if recipe.tier != "8M" or not isinstance(recipe.model.moe, TokenRouted):
        return None
    trunk, expert = trunk_parameters(recipe.model), expert_parameters(recipe.model)
    if 3e6 <= trunk <= 5e6 and 1.5e6 <= expert <= 2.5e6:
        return None
    return f"a trunk of {number(trunk)} and experts of {number(expert)} parameters"


def _adam(recipe: Recipe) -> str | None:
    return None if recipe.train.optimizer == "adam" else f"train.optimizer is {recipe.train.optimizer}"


def _dictionary(recipe: Recipe) -> str | None:
    size = recipe.model.vocab_size
    return f"model.vocab_size is {size}" if recipe.tier in ("1M", "8M") and size != 4096 else None


def _stacks(recipe: Recipe) -> str | None:
    return None if isinstance(recipe.model.moe, ExpertStacks) else "model.moe is not expert_stacks"


def _no_stacks(recipe: Recipe) -> str | None:
    return (
        f"tier is {show(recipe.tier)}" if recipe.tier and isinstance(recipe.model.moe, ExpertStacks) else None
    )


def _expert_shape(recipe: Recipe) -> str | None:
    model, moe = recipe.model, recipe.model.moe
    if not isinstance(moe, ExpertStacks) or (len(moe.experts), moe.n_layers, model.d_model) == (4, 8, 512):
        return None
    return f"{len(moe.experts)} experts of {moe.n_layers} layers, d_model {model.d_model}"


def _two_phases(recipe: Recipe) -> str | None:
    trains = [phase.trains for phase in recipe.train.phases]
    return None if trains == ["trunk", "experts"] else f"the phases train {', '.join(trains) or 'nothing'}"


def _warmup(recipe: Recipe) -> str | None:
    first = recipe.train.phases[0] if recipe.train.phases else recipe.train
    steps = recipe.train.warmup_ratio * first.tokens / (first.batch_sequences * first.sequence)
    return None if abs(steps - WARMUP_STEPS) <= 0.01 * WARMUP_STEPS else f"warm-up takes {steps:.0f} steps"


def _padded(recipe: Recipe) -> str | None:
    return None if recipe.seal.packing == "padded" else f"seal.packing is {recipe.seal.packing}"


def _is_code_sku(recipe: Recipe) -> bool:
    return recipe.tier == "8M" and recipe.name.startswith("code-")


RULES = (
    FamilyRule(
        "A1.tier",
        S7,
        "tiers: 1M, 8M, 30M, 100M, 300M, 140M (S7-MOE-140M); empty: an experiment",
        "tier",
        _tier,
    ),
    FamilyRule("A1.rope", S7, "positions are rotary (RoPE)", "model.position", check_rope),
    FamilyRule("A1.causal", S7, "attention is full causal", "model.attention", check_causal),
    FamilyRule("A1.dropout", S7, "no dropout (also A4)", "model.dropout", _dropout),
    FamilyRule("A1.tied", S7, "embedding and head are tied; an import keeps its own", "model.tied", _tied),
    FamilyRule(
        "A1.budget", S7, "a tier keeps its budget; 8M is 7 to 9 M parameters", "model", budget(BUDGETS)
    ),
    FamilyRule("A1.shape", S7, "tier 8M: hidden 320, 8 layers, 5 heads of 64, context 512", "model", _shape),
    FamilyRule(
        "A2.mix",
        S7,
        "CODE: 40 code / 25 instructions / 20 maths / 15 prose",
        "corpus.mix",
        mix_is(CODE_MIX, _is_code_sku),
    ),
    FamilyRule(
        "A2.reserved", S7, f"MATH reserves {' '.join(STEP_MARKERS)}", "tokenizer.special_tokens", _reserved
    ),
    FamilyRule("A3.experts", S7, "token routing has two experts", "model.moe.experts", _two_experts),
    FamilyRule("A3.markers", S7, "the router's markers are { def ; fn", "model.moe.code_markers", _markers),
    FamilyRule("A3.split", S7, "tier 8M with experts: about 4M shared, 2M + 2M in experts", "model", _split),
    FamilyRule("A4.order", S7, "fixed order of the data: no shuffle", "train.shuffle", check_order),
    FamilyRule("A4.noise", S7, "no gradient noise", "train.gradient_noise", check_noise),
    FamilyRule("A4.optimizer", S7, "Adam", "train.optimizer", _in_a(_adam)),
    FamilyRule("A4.precision", S7, "FP32, no AMP", "train.precision", _in_a(precision_in("fp32"))),
    FamilyRule("A5.licences", S7, "permissive licences only", "corpus.licences", check_licences),
    FamilyRule(
        "A7.dictionary", S7, "tiers 1M and 8M: DICT has 4096 entries", "model.vocab_size", _dictionary
    ),
    FamilyRule("B1.stacks", S7, "tier 140M: a trunk and expert stacks", "model.moe", _in_b(_stacks)),
    FamilyRule("B1.tier", S7, "expert stacks belong to tier 140M, or to none", "tier", _in_a(_no_stacks)),
    FamilyRule(
        "B1.experts", S7, "tier 140M: 4 experts of 8 layers, hidden 512", "model.moe", _in_b(_expert_shape)
    ),
    FamilyRule(
        "B1.budget", S7, "within 2 % of 133M parameters", "model", budget({"140M": around(133e6, 0.02)})
    ),
    FamilyRule(
        "B1.phases", S7, "tier 140M: the trunk first, then the experts", "train.phases", _in_b(_two_phases)
    ),
    FamilyRule(
        "B1.mix",
        S7,
        "35 code / 25 maths / 20 reasoning / 20 general",
        "corpus.mix",
        _in_b(mix_is(CLUSTER_MIX, bool)),
    ),
    FamilyRule(
        "B2.precision",
        S7,
        "tier 140M: BF16 forward, FP32 gradients",
        "train.precision",
        _in_b(precision_in("bf16")),
    ),
    FamilyRule("B2.warmup", S7, "tier 140M: 2000 warm-up steps", "train.warmup_ratio", _in_b(_warmup)),
    FamilyRule("B7.packing", S7, "tier 140M: records padded to 32 bytes", "seal.packing", _in_b(_padded)),
)
