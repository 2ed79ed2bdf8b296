"""What a pattern of a value is, and the patterns of personal data."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sevenfold.corpus.native import ACCOUNT, ADDRESS, CARD, PLUS_DIGIT


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """One pattern. `regex` matches bytes; its group `value`, or else the whole match, is removed,
    with the group `value` of `before`.

    `before` has to match the bytes that end where the match starts. `check` confirms the value. The
    pattern cannot match, nor `before`, where a text has none of `hints` (`native.hints`) or none of
    `needles`; 0 and (): they say nothing. Where `unless` matches what stands before the value, it is
    none.
    """

    kind: str
    regex: re.Pattern[bytes]
    check: Callable[[bytes], bool] = lambda _: True
    before: re.Pattern[bytes] | None = None
    hints: int = 0
    needles: tuple[bytes, ...] = ()
    unless: re.Pattern[bytes] | None = None


def luhn(value: bytes) -> bool:
    """Return whether the check digit of a card number is right and its digits are not all equal."""
    digits = [byte - ord("0") for byte in value if byte in b"0123456789"]
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 2


def iban(value: bytes) -> bool:
    """Return whether the check digits of an account number are right (ISO 13616: modulo 97)."""
    text = value.replace(b" ", b"").decode()
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _is_person(value: bytes) -> bool:
    local, _, domain = value.lower().partition(b"@")
    if local in _ROLES or b"." not in domain:
        return False
    return not _NO_DOMAIN.search(domain) and not _SHORT_FILE.fullmatch(domain)


_ROLES = frozenset(
    (b"git", b"noreply", b"no-reply", b"user", b"username", b"name", b"you", b"me", b"foo", b"test")
)
# Reserved for examples (RFC 2606, RFC 6761), or the tail of a file name that is no domain. Endings
# that are countries too (.rs, .py, .md, .sh, .pl) are domains behind an @, unless a single letter
# stands before them.
_SHORT_FILE = re.compile(rb"[^.]\.(?:rs|py|md|sh|pl|so|cc|ml|mk|ps|am)")
_NO_DOMAIN = re.compile(
    rb"(?:^|\.)(?:example\.(?:com|org|net)|test|example|invalid|localhost|local|localdomain|internal|lan|js|"
    rb"ts|tsx|jsx|c|h|cc|hpp|cpp|go|"
    rb"png|svg|jpg|jpeg|gif|webp|ico|txt|json|yml|yaml|toml|html|css|scss|xml|lock|cfg|conf|ini|log|java|rb|"
    rb"php|cs|whl|tar|gz)$"
    rb"|^[0-9]+x\."
)

# A pattern starts with fixed bytes or a small class and checks the text before it afterwards.
PERSONAL = (
    # Names and domains may have letters of other alphabets.
    Pattern("email", re.compile(
        rb"@(?<=[A-Za-z0-9_%+-]@)[A-Za-z0-9\x80-\xff-]{1,63}(?:\.[A-Za-z0-9\x80-\xff-]{1,63}){0,7}"
        rb"\.[A-Za-z]{2,18}\b"),
        _is_person,
        before=re.compile(rb"(?P<value>[A-Za-z0-9._%+\x80-\xff-]{1,64})\Z"), hints=ADDRESS),
    # "jane [at] corp.io", "jane (at) corp (dot) io"
    Pattern("email", re.compile(
        rb"[\[(](?i:at)[\])] ?[A-Za-z0-9-]{1,63}(?:(?:\.| ?[\[(](?i:dot)[\])] ?)[A-Za-z0-9-]{1,63}){0,5}"
        rb"(?:\.| ?[\[(](?i:dot)[\])] ?)[A-Za-z]{2,18}\b"),
        before=re.compile(rb"(?P<value>[A-Za-z0-9._%+-]{1,64} ?)\Z"), needles=(b"(at", b"[at")),
    Pattern("phone",
        re.compile(rb"\+(?<![\w+.-]\+)[1-9][0-9]{0,2}[ (-]{1,2}[0-9](?:[ ()-]{0,2}[0-9]){6,11}(?![\w.])"),
        hints=PLUS_DIGIT),
    # Without spaces only where it is said to be one, or is a whole string.
    Pattern("phone", re.compile(rb"(?i:tel|sms|whatsapp):(?P<value>\+?[1-9][0-9]{7,14})(?![\w.])"),
        needles=(b"tel:", b"sms:", b"whatsapp:")),
    Pattern("phone", re.compile(rb"[\"'`](?P<value>\+[1-9][0-9]{9,13})[\"'`]"), hints=PLUS_DIGIT),
    # American Express, and Discover.
    Pattern("card", re.compile(rb"3(?<![\w.-].)[47][0-9]{2}(?P<sep>[ -]?)[0-9]{6}(?P=sep)[0-9]{5}(?![\w.-])"),
        luhn, needles=tuple(b"3%d%d" % (a, b) for a in (4, 7) for b in range(10))),
    Pattern("card", re.compile(
        rb"6011(?<![\w.-]....)(?P<sep>[ -]?)[0-9]{4}(?P=sep)[0-9]{4}(?P=sep)[0-9]{4}(?![\w.-])"),
        luhn, needles=(b"6011",)),
    Pattern("card", re.compile(
        rb"[45](?<![\w.-].)[0-9]{3}(?P<sep>[ -]?)[0-9]{4}(?P=sep)[0-9]{4}(?P=sep)[0-9]{4}(?![\w.-])"), luhn,
        hints=CARD),
    Pattern("iban", re.compile(
        rb"(?:AE|AT|BE|BG|CH|CY|CZ|DE|DK|EE|ES|FI|FR|GB|GR|HR|HU|IE|IL|IS|IT|LI|LT|LU|LV|MC|MT|NL|PL|PT|RO|SA"
        rb"|SE|SI|SK|TR|UA)(?<!\w..)[0-9]{2}(?: ?[A-Z0-9]{4}){3,6}(?: ?[A-Z0-9]{1,3})?\b"),
        iban,
        hints=ACCOUNT),
    Pattern("us_social_security", re.compile(rb"-(?<=[0-8][0-9]{2}-)[0-9]{2}-[0-9]{4}\b"),
        before=re.compile(rb"(?:ssn|social security)[^0-9\n]{0,20}(?P<value>[0-8][0-9]{2})\Z", re.IGNORECASE),
        needles=(b"ssn", b"social security")),
)  # fmt: skip
