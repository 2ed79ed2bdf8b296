"""The tool calculator: exact arithmetic on integers and fractions, by a parser of its own.

    sum      = product {("+" | "-") product}
    product  = unary {("*" | "/" | "//" | "%") unary}
    unary    = ("+" | "-") unary | power
    power    = postfix ["**" unary]            ("^" is the same)
    postfix  = atom {"!"}
    atom     = number | name "(" sum {"," sum} ")" | "(" sum ")"

No text reaches an evaluator of Python. Every value is an exact fraction of at most `MAX_BITS` bits
above and below the line; what would be larger is refused before it is computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from sevenfold.agent.tools.result import OK, ToolResult, failed
from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json

MAX_CHARACTERS = 1000
MAX_DEPTH = 64
MAX_BITS = 13_000
MAX_EXPONENT = 4000
MAX_FACTORIAL = 1000
# Of the values of powmod, whose time grows with their cube.
MAX_MODULAR_BITS = 2048
# Digits behind the point in what is printed; a longer expansion is printed as a fraction.
MAX_PLACES = 60
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[a-z_]+")
_MARK = re.compile(r"\*\*|//|[-+*/%^!(),]")


class CalculationError(SevenfoldError):
    """An expression that is not understood, or has no exact value within the limits."""

    exit_code = 2


def _fail(what: str, at: int | None = None) -> CalculationError:
    return CalculationError(what, where="expression" if at is None else f"expression, character {at + 1}")


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _fail(f"a value of more than {MAX_BITS} bits")
    return value


def _integer(value: Fraction) -> int:
    if value.denominator != 1:
        raise _fail(f"{shown(value)[:80]} is no integer")
    return value.numerator


def _small(value: Fraction, low: int, high: int) -> int:
    number = _integer(value)
    if not low <= number <= high:
        raise _fail(f"{shown(value)[:80]} is outside {low} to {high}")
    return number


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    n = _small(exponent, -MAX_EXPONENT, MAX_EXPONENT)
    if base == 0 and n < 0:
        raise _fail("division by zero")
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(n) > MAX_BITS + abs(n):
        raise _fail(f"a value of more than {MAX_BITS} bits")
    return base**n


def _divided(a: Fraction, b: Fraction) -> Fraction:
    if b == 0:
        raise _fail("division by zero")
    return a / b


def _remainder(a: Fraction, b: Fraction) -> Fraction:
    return a - b * math.floor(_divided(a, b))


def _root(value: Fraction) -> Fraction:
    """Return the exact square root. Raises CalculationError: it is no fraction."""
    if value < 0:
        raise _fail("a root of a negative number")
    up, down = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if up * up != value.numerator or down * down != value.denominator:
        raise _fail("the root is no fraction; isqrt gives its integer part")
    return Fraction(up, down)


def _modular_power(base: Fraction, exponent: Fraction, modulus: Fraction) -> Fraction:
    n, m = _integer(exponent), _integer(modulus)
    if m == 0 or n < 0:
        raise _fail("powmod needs an exponent of 0 or more and a modulus other than 0")
    if max(n.bit_length(), m.bit_length()) > MAX_MODULAR_BITS:
        raise _fail(f"powmod takes {MAX_MODULAR_BITS} bits at most")
    return Fraction(pow(_integer(base), n, m))


def _isqrt(value: Fraction) -> Fraction:
    if value < 0:
        raise _fail("a root of a negative number")
    return Fraction(math.isqrt(_integer(value)))


def _factorial(value: Fraction) -> Fraction:
    return Fraction(math.factorial(_small(value, 0, MAX_FACTORIAL)))


def _lcm(*values: Fraction) -> Fraction:
    found = 1
    for value in values:
        found = _bounded(Fraction(math.lcm(found, _integer(value)))).numerator
    return Fraction(found)


def _comb(n: Fraction, k: Fraction) -> Fraction:
    return Fraction(math.comb(_small(n, 0, MAX_FACTORIAL), _small(k, 0, MAX_FACTORIAL)))


# Name -> (fewest arguments, most arguments, what it does).
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Fraction]]] = {
    "abs": (1, 1, abs),
    "floor": (1, 1, lambda value: Fraction(math.floor(value))),
    "ceil": (1, 1, lambda value: Fraction(math.ceil(value))),
    # Half to even.
    "round": (1, 1, lambda value: Fraction(round(value))),
    "min": (1, 64, lambda *values: min(values)),
    "max": (1, 64, lambda *values: max(values)),
    "gcd": (1, 64, lambda *values: Fraction(math.gcd(*map(_integer, values)))),
    "lcm": (1, 64, _lcm),
    "sqrt": (1, 1, _root),
    "isqrt": (1, 1, _isqrt),
    "factorial": (1, 1, _factorial),
    "comb": (2, 2, _comb),
    "powmod": (3, 3, _modular_power),
}
_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "//": lambda a, b: Fraction(math.floor(_divided(a, b))),
    "%": _remainder,
}


class _Parser:
    """Reads an expression from the left, and computes as it reads."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def whole(self) -> Fraction:
        """Return the value of all of the text."""
        value = self._sum()
        if self._at < len(self._text):
            raise self._unexpected()
        return value

    def _unexpected(self) -> CalculationError:
        found = self._text[self._at : self._at + 1]
        return _fail(f"{found!a} is not understood" if found else "the expression ends too early", self._at)

    def _blanks(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _next(self, pattern: re.Pattern[str]) -> str:
        self._blanks()
        found = pattern.match(self._text, self._at)
        return found.group() if found else ""

    def _take(self, marks: Sequence[str]) -> str:
        """Return the mark that stands next and go behind it; "" when it is none of these."""
        mark = self._next(_MARK)
        if mark not in marks:
            return ""
        self._at += len(mark)
        self._blanks()
        return mark

    def _need(self, mark: str) -> None:
        if not self._take((mark,)):
            raise self._unexpected()

    def _sum(self) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fail(f"nested more than {MAX_DEPTH} deep", self._at)
        value = self._product()
        while mark := self._take(("+", "-")):
            value = _bounded(_OPERATORS[mark](value, self._product()))
        self._depth -= 1
        return value

    def _product(self) -> Fraction:
        value = self._unary()
        while mark := self._take(("*", "/", "//", "%")):
            value = _bounded(_OPERATORS[mark](value, self._unary()))
        return value

    def _unary(self) -> Fraction:
        sign = self._take(("+", "-"))
        if not sign:
            return self._raised()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fail(f"nested more than {MAX_DEPTH} deep", self._at)
        value = self._unary()
        self._depth -= 1
        return -value if sign == "-" else value

    def _raised(self) -> Fraction:
        value = self._atom()
        while self._take(("!",)):
            value = _bounded(_factorial(value))
        if not self._take(("**", "^")):
            return value
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fail(f"nested more than {MAX_DEPTH} deep", self._at)
        value = _bounded(_power(value, self._unary()))
        self._depth -= 1
        return value

    def _atom(self) -> Fraction:
        if self._take(("(",)):
            value = self._sum()
            self._need(")")
            return value
        if name := self._next(_NAME):
            return self._called(name)
        text = self._next(_NUMBER)
        if not text:
            raise self._unexpected()
        self._at += len(text)
        value = _number(text)
        self._blanks()
        return value

    def _called(self, name: str) -> Fraction:
        if name not in FUNCTIONS:
            raise _fail(f"{name!r:.40} is no function; use {', '.join(FUNCTIONS)}", self._at)
        least, most, function = FUNCTIONS[name]
        self._at += len(name)
        self._need("(")
        values = [self._sum()]
        while self._take((",",)):
            values.append(self._sum())
        self._need(")")
        if not least <= len(values) <= most:
            raise _fail(f"{name} takes {least if least == most else f'{least} to {most}'} values", self._at)
        return _bounded(function(*values))


def _number(text: str) -> Fraction:
    if text[:2] in ("0x", "0X", "0b", "0B"):
        return _bounded(Fraction(int(text, 0)))
    digits, _, exponent = text.lower().partition("e")
    if len(exponent) > 6 or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise _fail(f"an exponent beyond {MAX_EXPONENT}")
    whole, _, places = digits.partition(".")
    value = Fraction(int(whole + places or 0), 10 ** len(places))
    return _bounded(value * Fraction(10) ** int(exponent or 0))


def calculate(expression: str) -> Fraction:
    """Return the exact value of an expression.

    Raises:
        CalculationError: it is not understood, has no value, or is beyond the limits.
    """
    if len(expression) > MAX_CHARACTERS:
        raise _fail(f"{len(expression)} characters; {MAX_CHARACTERS} at most")
    return _Parser(expression).whole()


def shown(value: Fraction) -> str:
    """Return a value as text: an integer, a decimal that ends within 60 places, or a fraction."""
    places, rest = 0, value.denominator
    for prime in (2, 5):
        n = 0
        while rest % prime == 0:
            rest, n = rest // prime, n + 1
        places = max(places, n)
    if value.denominator == 1 or rest != 1 or places > MAX_PLACES:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


class CalculatorTool:
    """The tool."""

    is_repeatable = True

    def run(self, arguments: dict[str, Json]) -> ToolResult:
        """Return the value of an expression, or why it has none."""
        try:
            return ToolResult(outcome=OK, text=shown(calculate(arguments["expression"])))
        except CalculationError as error:
            return failed("expression", str(error))
