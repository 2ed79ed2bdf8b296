#!/usr/bin/env python3
"""Wrap the prose of Markdown files at 100 columns. Tables, code and headings stay as they are.

    scripts/wrap_markdown.py            wrap every Markdown file of the repository
    scripts/wrap_markdown.py --check    list the lines that are too wide, exit 1 if there are any
    scripts/wrap_markdown.py FILE...    the same for these files

Only a paragraph or a list item that has a line over the limit is wrapped again, so a change of one
sentence does not move its neighbours. A code span or a link is kept on one line. A page with a
section "Contents" gets the list of its sections there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
# Written by a program, or measured results whose lines are the program's output.
LEFT_ALONE = ("benchmarks/results",)
FOLDERS = ("docs", "specs", "dev", "interop", "benchmarks", "examples", ".github")

FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"(\s*)([-*+]|\d+[.)])\s+")
# Lines that stand for themselves: heading, table, quote, HTML, reference, admonition, rule.
WHOLE_LINE = re.compile(r"\s*(#{1,6} |\||>|<|\[[^\]]+\]: |!!! |\?\?\? |---|===|\*\*\*|:::|!\[)")
# One unit of a line: words, code spans and links that are joined without a space between them.
UNIT = re.compile(r"(?:`[^`]+`|!?\[[^\]]*\]\([^)\s]*\)|[^\s`\[]+|[`\[])+")
# A line that begins with one of these would become a list, a heading, a quote or a table.
MARKUP = re.compile(r"([-*+]|\d+[.)]|#{1,6}|>|\||:)$|[|>#]|:::|```")


def units(text: str) -> list[str]:
    """Return the pieces of a paragraph that no line break may split.

    A unit that is too wide for a line of its own is split at its spaces after all.
    """
    pieces: list[str] = []
    for unit in UNIT.findall(text):
        pieces += [unit] if len(unit) < WIDTH - 4 else unit.split()
    return pieces


def filled(pieces: Iterable[str], first: str, rest: str) -> list[str]:
    """Return lines of at most WIDTH columns, `first` and `rest` as what they begin with."""
    lines, line, empty = [], first, True
    for piece in pieces:
        fits = len(line) + (not empty) + len(piece) <= WIDTH
        if empty or fits or MARKUP.match(piece):
            line += piece if empty else f" {piece}"
        else:
            lines.append(line)
            line = rest + piece
        empty = False
    return [*lines, line]


def wrap_paragraph(lines: list[str]) -> list[str]:
    """Return a paragraph or list item, wrapped again if one of its lines is too wide."""
    if all(len(line) <= WIDTH for line in lines):
        return lines
    item = ITEM.match(lines[0])
    first = item.group() if item else lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    rest = " " * len(first)
    text = " ".join([lines[0][len(first) :], *(line.strip() for line in lines[1:])])
    return filled(units(text), first, rest)


def wrap(text: str) -> str:
    """Return a Markdown text with its prose wrapped."""
    done: list[str] = []
    paragraph: list[str] = []
    fenced = in_list = False

    def close() -> None:
        done.extend(wrap_paragraph(paragraph))
        paragraph.clear()

    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        # Indented code: four spaces after a blank line, outside of a list.
        code = indent >= 4 and not in_list and not paragraph
        if FENCE.match(line):
            close()
            fenced = not fenced
            done.append(line)
        elif fenced or not line.strip() or code or WHOLE_LINE.match(line):
            close()
            done.append(line)
            in_list = in_list and (not line.strip() or indent > 0)
        elif ITEM.match(line):
            close()
            in_list = True
            paragraph.append(line)
        else:
            in_list = in_list and (indent > 0 or bool(paragraph))
            paragraph.append(line)
            if line.endswith(("  ", "\\")):
                close()
    close()
    return "\n".join(done) + "\n"


def anchor(title: str) -> str:
    """Return the anchor of a heading, as Markdown sites make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def with_contents(text: str) -> str:
    """Return a page whose section "Contents" lists its other sections; any other page as it is."""
    begin, heading, rest = text.partition("\n## Contents\n")
    if not heading:
        return text
    titles = re.findall(r"^## (.+)$", rest, re.MULTILINE)
    listed = "".join(f"- [{title}](#{anchor(title)})\n" for title in titles)
    first = rest.find("\n## ")
    return f"{begin}{heading}\n{listed}{rest[first:] if first >= 0 else ''}"


def pages() -> list[Path]:
    """Return the Markdown files of the repository that people write."""
    found = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
    return sorted(p for p in found if not p.relative_to(ROOT).as_posix().startswith(LEFT_ALONE))


def main() -> int:
    """Wrap, or check, the files named on the command line or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    wrong = 0
    for path in arguments.files or pages():
        text = path.read_text(encoding="utf-8")
        wrapped = wrap(with_contents(text))
        if wrapped == text:
            continue
        wrong += 1
        if arguments.check:
            print(f"{path}: run scripts/wrap_markdown.py, for prose over {WIDTH} columns or contents")
        else:
            path.write_text(wrapped, encoding="utf-8")
    return 1 if arguments.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
