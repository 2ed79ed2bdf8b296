"""Read the standard library of the running interpreter."""

from __future__ import annotations

import fnmatch
import platform
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sevenfold.core.hashing import sha256
from sevenfold.corpus.document import SourceDocument, SourceOrigin, read_file
from sevenfold.corpus.globs import walk_tree
from sevenfold.recipe.corpus_schema import StdlibSource

# Test folders repeat themselves and hold broken text on purpose. The others are not the standard
# library.
STDLIB_EXCLUDED_DIRECTORIES = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)
# These files were written when the interpreter was built, and hold paths of that machine.
STDLIB_EXCLUDED_FILES = "_sysconfigdata*.py"
STDLIB_LICENCE = "PSF-2.0"
_PSF_TITLE = b"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"


def read_stdlib(source: StdlibSource, _base: Path, max_bytes: int) -> Iterator[SourceDocument]:
    """Yield the documents of the standard library. One licence covers it, so the headers of files
    are not read.
    """
    root = Path(sysconfig.get_path("stdlib"))
    licence, evidence = stdlib_licence(root)
    origin = SourceOrigin(
        source="stdlib",
        version=f"{platform.python_implementation()} {platform.python_version()}",
        licence=licence,
        licence_evidence=evidence,
        domain=source.domain,
    )

    def wanted(path: str) -> bool:
        name = PurePosixPath(path)
        return name.suffix == ".py" and not fnmatch.fnmatchcase(name.name, STDLIB_EXCLUDED_FILES)

    for path, file in walk_tree(root, wanted, STDLIB_EXCLUDED_DIRECTORIES):
        yield read_file(origin, path, file, max_bytes)


def stdlib_licence(root: Path) -> tuple[str | None, str]:
    """Return the licence of the standard library under `root` and its evidence; None when it cannot
    be determined.
    """
    about = f"{platform.python_implementation()} {platform.python_version()}"
    if platform.python_implementation() != "CPython":
        return None, f"{about}: only CPython's own library is known to be {STDLIB_LICENCE}"
    for name in ("LICENSE.txt", "LICENSE"):
        try:
            text = (root / name).read_bytes()
        except OSError:
            continue
        if _PSF_TITLE in text:
            return STDLIB_LICENCE, f"{about}: {name} beside the library, sha256 {sha256(text).hex()}"
    if "Python Software Foundation" in sys.copyright:
        return STDLIB_LICENCE, f"{about}: copyright notice of the interpreter (sys.copyright)"
    return None, f"{about}: no licence text found"
