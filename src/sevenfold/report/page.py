"""HTML that cannot be broken by its content: every string is escaped unless it is `Markup`, which
only this room makes.

The page is one UTF-8 file with its style inside and a policy that forbids
the browser to load anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

# What a page cannot hold: C0 controls become their pictures, C1 controls and halves of surrogate
# pairs U+FFFD.
UNPRINTABLE = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}
UNPRINTABLE |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --muted: #60646c; --line: #d9dde3; --paper: #ffffff; --panel: #f6f7f9;
  --accent: #2563c9; --second: #b4570e; --good: #14713d; --bad: #b42318; --warn: #8a5a00;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #a0a6b0; --line: #363b44; --paper: #14161a;
  --panel: #1d2026; --accent: #7db0ff; --second: #f0a35e; --good: #6fd09a; --bad: #ff8f84; --warn: #e8b64c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 var(--sans); }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { border-bottom: 1px solid var(--line); padding-bottom: 1.25rem; margin-bottom: 1.75rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; }
p { margin: .4rem 0; max-width: 46rem; }
.muted, .note { color: var(--muted); }
.note { font-size: .88rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .8rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .85rem 1rem; }
.card .name { color: var(--muted); font-size: .84rem; }
.card .value { font-size: 1.55rem; font-weight: 650; letter-spacing: -.01em; font-variant-numeric: tabular-nums; }
.card .about { color: var(--muted); font-size: .82rem; line-height: 1.35; }
code, .hash { font-family: var(--mono); font-size: .86em; overflow-wrap: anywhere; }
.root { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1rem;
  margin: .8rem 0 1.4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .42rem .8rem .42rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--muted); font-weight: 500; font-size: .84rem; white-space: nowrap; }
th.number, td.number { text-align: right; white-space: nowrap; }
.pill { display: inline-block; border-radius: 1rem; padding: .02rem .6rem; font-size: .82rem; font-weight: 600;
  border: 1px solid currentColor; white-space: nowrap; }
.pass { color: var(--good); } .fail { color: var(--bad); } .skipped { color: var(--warn); }
svg { display: block; width: 100%; height: auto; font-family: var(--sans); stroke-linejoin: round; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1rem; overflow-x: auto;
  font: .86rem/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }
pre .prompt { color: var(--muted); } pre .text { color: var(--ink); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; color: var(--muted); font-size: .88rem; }
@media print { body { font-size: 11px; } main { max-width: none; padding: 0; } }
"""


class Markup(str):
    """HTML that is safe already. Made by the functions of this module and by `plots`, from escaped
    parts only.
    """

    __slots__ = ()


def text(value: object) -> Markup:
    """Return any value as text of the page; what is unprintable becomes visible."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value).translate(UNPRINTABLE)))


def tag(name: str, *children: object, **attributes: str) -> Markup:
    """Return an element; `class_` is the attribute class."""
    given = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(map(text, children))}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return the parts one after another."""
    return Markup("".join(map(text, parts)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """Return a table; a column whose head starts with "#" is of numbers."""
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
    """Return the whole page as UTF-8 bytes. `pictures`: where they may come from ('self': files
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
