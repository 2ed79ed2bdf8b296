"""Steps `secrets` and `personal`: redact keys, passwords, addresses and numbers of people, or drop
the document.

The matching is our own, because detect-secrets is too slow for a corpus (dev/LOG.md). The formats
of issuers are those of gitleaks (`issued_tokens`). Other values are found by a check digit, or by a
name beside a value that does not look like a word. The replacement keeps the syntax of strings and
comments. Every repetition is bounded, so the cost is linear in the length of the text.
"""

from __future__ import annotations

import base64
import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import ASSIGNED_KEY, PatternSearch, hints
from sevenfold.corpus.steps.issued_tokens import ISSUED
from sevenfold.corpus.steps.patterns import PERSONAL, Pattern
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument


def entropy(value: bytes) -> float:
    """Return the Shannon entropy in bits per byte."""
    counts = Counter(value).values()
    return math.log2(len(value)) - sum(n * math.log2(n) for n in counts) / len(value)


def _is_random(value: bytes) -> bool:
    has_digit, has_letter = re.search(rb"[0-9]", value), re.search(rb"[A-Za-z]", value)
    if _SHORT_HEX.fullmatch(value):
        return False
    least = MIN_HEX_ENTROPY if _HEX.fullmatch(value) else min(MIN_ENTROPY, 0.85 * math.log2(len(value)))
    return bool(has_digit and has_letter) and entropy(value) >= least


def _is_aws_secret(value: bytes) -> bool:
    """Return whether 40 characters are mixed like a random value. A hash or a path does not have
    all three kinds.
    """
    kinds = (rb"[0-9]", rb"[a-z]", rb"[A-Z]")
    return all(re.search(kind, value) for kind in kinds) and entropy(value) >= 4.2


def _is_bare_secret(value: bytes) -> bool:
    """Return whether a value without quotes is random. In that place, code has names, numbers,
    paths and calls.
    """
    if _PLACEHOLDER.search(value) or _BARE_NAME.fullmatch(value) or not _is_random(value):
        return False
    # In names, digits are adjacent; in random values, letters and digits alternate.
    n_changes = len(re.findall(rb"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]", value))
    return n_changes >= 3 or (len(value) >= 24 and n_changes >= 2)


def _is_password(value: bytes) -> bool:
    """Return whether a quoted value, or one in an address, is a chosen password and not a dummy
    value.
    """
    if _PLACEHOLDER.search(value) or len(set(value)) < 5:
        return False
    kinds = (rb"[0-9]", rb"[a-z]", rb"[A-Z]", rb"[^0-9A-Za-z_.-]")
    n_kinds = sum(re.search(kind, value) is not None for kind in kinds)
    return n_kinds >= 3 and re.search(rb"[0-9]", value) is not None


def _is_assigned(value: bytes) -> bool:
    """Return whether a value without quotes after an equals sign is a password and not a name."""
    return not _BARE_NAME.fullmatch(value) and _is_password(value)


def _is_chosen(value: bytes) -> bool:
    """Return whether a value without quotes is a chosen password. In that place, code has names,
    numbers, paths and addresses.
    """
    if b"/" in value or not _is_assigned(value):
        return False
    return all(re.search(kind, value) for kind in (rb"[a-z]", rb"[A-Z]")) or _is_bare_secret(value)


def _is_credential(value: bytes) -> bool:
    """Return whether the text after the name of an authentication scheme is a token."""
    return not _PLACEHOLDER.search(value) and _is_random(value)


def _is_user_and_password(value: bytes) -> bool:
    """Return whether a text in Base64 is a name and a password, with a colon between."""
    try:
        name, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except ValueError:
        return False
    return bool(name and colon and len(password) >= 4 and (name + password).isascii())


def _is_key_body(value: bytes) -> bool:
    """Return whether the text between the lines of a key is Base64 and not a sentence about keys."""
    return re.search(rb"[A-Za-z0-9+/]{32}", value) is not None


MIN_ENTROPY = 3.5
# Sixteen digits have at most four bits each, and few of them have that many.
MIN_HEX_ENTROPY = 3.0
_HEX = re.compile(rb"[0-9a-f]{20,}|[0-9A-F]{20,}")
# This is a checksum or an id.
_SHORT_HEX = re.compile(rb"[0-9a-f]{0,19}|[0-9A-F]{0,19}")
_PLACEHOLDER = re.compile(
    rb"example|changeme|change_me|placeholder|your|xxxx|dummy|sample|redacted|insert|<|>|\$\{|\{\{|%\(|"
    rb"\.\.\.|\*\*\*|"
    rb"abcdef|012345|123456789",
    re.IGNORECASE,
)
# Dotted names, calls, paths, versions and constants.
_BARE_NAME = re.compile(
    rb"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|[A-Za-z_][A-Za-z_]*(?:[._/-][A-Za-z_]+[0-9]{0,3})*"
    rb"|[A-Z0-9_]+|[a-z_]+[0-9]{0,4}|[0-9.]+|0x[0-9a-fA-F]+"
)


def _issued(kind: str, prefix: str, body: str) -> Pattern:
    """Return a pattern for a row of `ISSUED`. The search looks for its prefix."""
    fixed = re.escape(prefix).encode()
    behind = rb"(?<![A-Za-z0-9_]" + b"." * len(prefix) + b")"
    return Pattern(kind, re.compile(fixed + behind + body.encode()), needles=(prefix.lower().encode(),))


_ISSUED = tuple(_issued(*row) for row in ISSUED)
_OF_ISSUERS = frozenset(
    (
        "aws_key",
        "github_token",
        "gitlab_token",
        "slack_token",
        "stripe_key",
        "google_key",
        "npm_token",
        "pypi_token",
    )
)
_TWO_WORDS = (
    *(b"api", b"access", b"private", b"auth", b"client", b"account", b"app", b"encryption", b"master"),
    *(b"signing", b"authentication", b"admin"),
)
_SECRET_NAME = (
    rb"(?i:secret|passw(?:or)?d|passphrase|token|credential|(?:" + b"|".join(_TWO_WORDS) + rb")[ _-]?key)"
)
_SECRET_NEEDLES = (
    b"secret",
    b"passw",
    b"passphrase",
    b"token",
    b"credential",
    *(word + gap + b"key" for word in _TWO_WORDS for gap in (b"", b"_", b"-", b" ")),
)
# Between a name and its value: the end of a key, the type of a declaration, what assigns.
_KEY_END = rb"[\w.-]{0,30}(?: (?i:key|token))?[\"']?\]?"
_TYPE = rb"(?:(?:[ \t]{0,3}:[ \t]{0,3}|[ \t]{1,3})[A-Za-z_&][\w&'.:<>*\[\]]{0,24})?"
_ASSIGNS = rb"[ \t]{0,3}(?::{0,3}=|[?.|+]{1,2}=|=>|[:=,])\s{0,3}"
_ASSIGNS_BARE = rb"[ \t]{0,3}(?::{0,3}=|[?.|+]{1,2}=|=>|[:=])[ \t]{0,3}"
# A value is replaced as a whole, so its length is bounded far above real values. No character in it
# can end it, so the match is possessive.
_VALUE = rb"(?P<value>[A-Za-z0-9/+_=.~!@#$%^&*-]{12,8192}+)"
_AZURE_NEEDLES = tuple(b"%dq~" % digit for digit in range(10))
# A name that ends so.
_PASS_NEEDLES = tuple(mark + b"pass" + end for mark in (b"_", b"-") for end in (b" ", b"'", b'"', b"=", b":"))
_PASSWORD_NEEDLES = (*(b"passw", b"passphrase", b"pwd", b"pass:", b"pass=", b"pw:", b"pw="),)
# Tokens that mark the next page of a list, or a state.
_CURSOR = re.compile(
    rb"(?:next|prev|previous|page|continuation|cursor|forward|backward|lock|change|creation|action|idempotency)"
    rb"[_-]?(?:page[_-]?)?token\W{1,12}\Z",
    re.IGNORECASE,
)
_PASSWORD_NAME = rb"(?i:passw(?:or)?d|passphrase|pwd|pass|pw)"
_PASSWORD_VALUE = rb"[^\s\"'`<>{}()\[\],;$]{8,64}+"

# A pattern starts with fixed bytes or a small class and checks the text before it afterwards. So
# `re` can skip through a text.
SECRETS = (
    # The text between its lines may be headers of an encrypted key, a checksum, or quotes and line
    # ends of strings.
    Pattern("private_key", re.compile(
        rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: "
        rb"BLOCK)?-----(?P<value>(?:[^-]|-(?!----)){40,65536})"
        rb"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY"), _is_key_body, needles=(b"-----begin ",)),
    # One that is cut off.
    Pattern("private_key", re.compile(
        rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: "
        rb"BLOCK)?-----(?P<value>[A-Za-z0-9+/=\s\\\"',:.-]{60,65536})"),
        _is_key_body, needles=(b"-----begin ",)),
    Pattern("private_key", re.compile(
        rb"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----(?P<value>(?:[^-]|-(?!---)){40,65536})"),
        needles=(b"---- begin ",)),
    Pattern("private_key",
        re.compile(rb"Private-Lines: [0-9]{1,3}\r?\n(?P<value>(?:[A-Za-z0-9+/=]{1,80}\r?\n){1,200})"),
        needles=(b"private-lines: ",)),
    *(pattern for pattern in _ISSUED if pattern.kind in _OF_ISSUERS),
    Pattern("aws_key", re.compile(
        rb"A(?:KIA|SIA)[A-Z2-7]{16}[\s\S]{1,200}?(?<![A-Za-z0-9/+])"
        rb"(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"), _is_aws_secret, needles=(b"akia", b"asia")),
    Pattern("jwt", re.compile(
        rb"eyJ(?<![\w-]...)[A-Za-z0-9_-]{10,4096}\.eyJ[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{20,2048}"),
        needles=(b".eyj",)),
    Pattern("assigned_secret", re.compile(rb"[:=]\s{0,3}[\"'](?P<value>[A-Za-z0-9/+_=-]{20,8192}+)[\"']"),
        _is_random,
        before=re.compile(rb"(?:secret|passw(?:or)?d|api_?key|token)\w{0,20}[\"']?\s{0,3}\Z", re.IGNORECASE),
        hints=ASSIGNED_KEY,
        needles=(b"secret", b"passw", b"apikey", b"api_key", b"token"), unless=_CURSOR),
)  # fmt: skip
# Start with the name of a secret, and are tried at such names alone.
NAMED = (
    Pattern("bare_secret",
        re.compile(_SECRET_NAME + _KEY_END + _ASSIGNS_BARE + _VALUE + rb"(?=[\s,;]|\\n|\Z)"),
        _is_bare_secret, needles=_SECRET_NEEDLES, unless=_CURSOR),
    Pattern("bare_secret",
        re.compile(_SECRET_NAME + _KEY_END + _TYPE + _ASSIGNS + rb"[\"'`]" + _VALUE + rb"[\"'`]"),
        _is_bare_secret, needles=_SECRET_NEEDLES, unless=_CURSOR),
    # An element of XML.
    Pattern("bare_secret", re.compile(_SECRET_NAME + rb"[\w.-]{0,30}>\s{0,20}" + _VALUE + rb"\s{0,20}</"),
        _is_bare_secret, needles=_SECRET_NEEDLES, unless=_CURSOR),
    Pattern("password", re.compile(
        rb"(?i:passw(?:or)?d|passphrase|secret|pwd)" + _KEY_END + _TYPE
        + rb"[ \t]{0,3}(?::{0,3}=|=>|[:=])[ \t]{0,3}[\"'`](?P<value>[^\s\"'`<>{}()]{8,100}+)[\"'`]"),
        _is_password, needles=(*_SECRET_NEEDLES, b"pwd")),
    Pattern("password", re.compile(rb"(?<=[_-])(?i:pass)[\"']?\]?[ \t]{0,3}(?:=>|[:=])[ \t]{0,3}[\"'`]"
        rb"(?P<value>[^\s\"'`<>{}()]{8,100}+)[\"'`]"), _is_password, needles=_PASS_NEEDLES),
    Pattern("password", re.compile(
        rb"(?i:passw(?:or)?d|passphrase)>(?P<value>[^\s\"'`<>{}()$]{8,100}+)</"), _is_password,
        needles=(b"passw", b"passphrase")),
    # The argument of a call.
    Pattern("password", re.compile(
        rb"(?:(?i:passw(?:or)?d)|(?i:securestring)(?i: -string)?)[ (]{1,2}[\"']"
        rb"(?P<value>[^\s\"'`<>{}()]{8,100}+)[\"']"), _is_password, needles=(b"passw", b"securestring")),
    # After a colon or an equals sign, anywhere in a line.
    Pattern("password", re.compile(
        _PASSWORD_NAME + rb"[\w.-]{0,20}[:=](?!=)(?P<value>" + _PASSWORD_VALUE + rb")(?=[\s,;]|\\n|\Z)"),
        _is_chosen, needles=_PASSWORD_NEEDLES),
    # On a command line.
    Pattern("password", re.compile(
        rb"(?<=-)(?i:passw(?:or)?d|passphrase)[ \t]{1,3}(?P<mark>[\"']?)(?P<value>" + _PASSWORD_VALUE
        + rb")(?P=mark)(?=[\s,;\"'`]|\Z)"), _is_chosen, needles=(b"passw", b"passphrase")),
    Pattern("bare_secret", re.compile(
        rb"(?<=-)(?i:secret|token|(?:api|access|auth)[_-]?key)[\w-]{0,20}[ \t]{1,3}[\"']?" + _VALUE
        + rb"(?=[\s,;\"'`]|\Z)"), _is_bare_secret, needles=_SECRET_NEEDLES, unless=_CURSOR),
    # In SQL.
    Pattern("password", re.compile(
        rb"(?:(?i:password)[ \t]{1,3}|(?i:identified)(?i: with \w{1,40})?(?i: by) )(?P<mark>[\"']?)(?P<value>"
        + _PASSWORD_VALUE + rb")(?P=mark)(?=[\s,;\"'`)]|\Z)"), _is_chosen, needles=(b"passw", b"identified")),
    # In the header of a request.
    Pattern("bare_secret", re.compile(
        rb"(?i:(?:api|access)-key|(?<=-)token)[\"']?:[ \t]{0,3}(?P<value>[A-Za-z0-9/+_=.~-]{16,8192}+)"
        rb"(?=[\s\"'`]|\Z)"), _is_credential, needles=_SECRET_NEEDLES, unless=_CURSOR),
    Pattern("authorization", re.compile(
        rb"(?i:authorization)[\"']?[ \t]{0,2}[:=,][ \t]{0,3}[\"'`]?"
        rb"(?i:basic|bearer|ntlm|token|negotiate)[ \t]{1,3}(?P<value>[A-Za-z0-9+/=._~-]{16,8192}+)"),
        _is_credential, needles=(b"authorization",)),
)  # fmt: skip
# What a pattern of NAMED starts with.
NAMED_START = re.compile(
    rb"(?i:secret|passw|passphrase|token|credential|" + b"|".join(_TWO_WORDS) + rb"|pwd|pass|pw|identified"
    rb"|authorization|securestring)"
)
# Looked for near the names of secrets alone.
ASSIGNED = (
    # In the file of a container.
    Pattern("bare_secret", re.compile(rb"(?m:^)[ \t]{0,8}(?:ENV|ARG) \w{0,40}" + _SECRET_NAME
        + rb"\w{0,40}[ =]" + _VALUE + rb"(?=\s|\Z)"), _is_bare_secret, needles=_SECRET_NEEDLES),
    Pattern("password", re.compile(
        rb"(?m:^)[ \t]{0,8}(?:export )?\w{0,40}(?i:passw(?:or)?d|passphrase|secret|pwd)\w{0,20}="
        rb"(?P<value>[^\s\"'`<>{}()$]{8,100})(?=\s|\Z)"),
        _is_assigned, needles=(*_SECRET_NEEDLES, b"pwd")),
)  # fmt: skip
MORE_SECRETS = (
    *(pattern for pattern in _ISSUED if pattern.kind not in _OF_ISSUERS),
    Pattern("telegram_token", re.compile(rb":A(?<=[0-9]:A)[A-Za-z0-9_-]{34}(?![\w-])"),
        before=re.compile(rb"(?<![0-9])(?P<value>[0-9]{5,16})\Z"), needles=(b":aa", b"telegr")),
    Pattern("password", re.compile(
        rb"curl (?:[^\n]|\\\n){0,300}?(?<=\s)(?:-u|--user)[ =]{0,3}[\"']?[^\s:\"']{0,64}:"
        rb"(?P<value>[^\s\"'`<>{}$]{6,100}+)"),
        _is_password, needles=(b"curl ",)),
    # A private key that programs read: the member `d` of a JSON Web Key.
    Pattern("private_key", re.compile(
        rb"\"kty\"[^{}]{1,4000}?\"d\"\s{0,3}:\s{0,3}\"(?P<value>[A-Za-z0-9_-]{40,2048}+)"),
        needles=(b'"kty"',)),
    Pattern("azure_secret", re.compile(
        rb"Q~(?<=[0-9]Q~)[A-Za-z0-9_~.-]{31,34}(?![\w~.-])"),
        before=re.compile(rb"(?<![\w~.-])(?P<value>[A-Za-z0-9_~.-]{3}[0-9])\Z"),
        needles=_AZURE_NEEDLES),
    Pattern("address_password", re.compile(
        rb"://[A-Za-z0-9._%+-]{0,64}:(?P<value>[^\s:/@\"'`<>{}$\[\]()]{6,100})@[A-Za-z0-9\[]"), _is_password,
        needles=(b"://",)),
    # After a flag of a program.
    Pattern("password", re.compile(
        rb"(?:sshpass|mysql(?:dump|admin)?) (?:[^\n]{0,200}? )?-p ?(?P<mark>[\"']?)"
        rb"(?P<value>[^\s\"'`<>{}$]{6,100}+)(?P=mark)"), _is_password, needles=(b"sshpass", b"mysql")),
    Pattern("bare_secret", re.compile(rb"wandb login (?:--relogin )?(?P<value>[0-9a-f]{40})\b"),
        needles=(b"wandb login",)),
    # In the files of npm and Docker.
    Pattern("npm_token", re.compile(
        rb"_auth(?:Token)?[ ]?=[ ]?[\"']?(?P<value>[A-Za-z0-9+/=_-]{16,2048}+)"),
        _is_credential, needles=(b"_auth",)),
    Pattern("docker_token", re.compile(
        rb"\"auth\"\s{0,3}:\s{0,3}\"(?P<value>[A-Za-z0-9+/]{12,2048}+={0,2})\""),
        _is_user_and_password, needles=(b'"auth"',)),
    Pattern("django_key", re.compile(
        rb"SECRET_KEY[ \t]{0,3}=[ \t]{0,3}[\"']"
        rb"(?P<value>(?:django-insecure-)?[a-z0-9!@#$%^&*(_=+)-]{50})[\"']"),
        _is_random, needles=(b"secret_key",)),
    Pattern("twilio_key", re.compile(rb"SK(?<!\w..)[0-9a-f]{32}\b"),
        needles=tuple(b"sk%x" % digit for digit in range(16))),
    Pattern("mailchimp_key", re.compile(rb"-us(?<=[0-9a-f]-us)[0-9]{1,2}\b"),
        before=re.compile(rb"(?<![0-9a-f])(?P<value>[0-9a-f]{32})\Z"),
        needles=tuple(b"-us%d" % digit for digit in range(10))),
    Pattern("newrelic_key", re.compile(rb"NRAL(?<=[0-9a-f]NRAL)\b"),
        before=re.compile(rb"(?<![0-9a-f])(?P<value>[0-9a-f]{36})\Z"), needles=(b"nral",)),
    *NAMED,
    *ASSIGNED,
)  # fmt: skip
# Before a match, for patterns with a condition on it.
CONTEXT_BYTES = 64
_ALL = (*SECRETS, *MORE_SECRETS, *PERSONAL)
_NEEDLES = PatternSearch(tuple(dict.fromkeys(needle for pattern in _ALL for needle in pattern.needles)))
# The bits below those of needles.
_HINT_BITS = 8
# Number of bytes around the name of a secret in which its value is searched.
_REACH = 160
_NAMES = PatternSearch(
    tuple(
        dict.fromkeys(
            (
                *_SECRET_NEEDLES,
                *_PASSWORD_NEEDLES,
                *_PASS_NEEDLES,
                b"securestring",
                b"identified",
                b"authorization",
            )
        )
    )
)


class _Likely:
    """Remembers which patterns the last text may match, because two steps ask about one text."""

    def __init__(self) -> None:
        self._text, self._had = b"", 0
        self._masks = {pattern: self._masks_of(pattern) for pattern in _ALL}

    @staticmethod
    def _masks_of(pattern: Pattern) -> tuple[int, int]:
        """Return the masks of the patterns. One bit of each mask has to be present; -1 stands for a
        pattern without condition.
        """
        mask = _NEEDLES.mask(pattern.needles) << _HINT_BITS
        return pattern.hints or -1, mask or -1

    def of(self, text: bytes, patterns: tuple[Pattern, ...]) -> list[Pattern]:
        """Return the patterns that may match, in their order."""
        if text is not self._text:
            # The highest bit is in every mask of -1 and in no other.
            highest = 1 << (_HINT_BITS + len(_NEEDLES.all))
            had = highest | _NEEDLES.bits(text) << _HINT_BITS | hints(text)
            self._text, self._had = text, had
        return list(self._among(self._had, patterns))

    @lru_cache(maxsize=4096)  # noqa: B019 - there is one of its kind, as long as the process
    def _among(self, had: int, patterns: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
        return tuple(p for p in patterns if had & self._masks[p][0] and had & self._masks[p][1])


_likely = _Likely()
_SECRETS = (*SECRETS, *MORE_SECRETS)


def secrets(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Find keys and passwords, and treat them as `corpus.steps.secrets` says."""
    return _apply(text, "secrets", _SECRETS, settings.spec.secrets, "secret")


def personal(text: WorkingDocument, settings: StepSettings) -> Reason | None:
    """Find personal data, and treat it as `corpus.steps.personal` says."""
    return _apply(text, "personal", PERSONAL, settings.spec.personal, "personal_data")


def find(data: bytes, patterns: tuple[Pattern, ...]) -> list[tuple[int, int, str]]:
    """Return (start, end, kind) of everything to remove, in order and without overlaps. The earlier
    pattern wins.
    """
    taken: list[tuple[int, int, str]] = []
    for pattern in _likely.of(data, patterns):
        new: list[tuple[int, int, str]] = []
        stop = 0
        for start, end in _matches(pattern, data):
            # Earlier matches are ascending and disjoint, so one neighbour on each side is enough.
            place = bisect_left(taken, (start,))
            is_free = start >= stop and (place == len(taken) or end <= taken[place][0])
            if is_free and (not place or taken[place - 1][1] <= start) and pattern.check(data[start:end]):
                new.append((start, end, pattern.kind))
                stop = end
        if new:
            taken = sorted(taken + new)
    return taken


def _matches(pattern: Pattern, data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the values of a pattern, ascending."""
    for match in _raw_matches(pattern, data):
        start, end = match.span("value" if "value" in pattern.regex.groupindex else 0)
        if pattern.before:
            context = pattern.before.search(data[max(0, match.start() - CONTEXT_BYTES) : match.start()])
            if not context:
                continue
            start -= len(context["value"]) if "value" in pattern.before.groupindex else 0
        if pattern.unless and pattern.unless.search(data[max(0, start - CONTEXT_BYTES) : start]):
            continue
        yield start, end


@lru_cache(maxsize=2)
def _names(data: bytes, reach: int) -> list[tuple[int, int]]:
    """Return the positions of the names of secrets, because several patterns need them for one
    text.
    """
    return _NAMES.windows(data, reach)


@lru_cache(maxsize=2)
def _starts(data: bytes) -> list[int]:
    """Return the places where a pattern of NAMED may start, for the same reason."""
    return [
        place
        for first, last in _names(data, 1)
        for place in range(first, last)
        if NAMED_START.match(data, place)
    ]


def _raw_matches(pattern: Pattern, data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the matches of `finditer`, tried only at the positions where the pattern can match."""
    if pattern in NAMED:
        behind = 0
        for place in _starts(data):
            if place >= behind and (match := pattern.regex.match(data, place)):
                yield match
                behind = match.end()
    elif pattern in ASSIGNED:
        for first, last in _names(data, _REACH):
            yield from pattern.regex.finditer(data, first, last)
    else:
        yield from pattern.regex.finditer(data)


def placeholder(kind: str) -> bytes:
    """Return the text that replaces a removed value."""
    return f"REDACTED_{kind.upper()}".encode()


def _apply(
    text: WorkingDocument, step: str, patterns: tuple[Pattern, ...], action: str, reason: Reason
) -> Reason | None:
    spans = find(text.data, patterns)
    if not spans:
        return None
    for kind, n in sorted(Counter(kind for _, _, kind in spans).items()):
        text.note(step, kind, action, n)
    if action == "drop":
        return reason
    pieces, place = [], 0
    for start, end, kind in spans:
        pieces += [text.data[place:start], placeholder(kind)]
        place = end
    text.replace(b"".join([*pieces, text.data[place:]]))
    return None
