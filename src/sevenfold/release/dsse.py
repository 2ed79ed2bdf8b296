"""Write, sign and strictly read statements in a DSSE envelope (in-toto), with keys of `s7 keygen`.

A payload is canonical JSON, so two writers of one statement write the same bytes. An envelope may
have no signature. It then states what was computed, and nobody vouches for it. Source: DSSE 1.0.2,
in-toto Statement 1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sevenfold.core.errors import ArtifactError, UsageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json, canonical_json, sha256

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_BYTES = 64 << 20
_REMEDY = "get it again from whoever wrote it"


def statement(
    subject: str, sha256_hex: str, predicate_type: str, predicate: Mapping[str, Json]
) -> dict[str, Json]:
    """Return a statement about one subject."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": sha256_hex}}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def _signed_bytes(payload: bytes) -> bytes:
    """Return the signed bytes: the type and the payload, each preceded by its length."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(public: Any) -> str:
    """Return the name of a public key: the SHA-256 of its DER form."""
    from cryptography.hazmat.primitives import serialization as form

    der = public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hex()


def load_private_key(path: Path, password: bytes | None = None) -> Any:
    """Return a private key. Raises StorageError, or UsageError when it is not a P-256 key."""
    from cryptography.hazmat.primitives import serialization as form

    try:
        key = form.load_pem_private_key(read_bytes(path), password)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"no private key, or another password: {error}",
            where=str(path),
            remedy="use a key of `s7 keygen`, its password in S7_KEY_PASSWORD",
        ) from error
    return _curve(key, path)


def load_public_key(path: Path) -> Any:
    """Return a public key. Raises StorageError, or UsageError when it is not a P-256 key."""
    from cryptography.hazmat.primitives import serialization as form

    try:
        key = form.load_pem_public_key(read_bytes(path))
    except ValueError as error:
        raise UsageError(
            f"no public key: {error}", where=str(path), remedy="use the .pub of `s7 keygen`"
        ) from error
    return _curve(key, path)


def _curve(key: Any, path: Path) -> Any:
    if getattr(getattr(key, "curve", None), "name", "") != "secp256r1":
        raise UsageError("the key is not of P-256", where=str(path), remedy="use a key of `s7 keygen`")
    return key


def envelope(value: Mapping[str, Json], key: Any = None) -> dict[str, Json]:
    """Return the envelope of a statement, signed when a private key is given."""
    payload = canonical_json(dict(value))
    signatures: list[Json] = []
    if key is not None:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        sig = key.sign(_signed_bytes(payload), ec.ECDSA(hashes.SHA256()))
        signatures = [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(sig).decode()}]
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": signatures,
    }


def _refusal(what: str, where: str) -> ArtifactError:
    return ArtifactError(f"no statement that this version reads: {what}", where=where, remedy=_REMEDY)


def _decoded(value: object, what: str, where: str) -> bytes:
    if not isinstance(value, str):
        raise _refusal(f"{what} is no text", where)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refusal(f"{what} is not base64", where) from error


def read_envelope(value: object, where: str = "") -> dict[str, Json]:
    """Return the statement in an envelope.

    Raises ArtifactError unless it is canonical and has the expected form.
    """
    if not isinstance(value, dict) or {*value} != {"payloadType", "payload", "signatures"}:
        raise _refusal("an envelope has payloadType, payload and signatures", where)
    if value["payloadType"] != PAYLOAD_TYPE or not isinstance(value["signatures"], list):
        raise _refusal("another type of payload, or signatures that are no list", where)
    payload = _decoded(value["payload"], "the payload", where)
    try:
        read = json.loads(payload.decode("utf-8"))
        is_canonical = canonical_json(read) == payload
    except (ValueError, RecursionError, TypeError) as error:
        raise _refusal(f"the payload is not JSON: {error}", where) from error
    if not is_canonical:
        raise _refusal("the payload is not canonical JSON", where)
    if not isinstance(read, dict) or {*read} != {"_type", "subject", "predicateType", "predicate"}:
        raise _refusal("a statement has _type, subject, predicateType and predicate", where)
    if read["_type"] != STATEMENT_TYPE or not isinstance(read["predicate"], dict):
        raise _refusal("another type of statement", where)
    return read


def signers(value: Mapping[str, Any], public: Any, where: str = "") -> list[str]:
    """Return the names of the keys that signed, each checked with its public key.

    Raises:
        ArtifactError: the envelope names the key and its signature is wrong, or it is damaged.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    payload, name, good = _decoded(value["payload"], "the payload", where), key_id(public), []
    for entry in value["signatures"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("keyid"), str):
            raise _refusal("a signature without a key", where)
        if entry["keyid"] != name:
            continue
        try:
            public.verify(
                _decoded(entry.get("sig"), "a signature", where),
                _signed_bytes(payload),
                ec.ECDSA(hashes.SHA256()),
            )
        except InvalidSignature as error:
            raise ArtifactError(
                f"the signature of key {name[:16]} does not hold", where=where, remedy=_REMEDY
            ) from error
        good.append(name)
    return good
