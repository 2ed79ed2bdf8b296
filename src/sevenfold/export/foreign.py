"""Checks for both kinds of imports: sound weights, rows without a token, and shapes on which two
sources agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.tables import rope_base
from sevenfold.export.store import Floats
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors

# Above this value the sums of squares in a norm exceed float32, so no working model has such a
# weight.
MAX_WEIGHT = 2.0**40
ROWS = ("embedding.weight", "lm_head.weight")


def sound(
    read: Callable[[str], Floats], name_of: Callable[[str], str], where: str
) -> Callable[[str], Floats]:
    """Return `read` with a check of each weight. The reader raises StorageError for a weight that
    is not finite or too large.
    """

    def checked(name: str) -> Floats:
        values = read(name)
        peak = float(np.abs(values).max(initial=0.0))
        if not peak <= MAX_WEIGHT:
            what = (
                "NaN"
                if np.isnan(values).any()
                else "infinity"
                if np.isinf(peak)
                else f"a weight of {peak:.3g}"
            )
            raise StorageError(
                f"tensor {name_of(name)!r} holds {what}",
                where=where,
                remedy="its training or its conversion failed; get another copy of the model",
            )
        return values

    return checked


@dataclass(frozen=True)
class Cut:
    """The number of rows of the embedding and the head that are kept, which are those with a token."""

    n_stored: int
    n_rows: int

    @classmethod
    def of(cls, n_stored: int, n_tokens: int, allowed: bool, where: str) -> Cut:
        """Compare rows with tokens. Raises StorageError when tokens have no row, UsageError when
        rows have no token.
        """
        if n_tokens > n_stored:
            raise StorageError(
                f"its tokenizer has {n_tokens} entries, the model {n_stored}",
                where=where,
                remedy="bring the tokenizer that the weights were trained with",
            )
        if n_tokens < n_stored and not allowed:
            raise UsageError(
                f"its embedding has {n_stored} rows, its tokenizer {n_tokens} entries: "
                f"{n_stored - n_tokens} rows are padding",
                where=where,
                remedy="--cut-padding leaves the rows without a token out",
            )
        return cls(n_stored, n_tokens)

    def reader(self, read: Callable[[str], Floats]) -> Callable[[str], Floats]:
        """Return `read` without the rows that are cut."""

        def cut(name: str) -> Floats:
            return read(name)[: self.n_rows] if name in ROWS else read(name)

        return read if self.n_rows == self.n_stored else cut


def agreeing(own: Json, spec: ModelSpec) -> ModelSpec:
    """Return the shape of our recipe when it agrees with the keys of the file. An `ntk` scaling is
    exported as a larger base.
    """

    def said(of: ModelSpec) -> tuple[object, ...]:
        scaling = of.rope_scaling
        kept = scaling if scaling.kind in ("linear", "llama3") else None
        plain = scaling.kind if scaling.kind == "ntk" else "none"
        base = rope_base(of.head_dim, of.rope_theta, plain, scaling.factor)
        return tensors(of), of.n_heads, of.context, kept, np.float32(base), np.float32(of.norm_eps)

    try:
        found = ModelSpec.model_validate_json(json.dumps(own))
        return found if said(found) == said(spec) else spec
    except ValueError:
        return spec


def origin(kind: str, path: Path, name: str) -> dict[str, Json]:
    """Return the provenance of a file that records none."""
    return {"name": name, "origin": {"format": kind, "file": path.name}}


def read_foreign_json(path: Path) -> Json:
    """Read a JSON file from elsewhere. Raises StorageError, whose remedy never tells to delete a
    file that we did not make.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:160]
        raise StorageError(f"not valid JSON: {what}", where=str(path), remedy="get the file again") from error


def object_of(value: Json) -> dict[str, Json]:
    """Return a JSON object or the object in a JSON text; an empty object for anything else."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
