"""Turn records with a text, a licence and other columns into documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath

from sevenfold.core.errors import RecipeError
from sevenfold.core.hashing import Json
from sevenfold.corpus.document import SourceDocument, SourceOrigin, language_of, text_document
from sevenfold.corpus.licences import combine, is_valid
from sevenfold.corpus.licences.declared.metadata import spelled
from sevenfold.corpus.sources.directory import with_own_licence
from sevenfold.recipe.corpus_schema import DatasetSource, JsonlSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """Names of the columns; None for a column that does not exist."""

    text: str = "text"
    licence: str | None = None
    path: str | None = None
    language: str | None = None
    group: str | None = None

    def columns(self) -> list[str]:
        """Return every column that is named."""
        return [name for name in (getattr(self, field.name) for field in fields(self)) if name]


LAYOUTS: Mapping[str, ColumnNames] = {
    "plain": ColumnNames(),
    "the-stack": ColumnNames(
        text="content",
        licence="max_stars_repo_licenses",
        path="max_stars_repo_path",
        language="lang",
        group="max_stars_repo_name",
    ),
    "the-stack-v2": ColumnNames(
        text="content", licence="detected_licenses", path="path", language="language", group="repo_name"
    ),
}


def keys_of(source: JsonlSource | DatasetSource) -> ColumnNames:
    """Return the columns that the settings of a source mean.

    Raises:
        RecipeError: not exactly one of `licence` and `licence_key` is given; without both, the
            layout decides.
    """
    if isinstance(source, JsonlSource):
        keys, given = ColumnNames(text=source.text_key), {"licence": source.licence_key}
    else:
        keys = LAYOUTS[source.layout]
        given = {
            "text": source.text_key,
            "licence": source.licence_key,
            "path": source.path_key,
            "language": source.language_key,
            "group": source.group_key,
        }
    keys = replace(keys, **{name: value for name, value in given.items() if value is not None})
    if source.licence is not None and source.licence_key is None:
        keys = replace(keys, licence=None)
    if (source.licence is None) == (keys.licence is None):
        raise RecipeError(
            f"a {source.kind} source needs either `licence` or `licence_key`, and not both",
            where=f"corpus.sources ({source.path})",
            remedy="declare one licence for all records, or name the key that holds each record's",
        )
    return keys


def origin_of(source: JsonlSource | DatasetSource, keys: ColumnNames) -> SourceOrigin:
    """Return the common origin of the records of a source."""
    return SourceOrigin(
        source=f"{source.kind}:{source.path}",
        version="",
        licence=source.licence,
        licence_evidence="declared by the recipe"
        if source.licence
        else f"key {keys.licence!r} of the record",
        domain=source.domain,
    )


def found_record(
    keys: ColumnNames, origin: SourceOrigin, place: str, record: Mapping[str, Json], max_bytes: int
) -> SourceDocument:
    """Return a record as a document. `place` is its file and number.

    Raises:
        KeyError, TypeError: there is no text under the key.
    """
    text = record[keys.text]
    if not isinstance(text, str):
        raise TypeError(keys.text)
    if keys.licence is not None:
        origin = replace(origin, licence=_licence(record.get(keys.licence)))
    path, language, group = (
        _text(record.get(key) if key else None) for key in (keys.path, keys.language, keys.group)
    )
    # Data sets have their own names for languages. Ours are lower case, and an extension is more
    # precise than "C/C++".
    known = language_of(path) if PurePosixPath(path).suffix else "unknown"
    stated = known if known != "unknown" else re.sub(r"[^a-z0-9+#]+", "-", language.lower())[:40]
    return with_own_licence(text_document(origin, place, text, max_bytes, group, stated))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _licence(value: Json) -> str | None:
    """Return one licence, or a conjunction of a list. A data set that lists detected licences does
    not offer a choice.
    """
    if isinstance(value, str):
        return value if is_valid(value) else spelled(value) or value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return combine(tuple(sorted(spelled(item) or item for item in value)))
    return None
