"""Read a table of `recipes/` that is YAML under a schema: gates, risks, experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.files import read_bytes
from sevenfold.recipe.shipped import recipes_directory

Table = TypeVar("Table", bound=BaseModel)


def load_table(
    schema: type[Table], folder: str, name: str, where: str = "", page: str = "programme"
) -> Table:
    """Return a table: a path, or the name of one that ships in a folder of `recipes/`.

    Args:
        where: the option that gave the name, for the error.
        page: the page of `specs/` that has the schema.

    Raises:
        RecipeError: the file breaks the schema.
        UsageError: there is no such file or name.
        StorageError: it cannot be read.
    """
    home = recipes_directory() / folder
    shipped = sorted(path.stem for path in home.glob("*.yaml"))
    path = home / f"{name}.yaml" if name in shipped else Path(name)
    if not path.is_file():
        raise UsageError(f"no {folder} {name!r}", where=where, remedy=f"use a file, or {', '.join(shipped)}")
    try:
        return schema.model_validate(yaml.safe_load(read_bytes(path)))
    except (yaml.YAMLError, ValidationError, RecursionError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:300]
        raise RecipeError(
            f"no file of {folder}: {said}", where=str(path), remedy=f"see specs/{page}.md"
        ) from error
