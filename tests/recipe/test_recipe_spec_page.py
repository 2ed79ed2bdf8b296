"""specs/recipe.md against the code: every section and key with its default and unit, every
rule, every unit, every block.
"""

import json
import re
import typing
from pathlib import Path

import pytest

from sevenfold.recipe import corpus_schema, schema
from sevenfold.recipe.fields import Section, keys_of
from sevenfold.recipe.fragments import BLOCKS
from sevenfold.recipe.loader import MAX_EXTENDS
from sevenfold.recipe.policy import RULES
from sevenfold.recipe.units import Unit
from sevenfold.recipe.validate import options, unwrap
from sevenfold.recipe.yamltree import MAX_BYTES, MAX_DEPTH, MAX_DIGITS

PAGE = (Path(__file__).parents[2] / "specs" / "recipe.md").read_text()
SECTIONS = {
    name: item
    for module in (schema, corpus_schema)
    for name, item in vars(module).items()
    if isinstance(item, type) and issubclass(item, Section) and item is not Section
}


def rows(text: str) -> list[list[str]]:
    found = [line for line in text.splitlines() if line.startswith("|")]
    cells = (re.split(r"(?<!\\)\|", line)[1:-1] for line in found[2:])
    return [[cell.strip().replace("\\|", "|") for cell in row] for row in cells]


def table_of(section: str) -> dict[str, list[str]]:
    text = PAGE.split(f"<!-- section: {section} -->")[1]
    text = text.split("<!-- section:")[0].split("\n## ")[0]
    return {row[0].strip("`"): row for row in rows(text)}


def unit_of(annotation, metadata) -> str:
    found = [item.name.lower() for item in metadata if isinstance(item, Unit)]
    for option in [annotation, *options(annotation)]:
        args = getattr(option, "__args__", ())
        found += [unit.name.lower() for item in args if (unit := unwrap(item)[1])]
    return found[0] if found else ""


def bounds_of(annotation, metadata) -> set[tuple[str, float]]:
    """Bounds of a number, of the items of a list or of the values of a mapping."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of"}
    found = {
        (sign, float(getattr(item, name)))
        for item in metadata
        for name, sign in signs.items()
        if hasattr(item, name)
    }
    for item in metadata:
        found |= bounds_of(None, getattr(item, "metadata", ()))
    if typing.get_origin(annotation) is not typing.Literal:
        for item in typing.get_args(annotation):
            found |= bounds_of(item, getattr(item, "__metadata__", ()))
    return found


@pytest.mark.parametrize("name", list(SECTIONS))
def test_ranges_are_documented(name):
    table, section = table_of(name), SECTIONS[name]
    for key, field in keys_of(section).items():
        if any(
            isinstance(option, type) and issubclass(option, Section) for option in options(field.annotation)
        ):
            continue
        text = re.sub(
            r"2\^([0-9]+)", lambda match: str(2 ** int(match[1])), re.sub("`[^`]*`", "", table[key][3])
        )
        stated = re.findall(r"(>=|<=|>|<|multiple of) ([-+.e0-9]+)", text)
        assert {(sign, float(number)) for sign, number in stated} == bounds_of(
            field.annotation, field.metadata
        ), key


@pytest.mark.parametrize("name", list(SECTIONS))
def test_section_is_documented(name):
    table, section = table_of(name), SECTIONS[name]
    assert list(table) == list(keys_of(section))
    for key, field in keys_of(section).items():
        _, kind, unit, _, default, meaning = table[key]
        assert kind
        assert meaning
        assert unit == unit_of(field.annotation, field.metadata), key
        if field.is_required():
            assert default == "required", key
        else:
            value = field.get_default(call_default_factory=True)
            assert default == ("its defaults" if isinstance(value, Section) else f"`{json.dumps(value)}`"), (
                key
            )


def test_choices_are_documented():
    for name, section in SECTIONS.items():
        for key, field in section.model_fields.items():
            for option in options(field.annotation):
                if str(option).startswith("typing.Literal"):
                    for choice in option.__args__:
                        assert f"`{choice}`" in table_of(name)[key][1]


def test_rules_are_documented():
    table = {row[0]: row for row in rows(PAGE.split("## Policies")[1].split("\n## ")[0])}
    assert list(table) == [rule.id for rule in RULES]
    for rule in RULES:
        _, families, text, key = table[rule.id]
        assert families == ("all" if len(rule.families) == 4 else ", ".join(rule.families))
        assert (text, key) == (rule.text, f"`{rule.key}`")


def test_units_and_blocks_are_documented():
    quantities = PAGE.split("## Quantities")[1].split("\n## ")[0]
    for row, unit in zip(rows(quantities), Unit, strict=True):
        assert row[:2] == [unit.name.lower(), unit.base]
        assert re.findall("`([^`]+)`", row[2]) == list(unit.spellings)
    table = {
        row[0].strip("`"): row[1].strip("`") for row in rows(PAGE.split("## `extends`")[1].split("\n## ")[0])
    }
    assert table == {name: ".".join(target) for name, (_, target) in BLOCKS.items()}


def test_limits_are_documented():
    prose = " ".join(PAGE.split())
    assert f"at most {MAX_BYTES:,} bytes" in prose
    assert f"nested at most {MAX_DEPTH} deep" in prose
    assert f"at most {MAX_DIGITS} characters" in prose
    assert f"at most {MAX_EXTENDS} bases" in prose
