"""A second CM-1 machine, made from the tables of specs/control.md: it reads them
and does what the cells say.

It takes whole streams, one character at a time, and knows nothing of the package.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "specs" / "control.md"
NAMED = {
    "\x01": "SOH",
    "\x02": "STX",
    "\x03": "ETX",
    "\x04": "EOT",
    "\x0e": "SO",
    "\x0f": "SI",
    "\x10": "DLE",
}
DEEPEST = 15
LONGEST_HEADER = 1024


def rows(first: str) -> list[list[str]]:
    """The table of the page whose header line starts with these cells: its
    lines as cells, the header first.
    """
    lines = PAGE.read_text(encoding="ascii").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return [table[0], *table[2:]]


CLASSES = [row[0] for row in rows("class")[1:]]
_HEAD, *_ROWS = rows("state | SOH")
CELLS = {(row[0], name): cell for row in _ROWS for name, cell in zip(_HEAD[1:], row[1:], strict=True)}
STATES = [row[0] for row in _ROWS]


def class_of(character: str) -> str:
    """The class of one character."""
    if character in NAMED:
        return NAMED[character]
    if character in "\t\n\r":
        return "white"
    return "control" if unicodedata.category(character) == "Cc" else "text"


def characters(stream: bytes) -> list[tuple[str, str]]:
    """(class, character) of each character, `malformed` where the bytes are none, and the end."""
    found, at = [], 0
    while at < len(stream):
        for length in range(1, 5):
            try:
                character = stream[at : at + length].decode()
            except UnicodeDecodeError:
                continue
            found.append((class_of(character), character))
            at += length
            break
        else:
            return [*found, ("malformed", "")]
    return [*found, ("end", "")]


@dataclass
class Machine:
    """Where the machine stands."""

    state: str = "start"
    header: str = ""
    body: str = ""
    depth: int = 0
    met_in: str = "body"

    @property
    def is_open(self) -> bool:
        return CELLS[self.state, "gate"] == "open"

    def take(self, class_: str, character: str) -> None:
        cell = CELLS[self.state, class_]
        before = self.state
        if cell == "down":
            self.depth += 1
            self.state = "shifted" if self.depth <= DEEPEST else "refused"
        elif cell == "up":
            self.depth -= 1
            self.state = "shifted" if self.depth else "body"
        elif cell == "back":
            self.body += character
            self.state = self.met_in
        elif cell == "literal":
            self.met_in, self.state = self.state, "literal"
        else:
            self.state = "refused" if cell == "-" else cell
        if class_ in ("white", "text"):
            if before == self.state == "header":
                self.header += character
                if len(self.header.encode()) > LONGEST_HEADER:
                    self.state = "refused"
            elif before == self.state and before in ("body", "shifted"):
                self.body += character


def run(stream: bytes) -> Machine:
    """The machine after a whole stream and its end: in `accept`, or refused."""
    machine = Machine()
    for class_, character in characters(stream):
        machine.take(class_, character)
    return machine
