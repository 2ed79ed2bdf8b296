"""Keep finished blocks of attempts beside the file that is being written, so that a run that was
killed goes on after them.

A block depends only on the version of the generators, the interpreter, the name of the generator, the
seed and the numbers of its attempts. A digest of all of them is the name of its file, so blocks of
another request are never taken. A file begins with the digest of the rest. A file that was cut off or
altered is made again. Files are not synced, because a block that a crash loses is made again as well.
Memory: one block.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from sevenfold.core.errors import storage
from sevenfold.core.hashing import canonical_json, digest, sha256
from sevenfold.synthetic.sample import Attempts, SyntheticSample
from sevenfold.synthetic.table import made_with

# The second form is the name of a file that is being written.
_BLOCK = re.compile(r"[0-9a-f]{32}(\.\d+)?")


def directory_of(file: Path) -> Path:
    """Return the directory in which the blocks of a file of samples are kept until it is complete."""
    return file.with_name(f"{file.name}.blocks")


def path_of(directory: Path, name: str, seed: int, numbers: range) -> Path:
    """Return the file of the block with these attempts of a generator."""
    return directory / digest("sevenfold/synthetic-block/1", made_with(), name, str(seed), repr(numbers))[:32]


def load(file: Path) -> Attempts | None:
    """Return the block in a file, or None when there is none or it is damaged."""
    try:
        seal, _, body = file.read_bytes().partition(b"\n")
    except OSError:
        return None
    if seal.decode("ascii", "replace") != sha256(body).hex():
        return None
    return [None if fields is None else SyntheticSample(*fields) for fields in json.loads(body)]


def save(file: Path, attempts: Attempts) -> None:
    """Keep a block. Raises StorageError."""
    fields = [one and [one.instruction, one.response, one.language, one.shape] for one in attempts]
    body = canonical_json(fields)
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    with storage(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(sha256(body).hex().encode() + b"\n" + body)
            beside.replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


def forget(directory: Path) -> None:
    """Remove the blocks of a complete file, and the directory when nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if _BLOCK.fullmatch(path.name):
                path.unlink()
        directory.rmdir()
