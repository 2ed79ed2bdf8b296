"""Check what an audit relies on before a step is computed again: recipe, files, tools
(specs/audit.md, "What is compared").
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sevenfold.artifact import Artifact
from sevenfold.audit.records import Difference
from sevenfold.core.changes import changes
from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json, canonical_json, digest, sha256_file
from sevenfold.core.manifest import Manifest, output_root
from sevenfold.core.run_files import MANIFEST
from sevenfold.recipe.schema import Recipe
from sevenfold.release.target import identity_of

ABSENT = "absent"
# Values that decide no bit of a run under the training law.
NEUTRAL = {"torch", "matmul", "attention", "cpu_capability", "machine"}


def sealed_recipe(artifact: Artifact) -> tuple[Recipe, list[str], list[Difference]]:
    """Return the recipe that the file carries, warnings, and a difference when its
    digest is not the sealed one.

    Raises:
        ArtifactError: the file carries none, or one that this version does not read.
    """
    identity = identity_of(artifact)
    raw = identity["facts"].get("recipe")
    if not isinstance(raw, dict):
        raise ArtifactError(
            "the file carries no recipe", where=str(artifact.path), remedy="give --recipe FILE"
        )
    canonical = canonical_json(raw)
    try:
        recipe = Recipe.model_validate_json(canonical)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ArtifactError(
            f"its recipe is not one that this version reads: {key}: {first['msg']}",
            where=str(artifact.path),
            remedy=f"use the version that sealed it: {identity.get('code_version')}",
        ) from None
    differences = []
    actual = digest("sevenfold/recipe/1", canonical)
    if actual != identity.get("recipe_digest"):
        differences.append(
            Difference(
                where="model.s7l recipe",
                field="digest",
                expected=identity.get("recipe_digest"),
                actual=actual,
            )
        )
    newer = [row["key"] for row in changes(raw, recipe.resolved())]
    warnings = [f"recipe: keys that the run's version did not have: {', '.join(newer)}"] if newer else []
    return recipe, warnings, differences


def recipe_difference(recipe: Recipe, expected: Json, artifact: Artifact | None) -> list[Difference]:
    """Return a difference for each key of a given recipe that differs from the run, or one for the
    digest alone.
    """
    if recipe.digest == expected:
        return []
    facts = identity_of(artifact)["facts"] if artifact else {}
    recorded = facts.get("recipe")
    keys = changes(recorded, recipe.resolved()) if isinstance(recorded, dict) else []
    rows = [Difference(where="recipe", field=row["key"], expected=row["a"], actual=row["b"]) for row in keys]
    return rows or [Difference(where="recipe", field="digest", expected=expected, actual=recipe.digest)]


def manifest_differences(manifest: Manifest, sealed: Json, directory: Path) -> list[Difference]:
    """Compare the files of a stage with its manifest, and the manifest with itself and with the
    sealed root.

    Raises:
        StorageError: a file cannot be read.
    """
    stage, found = manifest.stage, []
    for output in manifest.outputs:
        path = directory / output.path
        actual = sha256_file(path) if path.is_file() else ABSENT
        if actual != output.sha256:
            found.append(
                Difference(
                    where=f"{stage}/{output.path}", field="sha256", expected=output.sha256, actual=actual
                )
            )
    computed = output_root(manifest.outputs)
    if computed != manifest.root:
        found.append(
            Difference(where=f"{stage}/{MANIFEST}", field="root", expected=manifest.root, actual=computed)
        )
    if sealed is not None and sealed != manifest.root:
        found.append(
            Difference(where=f"{stage}/{MANIFEST}", field="root", expected=sealed, actual=manifest.root)
        )
    return found


def tool_warnings(stage: str, recorded: Json, here: Mapping[str, str], *, is_law: bool) -> list[str]:
    """Return a line for each tool that differs from the recorded one. Tools that were not recorded
    are not compared.

    With specs/training-arithmetic.md on both sides (`is_law`), neither PyTorch nor the processor
    decides a bit, so a different one is no reason to warn.
    """
    known = recorded if isinstance(recorded, dict) else {}
    names = set(here) - (NEUTRAL if is_law else set())
    return [
        f"{stage}: {name} is {here[name]} here, was {known[name]}"
        for name in sorted(names)
        if name in here and name in known and known[name] != here[name]
    ]
