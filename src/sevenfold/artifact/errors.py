"""Define one error class for each cause of refusal.

Each message names the lane (or the header) and the offset. All classes derive from `ArtifactError`
(exit code 3) except `ExistingArtifactError`, which concerns the path and not the file (exit code
4).
"""

from __future__ import annotations

from sevenfold.core.errors import ArtifactError, StorageError


class HeaderError(ArtifactError):
    """The 40-byte header holds a value that no version of the format has."""


class MagicError(HeaderError):
    """The file does not start with `S7LM`: it is not an artifact."""


class VersionError(HeaderError):
    """A format version that never existed, or a version that contradicts the contents of the file."""


class NewerVersionError(VersionError):
    """A format version that came after this reader."""


class EarlierFormError(VersionError):
    """A form that unreleased versions of Sevenfold wrote before version 3."""


class PublishedError(ArtifactError):
    """A file of the published contract, which has no seal, given where a sealed file is required."""


class ClassError(HeaderError):
    """A model class other than dense and MoE, or a class that the version does not define."""


class FlagError(HeaderError):
    """A flag bit without a meaning in this version, or one that contradicts the model class."""


class TruncatedError(ArtifactError):
    """The file ends inside the header or inside a lane."""


class LimitError(ArtifactError):
    """A size or a count beyond the reader's caps."""


class LaneIdError(ArtifactError):
    """A lane id other than 1 to 5."""


class LaneDigestError(ArtifactError):
    """A payload that does not hash to the digest stored behind it."""


class DuplicateLaneError(ArtifactError):
    """Two lanes where the format has one."""


class RootError(ArtifactError):
    """A root in the header that does not match the lanes. The message says what was changed if the
    seal shows it.
    """


class RecordError(ArtifactError):
    """A FIELD record that is malformed."""


class TruncatedRecordError(RecordError):
    """A record that extends past the end of its lane."""


class TensorNameError(RecordError):
    """A tensor name that is empty, too long, or holds a character that names must not have."""


class DuplicateTensorError(RecordError):
    """Two records with one name."""


class RankError(RecordError):
    """Rank 0, or above 8."""


class DimensionError(RecordError):
    """A dimension of zero."""


class PaddingError(RecordError):
    """Padding bytes that are not zero."""


class MissingTensorError(RecordError):
    """A FIELD lane without `embedding.weight` or `lm_head.weight`."""


class JsonError(ArtifactError):
    """An EDGE, LANE or BATCH payload that is not a JSON object."""


class DuplicateKeyError(JsonError):
    """A JSON object that holds a key twice."""


class LaneKindError(JsonError):
    """A JSON payload without a `kind`, or with one that its lane does not have."""


class SealError(JsonError):
    """A seal that does not say what the format asks for."""


class ChunkError(ArtifactError):
    """A chunk whose hash is not the one in the seal. It gives the place of a change without reading
    the rest.
    """


class AnonymousError(ArtifactError):
    """A model that does not name its origin, given to a loader (rule D6)."""


class HeaderOnlyError(ArtifactError):
    """A file without lanes where a model was expected."""


class BundleError(ArtifactError):
    """A bundle directory with a file missing, changed or added."""


class ContentsError(ArtifactError):
    """Contents that the writer refuses to seal."""


class ExistingArtifactError(StorageError):
    """The path holds another file, and `replace` was not asked for."""
