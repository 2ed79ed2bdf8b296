"""Steps `secrets` and `personal`: keys, passwords, addresses and numbers of people; redacted or dropped by the recipe.

Own patterns, because detect-secrets is too slow for a corpus (dev/LOG.md). They are its high-confidence detectors: a prefix that
the issuer fixes, a check digit, or a name beside a random value. The placeholder is a word of its own that keeps the syntax
of strings and comments.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.native import ACCOUNT, ADDRESS, ASSIGNED_KEY, CARD, PLUS_DIGIT, Needles, hints
from sevenfold.corpus.steps.working_document import Settings, Text


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """`regex` over bytes; its group `value` (else all of it) is what has to go, with the group `value` of `before`.

    `before` has to match the bytes that end where the match starts. `check` confirms the value. The pattern cannot match, nor
    `before`, where a text has none of `hints` (`native.hints`) or none of `needles`; 0 and (): they say nothing.
    """

    kind: str
    regex: re.Pattern[bytes]
    check: Callable[[bytes], bool] = lambda _: True
    before: re.Pattern[bytes] | None = None
    hints: int = 0
    needles: tuple[bytes, ...] = ()


def entropy(value: bytes) -> float:
    """Shannon entropy, bits per byte."""
    counts = Counter(value).values()
    return math.log2(len(value)) - sum(n * math.log2(n) for n in counts) / len(value)


def _is_random(value: bytes) -> bool:
    has_digit, has_letter = re.search(rb"[0-9]", value), re.search(rb"[A-Za-z]", value)
    return bool(has_digit and has_letter) and entropy(value) >= MIN_ENTROPY


def luhn(value: bytes) -> bool:
    """Whether the check digit of a card number is right, and it is not one digit all over."""
    digits = [byte - ord("0") for byte in value if byte in b"0123456789"]
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 2


def iban(value: bytes) -> bool:
    """Whether the check digits of an account number are right (ISO 13616: modulo 97)."""
    text = value.replace(b" ", b"").decode()
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _is_person(value: bytes) -> bool:
    local, _, domain = value.lower().partition(b"@")
    if local in _ROLES or b"." not in domain:
        return False
    return not _NO_DOMAIN.search(domain)


MIN_ENTROPY = 3.5
_ROLES = frozenset(
    (b"git", b"noreply", b"no-reply", b"user", b"username", b"name", b"you", b"me", b"foo", b"test")
)
# Reserved for examples (RFC 2606, RFC 6761), or the tail of a file name rather than of a host.
_NO_DOMAIN = re.compile(
    rb"(?:^|\.)(?:example\.(?:com|org|net)|test|example|invalid|localhost|local|py|js|ts|c|h|rs|go|md|png|svg)$"
)

# A pattern starts with fixed bytes or a small class, and looks behind after them: that is what lets `re` skip through a text.
SECRETS = (
    Pattern("private_key", re.compile(
        rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?P<value>[^-]{40,})-----END (?:[A-Z]+ )?PRIVATE KEY-----"),
        needles=(b"-----begin ",)),
    Pattern("aws_key", re.compile(rb"AKIA(?<!\w....)[A-Z2-7]{16}\b"), needles=(b"akia",)),
    Pattern("aws_key", re.compile(rb"ASIA(?<!\w....)[A-Z2-7]{16}\b"), needles=(b"asia",)),
    Pattern("github_token", re.compile(rb"gh[pousr]_(?<!\w....)[A-Za-z0-9]{36,255}\b"),
        needles=(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")),
    Pattern("github_token", re.compile(rb"github_pat_[A-Za-z0-9_]{50,255}\b"), needles=(b"github_pat_",)),
    Pattern("gitlab_token", re.compile(rb"glpat-[A-Za-z0-9_-]{20,}\b"), needles=(b"glpat-",)),
    Pattern("slack_token", re.compile(rb"xox[abprs]-[A-Za-z0-9-]{20,}\b"), needles=(b"xox",)),
    Pattern("stripe_key", re.compile(rb"sk_live_(?<!\w.{8})[A-Za-z0-9]{20,}\b"), needles=(b"sk_live_",)),
    Pattern("google_key", re.compile(rb"AIza(?<!\w....)[A-Za-z0-9_-]{35}\b"), needles=(b"aiza",)),
    Pattern("npm_token", re.compile(rb"npm_(?<!\w....)[A-Za-z0-9]{36}\b"), needles=(b"npm_",)),
    Pattern("pypi_token", re.compile(rb"pypi-AgEI[A-Za-z0-9_-]{50,}"), needles=(b"pypi-agei",)),
    Pattern("jwt", re.compile(rb"eyJ(?<!\w...)[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
        needles=(b".eyj",)),
    Pattern("assigned_secret", re.compile(rb"[:=]\s{0,3}[\"'](?P<value>[A-Za-z0-9/+_=-]{20,200})[\"']"), _is_random,
        before=re.compile(rb"(?:secret|passw(?:or)?d|api_?key|token)\w{0,20}[\"']?\s{0,3}\Z", re.IGNORECASE), hints=ASSIGNED_KEY,
        needles=(b"secret", b"passwd", b"password", b"apikey", b"api_key", b"token")),
)  # fmt: skip
PERSONAL = (
    Pattern("email", re.compile(rb"@(?<=[A-Za-z0-9_%+-]@)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,18}\b"), _is_person,
        before=re.compile(rb"(?P<value>[A-Za-z0-9._%+-]{1,64})\Z"), hints=ADDRESS),
    Pattern("phone", re.compile(rb"\+(?<![\w+.-]\+)[1-9][0-9]{0,2}[ (-]{1,2}[0-9](?:[ ()-]{0,2}[0-9]){6,11}(?![\w.])"),
        hints=PLUS_DIGIT),
    Pattern("card", re.compile(
        rb"[45](?<![\w.-].)[0-9]{3}(?P<sep>[ -]?)[0-9]{4}(?P=sep)[0-9]{4}(?P=sep)[0-9]{4}(?![\w.-])"), luhn, hints=CARD),
    Pattern("iban", re.compile(
        rb"(?:DE|FR|GB|ES|IT|NL|CH|AT|BE|PL)(?<!\w..)[0-9]{2}(?: ?[A-Z0-9]{4}){3,6}(?: ?[A-Z0-9]{1,3})?\b"), iban,
        hints=ACCOUNT),
    Pattern("us_social_security", re.compile(rb"-(?<=[0-8][0-9]{2}-)[0-9]{2}-[0-9]{4}\b"),
        before=re.compile(rb"(?:ssn|social security)[^0-9\n]{0,20}(?P<value>[0-8][0-9]{2})\Z", re.IGNORECASE),
        needles=(b"ssn", b"social security")),
)  # fmt: skip
CONTEXT_BYTES = 64  # before a match, for patterns with a condition on it
_NEEDLES = Needles(needle for pattern in (*SECRETS, *PERSONAL) for needle in pattern.needles)
_HINT_BITS = 8  # below those of needles


class _Likely:
    """Which patterns the last text may match: two steps ask about one."""

    def __init__(self) -> None:
        self._text, self._had = b"", 0
        self._masks = {pattern: self._masks_of(pattern) for pattern in (*SECRETS, *PERSONAL)}

    @staticmethod
    def _masks_of(pattern: Pattern) -> tuple[int, int]:
        """One bit of each mask has to be there; -1 stands for a pattern that asks for none."""
        return pattern.hints or -1, _NEEDLES.mask(pattern.needles) << _HINT_BITS or -1

    def of(self, text: bytes, patterns: tuple[Pattern, ...]) -> list[Pattern]:
        """Those of the patterns that may match, in their order."""
        if text is not self._text:
            # The highest bit is in every mask of -1 and in no other.
            always = 1 << (_HINT_BITS + 64)
            self._text, self._had = text, hints(text) | _NEEDLES.bits(text) << _HINT_BITS | always
        had = self._had
        return [p for p in patterns if had & self._masks[p][0] and had & self._masks[p][1]]


_likely = _Likely()


def secrets(text: Text, settings: Settings) -> Reason | None:
    """Keys and passwords, as `corpus.steps.secrets` wants."""
    return _apply(text, "secrets", SECRETS, settings.spec.secrets, "secret")


def personal(text: Text, settings: Settings) -> Reason | None:
    """Personal data, as `corpus.steps.personal` wants."""
    return _apply(text, "personal", PERSONAL, settings.spec.personal, "personal_data")


def find(data: bytes, patterns: tuple[Pattern, ...]) -> list[tuple[int, int, str]]:
    """(start, end, kind) of everything that has to go, in order, without overlaps (the earlier pattern wins)."""
    taken: list[tuple[int, int, str]] = []
    for pattern in _likely.of(data, patterns):
        for match in pattern.regex.finditer(data):
            start, end = match.span("value" if "value" in pattern.regex.groupindex else 0)
            if pattern.before:
                context = pattern.before.search(data[max(0, match.start() - CONTEXT_BYTES) : match.start()])
                if not context:
                    continue
                start -= len(context["value"]) if "value" in pattern.before.groupindex else 0
            free = all(end <= other or start >= stop for other, stop, _ in taken)
            if free and pattern.check(data[start:end]):
                taken.append((start, end, pattern.kind))
    return sorted(taken)


def placeholder(kind: str) -> bytes:
    """What stands in the text instead."""
    return f"REDACTED_{kind.upper()}".encode()


def _apply(
    text: Text, step: str, patterns: tuple[Pattern, ...], action: str, reason: Reason
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
