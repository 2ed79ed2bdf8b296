"""Build HTML that its content cannot break: every string is escaped unless it is `Markup`, which
only this package makes.

The page is one UTF-8 file with its style inside, and a policy that forbids the browser to load
anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib import resources

# Characters that a page cannot hold. C0 controls become their pictures, C1 controls and halves of
# surrogate pairs U+FFFD.
UNPRINTABLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}
UNPRINTABLE |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
# Marks that change the direction of a line.
UNPRINTABLE |= dict.fromkeys(
    (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)), "\ufffd"
)

STYLE = "\n" + resources.files("sevenfold.report").joinpath("page.css").read_text("utf-8")


class Markup(str):
    """Safe HTML. Only the functions of this module and of `plots` make it, from escaped parts."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return any value as text of the page. Unprintable characters become visible."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value).translate(UNPRINTABLE)))


def tag(name: str, *children: object, **attributes: str) -> Markup:
    """Return an element; `class_` is the attribute class."""
    given = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(map(text, children))}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return the concatenated parts."""
    return Markup("".join(map(text, parts)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table. A column whose head starts with "#" holds numbers."""
    numeric = [name.startswith("#") for name in head]

    def line(kind: str, cells: Sequence[object]) -> Markup:
        return tag(
            "tr",
            *(
                tag(kind, cell, class_="number") if number else tag(kind, cell)
                for cell, number in zip(cells, numeric, strict=True)
            ),
        )

    body = join(line("td", row) for row in rows)
    return tag(
        "div",
        tag("table", tag("thead", line("th", [name.removeprefix("#") for name in head])), tag("tbody", body)),
        class_="scroll",
    )


def card(name: str, value: object, about: object = "") -> Markup:
    """Return one headline figure."""
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag("div", value, class_="value"),
        tag("div", about, class_="about"),
        class_="card",
    )


def section(title: str, *children: object) -> Markup:
    """Return a section under its heading."""
    return tag("section", tag("h2", title), *children)


def document(title: str, *children: object, pictures: str = "data:") -> bytes:
    """Return the whole page as UTF-8 bytes. `pictures` says where they may come from ('self': files
    beside the page).
    """
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src {pictures}"
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{tag('main', *children)}\n</body>\n</html>\n"
    )
    return page.encode()
