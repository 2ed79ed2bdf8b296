"""Every kind of error in a recipe file: exactly the file and line at fault,
the key, and what is allowed.
"""

from pathlib import Path

import pytest

from sevenfold.core.errors import PolicyError, RecipeError, StorageError
from sevenfold.recipe import load_recipe, load_spec_block

# (id, line of the base to replace, replacement with HERE on the line at fault, texts
# that the message must have)
CASES = [
    (
        "unknown top key",
        "name: small",
        "name: small\nnmae: x # HERE",
        ["nmae: unknown key", "did you mean 'name'"],
    ),
    (
        "unknown key",
        "  n_heads: 2",
        "  n_heads: 2\n  n_head: 2 # HERE",
        ["model.n_head", "'n_heads'", "d_model"],
    ),
    ("duplicate key", "  d_ffn: 48", "  d_ffn: 48\n  d_ffn: 64 # HERE", ["duplicate key 'd_ffn'", "line 11"]),
    (
        "text for integer",
        "  n_layers: 2",
        "  n_layers: two # HERE",
        ["model.n_layers: 'two'", "a whole number"],
    ),
    (
        "real for integer",
        "  n_layers: 2",
        "  n_layers: 2.5 # HERE",
        ["model.n_layers: 2.5", "a whole number"],
    ),
    (
        "bool for integer",
        "  n_layers: 2",
        "  n_layers: true # HERE",
        ["model.n_layers: True", "a whole number"],
    ),
    ("null for integer", "  n_layers: 2", "  n_layers: # HERE", ["model.n_layers: None", "a whole number"]),
    (
        "mapping for integer",
        "  n_layers: 2",
        "  n_layers: {a: 1} # HERE",
        ["n_layers: a mapping", "a whole number"],
    ),
    (
        "text for number",
        "  learning_rate: 0.001",
        "  learning_rate: fast # HERE",
        ["train.learning_rate", "a number"],
    ),
    (
        "text for bool",
        "  context: 64",
        "  context: 64\n  tied: yes # HERE",
        ["model.tied: 'yes'", "true or false"],
    ),
    ("number for text", "name: small", "name: 5 # HERE", ["name: 5", "text (quote it)"]),
    ("scalar for list", "  licences: [PSF-2.0]", "  licences: PSF-2.0 # HERE", ["corpus.licences", "a list"]),
    (
        "scalar for mapping",
        "tokenizer:\n  vocab_size: 512",
        "tokenizer: bpe # HERE",
        ["tokenizer: 'bpe'", "a mapping"],
    ),
    (
        "list for mapping",
        "tokenizer:\n  vocab_size: 512",
        "tokenizer: [1] # HERE",
        ["tokenizer: a list", "a mapping"],
    ),
    ("too small", "  n_layers: 2", "  n_layers: 0 # HERE", ["n_layers: 0 is out of range", "a number > 0"]),
    ("too large", "  seed: 1", f"  seed: {1 << 63} # HERE", ["train.seed", "out of range", "a number <"]),
    ("too many layers", "  n_layers: 2", "  n_layers: 101 # HERE", ["n_layers: 101", "<= 100"]),
    ("odd key", "name: small", 'name: small\n"a\\nb": 1 # HERE', ["'a\\nb': unknown key"]),
    (
        "nul in a path",
        "    - kind: stdlib",
        '    - kind: lock\n      path: "a\\0" # HERE',
        ["sources[0].path"],
    ),
    ("multiple", "  head_dim: 16", "  head_dim: 15 # HERE", ["model.head_dim: 15", "a multiple of 2"]),
    (
        "choice",
        "family: s7",
        "family: s8 # HERE",
        ["family: 's8' is not a choice", "did you mean 's7'", "'m31r'"],
    ),
    ("pattern", "name: small", "name: Small Model # HERE", ["name: 'Small Model'", "matches"]),
    ("empty list", "  licences: [PSF-2.0]", "  licences: [] # HERE", ["corpus.licences", "at least 1"]),
    ("pair", "  seed: 1", "  seed: 1\n  betas: [0.9] # HERE", ["train.betas[1]: required, and missing"]),
    ("item", "  seed: 1", "  seed: 1\n  betas:\n    - 0.9\n    - 1.5 # HERE", ["train.betas[1]: 1.5", "< 1"]),
    (
        "attention choice",
        "  context: 64",
        "  context: 64\n  attention: full # HERE",
        ["model.attention: 'full'", "causal"],
    ),
    (
        "attention key",
        "  context: 64",
        "  context: 64\n  attention:\n    scheme: hybrid\n    chunk: 8 # HERE",
        ["chunk"],
    ),
    (
        "missing in union",
        "  context: 64",
        "  context: 64\n  attention: {scheme: hybrid} # HERE",
        ["local_chunk: required, and"],
    ),
    (
        "moe tag",
        "  context: 64",
        "  context: 64\n  moe:\n    kind: top_k # HERE",
        ["'top_k'", "token_routed"],
    ),
    (
        "moe no tag",
        "  context: 64",
        "  context: 64\n  moe:\n    experts: [a, b] # HERE",
        ["model.moe.kind: required, and missing"],
    ),
    (
        "source tag",
        "    - kind: stdlib",
        "    - kind: stdlb # HERE",
        ["corpus.sources[0].kind", "did you mean 'stdlib'"],
    ),
    (
        "source key",
        "    - kind: stdlib",
        "    - kind: stdlib\n      path: x # HERE",
        ["corpus.sources[0].path: unknown"],
    ),
    (
        "wrong unit",
        "  tokens: 4096",
        "  tokens: 4 MB # HERE",
        ["train.tokens: '4 MB'", "unit 'MB'", "M tokens"],
    ),
    ("no unit", "  tokens: 4096", "  tokens: '4096' # HERE", ["text without a unit", "4.9M tokens"]),
    ("no quantity", "  tokens: 4096", "  tokens: lots # HERE", ["train.tokens: 'lots' is not a quantity"]),
    (
        "half a token",
        "  tokens: 4096",
        "  tokens: 4096.5 tokens # HERE",
        ["train.tokens: '4096.5 tokens'", "a whole number"],
    ),
    (
        "unit of a ratio",
        "  seed: 1",
        "  seed: 1\n  warmup_ratio: 2 tokens # HERE",
        ["warmup_ratio", "'tokens'", "%"],
    ),
    (
        "ratio too large",
        "  seed: 1",
        "  seed: 1\n  warmup_ratio: 200 % # HERE",
        ["train.warmup_ratio: '200 %' is out of range", "<= 1"],
    ),
    ("anchor", "name: small", "name: &n small # HERE", ["an anchor (&n)"]),
    ("alias", "name: small", "name: *n # HERE", ["an alias (*n)"]),
    ("tag", "name: small", "name: !!python/name:os.system small # HERE", ["a tag"]),
    ("merge key", "  n_heads: 2", "  n_heads: 2\n  <<: {n_layers: 3} # HERE", ["model.<<: unknown key"]),
    ("key not text", "name: small", "name: small\n5: x # HERE", ["key 5 is not text"]),
    ("list as key", "name: small", "name: small\n? [a] # HERE\n: x", ["is not text"]),
    (
        "second document",
        "  learning_rate: 0.001",
        "  learning_rate: 0.001\n--- # HERE\na: 1",
        ["a second document"],
    ),
    ("bad indent", "  n_heads: 2", "  n_heads: 2\n   n_kv: 1 # HERE", ["not YAML"]),
    ("tab", "  n_heads: 2", "  n_heads: 2\n\tx: 1 # HERE", ["not YAML"]),
    ("infinity", "  learning_rate: 0.001", "  learning_rate: 1e999 # HERE", ["too large for a number"]),
    ("long number", "  seed: 1", f"  seed: {'9' * 5000} # HERE", ["a number of 5000 characters"]),
    ("surrogate", "summary: a small recipe", 'summary: "\\ud800" # HERE', ["half a surrogate pair"]),
    ("deep", "name: small", f"name: {'[' * 30}{']' * 30} # HERE", ["nested deeper than 24"]),
    (
        "extends number",
        "name: small",
        "name: small\nextends: 5 # HERE",
        ["extends: 5 is not a relative path"],
    ),
    ("extends absolute", "name: small", "name: small\nextends: /x.yaml # HERE", ["is not a relative path"]),
    ("extends missing", "name: small", "name: small\nextends: no.yaml # HERE", ["extends: no file"]),
    ("extends nul", "name: small", 'name: small\nextends: "a\\0b" # HERE', ["is not a relative path"]),
    (
        "extends itself",
        "name: small",
        "name: small\nextends: small.yaml # HERE",
        ["a cycle (small.yaml -> small.yaml)"],
    ),
    (
        "include scalar",
        "name: small",
        "name: small\ninclude: a.yaml # HERE",
        ["include: 'a.yaml' is not a list"],
    ),
    ("include missing", "name: small", "name: small\ninclude:\n  - a.yaml # HERE", ["include: no file"]),
]


@pytest.mark.parametrize(
    ("old", "new", "texts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_error_names_line_key_and_remedy(base, write, old, new, texts):
    assert base.count(old) == 1
    text = base.replace(old, new)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "HERE" in row)
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}:{line}"
    for part in texts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_key_points_to_its_mapping(base, write):
    path = write(base.replace("  seed: 1\n", ""))
    with pytest.raises(RecipeError, match=r"train\.seed: required, and missing") as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}:20"


def test_policy_error_points_to_the_key(base, write):
    path = write(base.replace("  n_kv_heads: 2", "  n_kv_heads: 2\n  dropout: 1e-1"))
    with pytest.raises(PolicyError, match=r"rule A1\.dropout: no dropout") as caught:
        load_recipe(path)
    assert (caught.value.where, caught.value.rule, caught.value.exit_code) == (f"{path}:10", "A1.dropout", 2)


def test_error_in_a_base_is_shown_in_the_base(base, write):
    parent = write(base.replace("  d_ffn: 48", "  d_fnn: 48"), "parts/base.yaml")
    child = write("extends: parts/base.yaml\nname: child\n", "child.yaml")
    with pytest.raises(RecipeError, match=r"model\.d_fnn") as caught:
        load_recipe(child)
    assert caught.value.where == f"{parent}:11"


def test_error_in_an_override_is_shown_in_the_override(base, write):
    write(base, "base.yaml")
    child = write("extends: base.yaml\nmodel:\n  d_ffn: none\n", "child.yaml")
    with pytest.raises(RecipeError, match=r"model\.d_ffn") as caught:
        load_recipe(child)
    assert caught.value.where == f"{child}:3"


def test_cycle_of_two_and_chain_too_long(write):
    write("extends: b.yaml\n", "a.yaml")
    path = write("extends: a.yaml\n", "b.yaml")
    with pytest.raises(RecipeError, match=r"a cycle \(b.yaml -> a.yaml -> b.yaml\)"):
        load_recipe(path)
    for step in range(10):
        path = write(f"extends: c{step - 1}.yaml\n" if step else "name: x\n", f"c{step}.yaml")
    with pytest.raises(RecipeError, match="more than 8 levels"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "what"), [("", "empty"), ("- 1", "a mapping, not a list"), ("5", "a mapping, not 5")]
)
def test_not_a_mapping(write, text, what):
    with pytest.raises(RecipeError, match=what):
        load_recipe(write(text))


def test_bytes_that_are_no_text(write):
    with pytest.raises(RecipeError, match="not UTF-8") as caught:
        load_recipe(write(b"recipe: 1\nname: \xff\n"))
    assert caught.value.where.endswith(":2")
    with pytest.raises(RecipeError, match=r"U\+0007") as caught:
        load_recipe(write(b"recipe: 1\n\nname: \x07\n"))
    assert caught.value.where.endswith(":3")


@pytest.mark.parametrize(
    "text", ['a: "\\UFFFFFFFF"', f"%YAML 1.{'9' * 5000}\n---\na: 1", 'a: "\\x"', "%YAML 2.0\n---\na: 1"]
)
def test_escapes_and_directives_that_yaml_cannot_hold(write, text):
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(write(text))


def test_file_larger_than_the_cap(write):
    with pytest.raises(RecipeError, match="262144"):
        load_recipe(write(b"#" * (1 << 20)))


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file") as caught:
        load_recipe(tmp_path / "none.yaml")
    assert caught.value.exit_code == 4
    with pytest.raises(StorageError, match="directory"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("attention: {scheme: hybrid}\n", "attention.local_chunk: required, and missing"),
        ("atention: {}\n", "'atention': unknown block .did you mean 'attention'"),
        ("attention: {}\ncontext: {}\n", "has keys 'attention, context'"),
        ("{}", "no keys"),
        ("- 1", "no keys"),
        ("tools: [{name: web, allow: 1}]", r"tools\[0\].allow: unknown key"),
        ("tools: [{name: telnet}]", r"tools\[0\].name: 'telnet' is not a choice"),
        ("tools: [calculator]", r"tools\[0\]: 'calculator'"),
    ],
)
def test_spec_block_errors(write, text, what):
    path = write(text)
    with pytest.raises(RecipeError, match=what) as caught:
        load_spec_block(path)
    assert caught.value.where == f"{path}:1"
