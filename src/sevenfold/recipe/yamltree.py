"""Parse YAML into a tree in which every value has its file and line.

The accepted YAML is strict and small: one document, no tags, no anchors, no aliases, no duplicate
keys, text keys only. Plain scalars follow the JSON schema of YAML 1.2 (`no` is text, `1e-3` is a
number, a bare key is null). Size, depth and the length of a number are limited, so hostile input
costs at most one pass over MAX_BYTES bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from sevenfold.core.errors import RecipeError, storage
from sevenfold.core.hashing import Json

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_DIGITS = 40
MAX_SHOWN = 60

_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, Json] = {"": None, "~": None, "null": None, "true": True, "false": False}
_BLOCK_STYLES = ("|", ">")


@dataclass(frozen=True)
class SourceLocation:
    """The location of a value. `line` counts from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Node:
    """A value and its location. The value is a scalar, a list of nodes, or a mapping of text to
    (location of the key, node).
    """

    value: Json | list[Node] | dict[str, tuple[SourceLocation, Node]]
    mark: SourceLocation

    def plain(self) -> Json:
        """Return the value alone, as JSON."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, (_, node) in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def show(value: Json) -> str:
    """Return a value as an error shows it: on one line, cut short."""
    text = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


class _Builder:
    """Builds the tree from PyYAML's events; one method per kind of value."""

    def __init__(self, path: str, events: Iterator[yaml.Event]) -> None:
        self.path, self.events = path, events
        self.depth = 0

    def mark(self, event: yaml.Event) -> SourceLocation:
        """Return the location of an event."""
        return SourceLocation(self.path, event.start_mark.line + 1 if event.start_mark else 1)

    def fail(self, event: yaml.Event, what: str, remedy: str) -> RecipeError:
        """Return the error about an event."""
        return RecipeError(what, where=str(self.mark(event)), remedy=remedy)

    def document(self) -> Node:
        """Return the one document of the stream."""
        # Stream start.
        next(self.events)
        first = next(self.events)
        if isinstance(first, yaml.StreamEndEvent):
            raise RecipeError("the file is empty", where=f"{self.path}:1", remedy="see specs/recipe.md")
        root = self.node(next(self.events))
        # Document end.
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.fail(after, "a second document", "keep one document in a file")
        return root

    def node(self, event: yaml.Event) -> Node:
        """Return the value that starts with `event`."""
        if isinstance(event, yaml.AliasEvent):
            raise self.fail(
                event,
                f"an alias (*{(event.anchor or '')[:MAX_SHOWN]})",
                "write the value out, or use `extends:`",
            )
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None:
            raise self.fail(
                event, f"an anchor (&{anchor[:MAX_SHOWN]})", "write the value out, or use `extends:`"
            )
        if tag is not None:
            raise self.fail(event, f"a tag ({tag[:MAX_SHOWN]})", "write the value without a tag")
        if isinstance(event, yaml.ScalarEvent):
            return Node(self.scalar(event), self.mark(event))
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(event, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
        value = self.mapping() if isinstance(event, yaml.MappingStartEvent) else self.sequence()
        self.depth -= 1
        return Node(value, self.mark(event))

    def sequence(self) -> list[Node]:
        """Return the items up to the end of a sequence."""
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event))
        return items

    def mapping(self) -> dict[str, tuple[SourceLocation, Node]]:
        """Return the entries up to the end of a mapping. Keys are text, and each occurs once."""
        entries: dict[str, tuple[SourceLocation, Node]] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_node = self.node(event)
            key = key_node.value
            if not isinstance(key, str):
                raise self.fail(event, f"key {show(key_node.plain())} is not text", "quote it")
            if key in entries:
                raise self.fail(
                    event,
                    f"duplicate key {show(key)}, first on line {entries[key][0].line}",
                    "keep one of the two",
                )
            entries[key] = (key_node.mark, self.node(next(self.events)))
        return entries

    def scalar(self, event: yaml.ScalarEvent) -> Json:
        """Return the text of a quoted scalar, or the value of a plain one."""
        text = event.value
        # "\ud83d\ude00" is one character. Half of such a pair is not a character.
        try:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.fail(event, "text with half a surrogate pair", "write the whole character") from None
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NUMBER.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise self.fail(event, f"a number of {len(text)} characters", f"at most {MAX_DIGITS}")
            return int(text) if _INTEGER.fullmatch(text) else self.real(event, text)
        return text

    def real(self, event: yaml.ScalarEvent, text: str) -> float:
        """Return a finite number."""
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise self.fail(event, f"{text} is too large for a number", "write a finite number")
        return value


def parse_tree(text: bytes, path: str) -> Node:
    """Return the tree of a YAML (or JSON) text. `path` is the file name in its locations.

    Raises:
        RecipeError: the text is not UTF-8, is too large, is not YAML, or is outside the small YAML of
            this module.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(
            f"{len(text)} bytes; a recipe file has at most {MAX_BYTES}",
            where=path,
            remedy="name a recipe file",
        )
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise RecipeError("not UTF-8 text", where=f"{path}:{line}", remedy="save it as UTF-8") from None
    try:
        return _Builder(path, yaml.parse(decoded, Loader=yaml.SafeLoader)).document()
    except yaml.reader.ReaderError as error:
        line = decoded.count("\n", 0, error.position) + 1
        code = ord(decoded[error.position])
        raise RecipeError(f"character U+{code:04X}", where=f"{path}:{line}", remedy="remove it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark is not None else path
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(f"not YAML: {problem}", where=where, remedy="check indents and quotes") from None
    # An escape or a directive with a number that PyYAML cannot hold.
    except (ValueError, OverflowError) as error:
        raise RecipeError(f"not YAML: {error}", where=path, remedy="check escapes and directives") from None


def read_tree(path: Path) -> Node:
    """Return the tree of a file, reading at most MAX_BYTES + 1 bytes. Raises StorageError or
    RecipeError.
    """
    with storage(path), path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    return parse_tree(text, str(path))
