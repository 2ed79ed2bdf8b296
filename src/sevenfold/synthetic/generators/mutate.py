"""Put common bugs into a correct function: one place is changed, and a phrase says what is wrong
there.

A mutation is found in the syntax tree and made in the text, so the rest of the source keeps its form.
Execution decides whether it is a bug. A change that no input shows is discarded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_FLIPS: dict[type[ast.cmpop], tuple[str, str, str]] = {
    ast.Lt: ("<", "<=", "the boundary value is let in, although the comparison has to be strict"),
    ast.LtE: ("<=", "<", "the boundary value is left out, although it belongs to the range"),
    ast.Gt: (">", ">=", "the boundary value is let in, although the comparison has to be strict"),
    ast.GtE: (">=", ">", "the boundary value is left out, although it belongs to the range"),
    ast.Eq: ("==", "!=", "the condition is inverted: exactly the wrong values pass"),
    ast.NotEq: ("!=", "==", "the condition is inverted: exactly the wrong values pass"),
    ast.In: ("in", "not in", "the membership test is inverted"),
    ast.NotIn: ("not in", "in", "the membership test is inverted"),
}
_OPERATORS: dict[type[ast.operator], tuple[str, str, str]] = {
    ast.Add: ("+", "-", "it subtracts where it has to add"),
    ast.Sub: ("-", "+", "it adds where it has to subtract"),
    ast.Mult: ("*", "+", "it adds where it has to multiply"),
    ast.FloorDiv: ("//", "%", "it takes the remainder where it has to divide"),
    ast.Mod: ("%", "//", "it divides where it has to take the remainder"),
    ast.BitXor: ("^", "|", "it uses `|` where exclusive or is needed, so common bits do not cancel"),
}


@dataclass(frozen=True, slots=True)
class Bug:
    """A changed source. `line` counts from 1. `why` says what is wrong, as the end of a sentence.
    `kind` names the mistake.
    """

    source: str
    line: int
    was: str
    now: str
    why: str
    kind: str


def bugs(source: str) -> list[Bug]:
    """Return every known single-place bug of a source, in the order of its text. Bugs that could loop
    for ever are left out.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        for line, start, end, new, why in _places(node, source):
            found.append(_changed(source, line, start, end, new, why, type(node).__name__))
    found += _early_return(source)
    return sorted((bug for bug in found if bug.now != bug.was), key=lambda bug: (bug.line, bug.now, bug.why))


Place = tuple[int, int, int, str, str]


def _places(node: ast.AST, source: str) -> Iterator[Place]:
    lines = source.splitlines()
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from _between(lines, node.left, node.comparators[0], _FLIPS.get(type(node.ops[0])))
    elif isinstance(node, ast.BinOp):
        yield from _between(lines, node.left, node.right, _OPERATORS.get(type(node.op)))
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield from _between(
            lines,
            node.target,
            node.value,
            ("+=", "=", "the total is overwritten in every turn instead of growing"),
        )
    elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
        pair = ("and", "or", "one of the two conditions is enough, although both are needed")
        if isinstance(node.op, ast.Or):
            pair = ("or", "and", "both conditions are demanded, although one is enough")
        yield from _between(lines, node.values[0], node.values[1], pair)
    elif (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and node.lineno == node.operand.lineno
    ):
        yield node.lineno, node.col_offset, node.col_offset + 4, "", "the negation is missing"
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value in (0, 1):
        value = node.value
        if type(value.value) is int and value.end_col_offset is not None:
            yield (
                value.lineno,
                value.col_offset,
                value.end_col_offset,
                str(1 - value.value),
                "the accumulator starts at the wrong value",
            )
    elif isinstance(node, ast.Slice | ast.Call | ast.keyword):
        yield from _shifted(node)


def _shifted(node: ast.Slice | ast.Call | ast.keyword) -> Iterator[Place]:
    if isinstance(node, ast.keyword) and node.arg == "reverse":
        value = node.value
        yield (
            value.lineno,
            value.col_offset,
            value.col_offset + 4,
            "False",
            "the order of the sort is the wrong one",
        )
    elif isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if (
                isinstance(bound, ast.Constant)
                and isinstance(bound.value, int)
                and bound.end_col_offset is not None
            ):
                yield (
                    bound.lineno,
                    bound.col_offset,
                    bound.end_col_offset,
                    str(bound.value + 1),
                    "the slice is off by one",
                )
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        swap = {"max": "min", "min": "max", "any": "all", "all": "any"}.get(node.func.id)
        if swap:
            func = node.func
            yield (
                func.lineno,
                func.col_offset,
                func.col_offset + 3,
                swap,
                f"it calls `{swap}` where `{func.id}` is needed",
            )
        elif node.func.id == "range" and isinstance(node.args[-1], ast.BinOp | ast.Call | ast.Name):
            last = node.args[-1]
            if last.end_col_offset is not None:
                yield (
                    last.lineno,
                    last.end_col_offset,
                    last.end_col_offset,
                    " - 1",
                    "the loop ends one turn too early",
                )


def _between(
    lines: list[str], left: ast.expr, right: ast.expr, pair: tuple[str, str, str] | None
) -> Iterator[Place]:
    if pair is None or left.end_col_offset is None or left.end_lineno != right.lineno:
        return
    gap = lines[right.lineno - 1][left.end_col_offset : right.col_offset]
    at = gap.find(pair[0])
    if at >= 0:
        start = left.end_col_offset + at
        yield right.lineno, start, start + len(pair[0]), pair[1], pair[2]


def _changed(source: str, line: int, start: int, end: int, new: str, why: str, kind: str) -> Bug:
    lines = source.split("\n")
    was = lines[line - 1]
    lines[line - 1] = was[:start] + new + was[end:]
    return Bug("\n".join(lines), line, was.strip(), lines[line - 1].strip(), why, kind)


def _early_return(source: str) -> list[Bug]:
    """Return the bug that moves the last `return` into the loop before it."""
    lines = source.rstrip("\n").split("\n")
    if len(lines) < 3 or not lines[-1].startswith("    return ") or not lines[-2].startswith("        "):
        return []
    moved = "\n".join([*lines[:-1], f"    {lines[-1]}"]) + "\n"
    why = "`return` stands inside the loop, so the function ends after the first turn"
    return [Bug(moved, len(lines), f"{lines[-1]}", f"    {lines[-1]}", why, "Return")]
