"""The text of a page, and the check that `post_fetch_verifier` asks for.

The check refuses a page that speaks to the model instead of to a reader: a tool call, a heading of the
form of conversations, a special token, an order to a model, or text that no reader sees. It is a
second guard. The first is that nothing a page says is ever executed: results are neutral text, and
only what the model itself answers is read as a call.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser

from sevenfold.agent.tools.web.addresses import AddressError
from sevenfold.agent.tools.web.fetch import HTML_TYPES, WebPage
from sevenfold.tokenizer.chat.calls import hidden_characters

_UNSEEN_TAGS = frozenset(("script", "style", "template", "noscript", "head", "svg", "iframe", "object"))
_VOID_TAGS = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)
_BLOCK_TAGS = frozenset(("p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "dt", "dd"))
_UNSEEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?:\.0*)?\s*(?:;|$)|font-size\s*:\s*[01](?:px|pt)?"
    r"\s*(?:;|$)|(?:left|top|text-indent)\s*:\s*-\d{3,}",
    re.IGNORECASE,
)
_CHARSETS = {"utf-8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "cp1252", "windows-1252": "cp1252"}
# What is found, and its word. Texts are compared in NFKC, small letters, with single blanks.
_ORDERS = (
    r"(?:ignore|disregard|forget|override|bypass)\W+(?:\w+\W+){0,4}"
    r"(?:instruction|prompt|rule|guideline|direction|restriction|polic)",
    r"(?:you are|act as|pretend to be|become)\W+(?:now\W+)?(?:an?\W+)?(?:\w+\W+){0,2}"
    r"(?:assistant|ai|llm|language model|chatbot|agent|dan)\b",
    r"(?:system|developer|admin(?:istrator)?)\W+(?:prompt|message|override|instruction|note)s?\s*:",
    r"(?:attention|notes?|messages?|instructions?|important)\W+(?:to|for)\W+(?:\w+\W+){0,2}"
    r"(?:ai|llm|language model|assistant|agent|model|chatbot)s?\b",
    r"(?:new|updated|real|hidden|secret) (?:instruction|task|objective|goal)s?\s*:",
    r"(?:call|use|invoke|run|execute) the\W+(?:\w+\W+){0,2}(?:tool|function)\b",
    r"do not (?:tell|inform|reveal|mention)\b[^.]{0,40}\b(?:user|human|operator)",
    r"(?:if|when) you are an? (?:\w+ ){0,2}(?:ai|llm|language model|assistant|agent)\b",
    r"(?:reveal|print|repeat|output|send|leak|exfiltrate)\W+(?:\w+\W+){0,4}"
    r"(?:system prompt|instructions|secret|password|api key|credential|memory|conversation)",
)
_ADDRESSED = (
    (
        "call",
        re.compile(r'\{\s*"name"\s*:\s*"|<\W?(?:tool|call|function)[_ -]?(?:call|use|tool)|"tool_calls"\s*:'),
    ),
    ("heading", re.compile(r"###\s*(?:system|instruction|response|result)\s*:")),
    ("token", re.compile(r"<\|[a-z0-9_]{2,40}\|>|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>")),
    ("order", re.compile("|".join(_ORDERS))),
)


class PageError(AddressError):
    """A page whose text cannot be given. `reason` is a word of specs/tools.md."""


class _Text(HTMLParser):
    """Collects the text that a reader sees, and apart from it the text that he does not."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[str] = []
        self.unseen: list[str] = []
        # Of each open element: its name, and whether it is not shown. How many there are of both:
        # a page of a quarter of a million tags is read in linear time.
        self._open: list[tuple[str, bool]] = []
        self._n_open: Counter[str] = Counter()
        self._n_hiding = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        hides = (
            tag in _UNSEEN_TAGS
            or "hidden" in values
            or (values.get("aria-hidden") or "").lower() == "true"
            or _UNSEEN_STYLE.search(values.get("style") or "") is not None
        )
        # What a picture or a field says instead.
        self.unseen += [one for key in ("alt", "title", "content", "aria-label") if (one := values.get(key))]
        if tag in _BLOCK_TAGS:
            self.seen.append("\n")
        if tag not in _VOID_TAGS:
            self._open.append((tag, hides))
            self._n_open[tag] += 1
            self._n_hiding += hides

    def handle_endtag(self, tag: str) -> None:
        while self._n_open[tag]:
            name, hides = self._open.pop()
            self._n_open[name] -= 1
            self._n_hiding -= hides
            if name == tag:
                break

    def handle_data(self, data: str) -> None:
        if not self._n_open["script"] and not self._n_open["style"]:
            (self.unseen if self._n_hiding else self.seen).append(data)

    def handle_comment(self, data: str) -> None:
        self.unseen.append(data)


def text_of(page: WebPage) -> tuple[str, str]:
    """Return the text of a page that a reader sees, and the text that he does not.

    Raises:
        PageError: its bytes are not of its charset, or hold NUL.
    """
    charset = _CHARSETS.get(page.charset.lower())
    if charset is None:
        raise PageError("charset", f"the charset {page.charset[:40]!a} is not read")
    try:
        text = page.body.decode(charset)
    except UnicodeDecodeError as error:
        raise PageError("charset", f"the body is not {page.charset}") from error
    if "\0" in text:
        raise PageError("type", "the body is no text")
    if page.content_type not in HTML_TYPES:
        return text, ""
    parser = _Text()
    parser.feed(text)
    parser.close()
    lines = [" ".join(line.split()) for line in "".join(parser.seen).split("\n")]
    return "\n".join(line for line in lines if line), "\n".join(parser.unseen)


def check_page(seen: str, unseen: str) -> None:
    """Refuse a page that speaks to the model.

    Raises:
        PageError: names what was found.
    """
    if hidden := hidden_characters(seen) - {"\ufeff", "\u00ad", "\u200b", "\u200c", "\u200d"}:
        code = ord(min(hidden))
        raise PageError("hidden", f"the page holds the character U+{code:04X}, which nobody sees")
    for text in (seen, unseen):
        plain = "".join(
            one for one in text if unicodedata.category(one) not in ("Cf", "Cc") or one in "\n\t "
        )
        plain = " ".join(unicodedata.normalize("NFKC", plain).lower().split())
        for word, pattern in _ADDRESSED:
            if pattern.search(plain):
                raise PageError("addressed", f"the page speaks to the model ({word}), so it is not given")
