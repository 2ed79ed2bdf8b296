"""Make arithmetic problems with their steps written out, as S7-MATH requires: `<REASON> <THINK>
<FINAL>`, or `<scratchpad>`.

The steps of a sample are lines `left = right`. Before a sample is kept, every line is read back from
the finished text and evaluated exactly (as fractions). The answer after the mark is compared with one
that is computed in another way. A sample with a false step is dropped.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import Maker, SampleRoutine, SyntheticSample
from sevenfold.synthetic.variety import text_shape

_EQUATION = re.compile(r"^[\d\s()+*/%.-]+(?:=[\d\s()+*/%.-]+)+$")
_ANSWER = re.compile(r"(?:<FINAL>|</scratchpad>)\s*(-?[\d/]+)\s*$")
_APPLY: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
}


def value_of(text: str) -> Fraction:
    """Return the exact value of an expression of numbers, + - * / % and brackets. Raises ValueError
    for anything else.
    """
    return _value(ast.parse(text.strip(), mode="eval").body)


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _APPLY:
        return _APPLY[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{ast.dump(node)} is no arithmetic")


def holds(response: str, answer: Fraction) -> bool:
    """Return whether a response has equations, every one of them is true, and the marked answer is
    `answer`.
    """
    n_equations = 0
    for line in response.splitlines():
        stated = line.partition(": ")[2] or line
        stated = re.sub(r"^(?:<THINK>|\d+\.|-)\s+", "", stated.strip())
        if "=" not in stated or not _EQUATION.match(stated):
            continue
        sides = [value_of(side) for side in stated.split("=")]
        if any(side != sides[0] for side in sides):
            return False
        n_equations += 1
    marked = _ANSWER.search(response)
    return n_equations > 0 and marked is not None and value_of(marked[1]) == answer


@dataclass(frozen=True, slots=True)
class Worked:
    """A question, a sentence about the method, the steps, and the answer, which is computed
    independently of the steps.
    """

    question: str
    plan: str
    steps: tuple[str, ...]
    answer: Fraction


def written(worked: Worked, rng: SeededChoices) -> SyntheticSample | None:
    """Return the sample in one of the two forms, or None when one of its equations is false."""
    shown = str(worked.answer)
    if rng.chance(0.6):
        lines = [f"<REASON> {worked.plan}", *(f"<THINK> {step}" for step in worked.steps), f"<FINAL> {shown}"]
    else:
        lines = ["<scratchpad>", worked.plan, *worked.steps, "</scratchpad>", shown]
    response = "\n".join(lines)
    if not holds(response, worked.answer):
        return None
    return SyntheticSample(worked.question, response, "text", text_shape(f"{worked.question} {response}"))


def maker(work: Callable[[SeededChoices], Worked]) -> Maker:
    """Return a maker of samples from a function that works out one question."""

    def make(rng: SeededChoices) -> SampleRoutine:
        yield from ()
        return written(work(rng), rng)

    return make


# --- expressions
Tree = int | tuple[str, "Tree", "Tree"]


def _tree(rng: SeededChoices, n_leaves: int) -> Tree:
    if n_leaves == 1:
        return rng.between(1, 9) if rng.chance(0.3) else rng.between(2, 99)
    left = 1 + rng.below(n_leaves - 1)
    return (rng.pick("++--**/"), _tree(rng, left), _tree(rng, n_leaves - left))


def _shown(tree: Tree) -> str:
    if isinstance(tree, int):
        return f"({tree})" if tree < 0 else str(tree)
    return f"({_shown(tree[1])} {tree[0]} {_shown(tree[2])})"


def _bare(tree: Tree) -> str:
    text = _shown(tree)
    return text[1:-1] if not isinstance(tree, int) else text


def _reduced(tree: Tree) -> tuple[Tree, str]:
    """Return the tree with its first innermost operation done, and that operation as an equation."""
    if isinstance(tree, int):
        raise ValueError("a number has no operation")
    sign, left, right = tree
    if isinstance(left, int) and isinstance(right, int):
        value = int(value_of(f"{_shown(left)} {sign} {_shown(right)}"))
        return value, f"{_shown(left)} {sign} {_shown(right)} = {value}"
    if not isinstance(left, int):
        new, step = _reduced(left)
        return (sign, new, right), step
    new, step = _reduced(right)
    return (sign, left, new), step


def _whole(tree: Tree, rng: SeededChoices) -> Tree:
    """Return the tree with every division that has a remainder, and every product that is too long,
    turned into another operation.
    """
    if isinstance(tree, int):
        return tree
    sign, left, right = tree[0], _whole(tree[1], rng), _whole(tree[2], rng)
    below, above = value_of(_shown(right)), value_of(_shown(left))
    if sign == "/" and (below == 0 or (above / below).denominator > 1):
        sign = rng.pick("+-")
    if sign == "*" and abs(above * below) > 99_999:
        sign = rng.pick("+-")
    return (sign, left, right)


def expression(rng: SeededChoices) -> Worked:
    """Return an expression of three to seven numbers, evaluated from the inside out."""
    tree = _whole(_tree(rng, rng.pick((2, 3, 3, 4, 4, 5, 5, 6, 7))), rng)
    asked, answer, steps = _bare(tree), value_of(_bare(tree)), []
    brief = rng.chance(0.5)
    while not isinstance(tree, int):
        tree, step = _reduced(tree)
        steps.append(step if brief or isinstance(tree, int) else f"{step}\nleft over: {_bare(tree)}")
    opening = rng.pick(
        ("Calculate {}.", "What is {}?", "Evaluate {} step by step.", "Work out {}.", "Find the value of {}.")
    )
    plan = rng.pick(
        (
            "Do the innermost brackets first.",
            "Evaluate from the inside out.",
            "One operation at a time, brackets first.",
        )
    )
    return Worked(opening.format(asked), plan, tuple(steps), answer)


# --- methods
def columns(rng: SeededChoices) -> Worked:
    """Return an addition or a multiplication by place value."""
    a, b = rng.between(112, 9899), rng.between(12, 98)
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(a))) if digit != "0"][::-1]
    steps = [" + ".join(map(str, parts)) + f" = {a}"]
    steps += [f"{part} * {b} = {part * b}" for part in parts]
    steps.append(" + ".join(str(part * b) for part in parts) + f" = {sum(part * b for part in parts)}")
    question = rng.pick(
        ("Multiply {} by {}.", "What is {} times {}?", "Compute {} * {} by place value.")
    ).format(a, b)
    return Worked(
        question,
        "Split the first number by place value and multiply each part.",
        tuple(steps),
        Fraction(a * b),
    )


def euclid(rng: SeededChoices) -> Worked:
    """Return a greatest common divisor, or a least common multiple, by Euclid's algorithm."""
    factor = rng.between(2, 24)
    a, b = factor * rng.between(4, 60), factor * rng.between(2, 40)
    first, second, steps = max(a, b), min(a, b), []
    while second:
        steps.append(f"{first} % {second} = {first % second}")
        first, second = second, first % second
    if rng.chance(0.4):
        steps.append(f"{a} * {b} / {first} = {a * b // first}")
        question = rng.pick(("Find the least common multiple of {} and {}.", "What is lcm({}, {})?"))
        return Worked(
            question.format(a, b),
            f"Divide with remainder until 0 is left; then lcm = {a} * {b} / gcd, with gcd {first}.",
            tuple(steps),
            Fraction(math.lcm(a, b)),
        )
    question = rng.pick(("Find the greatest common divisor of {} and {}.", "What is gcd({}, {})?"))
    return Worked(
        question.format(a, b),
        "Divide with remainder until nothing is left; the last divisor is the answer.",
        tuple(steps),
        Fraction(math.gcd(a, b)),
    )


def equation(rng: SeededChoices) -> Worked:
    """Return a linear equation, its solution, and a check of the solution."""
    x, a, c = rng.between(-15, 30), rng.between(2, 15), rng.between(0, 9)
    b, name = rng.between(-40, 60), rng.pick("xyznkt")
    c = 0 if c == a else c
    right = a * x + b - c * x
    left = f"{a}{name} {'+' if b >= 0 else '-'} {abs(b)}"
    other = f"{c}{name} {'+' if right >= 0 else '-'} {abs(right)}" if c else str(right)
    steps = [f"subtract on both sides: {right} - ({b}) = {right - b}"]
    if c:
        steps.append(f"collect the unknown: {a} - {c} = {a - c}")
    steps.append(f"divide: {right - b} / ({a - c}) = {x}")
    steps.append(f"test: {a} * ({x}) + ({b}) = {a * x + b} = {c} * ({x}) + ({right})")
    question = rng.pick(("Solve {} = {} for {}.", "Which value makes {} = {} true? Find {}.")).format(
        left, other, name
    )
    return Worked(
        question,
        f"Bring numbers to one side and {name} to the other, then divide.",
        tuple(steps),
        Fraction(right - b, a - c),
    )


def fractions(rng: SeededChoices) -> Worked:
    """Return a sum, difference or product of two fractions, in lowest terms."""
    b, d = rng.between(2, 15), rng.between(2, 15)
    a, c, sign = rng.between(1, 2 * b), rng.between(1, 2 * d), rng.pick("+-*")
    answer = value_of(f"{a} / {b} {sign} {c} / {d}")
    if sign == "*":
        steps = [f"{a} * {c} = {a * c}", f"{b} * {d} = {b * d}", f"{a * c} / {b * d} = {answer}"]
    else:
        common = math.lcm(b, d)
        p, q = a * common // b, c * common // d
        top = int(value_of(f"{p} {sign} {q}"))
        steps = [
            f"{a} / {b} = {p} / {common}",
            f"{c} / {d} = {q} / {common}",
            f"{p} {sign} {q} = {top}",
            f"{top} / {common} = {answer}",
        ]
    question = rng.pick(
        (
            "Compute {}/{} {} {}/{} in lowest terms.",
            "What is {}/{} {} {}/{}, as a fraction or a whole number?",
        )
    )
    plan = (
        "Multiply tops and bottoms, then shorten."
        if sign == "*"
        else "Bring both to a common denominator, then shorten."
    )
    return Worked(question.format(a, b, sign, c, d), plan, tuple(steps), answer)


def divisible(rng: SeededChoices) -> Worked:
    """Return a remainder, found by splitting a number into multiples and a rest."""
    d, n = rng.between(3, 29), rng.between(150, 9999)
    blocks, rest, steps = [], n, []
    while rest >= d:
        block = d * 10 ** (len(str(rest // d)) - 1) * int(str(rest // d)[0])
        steps.append(f"{rest} - {block} = {rest - block}")
        blocks.append(block)
        rest -= block
    steps.append(" + ".join(map(str, [*blocks, rest])) + f" = {n}")
    question = rng.pick(
        ("What is the remainder of {} divided by {}?", "Find {} modulo {} and show why.")
    ).format(n, d)
    return Worked(
        question,
        f"Take away multiples of {d} until less than {d} is left: they do not change the remainder.",
        tuple(steps),
        Fraction(n % d),
    )


def series(rng: SeededChoices) -> Worked:
    """Return the next term, or the sum, of an arithmetic or geometric sequence."""
    start, n = rng.between(1, 30), 4 + rng.below(4)
    if rng.chance(0.4):
        ratio = rng.between(2, 4)
        terms = [start * ratio**i for i in range(n)]
        steps = [f"{b} / {a} = {ratio}" for a, b in pairwise(terms)][: n - 2]
        steps.append(f"{terms[-1]} * {ratio} = {terms[-1] * ratio}")
        answer = Fraction(start * ratio**n)
    else:
        step = rng.between(-12, 25) or 3
        terms = [start + step * i for i in range(n)]
        steps = [f"{b} - ({a}) = {step}" for a, b in pairwise(terms)][: n - 2]
        steps.append(f"{terms[-1]} + ({step}) = {terms[-1] + step}")
        answer = Fraction(start + step * n)
    question = rng.pick(
        ("What comes next: {}?", "Continue the sequence {}.", "Find the next term of {}.")
    ).format(", ".join(map(str, terms)))
    return Worked(
        question, "Compare neighbours to find the rule, then apply it once more.", tuple(steps), answer
    )


METHODS = (columns, euclid, equation, fractions, divisible, series)


def method(rng: SeededChoices) -> Worked:
    """Return one of the methods."""
    return rng.pick(METHODS)(rng)
