"""Section `corpus` of a recipe: the sources, the steps over their documents, the licences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sevenfold.recipe.fields import Bytes, FilePath, Name, Positive, Ratio, Section
from sevenfold.recipe.units import Unit


class StdlibSource(Section):
    """The standard library of the running interpreter, without its test folders."""

    kind: Literal["stdlib"]
    domain: Name = "code"


class DirectorySource(Section):
    """A directory tree of text files under one declared licence."""

    kind: Literal["directory"]
    path: FilePath
    licence: str
    include: tuple[str, ...] = ("**/*",)
    domain: Name = "code"


class JsonlSource(Section):
    """One JSON object per line. The licence is declared for all, or read from a key of each."""

    kind: Literal["jsonl"]
    path: FilePath
    text_key: str = "text"
    licence: str | None = None
    licence_key: str | None = None
    domain: Name = "code"


Globs = Annotated[tuple[str, ...], Field(max_length=1000)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class PinnedSource(Section):
    """Packages that a lock pins (specs/corpus-lock.md), as `s7 corpus fetch` stored them.

    `only` holds kinds (pypi, npm, deb, dsc) or globs of names; empty means all. `include` holds globs
    of paths; empty means every extension in the table of languages.
    """

    kind: Literal["lock"]
    path: FilePath
    only: Globs = ()
    include: Globs = ()
    exclude: Globs = ()
    domain: Name = "code"


class InstalledSource(Section):
    """Python packages as they are installed beside the running interpreter, by name."""

    kind: Literal["installed"]
    packages: Annotated[tuple[FilePath, ...], Field(min_length=1, max_length=1000)]
    include: Globs = ()
    exclude: Globs = ()
    domain: Name = "code"


class GitSource(Section):
    """A git repository on this machine at one commit, read from its objects.

    `licence` is concluded for all of it.
    """

    kind: Literal["git"]
    path: FilePath
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    licence: str | None = None
    include: Globs = ()
    exclude: Globs = ()
    domain: Name = "code"


class DatasetSource(Section):
    """Records in Parquet or JSON lines (plain, .gz, .zst): one file, or a directory in the layout of
    dataset hubs.

    `layout` names the columns of a known data set. The other keys name single columns and override
    it.
    """

    kind: Literal["dataset"]
    path: FilePath
    layout: Literal["plain", "the-stack", "the-stack-v2"] = "plain"
    text_key: ColumnName | None = None
    licence: str | None = None
    licence_key: ColumnName | None = None
    path_key: ColumnName | None = None
    language_key: ColumnName | None = None
    group_key: ColumnName | None = None
    include: Globs = ()
    domain: Name = "code"


class SyntheticSource(Section):
    """Samples from the generators of this project. Each is executed, evaluated or parsed before it is
    kept (specs/synthetic.md).
    """

    kind: Literal["synthetic"]
    generators: dict[Name, Positive] = Field(min_length=1)
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    max_per_shape: Positive = 24
    domain: Name = "instructions"


Source = Annotated[
    StdlibSource
    | DirectorySource
    | JsonlSource
    | PinnedSource
    | InstalledSource
    | GitSource
    | DatasetSource
    | SyntheticSource,
    Field(discriminator="kind"),
]


class LineLimits(Section):
    """Limits of a text that people wrote: its lines, and the share of letters in it."""

    max_line: Bytes = 1000
    max_mean_line: Bytes = 100
    max_lines: Positive = 100_000
    min_alphabetic: Ratio = 0.25


class Perplexity(Section):
    """Limits of the bits per byte under a byte-trigram model of the other half of the corpus. A
    document outside of them is dropped.
    """

    min_bits: float = Field(default=0.5, ge=0.0, le=32.0)
    max_bits: float = Field(default=4.5, ge=0.0, le=32.0)


class NearDuplicates(Section):
    """Clusters of documents whose sets of word shingles have at least this Jaccard similarity."""

    jaccard: Annotated[float, Field(ge=0.5, le=1.0), Unit.RATIO] = 0.8
    shingle: Annotated[int, Field(ge=1, le=64)] = 5  # words
    keep: bool = False  # all of a cluster stay, and share a split with `split: cluster`


class Decontamination(Section):
    """Hashes of evaluation sets (`s7 eval-hashes`). The digest binds them without the sets
    themselves.
    """

    path: FilePath
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    hits: Positive = 1


class DomainRule(Section):
    """A rule that puts documents of one of the languages, or under one of the globs, into `domain`.

    `of` limits the rule to sources with that domain.
    """

    domain: Name
    of: Name | None = None
    languages: tuple[Name, ...] = ()
    paths: tuple[str, ...] = ()


class StepsSpec(Section):
    """The steps over the documents after they were read.

    By default texts are decoded and exact duplicates are dropped, and nothing else.
    """

    lines: LineLimits | None = None
    drop: tuple[Literal["generated", "minified", "vendored"], ...] = ()
    prose_languages: tuple[Name, ...] = ()
    syntax: tuple[Name, ...] = ()
    secrets: Literal["keep", "redact", "drop"] = "keep"
    personal: Literal["keep", "redact", "drop"] = "keep"
    quality: bool = False
    decontaminate: Decontamination | None = None
    near_duplicates: NearDuplicates | None = None
    perplexity: Perplexity | None = None
    domains: tuple[DomainRule, ...] = ()
    split: Literal["document", "cluster", "source"] = "document"


class CorpusSpec(Section):
    """The corpus of a model. One document in `holdout` (by content hash) is never trained on."""

    sources: tuple[Source, ...] = Field(min_length=1)
    licences: tuple[str, ...] = Field(min_length=1)
    holdout: Annotated[int, Field(ge=2, le=10000)] = 20
    min_bytes: Bytes = 1
    max_bytes: Bytes = 1 << 20
    mix: dict[str, Ratio] = Field(default_factory=dict)
    steps: StepsSpec = StepsSpec()
