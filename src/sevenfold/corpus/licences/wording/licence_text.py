"""Read a file that is a licence by its name: extract its text (UTF-16, HTML, RTF), and find the
licences in it.

A licence file is judged as strictly as any other. Words about rights that none of its licences
explains make it unknown, so "MIT, but not for evil" is not MIT.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import lru_cache

from sevenfold.corpus.licences.declared.fields import spelled
from sevenfold.corpus.licences.policy import UNRECOGNISED, base_name
from sevenfold.corpus.licences.wording.notices import normalise
from sevenfold.corpus.licences.wording.own import Words, judge_words
from sevenfold.corpus.licences.wording.speech import HARD
from sevenfold.corpus.licences.wording.texts import find_texts, library_text, words_beyond

MAX_LICENCE_BYTES = 1 << 20
# Maximal number of characters of a text whose judgement is cached.
_REMEMBERED = 1 << 16


@dataclass(frozen=True, slots=True)
class LicenceText:
    """The licences in a text, all of which apply: whole `texts`, and statements in `words`.

    `strange` holds the first words that no licence explains, and `level` their level (see `speech`).
    """

    texts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    strange: str = ""
    level: str = ""

    @property
    def licences(self) -> tuple[str, ...]:
        """Return all licences."""
        return (*self.texts, *self.words)


def decoded(data: bytes) -> str:
    """Return the text of a licence file, or "" for binary data. UTF-16 is recognised by its mark,
    or by a NUL in every other byte. HTML and RTF are converted to plain text.
    """
    text = _characters(data)
    head = text[:1024].lstrip("\ufeff \t\r\n")
    if head.startswith("{\\rtf"):
        return _rtf_text(text)
    return _html_text(text) if _HTML.search(head) else text


def _characters(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if len(data) > 3 and not data[1::2].strip(b"\0"):
        return data.decode("utf-16-le", "replace")
    if len(data) > 3 and not data[0::2].strip(b"\0"):
        return data.decode("utf-16-be", "replace")
    return "" if b"\0" in data else data.decode("utf-8", "replace")


_HTML = re.compile(
    r"<!doctype html|<\?xml|<(?:html|head|body|title|meta|p|h[1-6]|pre|div|br|center|table)\b[^>]*>", re.I
)
# Elements whose content a reader does not see.
_UNSEEN = frozenset(("script", "style", "template"))
_INLINE = frozenset((
    "a", "abbr", "b", "big", "cite", "code", "em", "font", "i", "kbd", "mark", "q", "s", "small", "span",
    "strong",
    "sub", "sup", "tt", "u", "var", "wbr",
))  # fmt: skip


_TAG = re.compile(r"/?([a-zA-Z][\w:-]*)")
_HREF = re.compile(r"\bhref\s*=\s*[\"']?([^\"'\s>]{1,400})", re.IGNORECASE)
_OF_A_LICENCE = re.compile("licen|gpl|legal|commons", re.IGNORECASE)


def _html_text(text: str) -> str:
    """Return the text of a page, in one pass.

    Comments and addresses of licences are kept, because they may be the only place that names a
    licence.
    """
    parts: list[str] = []
    addresses: list[str] = []
    unclosed: set[str] = set()
    place = 0
    while (start := text.find("<", place)) >= 0:
        parts.append(text[place:start])
        is_comment = text.startswith("<!--", start)
        end = text.find("-->" if is_comment else ">", start)
        if end < 0:
            # An element that is not closed is read as text, so that nothing can hide in it.
            place = start + 1
            break
        place = end + (3 if is_comment else 1)
        if is_comment:
            parts.append(f"\n{text[start + 4 : end]}\n")
            continue
        inner = text[start + 1 : end]
        tag = _TAG.match(inner)
        name = tag[1].lower() if tag else ""
        if not name and not inner.startswith(("!", "?")):
            parts.append(text[start:place])
        elif name in _UNSEEN and name not in unclosed and not inner.startswith("/"):
            close = re.compile(f"</{name}", re.IGNORECASE).search(text, place)
            place = close.start() if close else place
            unclosed |= set() if close else {name}
        elif name not in _INLINE:
            parts.append("\n")
        addresses += [address for address in _HREF.findall(inner) if _OF_A_LICENCE.search(address)]
    parts.append(text[place:])
    # Addresses are put after the text, so that they interrupt no sentence of a licence.
    return html.unescape("\n".join(("".join(parts), *addresses))).replace("\xa0", " ")


_RTF = re.compile(
    r"\\'(?P<byte>[0-9a-fA-F]{2})|\\u(?P<code>-?\d{1,6})"
    r" ?|\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?"
    r"|\\(?P<symbol>[^a-zA-Z])|(?P<brace>[{}])|(?P<plain>[^\\{}\r\n]+)|[\r\n]+",
    re.DOTALL,
)
# Groups whose text is not part of the document.
_RTF_UNSEEN = frozenset((
    "fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "colorschememapping",
    "latentstyles",
    "datastore", "xmlnstbl", "listtable", "listoverridetable", "rsidtbl", "generator", "filetbl", "revtbl",
))  # fmt: skip
_RTF_WORDS = {
    "par": "\n", "line": "\n", "page": "\n", "sect": "\n", "row": "\n", "cell": "\t", "tab": "\t",
    "emdash": "-",
    "endash": "-", "lquote": "'", "rquote": "'", "ldblquote": '"', "rdblquote": '"', "bullet": "*",
}  # fmt: skip


_RTF_SYMBOLS = {"~": " ", "_": "-", "-": "", "*": "", "\n": "\n", "\r": "\n"}


def _rtf_said(match: re.Match[str]) -> str:
    """Return the characters that a token of RTF stands for."""
    if match["byte"]:
        return bytes.fromhex(match["byte"]).decode("cp1252", "replace")
    if match["symbol"]:
        # `\\*` begins a group that a reader may skip. Some of these hold text, so only known groups
        # are unseen.
        return _RTF_SYMBOLS.get(match["symbol"], match["symbol"])
    return match["plain"] or _RTF_WORDS.get(match["word"] or "", "")


def _rtf_text(text: str) -> str:
    """Return the text of an RTF document. Text that is marked as hidden is included."""
    parts: list[str] = []
    # For each open group: whether it is unseen, and the number of substitute characters after a \\u.
    groups = [(False, 1)]
    n_skipped = 0
    for match in _RTF.finditer(text):
        is_unseen, n_fallback = groups[-1]
        if match["brace"] == "{":
            groups.append(groups[-1])
        elif match["brace"] == "}":
            if len(groups) > 1:
                groups.pop()
        elif match["code"]:
            code = int(match["code"]) % 65536
            parts += [] if is_unseen else [chr(code) if not 0xD800 <= code < 0xE000 else "?"]
            n_skipped = n_fallback
        elif match["word"] in _RTF_UNSEEN:
            groups[-1] = (True, n_fallback)
        elif match["word"] == "uc":
            groups[-1] = (is_unseen, int(match["number"] or 1))
        else:
            said = _rtf_said(match)
            if n_skipped and not match["word"]:
                said, n_skipped = said[n_skipped:], max(0, n_skipped - len(said))
            parts += [] if is_unseen else [said]
    return "".join(parts)


def judge_licence(text: str) -> LicenceText:
    """Return the licences of a file that is a licence by its name: whole texts, tags, notices, or only
    the name of one.
    """
    return _remembered(text) if len(text) <= _REMEMBERED else _judged(text)


def _judged(text: str) -> LicenceText:
    if len(text) < 200 and (named := spelled(text.strip())):
        return LicenceText(words=(named,))
    plain = normalise(text)
    texts = find_texts(plain)
    own = judge_words(text, is_licence=True)
    if not texts:
        said = [*own.tags, *own.notices]
        if "Python-2.0" in said and _is_psf_alone(plain):
            said[said.index("Python-2.0")] = "PSF-2.0"
        return _as_found((), tuple(said), own)
    # Some licences have words of their own about rights, and name other licences. Words that are in
    # their texts verbatim belong to them.
    alone = [_alone(name) for name in texts]
    theirs = {spdx for words in alone for spdx in (*words.tags, *words.notices)}
    said = [spdx for spdx in (*own.tags, *own.notices) if spdx not in theirs]
    if any(words.strange or words.notices for words in alone):
        rest = judge_words(words_beyond(text, texts), is_licence=True)
        said += [*rest.tags, *rest.notices]
        own = rest if any(words.strange for words in alone) else own
    bases = {base_name(spdx) for spdx in texts}
    return _as_found(texts, tuple(spdx for spdx in said if base_name(spdx) not in bases), own)


_remembered = lru_cache(maxsize=512)(_judged)


@lru_cache(maxsize=256)
def _alone(name: str) -> Words:
    """Return the licences that the verbatim text of a licence states by itself."""
    return judge_words(library_text(name), is_licence=True)


# A notice of the compiler of protocol buffers: its author does not own its output.
_ADDS_NOTHING = ("LicenseRef-scancode-protobuf",)


def _is_psf_alone(plain: str) -> bool:
    """Return whether the text holds the licence of Python without its predecessors. It is PSF-2.0
    then, and Python-2.0 with them.
    """
    return "python software foundation license version 2" in plain and not re.search("beopen|cnri", plain)


def _as_found(texts: tuple[str, ...], said: tuple[str, ...], words: Words) -> LicenceText:
    known = tuple(dict.fromkeys(spdx for spdx in said if spdx not in (UNRECOGNISED, *_ADDS_NOTHING)))
    if not words.strange and UNRECOGNISED in said:
        return LicenceText(texts, known, "an SPDX tag that is no expression", HARD)
    return LicenceText(texts, known, words.strange, words.level)


_TEMPLATE = re.compile(r"\s*(?:(?:YEAR|COPYRIGHT HOLDER|ORGANIZATION)\s*:[^\n]*\s*)+")
# Maximal number of characters of a licence file that only says where the licences are.
_MAX_POINTER = 300
_NAMED = re.compile(r"\b(?:LICEN[SC]E|COPYING)(?:[-._]\w+)+")
# The other words that such a file may have. Any further word may be a restriction.
_POINTS = frozenset((
    "a", "an", "and", "any", "apache", "are", "as", "at", "be", "below", "boost", "both", "bsd", "by",
    "can", "choice", "choose", "chosen", "clause", "code", "copies", "copy", "detail", "details",
    "directory", "distributed", "distribution", "dual", "either", "file", "files", "folder",
    "following", "for", "found", "full", "here", "in", "information", "is", "isc", "it", "library",
    "licence", "licenced", "licences", "license", "licensed", "licenses", "licensing", "located", "mit",
    "more", "of", "on", "one", "option", "or", "our", "package", "please", "program", "project", "read",
    "redistributed", "refer", "released", "repository", "root", "see", "software", "source", "terms",
    "text", "texts", "that", "the", "their", "these", "this", "to", "two", "under", "unlicense", "use",
    "version", "which", "with", "work", "you", "your", "zlib",
))  # fmt: skip


def is_template(text: str) -> bool:
    """Return whether a file is R's list of holders, which states no licence."""
    return bool(_TEMPLATE.fullmatch(text))


def files_named(text: str) -> tuple[frozenset[str], bool]:
    """Return the licence files beside it that a short licence file names, and whether it states
    nothing else.
    """
    if len(text) > _MAX_POINTER:
        return frozenset(), False
    rest = re.findall(r"[^\W\d_]+", _NAMED.sub(" ", text).lower())
    return frozenset(_NAMED.findall(text)), all(word in _POINTS for word in rest)
