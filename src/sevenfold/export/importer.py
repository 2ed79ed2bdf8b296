"""Import of a dense Llama: weights, vocabulary, origin and recipe in a directory for the pipeline.

The recipe names the weights by their digest (`model.pretrained`). A family whose policy forbids
external weights therefore refuses it, whatever the file says about itself. What the file says stays
in origin.json and leaves again with an export: exported in the same type, the file has the same
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
# What an import without a recipe of its own is measured and calibrated on:
# the interpreter's library.
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
        base: family, corpus and gates; default: those that the file carries, else BASE.
        cut_padding: rows of the embedding without a token may be left out.

    Raises:
        UsageError: an unknown kind, or a model that is no Llama of the form that this version runs.
        PolicyError: a rule of the family forbids it (D2.pretrained: no external weights).
        StorageError: the file is missing, damaged, or its vocabulary is of another form; a weight
            is no finite number; or something is at `out`.
    """
    if kind not in ("hf", "gguf"):
        raise UsageError(f"no kind {kind!r}", where="import", remedy="kinds are hf and gguf")
    with _one_line(path):
        foreign = _read(kind, path, cut_padding)
        check_expressible(foreign.spec)
        check_vocabulary(foreign)
        # Rules first: what they forbid is not even copied. The digest stands in
        # once the weights are there.
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
    # Imported here: the library of the one format is not needed for the other.
    if kind == "hf":
        from sevenfold.export.hf.importing import read_hf

        return read_hf(path, cut_padding=cut_padding)
    from sevenfold.export.gguf.importing import read_gguf

    return read_gguf(path, cut_padding=cut_padding)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Yield a value of another type than its place asks for, anywhere in a file from elsewhere,
    leaves as one line.
    """
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
    """Return the family that the file names, whose rules then bind the import."""
    family = object_of(foreign.provenance.get("recipe")).get("family")
    return {"family": family} if family else {}


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")
    return kept[:60] or "imported"
