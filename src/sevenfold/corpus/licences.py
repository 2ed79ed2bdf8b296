"""Licences as SPDX expressions, evaluated against the recipe's allow-list by `license-expression` (A5).

`A OR B` is allowed when either is (the user may choose), `A AND B` when both are. `A WITH exception` is
allowed only when that pair is on the list, even where A alone is: it is another licence. What cannot be
parsed is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sevenfold.core.errors import RecipeError, UsageError


@dataclass(frozen=True, slots=True)
class Judgement:
    """`spdx`: the expression in canonical spelling (as found when unknown). `reason`: None if allowed."""

    spdx: str
    reason: Literal["licence_unknown", "licence_not_allowed"] | None


@cache
def _library() -> tuple[Any, Any]:
    try:
        import license_expression
    except ImportError as error:
        raise UsageError(
            f"licences need license-expression, which is not installed ({error})",
            remedy="pip install 'sevenfold[train]'",
        ) from error
    return license_expression, license_expression.get_spdx_licensing()


def _parse(expression: str) -> Any | None:
    """The parsed expression, or None when it is empty, malformed or names an unknown licence."""
    library, licensing = _library()
    try:
        return licensing.parse(expression, validate=True, strict=True)
    except (library.ExpressionError, library.ParseError):
        return None


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
            return Judgement(expression or "", "licence_unknown")
        return Judgement(str(parsed), None if self._satisfied(parsed) else "licence_not_allowed")

    def _satisfied(self, node: Any) -> bool:
        if node.isliteral:
            return str(node) in self._allowed
        library, _ = _library()
        combine = any if isinstance(node, library.OR) else all
        return combine(self._satisfied(part) for part in node.args)
