"""The data files of the generators: sentences and programs with holes, in TOML."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def read_data(name: str) -> dict[str, Any]:
    """Return a TOML file that lies beside this module."""
    return tomllib.loads(resources.files("sevenfold.synthetic").joinpath(name).read_text("utf-8"))
