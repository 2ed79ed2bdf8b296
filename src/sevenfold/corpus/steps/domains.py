"""Step `domains`: assign a document to a domain of the mix, by the rules of the recipe."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

from sevenfold.corpus.globs import glob_matches
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument


def domains(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Set the domain of the document by the first rule that matches. No document is dropped here."""
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
