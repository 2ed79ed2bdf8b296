"""Licences of documents: what packages, folders and files say, as SPDX expressions, and whether a
recipe allows it (A5).
"""

from sevenfold.corpus.licences.policy import Judgement, LicencePolicy, combine, is_valid
from sevenfold.corpus.licences.survey import Licence, Survey

__all__ = ["Judgement", "Licence", "LicencePolicy", "Survey", "combine", "is_valid"]
