"""The four spec blocks of the SLM programme as files of their own (C21), and the place of each in a
recipe.

A block file is a mapping with exactly one key, the name of the block, in YAML or JSON. A recipe takes
blocks in with `include:`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sevenfold.core.errors import RecipeError
from sevenfold.core.hashing import Json
from sevenfold.recipe.fields import Section
from sevenfold.recipe.schema import ContextSpec, HybridAttentionSpec, TokenizerSpec, Tool
from sevenfold.recipe.validate import build, nearest
from sevenfold.recipe.yamltree import Node, read_tree, show


class ToolsBlock(Section):
    """File `tools.json`."""

    tools: tuple[Tool, ...]


class AttentionBlock(Section):
    """File `attention.yaml`."""

    attention: HybridAttentionSpec


class ContextBlock(Section):
    """File `context.yaml`."""

    context: ContextSpec


class TokenizerBlock(Section):
    """File `tokenizer.yaml`."""

    tokenizer: TokenizerSpec


# Block name -> (schema of the file, key path of the block in a recipe).
BLOCKS: dict[str, tuple[type[Section], tuple[str, ...]]] = {
    "attention": (AttentionBlock, ("model", "attention")),
    "context": (ContextBlock, ("context",)),
    "tokenizer": (TokenizerBlock, ("tokenizer",)),
    "tools": (ToolsBlock, ("tools",)),
}


@dataclass(frozen=True)
class SpecBlock:
    """A block that was read and checked: its name, its place in a recipe, its value, and its tree with
    locations.
    """

    name: str
    target: tuple[str, ...]
    value: dict[str, Json] | list[Json]
    tree: Node


def load_spec_block(path: Path) -> SpecBlock:
    """Read one spec block.

    Raises:
        StorageError: the file cannot be read.
        RecipeError: it is not exactly one known block, or the block breaks the schema.
    """
    tree = read_tree(path)
    keys = list(tree.value) if isinstance(tree.value, dict) else []
    known = f"allowed: one key of {', '.join(BLOCKS)}"
    if not isinstance(tree.value, dict) or len(keys) != 1:
        found = f"keys {show(', '.join(keys))}" if keys else "no keys"
        raise RecipeError(
            f"a spec block has one key, this file has {found}", where=str(tree.mark), remedy=known
        )
    name = keys[0]
    mark, node = tree.value[name]
    if name not in BLOCKS:
        raise RecipeError(
            f"{show(name)}: unknown block", where=str(mark), remedy=nearest(name, BLOCKS) + known
        )
    schema, target = BLOCKS[name]
    value = build(schema, tree).model_dump(mode="json")[name]
    return SpecBlock(name, target, value, node)
