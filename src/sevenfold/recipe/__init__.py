"""Recipes: one YAML file decides one model.

Schema, loader, family policies, sizing (specs/recipe.md).

Importing this package costs nothing: each name is loaded from its module when it is first used, so
that the command line can answer `--help` without pydantic or PyYAML.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sevenfold.recipe.fragments import SpecBlock, load_spec_block
    from sevenfold.recipe.loader import load_recipe
    from sevenfold.recipe.schema import Recipe
    from sevenfold.recipe.shipped import Shipped, list_shipped, resolve_recipe_path

_HOME = {
    "SpecBlock": "fragments",
    "load_spec_block": "fragments",
    "load_recipe": "loader",
    "Recipe": "schema",
    "Shipped": "shipped",
    "list_shipped": "shipped",
    "resolve_recipe_path": "shipped",
}

__all__ = [
    "Recipe",
    "load_recipe",
    "SpecBlock",
    "load_spec_block",
    "Shipped",
    "list_shipped",
    "resolve_recipe_path",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
