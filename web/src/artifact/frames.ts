/** Header and lane heads of a file, each value checked before it is used. */

import { type Bytes, bigEndian, equalBytes, toHex } from "../core/bytes.ts";
import { ArtifactError, type Cause } from "../core/errors.ts";
import * as layout from "./layout.ts";

export const AGAIN = "get the file again from its source";

export interface Header {
  readonly version: number;
  readonly class_: number;
  readonly flags: number;
  readonly root: Bytes;
  /** The first 8 bytes, as hex: what a seal lists. */
  readonly head: string;
  /** A file of the published contract (version 1 or 2): no seal binds it. */
  readonly isPublished: boolean;
  readonly isPadded: boolean;
}

export interface Lane {
  readonly index: number;
  readonly id: number;
  /** Of the id byte. */
  readonly offset: number;
  /** Of the payload. */
  readonly n_bytes: number;
  sha256: Bytes;
  /** What a JSON payload says that it is; "" for every other. */
  kind: string;
}

export const payloadOffset = (lane: Lane): number => lane.offset + layout.LANE_HEAD_BYTES;
export const endOf = (lane: Lane): number => payloadOffset(lane) + lane.n_bytes + layout.DIGEST_BYTES;
export const whereOf = (lane: Lane): string =>
  `lane ${lane.index} (${layout.LANE_NAMES[lane.id]}) at offset ${lane.offset}`;

function refuse(cause: Cause, what: string, where: string, remedy = AGAIN): never {
  throw new ArtifactError(cause, what, where, remedy);
}

function checkFlags(version: number, class_: number, flags: number): void {
  const where = "header, offset 7";
  const isSealed = version === layout.FORMAT_VERSION;
  const known = layout.FLAG_INT8 | layout.FLAG_MOE | (isSealed ? layout.FLAG_PADDED : 0);
  const shown = `flags 0x${flags.toString(16).padStart(2, "0")}`;
  for (let bit = 0; bit < 8; ++bit)
    if ((flags >> bit) & 1 && !((known >> bit) & 1))
      refuse("FlagError", `${shown}: bit ${bit} has no meaning in format version ${version}`, where);
  const isMoe = class_ === layout.CLASS_MOE;
  const saysMoe = (flags & layout.FLAG_MOE) !== 0;
  if (saysMoe && !isMoe) refuse("FlagError", `${shown}: bit 2 says MoE, the class says dense`, where);
  if (isSealed && (!(flags & layout.FLAG_INT8) || saysMoe !== isMoe))
    refuse("FlagError", `${shown}: version 3 has bit 0 set, and bit 2 for class 0x02 alone`, where);
}

/** The header, from the first 40 bytes of a file, or all of it when it is shorter. */
export function parseHeader(head: Bytes): Header {
  for (let i = 0; i < Math.min(4, head.length); ++i)
    if (head[i] !== layout.MAGIC.charCodeAt(i))
      refuse("MagicError", "the first bytes are not S7LM", "header", "name a .s7l file");
  if (head.length < layout.HEADER_BYTES)
    refuse("TruncatedError", `the file ends at offset ${head.length}`, "header");
  const version = bigEndian(head, 4, 2);
  const class_ = head[6]!;
  const flags = head[7]!;
  const place = "header, offset 4";
  if (version > layout.FORMAT_VERSION)
    refuse(
      "NewerVersionError",
      `format version ${version}, this reader knows 1 to 3`,
      place,
      "take a newer version of this package",
    );
  if (version === 0) refuse("VersionError", "format version 0 never existed", place);
  if (class_ !== layout.CLASS_DENSE && class_ !== layout.CLASS_MOE)
    refuse("ClassError", `model class ${class_}, known are 1 dense and 2 MoE`, "header, offset 6");
  if (version === 2 && class_ !== layout.CLASS_MOE)
    refuse("ClassError", "class 1 dense, format version 2 is MoE (2) only", "header, offset 6");
  checkFlags(version, class_, flags);
  const isPublished = version < layout.FORMAT_VERSION;
  return {
    version,
    class_,
    flags,
    root: head.slice(layout.ROOT_OFFSET, layout.HEADER_BYTES),
    head: toHex(head.subarray(0, layout.ROOT_OFFSET)),
    isPublished,
    isPadded: isPublished ? version === 2 : (flags & layout.FLAG_PADDED) !== 0,
  };
}

/** A lane from its first five bytes, `raw`, which may be fewer where the file ends. */
export function parseLaneHead(raw: Bytes, index: number, offset: number): Lane {
  const where = `lane ${index} at offset ${offset}`;
  if (index === layout.MAX_LANES)
    throw new ArtifactError("LimitError", `more than ${layout.MAX_LANES} lanes`, where);
  if (raw.length < layout.LANE_HEAD_BYTES)
    refuse("TruncatedError", "the file ends inside the lane's first 5 bytes", where);
  const id = raw[0]!;
  const n_bytes = bigEndian(raw, 1, 4);
  if (id < layout.DICT || id > layout.BATCH)
    refuse("LaneIdError", `unknown lane id ${id}, known are 1 to 5`, where);
  const lane: Lane = { index, id, offset, n_bytes, sha256: new Uint8Array(0), kind: "" };
  const caps: Readonly<Record<number, number>> = {
    [layout.DICT]: layout.MAX_DICT_BYTES,
    [layout.FIELD]: layout.MAX_LANE_BYTES,
  };
  const cap = caps[id] ?? layout.MAX_JSON_BYTES;
  if (n_bytes > cap)
    throw new ArtifactError("LimitError", `a payload of ${n_bytes} bytes, the cap is ${cap}`, whereOf(lane));
  return lane;
}

/** Refuse a payload that does not hash to the digest behind it. */
export function checkDigest(lane: Lane, found: Bytes): void {
  if (!equalBytes(found, lane.sha256))
    refuse(
      "LaneDigestError",
      "the payload does not hash to the digest behind it: a byte was changed",
      whereOf(lane),
    );
}
