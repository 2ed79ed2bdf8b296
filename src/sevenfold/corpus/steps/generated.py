"""Step `generated`: drop files that a program wrote, that are minified, or that belong to another
project.

Markers are searched where generators write them, in the first bytes. Names and folders are those
that GitHub's linguist and packagers treat the same way.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from sevenfold.corpus.document import name_of
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument

HEAD_BYTES = 2000
GENERATED_MARKERS = re.compile(
    rb"@generated\b|\bauto-?generated (?:by|from|file|code|on)\b"
    rb"|\b(?:file|code) (?:is|was|has been) (?:auto(?:matically)?[- ]?)?generated\b"
    rb"|\bgenerated (?:automatically|by (?:the )?(?:protocol"
    rb" buffer|swig|cython|bison|flex|cffi|yacc|lemon|ragel|thrift|openapi"
    rb"|antlr|autoconf|automake|pyuic|qt user interface))"
    rb"|\bdo not (?:edit|modify) (?:this file|manually|by hand|directly)|\bcode generated .{0,60}do not edit",
    re.IGNORECASE,
)
# Every marker contains one of these words, in any case.
_GENERATED_WORDS = (b"generated", b"do not edit", b"do not modify")
GENERATED_NAMES = re.compile(
    r"_pb2(?:_grpc)?\.pyi?$|\.pb\.(?:go|cc|h)$|\.g\.dart$|^(?:package-lock|npm-shrinkwrap)\.json$|^(?:yarn|"
    r"poetry|Cargo)\.lock$"
    r"|^moc_.*\.cpp$|^qrc_.*\.cpp$|\.designer\.cs$|^parsetab\.py$|^_sysconfigdata"
)
MINIFIED_NAMES = re.compile(r"[.-]min\.(?:js|css|mjs)$|\.bundle\.js$|\.map$")
# The mean length of a line identifies minified files with any name.
MINIFIED_LANGUAGES = frozenset(("javascript", "css", "html", "typescript"))
MINIFIED_MEAN_LINE = 200
VENDORED_FOLDERS = frozenset(
    (
        "node_modules", "bower_components", "vendor", "vendors", "vendored", "_vendor", "_vendored",
        "third_party",
        "third-party", "thirdparty", "3rdparty", "site-packages", "dist-packages", "Godeps", "extern",
        "externals",
    )
)  # fmt: skip


def generated(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Refuse documents of the kinds that `corpus.steps.drop` names."""
    wanted = settings.spec.drop
    name = name_of(text.found.path)
    if "vendored" in wanted and not VENDORED_FOLDERS.isdisjoint(PurePosixPath(text.found.path).parts[:-1]):
        return "vendored"
    if "minified" in wanted and _is_minified(text, name):
        return "minified"
    if "generated" in wanted and (GENERATED_NAMES.search(name) or _says_generated(text.data[:HEAD_BYTES])):
        return "generated"
    return None


def _says_generated(head: bytes) -> bool:
    lowered = head.lower()
    return any(word in lowered for word in _GENERATED_WORDS) and bool(GENERATED_MARKERS.search(head))


def _is_minified(text: WorkingDocument, name: str) -> bool:
    if MINIFIED_NAMES.search(name):
        return True
    if text.language not in MINIFIED_LANGUAGES:
        return False
    return (
        text.n_in_lines > MINIFIED_MEAN_LINE * text.measures.n_lines
        and len(text.data) > 2 * MINIFIED_MEAN_LINE
    )
