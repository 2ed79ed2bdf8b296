"""Find every pattern that the corpus stage compiles: those in its modules, in the functions and
classes there, and those that a function compiles when it is called.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any

from sevenfold import corpus

# Arguments of the functions of `re` that take a pattern: where the flags stand.
FLAGS = {"compile": 1, "search": 2, "match": 2, "fullmatch": 2, "findall": 2, "finditer": 2, "split": 3}
FLAGS |= {"sub": 4, "subn": 4}
# In place of a part of a pattern that is known only when it runs.
HOLE = "name"
Pattern = re.Pattern[Any]


@dataclass(frozen=True)
class Found:
    """A pattern, where it stands, and whether it is tried at one place of a text alone."""

    pattern: Pattern
    name: str
    is_anchored: bool = False


def modules() -> Iterator[ModuleType]:
    """Yield every module of the corpus."""
    yield corpus
    for module in pkgutil.walk_packages(corpus.__path__, f"{corpus.__name__}."):
        yield importlib.import_module(module.name)


def name_of(module: ModuleType) -> str:
    """Return a module's name inside the corpus."""
    return module.__name__.removeprefix(f"{corpus.__name__}").removeprefix(".") or "corpus"


def patterns_in(value: Any, depth: int = 5) -> Iterator[Pattern]:
    """Yield the patterns in a value, and in what it holds."""
    if isinstance(value, re.Pattern):
        yield value
    elif not depth or isinstance(value, (str, bytes, int, float, ModuleType)):
        return
    else:
        for item in _held(value):
            yield from patterns_in(item, depth - 1)


def _held(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())
    if isinstance(value, (tuple, list, frozenset, set)):
        return value
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if inspect.isfunction(value):
        return (*_cells(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    if isinstance(value, type):
        return list(vars(value).values()) if value.__module__.startswith(corpus.__name__) else ()
    if is_dataclass(value):
        return [getattr(value, field.name, None) for field in fields(value)]
    return list(getattr(value, "__dict__", {}).values())


def _cells(function: Any) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found


def called_in(module: ModuleType) -> Iterator[Found | str]:
    """Yield the pattern of each call of `re` in a function, or the name of the function where it
    cannot be told.
    """
    for function, call in calls_of(ast.parse(inspect.getsource(module))):
        name = f"{name_of(module)}.{function.name}"
        kind = getattr(call.func, "attr", "")
        if kind not in FLAGS:
            continue
        found = list(_values(call.args[0], function, vars(module)))
        flags = _flags(call, kind, vars(module))
        for value in found:
            if isinstance(value, (str, bytes)):
                pattern = re.compile(value, flags)
                yield Found(pattern, name, is_anchored=kind in ("match", "fullmatch"))
        if not found:
            yield name


def calls_of(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    """Yield each call `re.NAME(...)` inside a function, with the outermost function around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
                    owner = inner.func.value
                    if isinstance(owner, ast.Name) and owner.id == "re" and inner.args:
                        yield node, inner
        else:
            yield from calls_of(node)


def _flags(call: ast.Call, kind: str, scope: dict[str, Any]) -> int:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "flags"]
    given += call.args[FLAGS[kind] : FLAGS[kind] + 1]
    return int(_evaluated(given[0], scope)) if given else 0


def _values(node: ast.expr, function: ast.FunctionDef, scope: dict[str, Any]) -> Iterator[Any]:
    """Yield what an expression may be: its value, with the items of a loop over something known, or
    with HOLE for a part that is known only when it runs.
    """
    local = dict(scope)
    for inner in ast.walk(function):
        if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
            value = _try(inner.value, scope)
            if value is not None:
                local[inner.targets[0].id] = value
    for inner in ast.walk(function):
        if isinstance(inner, (ast.For, ast.comprehension)):
            places = inner.target.elts if isinstance(inner.target, ast.Tuple) else [inner.target]
            names = [place.id if isinstance(place, ast.Name) else "" for place in places]
            if isinstance(node, ast.Name) and node.id in names:
                items = _try(inner.iter, local) or ()
                one = len(names) == 1
                yield from (item if one else item[names.index(node.id)] for item in items)
                return
    value = _try(node, local)
    if value is None and isinstance(node, (ast.JoinedStr, ast.BinOp)):
        holes = {inner.id: HOLE for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        value = _try(node, {**holes, **local})
    if value is not None:
        yield value


def _try(node: ast.expr, scope: dict[str, Any]) -> Any:
    try:
        return _evaluated(node, scope)
    except (NameError, AttributeError, TypeError, KeyError, IndexError):
        return None


def _evaluated(node: ast.expr, scope: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "pattern", "eval"), {**scope})


ANCHORED = ("match", "fullmatch")


def anchored_names(trees: Iterable[ast.AST]) -> set[str]:
    """Return the names whose every use is `NAME.match(...)` or `NAME.fullmatch(...)`, or that of an
    item: they are tried at one place of a text.
    """
    uses: dict[str, bool] = {}
    for tree in trees:
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                around = parents[node]
                if isinstance(around, ast.Subscript) and around.value is node:
                    around = parents[around]
                is_anchored = isinstance(around, ast.Attribute) and around.attr in ANCHORED
                uses[node.id] = uses.get(node.id, True) and is_anchored
    return {name for name, is_anchored in uses.items() if is_anchored}


def all_found() -> tuple[list[Found], set[str]]:
    """Return each pattern of the corpus once, and the functions whose patterns cannot be told."""
    found: dict[tuple[Pattern, bool], Found] = {}
    untold: set[str] = set()
    anchored = anchored_names(ast.parse(inspect.getsource(module)) for module in modules())
    for module in modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("__"):
                continue
            name, is_anchored = f"{name_of(module)}.{attribute}", attribute in anchored
            for pattern in patterns_in(value):
                found.setdefault((pattern, is_anchored), Found(pattern, name, is_anchored))
        for called in called_in(module):
            if isinstance(called, str):
                untold.add(called)
            else:
                found.setdefault((called.pattern, called.is_anchored), called)
    return list(found.values()), untold
