"""Find the recipes that ship with the package, by path or by short name.

In a checkout they are `recipes/` beside `src/`. An installed package holds them inside itself, so
every way of installing it (`--user`, `--target`, `--prefix`, a zip file) brings them. A file whose
name starts with `_` is the common part of a family, not a recipe.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.validate import nearest

# The folder in an installed package (native/CMakeLists.txt).
PACKAGED = "_recipes"
# The folder of the gates of models (`sevenfold.evals.gates`), beside those of the families.
GATES = "gates"
# The folder of the suites, which say which cards are evaluated together (`sevenfold.evals.suites`).
SUITES = "suites"
# The register of risks, and experiments that are locked before they run (`sevenfold.programme`).
RISKS, EXPERIMENTS = "risks", "experiments"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A recipe that ships."""

    # <family>/<file name without .yaml>.
    name: str
    path: Path
    tier: str
    summary: str


def recipes_directory() -> Path:
    """Return the directory of the recipes that ship.

    Raises StorageError when the installation lacks it.
    """
    package = files("sevenfold")
    inside = package / PACKAGED
    if inside.is_dir():
        return inside if isinstance(inside, Path) else _unpacked()
    beside = Path(__file__).resolve().parents[3] / "recipes"
    if (beside / "s7" / "_family.yaml").is_file():
        return beside
    raise StorageError("the recipes are not installed", where=str(inside), remedy="install sevenfold again")


@cache
def _unpacked() -> Path:
    """Return a copy of package data that has no directory, such as data in a zip file. The copy is
    removed when the process ends.
    """
    copy = TemporaryDirectory(prefix="s7-recipes-")
    atexit.register(copy.cleanup)
    _copy(files("sevenfold") / PACKAGED, Path(copy.name))
    return Path(copy.name)


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            (target / entry.name).write_bytes(entry.read_bytes())


def recipe_paths() -> dict[str, Path]:
    """Return the path of every recipe that ships, by name and in the order of the names."""
    root = recipes_directory()
    files = sorted(root.glob("*/*.yaml"))
    return {
        f"{path.parent.name}/{path.stem}": path
        for path in files
        # These tables are no recipes.
        if not path.name.startswith("_") and path.parent.name not in (GATES, SUITES, RISKS, EXPERIMENTS)
    }


def list_shipped() -> list[Shipped]:
    """Return every recipe that ships, loaded and checked. Raises RecipeError when one is broken."""
    shipped = []
    for name, path in recipe_paths().items():
        recipe = load_recipe(path)
        shipped.append(Shipped(name=name, path=path, tier=recipe.tier, summary=recipe.summary))
    return shipped


def resolve_recipe_path(text: str) -> Path:
    """Return the recipe file that `text` names: a path, `family/name`, or a name that only one family
    has.

    Raises:
        StorageError: the path does not exist.
        UsageError: no recipe has the short name, or more than one has it.
    """
    path = Path(text)
    if "\0" not in text and path.is_file():
        return path
    if path.suffix in (".yaml", ".yml", ".json"):
        raise StorageError("no such recipe", where=text, remedy="check the path, or see `s7 recipes`")
    known = recipe_paths()
    found = [name for name in known if text in (name, name.rpartition("/")[2])]
    if len(found) == 1:
        return known[found[0]]
    if found:
        raise UsageError(f"{text!r} names more than one recipe", remedy=f"choose one of {', '.join(found)}")
    words = [*known, *(name.rpartition("/")[2] for name in known)]
    raise UsageError(f"no recipe {text!r} ships", remedy=f"{nearest(text, words)}see `s7 recipes`")
