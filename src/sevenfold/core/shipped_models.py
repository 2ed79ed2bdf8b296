"""Find the models that ship. Wherever a command takes a sealed file, it also takes the name of one
of them. No network is used.

The models lie in the first of these directories that has an index: the one that the variable
`S7_MODELS` names, the package `sevenfold_models` (its own wheel), `models/` of a checkout.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json

DIRECTORY, PACKAGE, INDEX = "S7_MODELS", "sevenfold_models", "index.json"
FORMAT = 1
_KEYS = {"name", "file", "root", "n_bytes", "licence", "summary", "figures"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """One model of the index.

    Attributes:
        root: the root of the sealed file.
        figures: name of a figure -> its value. models/README.md says how they were measured.
    """

    name: str
    path: Path
    root: str
    n_bytes: int
    licence: str
    summary: str
    figures: dict[str, Json]


def _directories() -> list[Path]:
    named = os.environ.get(DIRECTORY)
    if named:
        return [Path(named)]
    spec = find_spec(PACKAGE)
    installed = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return [*installed, Path(__file__).resolve().parents[3] / "models" / PACKAGE]


def shipped_models() -> dict[str, ShippedModel]:
    """Return the installed models by name. Without an index there are none.

    Raises StorageError when the index cannot be read.
    """
    for directory in _directories():
        index = directory / INDEX
        if index.is_file():
            return _read(index)
    return {}


def _read(index: Path) -> dict[str, ShippedModel]:
    found = read_json(index)
    rows = found.get("models") if isinstance(found, dict) and found.get("index") == FORMAT else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() == _KEYS for row in rows):
        raise StorageError(
            f"not an index of models of format {FORMAT}",
            where=str(index),
            remedy=f"install {PACKAGE} of this version again, or correct {DIRECTORY}",
        )
    models = {}
    for row in rows:
        # The index may only name files beside it, so the folders of a path are dropped.
        path = index.parent / Path(str(row["file"])).name
        rest = {key: row[key] for key in _KEYS - {"file"}}
        models[str(row["name"])] = ShippedModel(path=path, **rest)
    return models


def model_path(path: Path | str) -> Path:
    """Return the file of the model with this name. A path that exists, or that cannot be a name, is
    returned as it is.

    Raises StorageError, which lists the names, when neither a file nor a model has this one.
    """
    path = Path(path)
    if not _NAME.fullmatch(str(path)) or path.exists():
        return path
    known = shipped_models()
    if str(path) in known:
        return known[str(path)].path
    names = ", ".join(known)
    raise StorageError(
        f"no file {path} is here, and no model that ships has this name",
        where=str(path),
        remedy=f"models: {names}" if names else "name a sealed file; no models are installed",
    )
