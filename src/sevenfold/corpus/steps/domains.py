"""Step `domains`: which part of the mix a document belongs to, by the recipe's rules."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

from sevenfold.corpus.globs import glob_matches
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import Settings, WorkingDocument


def domains(text: WorkingDocument, settings: Settings) -> Reason | None:
    """Give the document the domain of the first rule that fits; it never leaves here."""
    for rule in settings.spec.domains:
        if rule.of is not None and rule.of != text.found.origin.domain:
            continue
        if text.language in rule.languages or any(_fits(text.found.path, glob) for glob in rule.paths):
            text.domain = rule.domain
            break
    return None


@cache
def _parts(glob: str) -> tuple[str, ...]:
    return PurePosixPath(glob).parts


def _fits(path: str, glob: str) -> bool:
    return glob_matches(PurePosixPath(path).parts, _parts(glob))
