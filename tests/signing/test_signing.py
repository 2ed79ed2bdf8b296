"""Signatures: what was signed verifies, by the library alone too; any bit of file or
signature that changes is found.
"""

from __future__ import annotations

import base64
import json
import socket
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from model_signing import verifying

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.release.signature import (
    MAX_SIGNATURE_BYTES,
    PASSWORD_VARIABLE,
    SignatureError,
    check_signature,
    find_signature,
    make_key_pair,
    sign,
    signature_path,
)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a key pair, a file and its signature. Tests only read it."""
    directory = tmp_path_factory.mktemp("signed")
    make_key_pair(directory / "key")
    (directory / "file").write_bytes(bytes(range(256)) * 4)
    sign(directory / "file", signature_path(directory / "file"), directory / "key")
    return directory


def check(directory: Path, **paths: Path) -> None:
    found = {name: paths.get(name, directory / name) for name in ("file", "file.sig", "key.pub")}
    check_signature(found["file"], found["file.sig"], found["key.pub"])


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes((data[bit // 8] ^ (1 << bit % 8),)) + data[bit // 8 + 1 :]


def test_what_was_signed_verifies_here_and_by_the_library_alone(signed: Path) -> None:
    check(signed)
    config = verifying.Config().use_elliptic_key_verifier(public_key=signed / "key.pub")
    config.verify(signed / "file", signed / "file.sig")
    bundle = json.loads((signed / "file.sig").read_bytes())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_the_name_of_the_file_does_not_matter(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "renamed").write_bytes((signed / "file").read_bytes())
    check(signed, file=tmp_path / "renamed")


def cached(signed: Path, directory: Path) -> Path:
    """The file and its signature as the Hugging Face cache keeps them: relative
    links from a snapshot to blobs.
    """
    for name in ("blobs", "snapshots/abc"):
        (directory / name).mkdir(parents=True)
    for name in ("file", "file.sig"):
        (directory / "blobs" / f"hash-of-{name}").write_bytes((signed / name).read_bytes())
        (directory / "snapshots/abc" / name).symlink_to(Path("../../blobs") / f"hash-of-{name}")
    return directory / "snapshots/abc"


def test_a_signature_holds_through_links(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = cached(signed, tmp_path / "cache")
    key = signed / "key.pub"
    check_signature(snapshot / "file", find_signature(snapshot / "file"), key)
    (tmp_path / "linked").symlink_to(snapshot, target_is_directory=True)
    check_signature(tmp_path / "linked" / "file", find_signature(tmp_path / "linked" / "file"), key)
    (tmp_path / "twice").symlink_to(tmp_path / "linked" / "file")
    check_signature(tmp_path / "twice", signed / "file.sig", key)
    (tmp_path / "hard").hardlink_to(signed / "file")
    check_signature(tmp_path / "hard", signed / "file.sig", key)
    monkeypatch.chdir(snapshot)
    check_signature(Path("file"), find_signature(Path("file")), key)
    monkeypatch.chdir(tmp_path)
    check_signature(Path("linked/file"), Path("linked/file.sig"), key)


def test_the_signature_beside_the_link_comes_before_the_one_beside_its_target(
    signed: Path, tmp_path: Path
) -> None:
    link = tmp_path / "model"
    link.symlink_to(signed / "file")
    assert find_signature(link) == signed / "file.sig"
    check_signature(link, find_signature(link), signed / "key.pub")
    (tmp_path / "model.sig").write_bytes((signed / "file.sig").read_bytes())
    assert find_signature(link) == tmp_path / "model.sig"
    assert find_signature(tmp_path / "plain") == tmp_path / "plain.sig"


def test_a_link_can_be_signed_and_other_bytes_behind_it_are_found(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"some bytes")
    (tmp_path / "model").symlink_to("blob")
    sign(tmp_path / "model", tmp_path / "model.sig", signed / "key")
    check_signature(tmp_path / "model", tmp_path / "model.sig", signed / "key.pub")
    check_signature(tmp_path / "blob", tmp_path / "model.sig", signed / "key.pub")
    (tmp_path / "blob").write_bytes(b"other bytes")
    with pytest.raises(SignatureError, match="not the one that was signed"):
        check_signature(tmp_path / "model", tmp_path / "model.sig", signed / "key.pub")
    (tmp_path / "dangling.sig").symlink_to("absent")
    with pytest.raises(StorageError, match="there already"):
        sign(tmp_path / "model", tmp_path / "dangling.sig", signed / "key")


def test_links_to_nothing_and_in_a_circle_are_one_line(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("absent")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("dangling", "circle"):
        with pytest.raises(StorageError, match=name):
            check_signature(tmp_path / name, signed / "file.sig", signed / "key.pub")


def test_the_private_key_is_for_its_owner_alone_and_nothing_is_replaced(signed: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((signed / "key").stat().st_mode) == 0o600
    for taken in ("a", "b.pub"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(StorageError, match="there already"):
            make_key_pair(tmp_path / taken.removesuffix(".pub"))
    for out in ("file", "key", "file.sig"):
        with pytest.raises(StorageError, match="there already"):
            sign(signed / "file", signed / out, signed / "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.pub"]


@settings(max_examples=60)
@given(bit=st.integers(0, 8 * 1024 - 1))
def test_a_flipped_bit_of_the_file_is_found(
    bit: int, signed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "file"
    path.write_bytes(flipped((signed / "file").read_bytes(), bit))
    with pytest.raises(SignatureError, match="not the one that was signed"):
        check(signed, file=path)


def test_a_flipped_bit_of_the_signature_is_found_wherever_it_is(signed: Path, tmp_path: Path) -> None:
    data, path = (signed / "file.sig").read_bytes(), tmp_path / "sig"
    ends = {at for at, byte in enumerate(data) if byte in b'="'}
    bits = [8 * at + (at * 5) % 8 for at in range(len(data))]
    # Base64 has bits that decode to nothing; they are in the last digits
    # before a padding or a quote.
    bits += [8 * at + bit for at in range(len(data)) if {at + 1, at + 2} & ends for bit in range(8)]
    for bit in bits:
        path.write_bytes(flipped(data, bit))
        with pytest.raises(SignatureError) as caught:
            check(signed, **{"file.sig": path})
        assert caught.value.exit_code == 3


@settings(max_examples=60)
@given(
    data=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda v: (
            st.lists(v, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["mediaType", "verificationMaterial", "dsseEnvelope", "publicKey", "signatures"]
                ),
                v,
            )
        ),
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_other_bytes_are_no_signature(
    data: bytes, signed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("other") / "sig"
    path.write_bytes(data)
    with pytest.raises(SignatureError, match="damaged"):
        check(signed, **{"file.sig": path})


def test_a_signature_that_is_missing_or_huge(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="there is no signature"):
        check(signed, **{"file.sig": tmp_path / "none"})
    (tmp_path / "huge").write_bytes(b" " * (MAX_SIGNATURE_BYTES + 1))
    with pytest.raises(SignatureError, match="at most"):
        check(signed, **{"file.sig": tmp_path / "huge"})
    (tmp_path / "deep").write_bytes(b"[" * 100_000)
    with pytest.raises(SignatureError, match="damaged"):
        check(signed, **{"file.sig": tmp_path / "deep"})


def test_another_key_is_found_also_when_the_hint_is_forged(signed: Path, tmp_path: Path) -> None:
    other = make_key_pair(tmp_path / "key")
    with pytest.raises(SignatureError, match="another key"):
        check(signed, **{"key.pub": other})
    sign(signed / "file", tmp_path / "sig", tmp_path / "key")
    bundle = json.loads((tmp_path / "sig").read_bytes())
    original = json.loads((signed / "file.sig").read_bytes())
    for material in (original["verificationMaterial"], {"publicKey": {}, "tlogEntries": []}):
        (tmp_path / "forged").write_text(json.dumps(bundle | {"verificationMaterial": material}))
        with pytest.raises(SignatureError, match="another key"):
            check(signed, **{"file.sig": tmp_path / "forged"})


def test_a_payload_of_another_file_under_the_old_signature(signed: Path, tmp_path: Path) -> None:
    bundle = json.loads((signed / "file.sig").read_bytes())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    assert payload.count(b'"files"') == 1
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b'"files"', b'"shards"')).decode()
    (tmp_path / "sig").write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match="changed"):
        check(signed, **{"file.sig": tmp_path / "sig"})


def test_keys_that_cannot_be_used(signed: Path, tmp_path: Path) -> None:
    info = (form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa").write_bytes(rsa.generate_private_key(65537, 2048).public_key().public_bytes(*info))
    (tmp_path / "k1").write_bytes(ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(*info))
    (tmp_path / "text").write_text("hello")
    for name in ("rsa", "k1", "text"):
        with pytest.raises(UsageError, match="no public key that can be used"):
            check(signed, **{"key.pub": tmp_path / name})
    with pytest.raises(UsageError, match="no public key"):
        check(signed, **{"key.pub": signed / "key"})
    with pytest.raises(UsageError, match="no private key"):
        sign(signed / "file", tmp_path / "sig", signed / "key.pub")
    with pytest.raises(StorageError, match="no such file"):
        check(signed, **{"key.pub": tmp_path / "none"})
    with pytest.raises(StorageError, match="no such file"):
        check(signed, file=tmp_path / "none")
    with pytest.raises(StorageError, match="no such file"):
        sign(signed / "file", tmp_path / "sig", tmp_path / "none")
    assert not (tmp_path / "sig").exists()


def test_an_encrypted_key_takes_its_password_from_the_environment(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "open sesame")
    public = make_key_pair(tmp_path / "key")
    assert b"ENCRYPTED" in (tmp_path / "key").read_bytes()
    sign(signed / "file", tmp_path / "sig", tmp_path / "key")
    check(signed, **{"file.sig": tmp_path / "sig", "key.pub": public})
    for password in ("", "wrong"):
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
        with pytest.raises(UsageError, match=PASSWORD_VARIABLE):
            sign(signed / "file", tmp_path / "sig2", tmp_path / "key")


def test_keyless_without_a_network_is_one_clear_error(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):  # no trust root from an earlier time
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(StorageError, match="s7 keygen"):
        sign(signed / "file", tmp_path / "sig")
    with pytest.raises(StorageError, match="cannot be reached"):
        check_signature(
            signed / "file", signed / "file.sig", identity="a@example.org", issuer="https://example.org"
        )
    assert not (tmp_path / "sig").exists()
