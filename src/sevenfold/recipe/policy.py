"""Family policies: the table of all rules, and its application to a recipe.

A family has no code path of its own. Families differ in the data of their recipes and in these rules.
The error is the first rule that is broken, in the order of the table. General rules come first, so
the rules of a family see a recipe that agrees with itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sevenfold.core.errors import PolicyError, RecipeError
from sevenfold.recipe.families import common, llama, m31r, s7, slm
from sevenfold.recipe.families.rule import FamilyRule
from sevenfold.recipe.schema import Recipe

RULES: tuple[FamilyRule, ...] = (*common.RULES, *s7.RULES, *m31r.RULES, *llama.RULES, *slm.RULES)


@dataclass(frozen=True)
class Violation:
    """A rule that a recipe breaks, and how."""

    rule: FamilyRule
    finding: str


def violations(recipe: Recipe) -> list[Violation]:
    """Return every rule of the recipe's family that it breaks, in the order of the table."""
    found = ((rule, rule.check(recipe)) for rule in RULES if recipe.family in rule.families)
    return [Violation(rule, finding) for rule, finding in found if finding is not None]


def check_policies(recipe: Recipe, place: Callable[[str], str] | None = None) -> None:
    """Refuse a recipe that breaks a rule of its family. `place` turns a key path into file:line.

    Raises:
        PolicyError: the recipe breaks a rule. The error names the first such rule, what breaks it,
            and the other rules that are broken.
    """
    broken = violations(recipe)
    if not broken:
        return
    rule, finding = broken[0].rule, broken[0].finding
    others = ", ".join(violation.rule.id for violation in broken[1:])
    raise PolicyError(
        rule.id,
        f"{rule.text}; {finding}",
        where=place(rule.key) if place else "",
        remedy=f"change {rule.key}" + (f"; also broken: {others}" if others else ""),
    )


def check_optimizer(recipe: Recipe, place: Callable[[str], str] | None = None) -> None:
    """Refuse weight decay under `adam`: the decay of a recipe is decoupled, and Adam's own is an L2
    term of the gradient.

    `place` turns a key path into file:line.

    Raises:
        RecipeError: `train.optimizer` is `adam` and `train.weight_decay` is not 0.
    """
    train = recipe.train
    if train.optimizer == "adam" and train.weight_decay:
        raise RecipeError(
            f"train.weight_decay is {train.weight_decay:g} with optimizer adam, which has no decoupled weight"
            " decay",
            where=place("train.weight_decay") if place else recipe.name,
            remedy="set train.optimizer: adamw, or train.weight_decay: 0",
        )
