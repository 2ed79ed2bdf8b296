"""Which hosts and addresses a fetch may reach: names of the allow-list, and the public internet.

The table of networks is IANA's two registries of special-purpose addresses, and every form in which
an IPv6 address holds an IPv4 address. It stands here because Python's own answer (`is_global`)
changed between its versions.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.core.files import read_bytes, unique_keys

MAX_URL = 2048
DOMAINS = Path(__file__).with_name("domains.json")
# One name, and `*.` for the names below it.
_LISTED = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_URL = re.compile(r"(https?)://([^/?#]*)(/[^#]*)?")
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # Outside of 2000::/3 nothing is public: ::, ::1, mapped, compatible, NAT64, unique local,
        # link local, site local, multicast.
        *("::/3", "4000::/2", "8000::/1"),
        # Inside of it: IETF protocols with Teredo and ORCHID, documentation, 6to4, AS112, SRv6.
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
# The middle of an ISATAP address: an IPv4 address follows it.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


class AddressError(SevenfoldError):
    """A place that a fetch may not go to. `reason` is a word of specs/tools.md."""

    exit_code = 2

    def __init__(self, reason: str, what: str, *, where: str = "") -> None:
        super().__init__(what, where=where)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class WebAddress:
    """A URL that was read. `target` is path and query, as a request line holds them."""

    host: str
    target: str

    def text(self) -> str:
        """Return the URL."""
        return f"https://{self.host}{self.target}"


def read_url(text: str) -> WebAddress:
    """Return the parts of an https URL with a name as its host.

    Addresses in any spelling, ports, users, fragments, and characters that libraries read in
    different ways are refused, so there is one reading.

    Raises:
        AddressError: what is refused.
    """
    if len(text) > MAX_URL:
        raise AddressError("url", f"a URL of {len(text)} characters; {MAX_URL} at most")
    found = _URL.fullmatch(text)
    if found is None:
        raise AddressError("url", f"{text[:80]!a} is no http or https URL without a fragment")
    scheme, host, target = found.groups()
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise AddressError("host", f"{host[:80]!a} is no name in small letters; addresses and ports are none")
    if not _TARGET.fullmatch(target or "/"):
        raise AddressError("url", f"the path {(target or '')[:80]!a} is not written as RFC 3986 writes it")
    if scheme != "https":
        raise AddressError("scheme", "https alone is fetched")
    return WebAddress(host=host, target=target or "/")


def check_address(text: str) -> None:
    """Refuse an address that is not of the public internet.

    Raises:
        AddressError: it is not, or is no address.
    """
    try:
        # A scope (%eth0) is never public; `ip_address` would take it.
        address = ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        address = None
    if address is None:
        raise AddressError("address", f"{text[:80]!a} is no public address")
    is_isatap = address.version == 6 and (int(address) >> 32 & 0xFFFF_FFFF) in _ISATAP
    if is_isatap or any(address in net for net in NOT_PUBLIC if net.version == address.version):
        raise AddressError("address", f"{text} is no public address")


@dataclass(frozen=True)
class AllowList:
    """Names that may be fetched. An entry `*.example.org` stands for the names below it."""

    names: frozenset[str]

    def check(self, host: str) -> None:
        """Refuse a host that is not listed. Raises AddressError."""
        labels = host.split(".")
        above = {"*." + ".".join(labels[n:]) for n in range(1, len(labels))}
        if host not in self.names and not above & self.names:
            raise AddressError("allow", f"{host} is not on the list")


def read_allow_list(categories: Sequence[str], path: Path = DOMAINS) -> AllowList:
    """Return the names of some categories of a category file: `{"category": ["name", ...], ...}`.

    Raises:
        StorageError: the file cannot be read.
        UsageError: it has another form, or lacks a category.
    """
    try:
        value = json.loads(read_bytes(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is no JSON: {error}", where=str(path), remedy="see specs/tools.md") from error
    if not isinstance(value, Mapping):
        raise UsageError("it is no object of categories", where=str(path), remedy="see specs/tools.md")
    names: set[str] = set()
    for category in categories:
        if category not in value:
            raise UsageError(
                f"no category {category!r:.80}", where=str(path), remedy=f"it has {', '.join(value)}"
            )
        listed = value[category]
        bad = listed if not isinstance(listed, list) else [one for one in listed if not _is_listed(one)]
        if bad or not listed:
            raise UsageError(
                f"{bad!r:.80} are no names of hosts",
                where=f"{path}: {category}",
                remedy="names in small letters, with *. in front for the names below one",
            )
        names |= set(listed)
    return AllowList(frozenset(names))


def _is_listed(entry: object) -> bool:
    return isinstance(entry, str) and _LISTED.fullmatch(entry) is not None
