"""The form of a rule, and the checks that several families share.

A rule is data: an id (the requirement it comes from), the families it binds, its text, the
key it is about and a check. A check returns what is wrong, or None; it never raises on a
recipe that the schema accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sevenfold.recipe.schema import Family, Recipe
from sevenfold.recipe.sizing import count
from sevenfold.recipe.yamltree import show

Check = Callable[[Recipe], str | None]

# SPDX ids of licences that require no more than a notice. A family with permissive data allows these
# and no others.
PERMISSIVE = frozenset(
    (
        "0BSD",
        "AFL-3.0",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "Artistic-2.0",
        "BlueOak-1.0.0",
        "BSD-1-Clause",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSD-3-Clause-Clear",
        "BSL-1.0",
        "CC-BY-3.0",
        "CC-BY-4.0",
        "CC0-1.0",
        "HPND",
        "ICU",
        "ISC",
        "MIT",
        "MIT-0",
        "MulanPSL-2.0",
        "NCSA",
        "PostgreSQL",
        "PSF-2.0",
        "Python-2.0",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Unlicense",
        "UPL-1.0",
        "W3C",
        "X11",
        "Zlib",
    )
)


@dataclass(frozen=True)
class FamilyRule:
    """One rule. `key` is the recipe key that an error points to."""

    id: str
    families: tuple[Family, ...]
    text: str
    key: str
    check: Check


def number(n: float) -> str:
    """Return a count with separators of thousands."""
    return f"{n:,.0f}"


def check_rope(recipe: Recipe) -> str | None:
    """Check that positions are rotary."""
    return None if recipe.model.position == "rope" else f"model.position is {recipe.model.position!r}"


def check_causal(recipe: Recipe) -> str | None:
    """Check that attention is full causal attention."""
    return None if recipe.model.attention == "causal" else "model.attention is hybrid"


def check_tied(recipe: Recipe) -> str | None:
    """Check that the head is tied to the embedding."""
    return None if recipe.model.tied else "model.tied is false"


def check_dense(recipe: Recipe) -> str | None:
    """Check that the model has no experts."""
    return None if recipe.model.moe is None else f"model.moe is {recipe.model.moe.kind}"


def check_order(recipe: Recipe) -> str | None:
    """Check that the data are not shuffled."""
    return "train.shuffle is true" if recipe.train.shuffle else None


def check_noise(recipe: Recipe) -> str | None:
    """Check that no noise is added to gradients."""
    noise = recipe.train.gradient_noise
    return f"train.gradient_noise is {noise}" if noise else None


def check_licences(recipe: Recipe) -> str | None:
    """Check that all licences are permissive."""
    odd = [licence for licence in recipe.corpus.licences if licence not in PERMISSIVE]
    return f"corpus.licences has {show(', '.join(odd))}" if odd else None


def check_checkpointing(recipe: Recipe) -> str | None:
    """Check that activations are checkpointed."""
    return None if recipe.train.activation_checkpointing else "train.activation_checkpointing is false"


def check_adamw(recipe: Recipe) -> str | None:
    """Check that the optimizer is AdamW with betas 0.9 and 0.95."""
    train = recipe.train
    if train.optimizer == "adamw" and train.betas == (0.9, 0.95):
        return None
    return f"train.optimizer is {train.optimizer} with betas {list(train.betas)}"


def warmup_between(low: float, high: float) -> Check:
    """Return a check that the warm-up is within bounds, as a share of the steps."""

    def check(recipe: Recipe) -> str | None:
        ratio = recipe.train.warmup_ratio
        return None if low <= ratio <= high else f"train.warmup_ratio is {ratio}"

    return check


def precision_in(*allowed: str) -> Check:
    """Return a check that training has one of these precisions."""

    def check(recipe: Recipe) -> str | None:
        return None if recipe.train.precision in allowed else f"train.precision is {recipe.train.precision}"

    return check


def budget(bounds: Mapping[str, tuple[float, float]]) -> Check:
    """Return a check that the parameters are inside the bounds of the recipe's tier. Other tiers
    pass.
    """

    def check(recipe: Recipe) -> str | None:
        if recipe.tier not in bounds:
            return None
        low, high = bounds[recipe.tier]
        n = count(recipe.model)
        if low <= n <= high:
            return None
        return f"{number(n)} parameters; tier {recipe.tier} allows {number(low)} to {number(high)}"

    return check


def around(target: float, tolerance: float) -> tuple[float, float]:
    """Return the bounds of `tolerance` (a ratio) around a target."""
    return target * (1 - tolerance), target * (1 + tolerance)


def mix_is(expected: Mapping[str, float], binds: Callable[[Recipe], bool]) -> Check:
    """Return a check that the corpus mix is `expected`, for the recipes that it binds."""

    def check(recipe: Recipe) -> str | None:
        mix = recipe.corpus.mix
        same = mix.keys() == expected.keys() and all(abs(mix[key] - expected[key]) < 1e-9 for key in mix)
        if same or not binds(recipe):
            return None
        return f"corpus.mix is {shares(mix)}, not {shares(expected)}"

    return check


def shares(mix: Mapping[str, float]) -> str:
    """Return a mix as text, in per cent."""
    return show(" / ".join(f"{key} {100 * value:g} %" for key, value in mix.items())) if mix else "empty"


def missing_from(present: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the items of `wanted` that `present` lacks, as text."""
    return " ".join(item for item in wanted if item not in present)
