"""Decide whether a model may use a memory, by the family in its sealed file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sevenfold.artifact import Artifact, open_artifact
from sevenfold.core.errors import PolicyError
from sevenfold.core.hashing import sha256
from sevenfold.tokenizer.codec import Tokenizer

# The families whose models must not retrieve, and the rule of each (specs/recipe.md).
NO_RETRIEVAL = {"m31r": "D2.retrieval"}


def family_of(artifact: Artifact) -> str:
    """Return the family of a sealed model; "" when none is stated."""
    identity = artifact.provenance.get("identity")
    facts = identity.get("facts") if isinstance(identity, dict) else None
    family = facts.get("family") if isinstance(facts, dict) else None
    return family if isinstance(family, str) else ""


def check_family(family: str, where: str) -> None:
    """Refuse retrieval for a family that forbids it. Raises PolicyError."""
    rule = NO_RETRIEVAL.get(family)
    if rule is not None:
        raise PolicyError(
            rule,
            f"no retrieval; the model is of the family {family}",
            where=where,
            remedy="take another model",
        )


def check_model(path: Path) -> None:
    """Refuse retrieval for a model whose family forbids it. Raises ArtifactError, PolicyError."""
    check_family(family_of(open_artifact(path)), str(path))


def counter_of(path: Path) -> tuple[Callable[[Sequence[bytes]], list[int]], str]:
    """Return a function that counts tokens by a model's tokenizer, and its name in a memory.

    Raises:
        ArtifactError: the model is refused.
        PolicyError: its family forbids retrieval.
    """
    artifact = open_artifact(path)
    check_family(family_of(artifact), str(path))
    dictionary = bytes(artifact.dictionary)
    tokenizer = Tokenizer.from_json(dictionary)

    def count(lines: Sequence[bytes]) -> list[int]:
        return [len(ids) for ids in tokenizer.encode_batch([line.decode() for line in lines])]

    return count, f"tokenizer:{sha256(dictionary).hex()}"
