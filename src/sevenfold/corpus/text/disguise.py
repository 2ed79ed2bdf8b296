"""What a copy of a benchmark's solution may be written as, undone: other characters, another place, other parameters.

The hashes of the sets are of functions as their authors wrote them. So a document is looked at as it is, and again as `plain`
text, as the programs that stand inside it, and with its functions' parameters as a plain function would have them.
"""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Iterator

# Letters of other alphabets that look like Latin ones (Unicode TR 39, those of Cyrillic and Greek).
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u03bf\u03b1\u03c1\u03bd\u0251\u0261"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0405\u0406\u0408\u0391\u0392\u0395\u0396\u0397\u0399\u039a"
    "\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijshdqwoapvag" + "ABEKMHOPCTXSIJABEZHIK" + "MNOPTYX",
)
_FENCE = re.compile(
    r"^[ \t>]{0,12}(`{3,10}|~{3,10})[^\n]{0,200}\n(.*?)^[ \t>]{0,12}\1", re.MULTILINE | re.DOTALL
)
_DOCTEST = re.compile(r"(?:^[ \t]*(?:>>>|\.\.\.)(?: [^\n]*)?\n?)+", re.MULTILINE)
_DOCTEST_DEFINITION = re.compile(r"(?:>>>|\.\.\.) +(?:def|async|class|@)")
_STRING = re.compile(r"(\"\"\"|''')(.*?)\1", re.DOTALL)
_DEFINITION = re.compile(
    r"(?P<head>\bdef[ \t]+\w+[ \t]*\()(?P<parameters>[^()]{0,500}(?:\([^()]{0,200}\)[^()]{0,200}){0,20})\)"
)
_RECEIVER = re.compile(r"^\s*(?:self|cls)\b[^,]*(?:,\s*|$)")
_DEFAULT = re.compile(r"\s*=\s*(?:\"[^\"]*\"|'[^']*'|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|[^,()\[\]{}\"']+)")
_MEMBER = re.compile(r"\b(?:self|cls)\.(?=\w+\()")
_MARK = re.compile(r"^[ \t]*>(?!>) ?|^[ \t]*(?:>>>|\.\.\.) ?", re.MULTILINE)
_MIN_LENGTH = 40


def plain(text: str) -> str:
    """A text in the characters of programs: compatibility forms, look-alikes and invisible characters undone."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES)
    return "".join(c for c in folded if c.isascii() or unicodedata.category(c) not in ("Cf", "Mn"))


def _cells(text: str) -> Iterator[str]:
    """Sources of the cells of a notebook."""
    try:
        cells = json.loads(text).get("cells", [])
        for cell in cells:
            source = cell["source"]
            yield source if isinstance(source, str) else "".join(source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return


def programs(text: str, *, is_program: bool, is_prose: bool = False) -> Iterator[str]:
    """What may be a program inside a text: cells of a notebook, fenced blocks, doctests, long strings.

    Args:
        text: a document, `plain`.
        is_program: the text is one itself, and comes first.
        is_prose: the text may be a program without any mark, where nothing inside it is marked as one.
    """
    if is_program:
        yield text
    if text.lstrip().startswith("{") and '"cells"' in text:
        for cell in _cells(text):
            yield cell
            yield from programs(cell, is_program=False, is_prose=True)
        return
    has_fence = "```" in text or "~~~" in text
    pieces = [match[2] for match in _FENCE.finditer(text)] if has_fence else []
    pieces += [match[2] for match in _STRING.finditer(text)]
    if _DOCTEST_DEFINITION.search(text):
        pieces += [match[0] for match in _DOCTEST.finditer(text)]
    for piece in pieces:
        if len(piece) >= _MIN_LENGTH and "def " in piece:
            yield textwrap.dedent(_MARK.sub("", piece))
    if is_prose and not pieces and "def " in text:
        yield text


def as_function(text: str) -> str:
    """A program whose methods are written as functions: without `self` or `cls`, and without default arguments."""

    def rewritten(match: re.Match[str]) -> str:
        parameters = _DEFAULT.sub("", _RECEIVER.sub("", match["parameters"]))
        return f"{match['head']}{parameters})"

    return _MEMBER.sub("", _DEFINITION.sub(rewritten, text))
