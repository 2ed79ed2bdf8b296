"""The calculator: exact, bounded, and total over every text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sevenfold.agent.tools.calculator import MAX_BITS, CalculationError, calculate, shown


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1/3+1/6", "0.5"),
        ("0.1+0.2", "0.3"),
        ("1/3", "1/3"),
        ("-1/8", "-0.125"),
        ("-2**2", "-4"),
        ("(-2)**2", "4"),
        ("2**-3", "0.125"),
        ("2**3**2", "512"),
        ("2^10", "1024"),
        ("-7//2", "-4"),
        ("-7%3", "2"),
        ("7.5%2", "1.5"),
        ("3!!", "720"),
        ("1.5e-3", "0.0015"),
        (".5 + 5.", "5.5"),
        ("0xff + 0b101", "260"),
        ("comb(10,3)", "120"),
        ("powmod(3,1000,7)", "4"),
        ("sqrt(9/4)", "1.5"),
        ("isqrt(10)", "3"),
        ("gcd(12,18) + lcm(4,6)", "18"),
        ("round(5/2) + floor(-0.5) + ceil(0.2)", "2"),
        ("max(1,2,3) - min(1,2) + abs(-4)", "6"),
        (" 1\t+ 2 ", "3"),
    ],
)
def test_values_are_exact(expression: str, value: str) -> None:
    assert shown(calculate(expression)) == value


class Node:
    """An expression as text, and its value by Python's own fractions."""

    def __init__(self, text: str, value: Fraction) -> None:
        self.text, self.value = text, value


NUMBERS = st.integers(0, 10**6).map(lambda n: Node(str(n), Fraction(n)))
DECIMALS = st.tuples(st.integers(0, 999), st.integers(0, 999)).map(
    lambda pair: Node(f"{pair[0]}.{pair[1]:03d}", Fraction(pair[0] * 1000 + pair[1], 1000))
)


def joined(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    def binary(parts: tuple[Node, str, Node]) -> Node:
        a, mark, b = parts
        if mark in ("/", "//", "%") and b.value == 0:
            mark = "+"
        value = {
            "+": lambda: a.value + b.value,
            "-": lambda: a.value - b.value,
            "*": lambda: a.value * b.value,
            "/": lambda: a.value / b.value,
            "//": lambda: Fraction(a.value // b.value),
            "%": lambda: a.value % b.value,
        }[mark]()
        return Node(f"({a.text} {mark}{b.text})", value)

    both = st.tuples(
        children, st.sampled_from("+-*/%").flatmap(lambda m: st.sampled_from([m, "//"])), children
    )
    return both.map(binary) | children.map(lambda one: Node(f"(-{one.text})", -one.value))


@given(st.recursive(NUMBERS | DECIMALS, joined, max_leaves=12))
def test_it_agrees_with_fractions_of_python(node: Node) -> None:
    assert calculate(node.text) == node.value


@given(
    st.text(alphabet="0123456789.eExX+-*/%^!(),abcdfgilmnopqrstuvw_ \t\n'[]", max_size=60)
    | st.text(max_size=60)
)
@example("9**9**9")
@example("(" * 900)
@example("-" * 999)
@example("1" * 1001)
@example("factorial(1000)*factorial(1000)*factorial(1000)")
def test_every_text_ends_with_a_value_within_the_limits_or_a_reason(text: str) -> None:
    try:
        value = calculate(text)
    except CalculationError:
        return
    assert max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS
    assert Fraction(shown(value)) == value


@given(st.fractions())
def test_what_is_printed_is_the_value(value: Fraction) -> None:
    assert Fraction(shown(value)) == value
