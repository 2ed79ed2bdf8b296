"""Import of a dense Llama: weights, vocabulary, origin and recipe in a directory for the pipeline.

The recipe names the weights by their digest (`model.pretrained`). A family whose policy forbids
external weights therefore refuses it, whatever the file says about itself. The metadata of the file
is kept in origin.json and written again by an export, so an export in the same type has the same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.run_files import IMPORTED_RECIPE, ORIGIN, TOKENIZER, WEIGHTS
from sevenfold.export.foreign import object_of
from sevenfold.export.gguf import vocabulary
from sevenfold.export.names import check_expressible
from sevenfold.export.source import ExportSource, check_vocabulary
from sevenfold.export.staged_output import beside
from sevenfold.export.store import write_tensors
from sevenfold.recipe.loader import load_recipe
from sevenfold.recipe.policy import check_policies
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.sizing import count, tensors
from sevenfold.runs.pretrained import pretrained_digest

WINDOW = 512
# The corpus for measuring and calibrating an import without a recipe: the library of the
# interpreter.
BASE: dict[str, Json] = {
    "recipe": 1,
    "family": "s7",
    "corpus": {"sources": [{"kind": "stdlib"}], "licences": ["PSF-2.0"]},
    "train": {"seed": 0, "learning_rate": 1e-3, "batch_sequences": 4},
}


def import_model(
    kind: str, path: Path, out: Path, base: Recipe | None = None, *, cut_padding: bool = False
) -> dict[str, Json]:
    """Write `out`/{model.safetensors, tokenizer.json, origin.json, recipe.yaml}.

    Args:
        kind: `hf` (a directory) or `gguf` (a file).
        base: the recipe with family, corpus and gates; by default that of the file, else BASE.
        cut_padding: leave out rows of the embedding without a token.

    Raises:
        UsageError: the kind is unknown, or the model is not a Llama of the form that this version
            runs.
        PolicyError: a rule of the family forbids it (D2.pretrained: no external weights).
        StorageError: the file is missing or damaged, its vocabulary has another form, a weight is
            not finite, or `out` exists.
    """
    if kind not in ("hf", "gguf"):
        raise UsageError(f"no kind {kind!r}", where="import", remedy="kinds are hf and gguf")
    with _one_line(path):
        foreign = _read(kind, path, cut_padding)
        check_expressible(foreign.spec)
        check_vocabulary(foreign)
        # The rules are checked first, so that a forbidden model is not even copied. The digest is
        # filled in when the weights are written.
        recipe = _recipe(foreign, base, "sha256:" + "0" * 64)
        check_policies(Recipe.model_validate_json(canonical_json(recipe)))
        origin: dict[str, Json] = {
            "format": kind,
            "file": path.name,
            "provenance": foreign.provenance,
            "roles": foreign.roles and foreign.roles.as_json(),
        }
        canonical_json(origin)
    with beside(out) as work:
        write_tensors(work / WEIGHTS, tensors(foreign.spec), foreign.read, "F32", {})
        write_bytes(work / TOKENIZER, foreign.tokenizer)
        pretrained = pretrained_digest(work)
        write_json(
            work / ORIGIN, origin | {"pretrained": pretrained, "model": foreign.spec.model_dump(mode="json")}
        )
        write_json(work / IMPORTED_RECIPE, _recipe(foreign, base, pretrained))
        load_recipe(work / IMPORTED_RECIPE)
    return {
        "name": recipe["name"],
        "n_parameters": count(foreign.spec),
        "pretrained": pretrained,
        "format": kind,
        "notes": list(foreign.notes),
    }


def _read(kind: str, path: Path, cut_padding: bool) -> ExportSource:
    # The import is here, because each format needs only its own library.
    if kind == "hf":
        from sevenfold.export.hf.importing import read_hf

        return read_hf(path, cut_padding=cut_padding)
    from sevenfold.export.gguf.importing import read_gguf

    return read_gguf(path, cut_padding=cut_padding)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn errors from unexpected types in a foreign file into one StorageError."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        what = " ".join(str(error).split())[:160]
        raise StorageError(
            f"not of the form that this version reads ({type(error).__name__}: {what})",
            where=str(path),
            remedy="check that it is a Llama as its own tools write it",
        ) from error


def _recipe(foreign: ExportSource, base: Recipe | None, pretrained: str) -> dict[str, Json]:
    """Return the recipe as JSON, which is YAML."""
    carried = (
        base.resolved() if base else object_of(foreign.provenance.get("recipe")) | BASE | _family(foreign)
    )
    spec = foreign.spec.model_dump(mode="json") | {"pretrained": pretrained}
    special = list(foreign.vocabulary().special_tokens)
    pieces = vocabulary.pieces_of(foreign.tokenizer)
    sequence = min(WINDOW, foreign.spec.context)
    train = carried["train"] | {
        "sequence": sequence,
        "tokens": carried["train"]["batch_sequences"] * sequence,
    }
    return {
        **carried,
        "name": _slug(foreign.name),
        "tier": "",
        "summary": "Imported weights; not trained here.",
        "model": spec,
        "tokenizer": {
            "vocab_size": foreign.spec.vocab_size,
            "special_tokens": special,
            "pieces": pieces,
            **({"roles": foreign.roles.as_json()} if foreign.roles else {}),
        },
        "train": train,
    }


def _family(foreign: ExportSource) -> dict[str, Json]:
    """Return the family that the file names. Its rules apply to the import."""
    family = object_of(foreign.provenance.get("recipe")).get("family")
    return {"family": family} if family else {}


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")
    return kept[:60] or "imported"
