"""Cut text before it is encoded, into pieces, protected symbols and units.

No token crosses a piece, and no token cuts a protected symbol. The rule is a regular expression of
the `tokenizers` library, stored in the tokenizer file. Protected symbols are cut out before it is
applied. `Cutter` does the same cutting in Python for ASCII text, so that known pieces can be looked
up without the library.

Units. `code` always cuts between a visible ASCII character and a blank after it, and the text
before such a cut does not depend on the text after it. The reason is that a blank can only be the
first character of a piece, and that the rule looks ahead only from blanks. The ids of a text are
therefore the concatenated ids of its units. A unit is a run of blanks, then visible characters up
to the next blank. `llama3` joins line ends to what precedes them, so it has no units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Measured on the standard library, 4096 entries, bytes per token of the held-out files: line end
# joined to the indentation after it 3.44; joined to the operator before it 3.36; to both 3.58, but
# then a prompt that ends in `:` or in a line end is cut where training never cuts. `llama3` is the
# rule that llama.cpp names `llama-bpe`: 3.36, and other runtimes cut text the same way.
PIECES = {
    "code": "|".join(
        (
            # A word, with one mark or space before it: .append, (self, _name.
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            # Digits, at most three together.
            r"\p{N}{1,3}",
            # Operators and brackets.
            r" ?[^\s\p{L}\p{N}]+",
            # Line ends with the indentation of the next line.
            r"[\r\n]+[ \t]*",
            # Blanks at the end of a line, and all but the last of a run of blanks.
            r"[ \t]+(?!\S)",
            r"\s+",
        )
    ),
    "llama3": "|".join(
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
}
HAS_UNITS = frozenset((PIECES["code"],))
BLANKS = r" \t\n\r\x0b\x0c"
_UNIT = re.compile(rf"[^!-~]*[!-~]+(?:[^!-~{BLANKS}][^!-~]*[!-~]*)*|[^!-~]+")
_ALTERNATIVE = re.compile(r"(?:\\.|\[[^\]]*\]|[^|\\[])+")
_AFTER = r"\(\?!\[\\p\{L\}\\p\{N\}_'?\]\)"
_ASCII = {r"\p{L}": "a-zA-Z", r"\p{N}": "0-9", r"\s": BLANKS}


def protected_forms(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the pieces that protected symbols make: each alone, and a symbol of marks also with
    the blank before it.
    """
    forms = (
        form for symbol in symbols for form in ((symbol, f" {symbol}") if is_marks(symbol) else (symbol,))
    )
    return tuple(dict.fromkeys(forms))


def is_marks(symbol: str) -> bool:
    """Return whether a symbol has neither letters nor digits. A blank before such a symbol belongs
    to it.
    """
    return not any(ch.isalnum() for ch in symbol)


def protected_pattern(symbols: Sequence[str]) -> str:
    """Return the expression that finds protected symbols, the longest first.

    No word character may follow a symbol that ends in one. A lifetime (`'a`) is not found before a
    quote, because that is a character literal.
    """
    alternatives = []
    for symbol in sorted(symbols, key=lambda symbol: (-len(symbol), symbol)):
        quote = "'" if symbol[:1] == "'" else ""
        before, after = (" ?", "") if is_marks(symbol) else ("", rf"(?![\p{{L}}\p{{N}}_{quote}])")
        alternatives.append(f"{before}{re.escape(symbol)}{after}")
    return "|".join(alternatives)


def protected_symbols(pattern: str) -> tuple[str, ...] | None:
    """Return the symbols of an expression that `protected_pattern` made, in the order in which they
    are tried; None for another expression.
    """
    found = []
    for alternative in _ALTERNATIVE.findall(pattern):
        bare = re.sub(rf"^ \?|{_AFTER}$", "", alternative)
        found.append(re.sub(r"\\(.)", r"\1", bare))
    return tuple(found) if protected_pattern(found) == pattern else None


def ascii_pattern(pattern: str) -> str:
    """Return the same expression for Python's `re`. It is right on ASCII text."""
    found, i, in_class = [], 0, False
    while i < len(pattern):
        step = next((name for name in (*_ASCII, r"\S") if pattern.startswith(name, i)), None)
        if step == r"\S":
            found.append(f"[^{BLANKS}]")
        elif step is not None:
            found.append(_ASCII[step] if in_class else f"[{_ASCII[step]}]")
        elif pattern[i] == "\\":
            step = pattern[i : i + 2]
            found.append(step)
        else:
            step = pattern[i]
            in_class = step == "[" or (in_class and step != "]")
            found.append(step)
        i += len(step)
    return "".join(found)


def units(text: str) -> list[str]:
    """Return the units of a text. Joined, they are the text. Only for rules in HAS_UNITS."""
    return _UNIT.findall(text)


class Cutter:
    """Cuts ASCII text into the same pieces as the library."""

    def __init__(self, pattern: str, protected: str | None) -> None:
        self._pieces = re.compile(ascii_pattern(pattern))
        self._protected = re.compile(f"({ascii_pattern(protected)})") if protected else None

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of an ASCII text, in order. Joined, they are the text."""
        if self._protected is None:
            return self._pieces.findall(text)
        found: list[str] = []
        for part in self._protected.split(text):
            found += self._pieces.findall(part)
        return found
