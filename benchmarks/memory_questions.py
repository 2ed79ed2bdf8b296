"""Questions about Python packages, derived by program, each with the places that answer it.

A docstring that becomes a question is removed from the text that is indexed, and does not hold the
name of its function. Kinds: definition, usage, docstring (to code), and hop, whose answer
is a function that the question does not name but the named one calls.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.hashing import sha256

KINDS = ("definition", "usage", "docstring", "hop")
SKIPPED = {"tests", "test", "testing", "idlelib", "lib2to3", "site-packages", "__pycache__"}
DEFINITION = "Where is `{}` defined?"
USAGE = "Show code that calls `{}`."
HOP = "Show the helper functions that `{}` calls."
MIN_WORDS = 6


@dataclass(frozen=True)
class Question:
    """A question; any place (path, line) answers it."""

    kind: str
    text: str
    places: tuple[tuple[str, int], ...]


@dataclass
class PythonFunction:
    """One definition in the corpus."""

    name: str
    path: str
    line: int
    end: int
    docstring: str
    docstring_lines: tuple[int, int] | None
    calls: set[str] = field(default_factory=set)


def python_files(roots: list[Path]) -> dict[str, bytes]:
    """Return path -> text of the Python files below the roots, without tests."""
    found = {}
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root.parent)
            if not SKIPPED & set(relative.parts) and not path.is_symlink():
                data = path.read_bytes()
                if data.strip() and b"\r" not in data and len(data) < 400_000:
                    found[relative.as_posix()] = data
    return found


def functions_of(path: str, text: bytes) -> list[PythonFunction]:
    """Return the functions and classes of a file; [] where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    found: list[PythonFunction] = []
    visit(tree, path, [], found)
    return found


def visit(parent: ast.AST, path: str, around: list[PythonFunction], found: list[PythonFunction]) -> None:
    """Add the definitions below a node; a call counts for every function around it."""
    for node in ast.iter_child_nodes(parent):
        inside = around
        if isinstance(node, ast.Call):
            for one in around:
                one.calls.add(called(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(described(node, path))
            inside = [*around, found[-1]] if not isinstance(node, ast.ClassDef) else around
        visit(node, path, inside, found)


def described(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, path: str) -> PythonFunction:
    """Return what the questions need of a definition."""
    first = node.body[0]
    docstring = ast.get_docstring(node) or "" if len(node.body) > 1 else ""
    lines = (first.lineno, first.end_lineno or first.lineno) if docstring else None
    return PythonFunction(node.name, path, node.lineno, node.end_lineno or node.lineno, docstring, lines)


def called(node: ast.Call) -> str:
    """Return the name that is called, "" where it is no name."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def first_sentence(docstring: str) -> str:
    """Return the first sentence of a docstring, in one line."""
    return re.split(r"(?<=[.!?])\s|\n\s*\n", docstring.strip())[0].replace("\n", " ").strip()


def is_answerable(function: PythonFunction) -> bool:
    """Return whether the docstring is a sentence that does not give the name away."""
    text = first_sentence(function.docstring)
    if len(text.split()) < MIN_WORDS or len(text) > 300:
        return False
    return function.name.lower() not in text.lower() and function.docstring_lines is not None


def chosen(rows: list, n: int, key) -> list:
    """Return n rows by the hash of their keys: the same on every machine, in no order of the tree."""
    return sorted(rows, key=lambda row: sha256(key(row).encode()))[:n]


def make_questions(files: dict[str, bytes], n: int) -> tuple[list[Question], dict[str, bytes]]:
    """Return n questions of each kind, and the files without the docstrings that are asked for."""
    functions = [one for path, text in files.items() for one in functions_of(path, text)]
    by_name: dict[str, list[PythonFunction]] = defaultdict(list)
    for one in functions:
        by_name[one.name].append(one)
    unique = [rows[0] for name, rows in by_name.items() if len(rows) == 1 and len(name) > 3]
    callers: dict[str, list[PythonFunction]] = defaultdict(list)
    for one in functions:
        for name in one.calls:
            callers[name].append(one)
    questions = [
        Question("definition", DEFINITION.format(one.name), ((one.path, one.line),))
        for one in chosen(unique, n, lambda one: f"definition {one.name}")
    ]
    used = [one for one in unique if 1 <= len(uses(one, callers)) <= 5]
    for one in chosen(used, n, lambda one: f"usage {one.name}"):
        places = lines_of_calls(one.name, uses(one, callers), files)
        questions.append(Question("usage", USAGE.format(one.name), places))
    documented = [one for one in functions if is_answerable(one)]
    texts: dict[str, list[PythonFunction]] = defaultdict(list)
    for one in documented:
        texts[first_sentence(one.docstring)].append(one)
    asked = [rows[0] for rows in texts.values() if len(rows) == 1]
    asked = chosen(asked, n, lambda one: f"docstring {one.path} {one.line}")
    questions += [
        Question("docstring", first_sentence(one.docstring), ((one.path, one.line),)) for one in asked
    ]
    names = {one.name: one for one in unique}
    hops = [(one, elsewhere(one, names)) for one in unique]
    for one, there in chosen([row for row in hops if row[1]], n, lambda row: f"hop {row[0].name}"):
        questions.append(Question("hop", HOP.format(one.name), there))
    return questions, without(files, asked)


def uses(function: PythonFunction, callers: dict[str, list[PythonFunction]]) -> list[PythonFunction]:
    """Return the functions of other files that call a function."""
    return [one for one in callers.get(function.name, ()) if one.path != function.path]


def elsewhere(function: PythonFunction, names: dict[str, PythonFunction]) -> tuple[tuple[str, int], ...]:
    """Return where the functions are that a function calls and that are in other files."""
    there = [names[name] for name in sorted(function.calls) if name in names]
    return tuple((one.path, one.line) for one in there if one.path != function.path)


def lines_of_calls(
    name: str, rows: list[PythonFunction], files: dict[str, bytes]
) -> tuple[tuple[str, int], ...]:
    """Return the lines on which functions call a name."""
    wanted = re.compile(rb"\b" + name.encode() + rb"[ \t]*\(")
    found = []
    for one in rows:
        lines = files[one.path].split(b"\n")
        found += [(one.path, i + 1) for i in range(one.line - 1, one.end) if wanted.search(lines[i])]
    return tuple(found)


def without(files: dict[str, bytes], asked: list[PythonFunction]) -> dict[str, bytes]:
    """Return the files with the docstrings of some functions blanked: lines keep their numbers."""
    changed = dict(files)
    for one in asked:
        lines = changed[one.path].split(b"\n")
        first, last = one.docstring_lines or (1, 0)
        for i in range(first - 1, last):
            lines[i] = b""
        changed[one.path] = b"\n".join(lines)
    return changed
