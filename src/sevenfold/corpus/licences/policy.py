"""Evaluate SPDX expressions against the allow-list of a recipe with `license-expression` (A5).

`A OR B` is allowed when either is (the user may choose), `A AND B` when both are. `A WITH exception`
is allowed only when that pair is on the list, even where A alone is, because it is another licence. An
expression that cannot be parsed is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from sevenfold.core.errors import RecipeError
from sevenfold.core.process.log import one_line
from sevenfold.core.process.modules import require_module

# A licence exists, but it cannot be determined. The name is on no list, so it is never allowed.
UNRECOGNISED = "LicenseRef-unrecognised"
# Maximal number of characters of an expression.
MAX_EXPRESSION = 4096


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict. `spdx` is the expression in canonical spelling, or as it was found when it is
    unknown.

    `reason` is None if the licence is allowed.
    """

    spdx: str
    reason: Literal["licence_unknown", "licence_not_allowed"] | None


@cache
def _library() -> tuple[Any, Any]:
    library = require_module("license_expression", "licences need license-expression")
    return library, library.get_spdx_licensing()


@lru_cache(maxsize=8192)
def _parse(expression: str) -> Any | None:
    """Return the parsed expression, or None when it is empty, malformed, too long or names an
    unknown licence.
    """
    library, licensing = _library()
    if len(expression) > MAX_EXPRESSION:
        return None
    try:
        return licensing.parse(expression, validate=True, strict=True)
    except (library.ExpressionError, library.ParseError, RecursionError):
        return None


def is_valid(expression: str) -> bool:
    """Return whether every part of an expression is on the SPDX list."""
    return _parse(expression) is not None


def canonical(expression: str) -> str:
    """Return the expression in the spelling of the SPDX list, or unchanged when it is not valid."""
    parsed = _parse(expression)
    return expression if parsed is None else str(parsed)


def symbols(expression: str) -> frozenset[str]:
    """Return the licences that an expression names, without `-only` and `-or-later`. An invalid
    expression has none.
    """
    parsed = _parse(expression)
    if parsed is None:
        return frozenset()
    names = (str(part) for symbol in parsed.symbols for part in str(symbol).split(" WITH ")[:1])
    return frozenset(base_name(name) for name in names)


def base_name(identifier: str) -> str:
    """Return a licence without its suffix about later versions: GPL-2.0-or-later -> GPL-2.0."""
    return identifier.removesuffix("-only").removesuffix("-or-later")


@lru_cache(maxsize=8192)
def combine(expressions: tuple[str, ...]) -> str:
    """Return the simplified `AND` of expressions. An invalid one stays as it is and makes the whole
    unknown.
    """
    _, licensing = _library()
    distinct = tuple(dict.fromkeys(expressions))
    if len(distinct) == 1:
        return distinct[0]
    parsed = [_parse(expression) for expression in distinct]
    if any(part is None for part in parsed):
        return " AND ".join(f"({expression})" for expression in distinct)
    return str(licensing.AND(*parsed).simplify())


def _conjuncts(expression: str) -> list[str]:
    """Return the parts of a result of `combine`, of which some may be invalid."""
    is_joined = expression.startswith("(") and expression.endswith(")") and ") AND (" in expression
    return expression[1:-1].split(") AND (") if is_joined else []


class LicencePolicy:
    """Judges expressions against an allow-list of SPDX identifiers (or `A WITH exception` pairs).

    Raises:
        RecipeError: an entry of the allow-list is not one SPDX licence.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed: set[str] = set()
        self._known: dict[str | None, Judgement] = {}
        for entry in allowed:
            parsed = _parse(entry)
            if parsed is None or not parsed.isliteral:
                raise RecipeError(
                    f"{entry!r} is not one SPDX licence identifier",
                    where="corpus.licences",
                    remedy="spell it as on https://spdx.org/licenses, one licence an entry",
                )
            self._allowed.add(str(parsed))

    def judge(self, expression: str | None) -> Judgement:
        """Judge one declared expression; None or "" is unknown."""
        if expression not in self._known:
            self._known[expression] = self._judge(expression)
        return self._known[expression]

    def _judge(self, expression: str | None) -> Judgement:
        parsed = _parse(expression) if expression else None
        if parsed is None:
            # A licence beside the unknown one may be known and forbidden.
            beside = [_parse(part) for part in _conjuncts(expression or "")]
            is_forbidden = any(part is not None and not self._satisfied(part) for part in beside)
            return Judgement(
                one_line(expression or ""), "licence_not_allowed" if is_forbidden else "licence_unknown"
            )
        return Judgement(str(parsed), None if self._satisfied(parsed) else "licence_not_allowed")

    def _satisfied(self, node: Any) -> bool:
        if node.isliteral:
            return str(node) in self._allowed
        library, _ = _library()
        combine = any if isinstance(node, library.OR) else all
        return combine(self._satisfied(part) for part in node.args)
