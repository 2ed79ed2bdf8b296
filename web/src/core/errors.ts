/** The one root of errors: each says what was refused, where, and what to do. */

/** What a message says in place of characters that are not printable ASCII, at most `length` of them. */
export function printable(text: string, length = 120): string {
  return text.slice(0, length).replace(/[^\x20-\x7e]/g, "?");
}

export class SevenfoldError extends Error {
  // Written out: a bundler shortens the names of classes.
  override name = "SevenfoldError";
  readonly what: string;
  readonly where: string;
  readonly remedy: string;

  constructor(what: string, where = "", remedy = "") {
    const place = where ? `${where}: ` : "";
    super(place + what + (remedy ? ` (${remedy})` : ""));
    this.what = what;
    this.where = where;
    this.remedy = remedy;
  }
}

/** A request, an option or a call that is refused. */
export class UsageError extends SevenfoldError {
  override name = "UsageError";
}

/** The CM-1 gate is shut, or refuses a character (specs/control.md). */
export class GateError extends SevenfoldError {
  override name = "GateError";
}

/** Bytes that cannot be read, written or fetched. */
export class StorageError extends SevenfoldError {
  override name = "StorageError";
}

/** An engine that cannot be had here, or fails: the session goes on elsewhere. */
export class EngineError extends SevenfoldError {
  override name = "EngineError";
}

/** The causes of specs/artifact.md, "Errors", and of what opening a model adds to them. */
export type Cause =
  | "MagicError"
  | "VersionError"
  | "NewerVersionError"
  | "EarlierFormError"
  | "PublishedError"
  | "ClassError"
  | "FlagError"
  | "TruncatedError"
  | "LimitError"
  | "LaneIdError"
  | "LaneDigestError"
  | "DuplicateLaneError"
  | "RootError"
  | "TruncatedRecordError"
  | "TensorNameError"
  | "DuplicateTensorError"
  | "RankError"
  | "DimensionError"
  | "PaddingError"
  | "MissingTensorError"
  | "JsonError"
  | "DuplicateKeyError"
  | "LaneKindError"
  | "SealError"
  | "ChunkError"
  | "AnonymousError"
  | "HeaderOnlyError"
  | "UnverifiedError"
  | "GraphError"
  | "TokenizerError"
  | "SelfTestError";

/** A file that is refused. `name` is the cause, as Python's class is called. */
export class ArtifactError extends SevenfoldError {
  readonly cause_: Cause;

  constructor(cause: Cause, what: string, where = "", remedy = "") {
    super(what, where, remedy);
    this.name = cause;
    this.cause_ = cause;
  }
}
