"""Undo how a copy of a solution of a benchmark may be disguised: other characters, another place,
other parameters.

The hashes of the sets are of functions as their authors wrote them. So a document is examined as it
is, as `plain` text, as the programs that are embedded in it, and with the parameters of its
functions in plain form.
"""

from __future__ import annotations

import json
import re
import textwrap
import unicodedata
from collections.abc import Iterator

from sevenfold.corpus.native import PatternSearch

# Letters of other alphabets that look like Latin ones (Unicode TR 39, those of Cyrillic and Greek).
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u03bf\u03b1\u03c1"
    "\u03bd\u0251\u0261"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0405\u0406\u0408\u0391\u0392\u0395"
    "\u0396\u0397\u0399\u039a"
    "\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijshdqwoapvag" + "ABEKMHOPCTXSIJABEZHIK" + "MNOPTYX",
)
_FOREIGN = re.compile("[^\x00-\x7f]+")
_FENCE_MARK = re.compile(r"^[ \t>]{0,12}(?P<mark>```+|~~~+)(?P<rest>[^\n]*)", re.MULTILINE)
# Characters of a fence that count.
_FENCE_LENGTHS = range(10, 2, -1)
# Characters after the fence that opens a block.
_INFO_LENGTH = 200
_DOCTEST = re.compile(r"(?:^[ \t]*(?:>>>|\.\.\.)(?: [^\n]*)?\n?)+", re.MULTILINE)
_FENCES = ("```", "~~~")
_PROMPTS = (">>> ", "... ")
# There is one pattern for each prompt, because `re` looks for the fixed bytes with which a pattern
# begins.
_DOCTEST_DEFINITIONS = {
    prompt: re.compile(re.escape(prompt) + " *(?:def|async|class|@)") for prompt in _PROMPTS
}
# Marks that may stand in a line before a function. Not only newlines end a line.
_ENDS = r"\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_MARGIN = re.compile(rf"(?:.*[{_ENDS}])?\W*(?:async\W+)?")
# Characters of a line that are examined.
_MARGIN_LENGTH = 200
_QUOTES = ('"""', "'''")
_STRING_PARTS = PatternSearch((*(mark.encode() for mark in _QUOTES), b"def "))
_DEF = len(_QUOTES)
# Of which one stands in a text with a fence, a doctest or a cell.
_MARKS_OF_PROGRAMS = PatternSearch((*(mark.encode() for mark in (*_FENCES, *_PROMPTS)), b'"cells"'))
_DEFINITION = re.compile(
    r"(?P<head>def(?<!\w...)[ \t]+\w+["
    r" \t]*\()(?P<parameters>[^()]{0,500}(?:\([^()]{0,200}\)[^()]{0,200}){0,20})\)"
)
_RECEIVER = re.compile(r"^\s*(?:self|cls)\b[^,]*(?:,\s*|$)")
_DEFAULT = re.compile(
    r"(?<!\s)\s*=\s*(?:\"[^\"]*\"|'[^']*'|\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|[^,()\[\]{}\"']+)"
)
# A pattern that starts with a letter and looks behind is faster than one that starts with `\b`.
_MEMBER = re.compile(r"(?:self(?<!\w.{4})|cls(?<!\w.{3}))\.(?=\w+\()", re.DOTALL)
_MARK = re.compile(r"^[ \t]*>(?!>) ?|^[ \t]*(?:>>>|\.\.\.) ?", re.MULTILINE)
_MIN_LENGTH = 40


class _Marks(dict[int, int | None]):
    """A table for `str.translate` that removes characters which change a text but not its
    appearance.
    """

    def __missing__(self, code: int) -> int | None:
        # Format marks and combining marks.
        kept = None if unicodedata.category(chr(code)) in ("Cf", "Mn") else code
        self[code] = kept
        return kept


_INVISIBLE = _Marks()


def plain(text: str) -> str:
    """Return a text in the characters of programs, without compatibility forms, look-alikes and
    invisible marks.
    """
    if text.isascii():
        return text
    pieces, behind = list[str](), 0
    for run in _FOREIGN.finditer(text):
        # The character before is included, because a mark may combine with it.
        start = max(behind, run.start() - 1)
        pieces += (text[behind:start], _plain_run(text[start : run.end()]))
        behind = run.end()
    return "".join((*pieces, text[behind:]))


def _plain_run(run: str) -> str:
    return unicodedata.normalize("NFKC", run).translate(_LOOKALIKES).translate(_INVISIBLE)


def definitions(text: str) -> Iterator[str]:
    """Yield each function of a program by its indentation, without its margin, whatever surrounds
    it.
    """
    lines = text.splitlines(keepends=True)
    for start, line in enumerate(lines):
        stripped = line.lstrip(" \t")
        if not stripped.startswith(("def ", "async def ")):
            continue
        margin = len(line) - len(stripped)
        end = start + 1
        while end < len(lines) and _is_inside(lines[end], margin):
            end += 1
        yield textwrap.dedent("".join(lines[start:end]))


def _is_inside(line: str, margin: int) -> bool:
    """Return whether a line belongs to the block that a line with this margin opened."""
    body = line.lstrip(" \t")
    return not body.strip() or len(line) - len(body) > margin or body.startswith((")", "]", "}"))


def _cells(text: str) -> Iterator[str]:
    """Yield the sources of the cells of a notebook."""
    try:
        cells = json.loads(text).get("cells", [])
        for cell in cells:
            source = cell["source"]
            yield source if isinstance(source, str) else "".join(source)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return


def may_define(text: str) -> bool:
    """Return whether a function may start in a text. It is fast, and a negative answer is certain."""
    place = text.find("def ")
    while place >= 0:
        low = max(0, place - _MARGIN_LENGTH)
        start = text.rfind("\n", low, place) + 1
        if (low and not start) or _MARGIN.fullmatch(text, start, place):
            return True
        place = text.find("def ", place + 4)
    return False


def fences(text: str) -> Iterator[str]:
    """Yield the content of each fenced block of Markdown, from the left.

    A block ends at the next fence of the same character and length. Without one, a shorter fence
    ends it.
    """
    marks = list(_FENCE_MARK.finditer(text))
    last = {
        (match["mark"][0], length): i
        for i, match in enumerate(marks)
        for length in _FENCE_LENGTHS
        if len(match["mark"]) >= length
    }
    behind = 0
    for i, match in enumerate(marks):
        if i < behind:
            continue
        mark = match["mark"]
        lengths = [n for n in _FENCE_LENGTHS if n <= len(mark) and last[mark[0], n] > i]
        n_info = len(mark) + len(match["rest"])
        length = next((n for n in lengths if n_info - n <= _INFO_LENGTH), 0)
        if length:
            closing = next(
                j for j in range(i + 1, len(marks)) if marks[j]["mark"].startswith(mark[0] * length)
            )
            yield text[match.end() + 1 : marks[closing].start()]
            behind = closing + 1


def long_strings(text: str) -> Iterator[str]:
    """Yield the text between three quotes and the next three of the same kind, from the left."""
    kinds = [mark for mark in _QUOTES if mark in text]
    if len(kinds) < len(_QUOTES):
        for mark in kinds:
            pieces = text.split(mark)
            yield from pieces[1:-1:2]
        return
    place = 0
    ahead = {mark: text.find(mark) for mark in _QUOTES}
    while True:
        for mark, at in ahead.items():
            if 0 <= at < place:
                ahead[mark] = text.find(mark, place)
        starts = [(at, mark) for mark, at in ahead.items() if at >= 0]
        if not starts:
            return
        start, mark = min(starts)
        end = text.find(mark, start + 3)
        if end < 0:
            # Nothing closes this kind any more. Strings of the other kind may follow.
            ahead[mark] = -1
            continue
        yield text[start + 3 : end]
        place = end + 3


def defining_strings(text: str) -> list[str]:
    """Return those of `long_strings` in which "def " stands."""
    if not text.isascii():
        return [piece for piece in long_strings(text) if "def " in piece]
    found: list[str] = []
    mark, start, place, has_definition = -1, 0, 0, False
    for number, at in _STRING_PARTS.places(text.encode()):
        if number == _DEF:
            has_definition |= text.startswith("def ", at)
        elif at >= place and mark < 0:
            mark, start, has_definition = number, at + 3, False
            place = start
        elif at >= place and number == mark:
            if has_definition and "def " in text[start:at]:
                found.append(text[start:at])
            mark, place = -1, at + 3
    # One that does not end: others may follow its mark.
    return found if mark < 0 else [piece for piece in long_strings(text) if "def " in piece]


def programs(text: str, *, is_program: bool, is_prose: bool = False) -> Iterator[str]:
    """Yield candidates for programs inside a text: cells of a notebook, fenced blocks, doctests,
    long strings.

    Args:
        text: a document, `plain`.
        is_program: the text is a program itself, which comes first.
        is_prose: the text may be a program without any fence.
    """
    if is_program and may_define(text):
        yield text
    has_mark = bool(_MARKS_OF_PROGRAMS.bits(text.encode("utf-8", "replace")))
    if has_mark and text.lstrip().startswith("{") and '"cells"' in text:
        for cell in _cells(text):
            if may_define(cell):
                yield cell
            yield from programs(cell, is_program=False, is_prose=True)
        return
    pieces = list(fences(text)) if has_mark and any(fence in text for fence in _FENCES) else []
    # Where prose is read, a string without a program counts, too.
    pieces += long_strings(text) if is_prose else defining_strings(text)
    if has_mark and any(
        prompt in text and rule.search(text) for prompt, rule in _DOCTEST_DEFINITIONS.items()
    ):
        pieces += [match[0] for match in _DOCTEST.finditer(text)]
    for piece in pieces:
        if len(piece) >= _MIN_LENGTH and may_define(piece):
            is_marked = ">" in piece or "..." in piece
            yield textwrap.dedent(_MARK.sub("", piece) if is_marked else piece)
    if is_prose and not pieces and may_define(text):
        yield text


def as_function(text: str) -> str:
    """Return a program whose methods are written as functions, without `self` or `cls` and without
    default arguments.
    """

    def rewritten(match: re.Match[str]) -> str:
        parameters = _DEFAULT.sub("", _RECEIVER.sub("", match["parameters"]))
        return f"{match['head']}{parameters})"

    return _MEMBER.sub("", _DEFINITION.sub(rewritten, text))
