"""The root that a recipe promises: a file beside the recipe, which the end of a run is compared
with.

`NAME.root.json` beside `NAME.yaml` states the root that everybody gets from the recipe, the versions
of the stages, and the substitute recipe for machines that cannot fetch the packages. It decides no
byte. Format: specs/recipe.md, "The promised root".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sevenfold import __version__
from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.core.files import read_json, write_pretty_json
from sevenfold.core.hashing import Json
from sevenfold.pipeline.stages import STAGES
from sevenfold.recipe.schema import Recipe

FORMAT = 1
KEPT = "yes"
SUFFIX = ".root.json"
_KEYS = {"promise", "recipe", "root", "versions", "without_network"}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The promise of a recipe.

    `without_network` is the file name of the substitute recipe beside this one; "" means none.
    """

    recipe_digest: str
    root: str
    versions: Mapping[str, str]
    without_network: str = ""

    def applies_to(self, recipe: Recipe) -> bool:
        """Return whether the promise was made for exactly this recipe."""
        return self.recipe_digest == recipe.digest

    def verdict(self, root: str) -> str:
        """Return `KEPT`, or "no" and the reason."""
        if root == self.root:
            return KEPT
        changed = sorted(name for name, value in versions().items() if self.versions.get(name) != value)
        why = f"; other versions: {', '.join(changed)}" if changed else ""
        return f"no, it promises {self.root}{why}"


def versions() -> dict[str, str]:
    """Return the versions of this program that decide the bytes of a run."""
    return {"sevenfold": __version__, **{stage.name: str(stage.version) for stage in STAGES}}


def promise_path(recipe_path: Path) -> Path:
    """Return the path of the promise of a recipe, present or not."""
    return recipe_path.with_name(recipe_path.stem + SUFFIX)


def read_promise(recipe_path: Path) -> Promise | None:
    """Return the promise of a recipe, or None when it has none.

    Raises RecipeError or StorageError.
    """
    path = promise_path(recipe_path)
    if not path.is_file():
        return None
    found = read_json(path)
    if not _is_promise(found):
        raise RecipeError(
            f"not a promise of format {FORMAT}",
            where=str(path),
            remedy="make it again with `s7 make RECIPE --out DIR --promise`, or remove it",
        )
    return Promise(
        recipe_digest=found["recipe"],
        root=found["root"],
        versions=found["versions"],
        without_network=found["without_network"],
    )


def _is_promise(found: Json) -> bool:
    if not isinstance(found, dict) or found.keys() != _KEYS or found["promise"] != FORMAT:
        return False
    texts = [found["recipe"], found["root"], found["without_network"]]
    # The substitute lies beside the recipe, so its name holds no folder.
    is_name = isinstance(texts[2], str) and Path(texts[2]).name == texts[2]
    return is_name and isinstance(found["versions"], dict) and all(isinstance(text, str) for text in texts)


def write_promise(recipe_path: Path, recipe: Recipe, root: str) -> Path:
    """Write that this recipe promises this root. The substitute recipe in an existing promise
    stays.

    Raises StorageError.
    """
    path = promise_path(recipe_path)
    before = read_promise(recipe_path)
    write_pretty_json(
        path,
        {
            "promise": FORMAT,
            "recipe": recipe.digest,
            "root": root,
            "versions": versions(),
            "without_network": before.without_network if before else "",
        },
    )
    return path


def stand_in(recipe_path: Path, promise: Promise) -> Path:
    """Return the substitute recipe, which is made when the packages cannot be fetched.

    Raises StorageError when it does not exist.
    """
    path = recipe_path.with_name(promise.without_network)
    if not path.is_file():
        raise StorageError(
            "the recipe that stands in without a network is missing",
            where=str(path),
            remedy="install sevenfold again, or connect to a network",
        )
    return path
