/** Statements in a DSSE envelope (in-toto), read strictly, and their signatures. */

import { isObject, type Json, type JsonObject, member, parseText } from "../artifact/json.ts";
import { canonical } from "../artifact/json_write.ts";
import { type Bytes, concat, fromUtf8, toHex, utf8 } from "../core/bytes.ts";
import { UsageError } from "../core/errors.ts";
import { sha256 } from "../core/sha256.ts";

const PAYLOAD_TYPE = "application/vnd.in-toto+json";
const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";

/** Why an envelope is none of ours. */
export class EnvelopeError extends Error {}

export function hasKeys(value: Json | undefined, keys: readonly string[]): value is JsonObject {
  return isObject(value) && value.size === keys.length && keys.every((key) => value.has(key));
}

function decoded(value: Json | undefined, what: string): Bytes {
  // As Python's strict decoder: whole groups of four, padding at the end alone.
  const isBase64 =
    typeof value === "string" && value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value);
  if (!isBase64) throw new EnvelopeError(`${what} is not base64`);
  return Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
}

/** The statement in an envelope: canonical, of our form. Throws an `EnvelopeError`. */
export function readEnvelope(value: Json | undefined): JsonObject {
  if (!hasKeys(value, ["payloadType", "payload", "signatures"]))
    throw new EnvelopeError("an envelope has payloadType, payload and signatures");
  if (value.get("payloadType") !== PAYLOAD_TYPE || !Array.isArray(value.get("signatures")))
    throw new EnvelopeError("another type of payload, or signatures that are no list");
  const text = fromUtf8(decoded(value.get("payload"), "the payload"));
  let read: Json | null = null;
  try {
    read = text === null ? null : parseText(text, "payload");
  } catch {
    read = null;
  }
  if (read === null || canonical(read) !== text) throw new EnvelopeError("the payload is not canonical JSON");
  if (!hasKeys(read, ["_type", "subject", "predicateType", "predicate"]))
    throw new EnvelopeError("a statement has _type, subject, predicateType and predicate");
  if (read.get("_type") !== STATEMENT_TYPE || !isObject(read.get("predicate")))
    throw new EnvelopeError("another type of statement");
  return read;
}

/** The SHA-256 of the one subject of a statement. Throws an `EnvelopeError`. */
export function subjectDigest(statement: JsonObject): string {
  const subject = statement.get("subject");
  const digest =
    Array.isArray(subject) && subject.length === 1 ? member(member(subject[0], "digest"), "sha256") : null;
  if (typeof digest !== "string") throw new EnvelopeError("it has no single subject with a SHA-256");
  return digest;
}

function signedBytes(payload: Bytes): Bytes {
  return concat(utf8(`DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `), payload);
}

async function webCrypto(): Promise<Crypto> {
  if (globalThis.crypto?.subtle) return globalThis.crypto;
  const name = ["node", "crypto"].join(":");
  const { webcrypto } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as {
    webcrypto: Crypto;
  };
  return webcrypto;
}

/** A public key of P-256, from the PEM that `s7 keygen` writes, or its DER. */
export interface PublicKey {
  readonly id: string;
  readonly key: CryptoKey;
}

export async function readPublicKey(pem: string | Bytes): Promise<PublicKey> {
  const body = typeof pem === "string" ? pem.replace(/-----[^-]+-----|\s/g, "") : "";
  const der = (typeof pem === "string" ? decoded(body, "the key") : pem) as Uint8Array<ArrayBuffer>;
  const { subtle } = await webCrypto();
  try {
    const key = await subtle.importKey("spki", der, { name: "ECDSA", namedCurve: "P-256" }, true, ["verify"]);
    return { id: toHex(sha256(der)), key };
  } catch {
    throw new UsageError("no public key of P-256", "key", "use the .pub of `s7 keygen`");
  }
}

// r and s of a DER signature as 64 bytes; null where it is none.
function rawSignature(der: Bytes): Bytes | null {
  const raw = new Uint8Array(64);
  if (der[0] !== 0x30 || der[1] !== der.length - 2) return null;
  let at = 2;
  for (const half of [0, 32]) {
    const n = der[at + 1] ?? 0;
    if (der[at] !== 0x02 || n === 0 || at + 2 + n > der.length) return null;
    const bytes = der.subarray(at + 2, at + 2 + n);
    const digits = bytes[0] === 0 ? bytes.subarray(1) : bytes;
    if (digits.length > 32) return null;
    raw.set(digits, half + 32 - digits.length);
    at += 2 + n;
  }
  return at === der.length ? raw : null;
}

/** Whether the envelope has a signature of the key, and every one of it holds. Throws an `EnvelopeError`. */
export async function isSigned(envelope: JsonObject, key: PublicKey): Promise<boolean> {
  const payload = decoded(envelope.get("payload"), "the payload");
  const { subtle } = await webCrypto();
  let n_good = 0;
  for (const entry of envelope.get("signatures") as Json[]) {
    if (typeof member(entry, "keyid") !== "string") throw new EnvelopeError("a signature without a key");
    if (member(entry, "keyid") !== key.id) continue;
    const raw = rawSignature(decoded(member(entry, "sig"), "a signature"));
    const signed = signedBytes(payload) as Uint8Array<ArrayBuffer>;
    const holds =
      raw !== null &&
      (await subtle.verify(
        { name: "ECDSA", hash: "SHA-256" },
        key.key,
        raw as Uint8Array<ArrayBuffer>,
        signed,
      ));
    if (!holds) throw new EnvelopeError("the signature of the key does not hold");
    ++n_good;
  }
  return n_good > 0;
}
