"""Load a recipe file: `extends:`, `include:`, schema, family policies.

The value of a file is its base (`extends:`), overlaid with its blocks (`include:`, in order), overlaid
with its own keys. Mappings merge key by key. Lists and scalars are replaced. Every value keeps its
own location, so an error in a base is reported at a line of the base.
"""

from __future__ import annotations

import os
from pathlib import Path

from sevenfold.core.errors import RecipeError
from sevenfold.recipe.fragments import load_spec_block
from sevenfold.recipe.policy import check_optimizer, check_policies
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.validate import build, locate
from sevenfold.recipe.yamltree import Node, SourceLocation, read_tree, show

MAX_EXTENDS = 8


def load_recipe(path: Path) -> Recipe:
    """Read, resolve and check a recipe.

    Raises:
        StorageError: the file cannot be read.
        RecipeError: `where` is file:line of the key at fault.
        PolicyError: a rule of the recipe's family (or of all families) is broken.
    """
    tree = load_tree(path)
    recipe = build(Recipe, tree)
    check_policies(recipe, lambda key: str(locate(tree, key.split("."))[0]))
    check_optimizer(recipe, lambda key: str(locate(tree, key.split("."))[0]))
    return recipe


def load_tree(path: Path) -> Node:
    """Return the tree of a recipe after `extends:` and `include:`. It is not yet checked against the
    schema.
    """
    return _resolve(Path(path), ())


def _resolve(path: Path, chain: tuple[Path, ...]) -> Node:
    tree = read_tree(path)
    if not isinstance(tree.value, dict):
        raise RecipeError(f"a recipe is a mapping, not {show(tree.plain())}", where=str(tree.mark))
    entries = dict(tree.value)
    extends, include = entries.pop("extends", None), entries.pop("include", None)
    result = Node({}, tree.mark)
    if extends is not None:
        mark, node = extends
        result = _base(path, mark, node, (*chain, path.resolve()))
    for mark, node in _includes(include):
        block = load_spec_block(_beside(path, mark, "include", node))
        result = merge(result, _graft(block.target, block.tree))
    return merge(result, Node(entries, tree.mark))


def _base(path: Path, mark: SourceLocation, node: Node, chain: tuple[Path, ...]) -> Node:
    """Return the tree of the recipe that `path` extends. `chain` holds the files that led to it."""
    base = _beside(path, mark, "extends", node)
    if base.resolve() in chain:
        cycle = " -> ".join(step.name for step in (*chain, base))
        raise RecipeError(f"extends: a cycle ({cycle})", where=str(mark), remedy="break it")
    if len(chain) > MAX_EXTENDS:
        raise RecipeError(
            f"extends: more than {MAX_EXTENDS} levels", where=str(mark), remedy="flatten the bases"
        )
    return _resolve(base, chain)


def _includes(entry: tuple[SourceLocation, Node] | None) -> list[tuple[SourceLocation, Node]]:
    if entry is None:
        return []
    mark, node = entry
    if not isinstance(node.value, list):
        raise RecipeError(
            f"include: {show(node.plain())} is not a list",
            where=str(mark),
            remedy="allowed: a list of block files",
        )
    return [(item.mark, item) for item in node.value]


def _beside(path: Path, mark: SourceLocation, key: str, node: Node) -> Path:
    """Return the file that a relative path in `path` names. Raises RecipeError when there is none."""
    name = node.value
    if not isinstance(name, str) or not name or "\0" in name or Path(name).is_absolute():
        raise RecipeError(
            f"{key}: {show(node.plain())} is not a relative path",
            where=str(mark),
            remedy="allowed: base.yaml, ../x.yaml",
        )
    target = Path(os.path.normpath(path.parent / name))
    try:
        found = target.is_file()
    except OSError:
        found = False
    if not found:
        raise RecipeError(f"{key}: no file {target}", where=str(mark), remedy="check the path")
    return target


def _graft(keys: tuple[str, ...], node: Node) -> Node:
    """Return `node` under `keys`."""
    for key in reversed(keys):
        node = Node({key: (node.mark, node)}, node.mark)
    return node


def merge(base: Node, over: Node) -> Node:
    """Return `over` laid over `base`. Mappings merge, and everything else is replaced. Locations stay
    with their values.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    entries = dict(base.value)
    for key, (mark, node) in over.value.items():
        entries[key] = (mark, merge(entries[key][1], node) if key in entries else node)
    return Node(entries, over.mark)
