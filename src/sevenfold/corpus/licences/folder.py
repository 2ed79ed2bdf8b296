"""Combine the licences that a folder states: metadata and licence texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from sevenfold.corpus.licences.declared.fields import ANY, WORKSPACE, Said
from sevenfold.corpus.licences.policy import UNRECOGNISED, symbols
from sevenfold.corpus.licences.wording.notices import RESTRICTED


def covered(spdx: str, named: frozenset[str]) -> bool:
    """Return whether all licences of an expression are among those that another names."""
    found = symbols(spdx)
    return bool(found) and found <= named


@dataclass(frozen=True, slots=True)
class Unknown:
    """A licence file, by its name or by a pointer to it, whose words are not known.

    With `restricts` its name or its words take something away, and then not even a person's judgement
    of the source files explains it. `names` are the licence files beside it, for a file that only
    says where they are.
    """

    file: str
    why: str
    restricts: bool = False
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Folder:
    """The statements of a folder. `declared` is (statements, file, whether it inherits), one for each
    metadata file with a statement.
    """

    declared: list[tuple[tuple[Said, ...], str, bool]] = field(default_factory=list)
    # (identifier, name of the licence file) of whole texts.
    texts: list[tuple[str, str]] = field(default_factory=list)
    # The same of statements in words in licence files.
    words: list[tuple[str, str]] = field(default_factory=list)
    unknowns: list[Unknown] = field(default_factory=list)

    def declare(self, file: str, said: tuple[Said, ...], *, inherits: bool = False) -> None:
        """Add the statements of a metadata file."""
        if said or inherits:
            self.declared.append((said, file, inherits))

    def is_workspace(self) -> bool:
        """Return whether metadata here declares a licence for the members of a workspace."""
        return any(said.field == WORKSPACE for all_said, _, _ in self.declared for said in all_said)

    def parts(
        self, outside: frozenset[str] = frozenset(), *, explained: bool = False, inherited: bool = False
    ) -> list[tuple[str, str]]:
        """Return (expression, evidence) of all that holds here.

        Args:
            outside: licences that something else names for the package; they tell which member of a
                family is meant.
            explained: a person has judged the files. What licence files say in words, and texts
                that are not recognised, then say nothing, if they do not restrict.
            inherited: a folder above declares a licence for the members of its workspace.
        """
        named = frozenset(n for said, _, _ in self.declared for s in said for n in symbols(s.expression))
        known = (
            named | outside | frozenset(n for spdx, _ in (*self.texts, *self.words) for n in symbols(spdx))
        )
        found: list[tuple[str, str]] = []
        for said, file, inherits in self.declared:
            if inherits and not (inherited or self.is_workspace()):
                found.append((UNRECOGNISED, f"{file} takes its licence from a workspace that declares none"))
            found += _declared(said, file, known, explained)
        words = [(spdx, name) for spdx, name in self.words if spdx == RESTRICTED or not explained]
        for how, stated in (("text of", self.texts), ("words of", words)):
            found += [(spdx, f"{how} {name}") for spdx, name in stated if not covered(spdx, named)]
        recognised = {name for _, name in (*self.texts, *self.words)}
        for unknown in self.unknowns:
            is_pointer = bool(unknown.names) and unknown.names <= recognised
            if not is_pointer and (unknown.restricts or not explained):
                found.append((UNRECOGNISED, f"{unknown.file} {unknown.why}"))
        return list(dict.fromkeys(found))


def _declared(
    said: tuple[Said, ...], file: str, known: frozenset[str], explained: bool
) -> list[tuple[str, str]]:
    choices = [s.expression for s in said if " OR " in s.expression and symbols(s.expression)]
    named = frozenset(n for expression in choices for n in symbols(expression))
    parts = []
    for statement in said:
        expression = statement.expression
        # A person who judged each file has decided which member of a family is meant.
        is_vague = expression == UNRECOGNISED and explained
        if statement.family and (is_vague or _is_explained(statement, known)):
            continue
        # A field that offers a choice explains the classifiers that list what may be chosen.
        if expression not in choices and covered(expression, named):
            continue
        where = f"{statement.field} of the package metadata" if statement.field else f"license of {file}"
        parts.append((expression, where))
    return parts


def _is_explained(statement: Said, known: frozenset[str]) -> bool:
    own = symbols(statement.expression)
    others = [name for name in known if name not in own and not name.startswith("LicenseRef")]
    return any(statement.family == ANY or name.startswith(statement.family) for name in others)
