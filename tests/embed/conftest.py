"""The library as setup built it, and sealed files of tiny models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("engine", "attacks", "artifact")]


@pytest.fixture(scope="session")
def tree() -> Path:
    """The directory that `native/embed/build.sh` made."""
    from sevenfold.artifact import layout

    tree = Path(layout.__file__).parent / "_native"
    if not (tree / "lib" / "libsevenfold.so").is_file():
        pytest.skip("libsevenfold was not built (a C++20 compiler and scripts/setup.sh make it)")
    return tree


@pytest.fixture(scope="session")
def library(tree: Path) -> Any:
    """The library behind ctypes."""
    from embed_library import Library

    return Library(tree / "lib" / "libsevenfold.so")


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """sealed(kind) -> path of a sealed file; tests only read it."""
    from embed_models import seal_input

    from sevenfold.artifact import build_contents, write_artifact

    directory = tmp_path_factory.mktemp("embed")

    def build(kind: str = "plain") -> Path:
        path = directory / f"{kind}.s7l"
        if not path.is_file():
            write_artifact(path, build_contents(seal_input(kind)))
        return path

    return build
