"""Find the licences of documents from packages, folders and files, as SPDX expressions, and decide
whether a recipe allows them (A5).
"""

from sevenfold.corpus.licences.policy import Judgement, LicencePolicy, combine, is_valid
from sevenfold.corpus.licences.reading import Look, Seen
from sevenfold.corpus.licences.survey import Licence, Survey, follow, read_through

__all__ = [
    "Judgement",
    "Licence",
    "LicencePolicy",
    "Look",
    "Seen",
    "Survey",
    "combine",
    "follow",
    "is_valid",
    "read_through",
]
