"""Loading: scalars, quantities, extends and include, one canonical form,
spec blocks as they stand (C21).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevenfold.core.errors import SevenfoldError
from sevenfold.recipe import load_recipe, load_spec_block, resolve_recipe_path
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.shipped import recipe_paths, recipes_directory
from sevenfold.recipe.units import QuantityError, Unit, parse_quantity
from sevenfold.recipe.yamltree import parse_tree

SAME_DIRECTORY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_small_recipe_loads_with_defaults(base, write):
    recipe = load_recipe(write(base))
    assert (recipe.name, recipe.model.head_dim, recipe.train.seed) == ("small", 16, 1)
    assert recipe.quantize.bits == 8
    assert recipe.tools == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        ("true", True),
        ("~", None),
        ("-7", -7),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("'5'", "5"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("|\n  a\n  b", "a\nb"),
    ],
)
def test_scalars_follow_the_json_schema(text, value):
    found = parse_tree(f"key: {text}".encode(), "x").plain()["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("4.9M tokens", Unit.TOKENS, 4_900_000),
        ("50B tokens", Unit.TOKENS, 50 * 10**9),
        ("12 tokens", Unit.TOKENS, 12),
        ("40 GB", Unit.BYTES, 40 * 10**9),
        ("40GiB", Unit.BYTES, 40 * 2**30),
        ("2 %", Unit.RATIO, 0.02),
        ("100%", Unit.RATIO, 1),
        ("2.5 USD/h", Unit.MONEY, 2.5),
        ("19.5 TFLOP/s", Unit.FLOPS, 19_500_000_000_000),
    ],
)
def test_quantities(text, unit, value):
    found = parse_quantity(text, unit)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("unit", list(Unit))
def test_example_and_every_spelling_of_a_unit_parse_and_others_do_not(unit):
    parse_quantity(unit.example, unit)
    for other in Unit:
        for spelling in other.spellings:
            if spelling in unit.spellings:
                assert parse_quantity(f"3 {spelling}", unit) > 0
            else:
                with pytest.raises(QuantityError, match="is not allowed here"):
                    parse_quantity(f"3 {spelling}", unit)


def test_extends_merges_mappings_and_replaces_the_rest(base, write):
    write(base.replace("  seed: 1", "  seed: 1\n  betas: [0.9, 0.99]"), "parts/base.yaml")
    recipe = load_recipe(
        write(
            "extends: parts/base.yaml\nname: child\ntrain: {betas: [0.8, 0.9]}\nmodel: {d_ffn: 64}\n",
            "child.yaml",
        )
    )
    assert (recipe.name, recipe.model.d_ffn, recipe.model.d_model) == ("child", 64, 32)
    assert recipe.train.betas == (0.8, 0.9)


def test_null_and_scalars_replace_mappings(base, write):
    moe = "  context: 64\n  moe: {kind: token_routed, experts: [code, general]}"
    write(base.replace("  context: 64", moe), "base.yaml")
    assert load_recipe(write("extends: base.yaml\n", "a.yaml")).model.moe is not None
    assert load_recipe(write("extends: base.yaml\nmodel: {moe: null}\n", "b.yaml")).model.moe is None


def test_blocks_lie_between_base_and_own_keys(base, write):
    write("tokenizer: {vocab_size: 512, preserve: ['::']}\n", "block.yaml")
    write(base.replace("tokenizer:\n  vocab_size: 512", "tokenizer:\n  vocab_size: 300"), "base.yaml")
    text = "extends: base.yaml\ninclude: [block.yaml]\ntokenizer: {preserve: ['->']}\n"
    recipe = load_recipe(write(text, "child.yaml"))
    assert (recipe.tokenizer.vocab_size, recipe.tokenizer.preserve) == (512, ("->",))


def test_spec_blocks_are_accepted_as_they_stand():
    blocks = recipes_directory() / "slm" / "blocks"
    attention = load_spec_block(blocks / "attention.yaml")
    assert attention.target == ("model", "attention")
    assert attention.value == {
        "scheme": "hybrid",
        "local_chunk": 8192,
        "global_stride": 1024,
        "global_tokens": "learned_summaries",
        "streaming_links": "ring",
        "rope_scaling": "yarn",
        "gqa": 6,
        "kv_quant_bits": 4,
    }
    context = load_spec_block(blocks / "context.yaml").value
    assert context == {
        "train_base": 128000,
        "extend_at_tokens": 0.7,
        "target_stage1": 512000,
        "target_stage2": 1000000,
        "latency_slo_tokens": 200000,
    }
    tokenizer = load_spec_block(blocks / "tokenizer.yaml").value
    assert tokenizer["training_mix"] == {"code": 0.6, "math": 0.2, "text": 0.2}
    assert len(tokenizer["special_tokens"]) == 10
    tools = load_spec_block(blocks / "tools.json")
    raw = json.loads((blocks / "tools.json").read_text())
    assert tools.value == raw["tools"]
    assert [tool["name"] for tool in raw["tools"]] == [
        "python_exec",
        "compiler_run",
        "retrieval",
        "web",
        "calculator",
    ]


def test_slm_recipe_includes_the_blocks():
    recipe = load_recipe(resolve_recipe_path("slm/2b"))
    blocks = recipes_directory() / "slm" / "blocks"
    resolved = recipe.resolved()
    assert resolved["model"]["attention"] == load_spec_block(blocks / "attention.yaml").value
    assert resolved["tokenizer"] == load_spec_block(blocks / "tokenizer.yaml").value
    assert resolved["context"] == load_spec_block(blocks / "context.yaml").value
    assert resolved["tools"] == load_spec_block(blocks / "tools.json").value


@pytest.mark.parametrize("name", list(recipe_paths()))
def test_canonical_form_is_a_recipe_with_the_same_digest(name, write):
    recipe = load_recipe(recipe_paths()[name])
    again = load_recipe(write(recipe.canonical(), "again.yaml"))
    assert again == recipe
    assert (again.canonical(), again.digest) == (recipe.canonical(), recipe.digest)


def test_digest_is_the_one_of_the_specification(base, write):
    import hashlib

    recipe = load_recipe(write(base))
    form = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()
    tag = b"sevenfold/recipe/1"
    data = len(tag).to_bytes(8, "big") + tag + len(form).to_bytes(8, "big") + form
    assert recipe.digest == hashlib.sha256(data).hexdigest()


def test_spelling_does_not_change_the_digest_but_values_do(base, write):
    digest = load_recipe(write(base)).digest
    spelt = base.replace("  tokens: 4096", "  tokens: 4.096K tokens").replace("0.001", "1e-3")
    assert load_recipe(write(f"# a comment\n{spelt}")).digest == digest
    assert load_recipe(write(base.replace("seed: 1", "seed: 2"))).digest != digest


@SAME_DIRECTORY
@given(
    summary=st.text(max_size=40),
    prompts=st.lists(st.text(max_size=20), max_size=3),
    rate=st.floats(min_value=1e-12, max_value=1.0),
    std=st.floats(min_value=1e-300, max_value=1e300),
    seed=st.integers(min_value=0, max_value=2**63 - 1),
    tokens=st.integers(min_value=256, max_value=2**53),
    mix=st.booleans(),
)
def test_resolve_then_reload_gives_the_same_digest(
    base, write, summary, prompts, rate, std, seed, tokens, mix
):
    value = load_recipe(write(base)).resolved()
    value["summary"] = summary.encode(errors="replace").decode()
    value["seal"]["golden_prompts"] = [prompt.encode(errors="replace").decode() for prompt in prompts]
    value["train"] |= {"learning_rate": rate, "init_std": std, "seed": seed, "tokens": tokens}
    value["corpus"]["mix"] = {"code": 1.0} if mix else {}
    recipe = Recipe.model_validate_json(json.dumps(value))
    assert load_recipe(write(recipe.canonical())).digest == recipe.digest


@SAME_DIRECTORY
@given(data=st.binary(max_size=200))
def test_random_bytes_raise_only_our_errors(write, data):
    for load in (load_recipe, load_spec_block):
        with pytest.raises(SevenfoldError):
            load(write(data))


_MARKS = [*":-?[]{}'\"#|>%\n\t\\\x85", "\n  ", "- ", "---", "...", "<<", "\\u", "!!str", "&a", "*a"]
_WORDS = st.sampled_from(
    [*_MARKS, "model", "extends", "include", "train", "tokens", "kind", "small.yaml", "0", "null", "1e9999"]
)


@SAME_DIRECTORY
@given(words=st.lists(_WORDS, max_size=40))
def test_random_yaml_raises_only_our_errors(write, words):
    for load in (load_recipe, load_spec_block):
        with pytest.raises(SevenfoldError):
            load(write(" ".join(words)))


@SAME_DIRECTORY
@given(data=st.data())
def test_damaged_recipe_loads_or_raises_our_errors(base, write, data):
    lines = base.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    key, _, _ = lines[index].partition(":")
    lines[index] = f"{key}: {data.draw(_SCALARS)}"
    text = ""
    try:
        assert load_recipe(write("\n".join(lines))).canonical()
    except SevenfoldError as error:
        text = str(error)
    assert "\n" not in text
    assert text == "" or "small.yaml" in text


_SCALARS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["[]", "{}", "[1, 2]", "{a: 1}", "true", "'4 GB'", "5 %", "1K tokens", "null", "[[[]]]", "{kind: x}"]
    ),
)


def test_importing_the_package_is_light():
    script = (
        "import sys, sevenfold.recipe; heavy = {'yaml', 'pydantic', 'numpy', 'torch', 'rich'} &"
        " set(sys.modules); sys.exit(f'{heavy}' if heavy else 0)"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0


def test_package_has_no_other_names():
    import sevenfold.recipe

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sevenfold.recipe.nothing  # noqa: B018 -- the access is the test
    assert Path(sevenfold.recipe.resolve_recipe_path("demo-1m")).name == "demo-1m.yaml"
