"""Cases of public detectors of secrets: what each holds to be a secret, and what it holds to be
none.

gitleaks writes its cases in Go, as strings, joins, and secrets made from patterns. `GoCases`
evaluates those expressions; what it cannot evaluate is counted. CredSweeper has sample files, and a
report of the secrets in them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from re import _parser as sre  # type: ignore[attr-defined] # the only reader of patterns
from typing import Any, cast

_TOKEN = re.compile(
    r"\s+|//[^\n]*|/\*.*?\*/|(?P<raw>`[^`]*`)|(?P<text>\"(?:\\.|[^\"\\\n])*\")|(?P<name>[A-Za-z_][\w.]*)|(?P<mark>\.\.\.|:=|.)",
    re.DOTALL,
)
_SAMPLE = re.compile(r"^\s*\"[^\"]+\":\s*(\"(?:\\.|[^\"\\])*\"|`[^`]*`),", re.MULTILINE)
# Characters of the classes that gitleaks has functions for.
_CLASSES = {
    "Numeric": "[0-9]", "Hex": "[a-f0-9]", "AlphaNumeric": "[a-z0-9]",
    "AlphaNumericExtendedShort": "[a-z0-9_-]", "AlphaNumericExtended": "[a-z0-9=_\\-]",
    "AlphaNumericExtendedLong": "[a-z0-9\\/=_\\+\\-]",
}  # fmt: skip
_LETTERS = "".join(map(chr, range(32, 127)))


@dataclass(frozen=True, slots=True)
class Case:
    """A text. `group`: the file that it comes from. `is_secret`: whether it holds one."""

    group: str
    text: str
    is_secret: bool


class UnknownError(Exception):
    """Raised for an expression that is not evaluated here."""


def made(pattern: str, rng: random.Random) -> str:
    """Return a text that a pattern matches."""
    return "".join(_parts(sre.parse(pattern), rng))


def _parts(tree: Any, rng: random.Random) -> Iterator[str]:
    for kind, value in tree:
        name = str(kind)
        if name == "LITERAL":
            yield chr(value)
        elif name == "IN":
            yield rng.choice([c for c in _LETTERS if _holds(value, c)])
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = value
            for _ in range(rng.randint(low, min(int(high), low + 10))):
                yield from _parts(inner, rng)
        elif name == "SUBPATTERN":
            yield from _parts(value[3], rng)
        elif name == "BRANCH":
            yield from _parts(rng.choice(value[1]), rng)
        elif name == "ANY":
            yield rng.choice(_LETTERS)
        elif name != "AT":
            raise UnknownError(name)


def _holds(items: list[tuple[object, object]], character: str) -> bool:
    found, is_negated = False, False
    for kind, value in items:
        name = str(kind)
        if name == "NEGATE":
            is_negated = True
        elif name == "LITERAL":
            found |= chr(cast(int, value)) == character
        elif name == "RANGE":
            low, high = cast(tuple[int, int], value)
            found |= low <= ord(character) <= high
        elif name == "CATEGORY":
            rule = {"CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w", "CATEGORY_SPACE": r"\s"}.get(str(value))
            if rule is None:
                raise UnknownError(str(value))
            found |= re.fullmatch(rule, character, re.ASCII) is not None
    return found != is_negated


class GoCases:
    """The cases of a file of gitleaks' rules: elements of its lists `tps` and `fps`."""

    def __init__(self, generate: Path, seed: int = 7) -> None:
        self._rng = random.Random(seed)
        self.n_unknown = 0
        text = (generate / "config" / "utils" / "generate.go").read_text()
        live = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
        self._samples = [_string(quoted) for quoted in _SAMPLE.findall(live)]
        self._rules = sorted((generate / "config" / "rules").glob("*.go"))

    def __iter__(self) -> Iterator[Case]:
        for file in self._rules:
            for function in re.split(r"^func ", file.read_text(), flags=re.MULTILINE)[1:]:
                yield from self._of(file.stem, function)

    def _of(self, group: str, function: str) -> Iterator[Case]:
        tokens = [m for m in _TOKEN.finditer(function) if m.lastgroup]
        self._names: dict[str, list[str]] = {}
        place = 0
        while place + 2 < len(tokens):
            name = tokens[place][0]
            if tokens[place].lastgroup == "name" and tokens[place + 1][0] in (":=", "="):
                kind = {"tps": True, "fps": False}.get(name)
                if (
                    kind is None
                    and name[0].islower()
                    and tokens[place + 2].lastgroup in ("text", "raw", "name")
                ):
                    self._remember(name, tokens, place + 2)
                elif kind is not None:
                    for value in self._elements(tokens, place + 2):
                        yield Case(group, value, kind)
            place += 1

    def _remember(self, name: str, tokens: list[re.Match[str]], place: int) -> None:
        try:
            self._names[name], _ = self._joined(tokens, place)
        except (UnknownError, IndexError):
            return

    def _elements(self, tokens: list[re.Match[str]], place: int) -> Iterator[str]:
        """Yield the texts of a list, of `append(tps, ...)`, or of a call that gives several."""
        if tokens[place][0] == "append":
            place += 2
            # The list itself.
            while tokens[place][0] != ",":
                place += 1
            place += 1
        elif tokens[place][0] == "[":
            while tokens[place][0] != "{":
                place += 1
            place += 1
        while place < len(tokens) and tokens[place][0] not in (")", "}"):
            if tokens[place][0] in (",", "..."):
                place += 1
                continue
            try:
                values, place = self._joined(tokens, place)
                yield from values
            except (UnknownError, IndexError, re.error):
                self.n_unknown += 1
                depth = 0
                while place < len(tokens) and not (depth == 0 and tokens[place][0] in (",", "}", ")")):
                    depth += (tokens[place][0] in "({[") - (tokens[place][0] in ")}]")
                    place += 1
            if place < len(tokens) and tokens[place][0] not in (",", ")", "}", "..."):
                return

    def _joined(self, tokens: list[re.Match[str]], place: int) -> tuple[list[str], int]:
        values, place = self._value(tokens, place)
        while tokens[place][0] == "+":
            more, place = self._value(tokens, place + 1)
            values = [value + other for value in values for other in more]
        return values, place

    def _value(self, tokens: list[re.Match[str]], place: int) -> tuple[list[str], int]:
        token = tokens[place]
        if token.lastgroup in ("text", "raw"):
            return [_string(token[0])], place + 1
        if token.lastgroup != "name":
            raise UnknownError(token[0])
        if tokens[place + 1][0] != "(":
            if token[0] not in self._names:
                raise UnknownError(token[0])
            return self._names[token[0]], place + 1
        arguments: list[list[str]] = []
        place += 2
        while tokens[place][0] != ")":
            if tokens[place][0] in (",", "..."):
                place += 1
                continue
            values, place = self._joined(tokens, place)
            arguments.append(values)
        return self._called(token[0].rpartition(".")[2], [values[0] for values in arguments]), place + 1

    def _called(self, name: str, given: list[str]) -> list[str]:
        if name == "NewSecret":
            return [made(given[0], self._rng)]
        if name == "NewSecretWithEntropy":
            return [made(given[0], self._rng)]
        if name in _CLASSES:
            return [f"{_CLASSES[name]}{{{given[0]}}}"]
        if name == "GenerateSampleSecret":
            return [f'{given[0]}_api_token = "{given[1]}"']
        if name == "GenerateSampleSecrets":
            holes = {"{i}": given[0], "{I}": given[0].upper(), "{s}": given[1]}
            return [re.sub(r"\{[iIs]\}", lambda hole: holes[hole[0]], sample) for sample in self._samples]
        raise UnknownError(name)


def _string(quoted: str) -> str:
    if quoted[0] == "`":
        return quoted[1:-1]
    value: str = json.loads(re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", quoted).replace("\\'", "'"))
    return value


@dataclass(frozen=True, slots=True)
class Labelled:
    """A value in a file: bytes `start` to `end`."""

    rule: str
    file: Path
    start: int
    end: int


def credsweeper(checkout: Path) -> tuple[list[Labelled], int]:
    """Return the values that CredSweeper's own report names, and how many are not in their files as
    they are written (decoded, or joined from several lines).
    """
    found, n_elsewhere = [], 0
    for item in json.loads((checkout / "tests" / "data" / "output.json").read_text()):
        for line in item["line_data_list"]:
            file = checkout / line["path"]
            data = file.read_bytes() if file.is_file() else b""
            lines = data.splitlines(keepends=True)
            before = sum(map(len, lines[: max(0, line["line_num"] - 1)]))
            place = data.find((line["value"] or "\0").encode(), before)
            if place < 0 or place > before + 4096:
                n_elsewhere += 1
            else:
                found.append(Labelled(item["rule"], file, place, place + len(line["value"].encode())))
    return found, n_elsewhere
