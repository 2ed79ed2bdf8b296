"""Addresses, lists of names, and the network of this machine. The attacks are in the red team."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.agent.tools.web.addresses import (
    DOMAINS,
    AddressError,
    AllowList,
    check_address,
    read_allow_list,
    read_url,
)
from sevenfold.agent.tools.web.fetch import Fetcher, SystemNetwork, WebFetchError
from sevenfold.agent.tools.web.tool import WebTool
from sevenfold.core.errors import StorageError, UsageError


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_is_reached(address: ipaddress.IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        with pytest.raises(AddressError):
            check_address(str(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:", "::", "64:ff9b::", "::ffff:0:", "64:ff9b:1::"]))
def test_no_address_that_holds_another_is_reached(inner: ipaddress.IPv4Address, prefix: str) -> None:
    with pytest.raises(AddressError):
        check_address(prefix + str(inner))


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "2a00:1450:4001::1"])
def test_the_public_internet_is_reached(address: str) -> None:
    check_address(address)


@given(st.text(max_size=40))
def test_a_url_has_one_reading(text: str) -> None:
    for url in (text, "https://" + text, "https://docs.example.org" + text, f"https://{text}.example.org/"):
        try:
            found = read_url(url)
        except AddressError:
            continue
        assert url in (found.text(), found.text().removesuffix("/"))
        assert found.host.isascii()
        assert not {*found.host} & {*"@:/\\%[] "}


def test_names_below_a_name_are_listed_by_a_star_alone() -> None:
    allowed = AllowList(frozenset(("docs.example.org", "*.wild.example.org")))
    for host in ("docs.example.org", "a.wild.example.org", "a.b.wild.example.org"):
        allowed.check(host)
    for host in ("wild.example.org", "a.docs.example.org", "example.org", "xwild.example.org"):
        with pytest.raises(AddressError):
            allowed.check(host)


def test_the_shipped_categories_are_those_of_the_seed() -> None:
    assert "docs.python.org" in read_allow_list(("docs", "standards", "reliable_news")).names
    assert list(json.loads(DOMAINS.read_text())) == ["docs", "standards", "reliable_news"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "no JSON"),
        ("[]", "no object"),
        ('{"docs": ["a.org"], "docs": ["b.org"]}', "twice"),
        ('{"news": ["a.org"]}', "no category"),
        ('{"docs": []}', "no names"),
        ('{"docs": "a.org"}', "no names"),
        ('{"docs": ["*"]}', "no names"),
        ('{"docs": ["*.org"]}', "no names"),
        ('{"docs": ["127.0.0.1"]}', "no names"),
        ('{"docs": ["A.org"]}', "no names"),
        ('{"docs": ["https://a.org"]}', "no names"),
        ('{"docs": ["a.org:80"]}', "no names"),
        ('{"docs": [1]}', "no names"),
    ],
)
def test_a_category_file_of_another_form_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "domains.json").write_text(text)
    with pytest.raises(UsageError, match=what):
        read_allow_list(("docs",), tmp_path / "domains.json")
    with pytest.raises(StorageError):
        read_allow_list(("docs",), tmp_path / "none.json")


class Resolved(SystemNetwork):
    """The network of this machine, with one more name."""

    def __init__(self, address: str, port: int) -> None:
        self._address, self._port = address, port

    def resolve(self, host: str, port: int, seconds: float) -> list[str]:
        return [self._address] if host == "docs.example.org" else super().resolve(host, port, seconds)

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        assert address == "93.184.216.34", "an address that was not checked"
        return super().connect("127.0.0.1", self._port, seconds)


ALLOWED = AllowList(frozenset(("docs.example.org", "nowhere.invalid")))


def test_this_machine_is_not_reached() -> None:
    fetcher = Fetcher(ALLOWED, network=Resolved("127.0.0.1", 1))
    with pytest.raises(AddressError, match="no public address"):
        fetcher.fetch("https://docs.example.org/")
    assert {"127.0.0.1", "::1"} & {*SystemNetwork().resolve("localhost", 443, 5.0)}


def test_a_name_without_an_address_and_a_closed_port_are_errors() -> None:
    with pytest.raises(WebFetchError) as found:
        Fetcher(ALLOWED).fetch("https://nowhere.invalid/")
    assert found.value.reason in ("dns", "time")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fetcher = Fetcher(ALLOWED, network=Resolved("93.184.216.34", taken.getsockname()[1]))
        with pytest.raises(WebFetchError, match="ConnectionRefusedError"):
            fetcher.fetch("https://docs.example.org/")


def certificate(path: Path, name: str) -> Path:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("name", "trusted", "ends"),
    [
        ("docs.example.org", True, "hello"),
        ("docs.example.org", False, "SSLCertVerificationError"),
        ("other.example.org", True, "SSLCertVerificationError"),
    ],
)
def test_certificates_are_checked(
    tmp_path: Path, name: str, trusted: bool, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = certificate(tmp_path / "held.pem", name)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(held)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(held))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            try:
                with server.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
                    )
            except OSError:
                connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        fetcher = Fetcher(ALLOWED, network=Resolved("93.184.216.34", listener.getsockname()[1]))
        tool = WebTool(fetcher, rate_limit_qpm=1, post_fetch_verifier=True)
        assert ends in tool.run({"url": "https://docs.example.org/"}).text
        thread.join(20)


def test_the_rate_is_that_of_a_minute() -> None:
    now = [0.0]
    fetcher = Fetcher(AllowList(frozenset()))
    tool = WebTool(fetcher, rate_limit_qpm=2, post_fetch_verifier=True, clock=lambda: now[0])
    reasons = []
    for now[0] in (0.0, 30.0, 59.9, 60.0, 60.1, 90.0):
        reasons.append(tool.run({"url": "https://docs.example.org/"}).reason)
    assert reasons == ["allow", "allow", "rate", "allow", "rate", "allow"]
