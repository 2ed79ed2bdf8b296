"""Sign sealed files and check signatures: a sigstore bundle beside the file, by a key pair or
keyless (specs/verification.md, "Signatures").

`model-signing` makes and checks the bundle, so any tool of that format reads it. A key pair works
without a network. Keyless signing asks the sigstore service for a certificate of the identity of
the signer. It needs `sevenfold[sign]`; importing this module does not. Cost: one SHA-256 pass over
the file.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sevenfold.core.errors import ArtifactError, StorageError, UsageError, storage
from sevenfold.core.files import read_bytes, write_bytes

SIGNATURE_SUFFIX = ".sig"
PUBLIC_SUFFIX = ".pub"
PASSWORD_VARIABLE = "S7_KEY_PASSWORD"
MAX_SIGNATURE_BYTES = 1 << 20
# Errors that the library raises for a foreign bundle: malformed JSON, missing keys, wrong types,
# bad encodings.
_MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)


class SignatureError(ArtifactError):
    """A signature that is missing, damaged, by another key or identity, or over other bytes."""


def signature_path(file: Path) -> Path:
    """Return the default path of the signature of a file: beside it, under its given name."""
    return file.with_name(file.name + SIGNATURE_SUFFIX)


def find_signature(file: Path) -> Path:
    """Return the path of the signature of a file: beside it, or for a link without one, beside its
    target.
    """
    beside = signature_path(file)
    if beside.exists() or not file.is_symlink():
        return beside
    target = signature_path(_target(file))
    return target if target.exists() else beside


def _target(file: Path) -> Path:
    """Return the file behind all links, because a signature is over its bytes and the library
    refuses links. Raises StorageError.
    """
    with storage(file):
        try:
            return file.resolve(strict=True)
        # Python 3.11 and 3.12 raise RuntimeError for a circle of links.
        except RuntimeError as error:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(file)) from error


def make_key_pair(path: Path) -> Path:
    """Write a new private key (P-256, PKCS#8 PEM, mode 0600, encrypted when S7_KEY_PASSWORD is set)
    and `path`.pub. Return the latter.

    Raises:
        StorageError: one of them exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    public = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public):
        _refuse_existing(taken)
    key, password = ec.generate_private_key(ec.SECP256R1()), _password()
    protection = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    write_bytes(path, key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, protection), mode=0o600)
    info = form.PublicFormat.SubjectPublicKeyInfo
    write_bytes(public, key.public_key().public_bytes(form.Encoding.PEM, info))
    return public


def sign(file: Path, out: Path, key: Path | None = None) -> None:
    """Sign a file with a private key, or keyless (without `key`), and write the bundle to `out`.

    Raises:
        StorageError: the key cannot be read, `out` is there already, or the sigstore service cannot
            be reached.
        UsageError: the key is none of P-256, P-384, P-521, or its password is wrong.
    """
    from model_signing import signing

    _refuse_existing(out)
    config = signing.Config()
    with _service(), contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as name:
        if key is None:
            config.use_sigstore_signer(use_ambient_credentials=True)
        else:
            read_bytes(key)
            with _usable(key, "private"):
                # The library declares str and needs bytes.
                password: Any = _password()
                config.use_elliptic_key_signer(private_key=key, password=password)
        bundle = Path(name) / "bundle"
        with storage(file):
            config.sign(_target(file), bundle)
        write_bytes(out, read_bytes(bundle))


def check_signature(
    file: Path, signature: Path, key: Path | None = None, identity: str = "", issuer: str = ""
) -> None:
    """Check that `signature` is over the bytes of `file`, by a public key, or by an identity that
    an issuer certifies.

    Raises:
        SignatureError: it is missing, damaged, by another key or identity, or over other bytes.
        StorageError: the file or the key cannot be read, or the sigstore service cannot be reached.
        UsageError: the key is not P-256, P-384 or P-521.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    bundle = _read_bundle(signature)
    config = verifying.Config()
    with _service(), contextlib.redirect_stdout(io.StringIO()), storage(file):
        if key is None:
            config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
        else:
            read_bytes(key)
            with _usable(key, "public"):
                config.use_elliptic_key_verifier(public_key=key)
        file.open("rb").close()
        try:
            _require_canonical(bundle)
            config.verify(_target(file), signature)
        except InvalidSignature as error:
            raise _refusal(signature, "it was changed, or made with another key") from error
        except _MALFORMED as error:
            raise _refusal(signature, _reason(error)) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if text.startswith("Key mismatch"):
        return "it was made with another key"
    if text.startswith("Signature mismatch"):
        return "the file is not the one that was signed"
    return f"it is damaged, or no sigstore bundle ({type(error).__name__})"


def _refusal(signature: Path, what: str) -> SignatureError:
    return SignatureError(
        f"the signature does not hold: {what}",
        where=str(signature),
        remedy="get file, signature and public key again from the signer; do not use the file",
    )


def _read_bundle(signature: Path) -> bytes:
    if not signature.exists():
        raise SignatureError(
            "there is no signature",
            where=str(signature),
            remedy="name it with --signature, or get it from the signer",
        )
    with storage(signature), signature.open("rb") as file:
        bundle = file.read(MAX_SIGNATURE_BYTES + 1)
    if len(bundle) > MAX_SIGNATURE_BYTES:
        raise _refusal(signature, f"a bundle has at most {MAX_SIGNATURE_BYTES} bytes")
    return bundle


def _require_canonical(bundle: bytes) -> None:
    """Refuse base64 with unused bits set, which decodes to the same bytes. A signature has exactly
    one spelling.
    """
    envelope: Any = json.loads(bundle)["dsseEnvelope"]
    for text in (envelope["payload"], envelope["signatures"][0]["sig"]):
        if base64.b64encode(base64.b64decode(text, validate=True)).decode() != text:
            raise ValueError("base64 that is not canonical")


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise StorageError("it is there already", where=str(path), remedy="name another file")


def _password() -> bytes | None:
    return os.environ.get(PASSWORD_VARIABLE, "").encode() or None


@contextlib.contextmanager
def _usable(key: Path, kind: str) -> Iterator[None]:
    """Turn an error of the library about an unusable key into one line."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        yield
    except (*_MALFORMED, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"{key} is no {kind} key that can be used: PEM of P-256, P-384 or P-521 is",
            remedy=f"`s7 keygen` makes a pair; an encrypted key takes its password from {PASSWORD_VARIABLE}",
        ) from error


@contextlib.contextmanager
def _service() -> Iterator[None]:
    """Turn an error of the sigstore service, or of the network, into a refusal of the signature or
    a network error.
    """
    from requests import RequestException
    from sigstore.errors import Error, VerificationError
    from sigstore.models import InvalidBundle
    from sigstore.oidc import IdentityError

    try:
        yield
    except (VerificationError, InvalidBundle) as error:
        raise SignatureError(
            f"the signature does not hold: {_line(error)}", remedy="check --identity and --issuer"
        ) from error
    except (Error, IdentityError, RequestException) as error:
        raise StorageError(
            f"keyless signing needs the sigstore service, which cannot be reached or refuses: {_line(error)}",
            remedy="check the network; without one, use a key pair: `s7 keygen`, --key",
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
