"""config.json of a foreign Llama: the same logits as transformers, or one line that names the key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import foreign_models as foreign
import numpy as np
import pytest

from sevenfold.core.errors import SevenfoldError
from sevenfold.export.hf.config import DEFAULTS, HARMLESS, WANTED, Config
from sevenfold.export.importer import import_model

# Absolute. The weights are four times the usual ones, so that what is read wrongly shows: the
# largest logit is 7, and float32 differs by 3e-6 of it.
TOLERANCE = 4e-5
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.make(tmp_path_factory.mktemp("plain") / "hf")


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def same(directory: Path, tmp_path: Path) -> Any:
    source = foreign.imported("hf", directory, tmp_path / "in")
    apart = np.abs(foreign.theirs(directory) - foreign.ours(source)).max()
    assert apart < TOLERANCE
    return source


@pytest.mark.parametrize(
    ("keys", "theta", "kind"),
    [
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": 10000.0},
            500,
            "none",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 700.0}}, 700, "linear"),
        ({"rope_scaling": {"type": "linear", "factor": 4}, "rope_theta": 900.0}, 900, "linear"),
        ({"rope_theta": 300}, 300, "none"),
        ({"rope_scaling": None}, 10000, "none"),
        ({}, 10000, "none"),
        ({"rope_scaling": LLAMA3, "rope_theta": 500.0}, 500, "llama3"),
        ({"rope_parameters": LLAMA3 | {"rope_theta": 500.0}, "rope_theta": 10000.0}, 500, "llama3"),
        (
            {
                "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"},
                "original_max_position_embeddings": 16,
            },
            10000,
            "llama3",
        ),
        (
            {"rope_scaling": {k: v for k, v in LLAMA3.items() if k != "original_max_position_embeddings"}},
            10000,
            "llama3",
        ),
    ],
)
def test_theta_and_scaling_are_taken_from_where_transformers_takes_them(
    plain: Path, tmp_path: Path, keys: dict[str, Any], theta: float, kind: str
) -> None:
    directory = copied(plain, tmp_path / "hf")

    def change(value: dict[str, Any]) -> None:
        for key in ("rope_parameters", "rope_theta", "rope_scaling"):
            value.pop(key, None)
        value.update(keys)

    foreign.edit(directory / "config.json", change)
    spec = same(directory, tmp_path).spec
    assert (spec.rope_theta, spec.rope_scaling.kind) == (theta, kind)


def test_a_wrong_theta_would_show(plain: Path, tmp_path: Path) -> None:
    directory = copied(plain, tmp_path / "hf")
    parameters = {"rope_type": "default", "rope_theta": 500.0}
    foreign.edit(directory / "config.json", lambda v: v.update(rope_parameters=parameters))
    assert np.abs(foreign.theirs(directory) - foreign.theirs(plain)).max() > 100 * TOLERANCE


def test_two_sources_that_differ_are_refused(plain: Path, tmp_path: Path) -> None:
    directory = copied(plain, tmp_path / "hf")
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    foreign.edit(directory / "config.json", lambda v: v.update(rope_scaling=linear))
    with pytest.raises(SevenfoldError, match="rope_scaling and rope_parameters are both"):
        import_model("hf", directory, tmp_path / "in")


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_an_absent_key_has_the_default_of_the_architecture(plain: Path, key: str) -> None:
    import transformers

    value = json.loads((plain / "config.json").read_text())
    value.pop(key, None)
    known = transformers.LlamaConfig().to_dict()
    assert DEFAULTS[key] == known[key] or key in ("num_key_value_heads", "head_dim")
    wanted = transformers.LlamaConfig.from_dict(value)
    if wanted.hidden_size % wanted.num_attention_heads:
        return
    spec = Config(value, plain / "config.json").spec()
    found = (spec.d_model, spec.n_layers, spec.n_heads, spec.n_kv_heads, spec.head_dim, spec.d_ffn)
    assert found == (
        wanted.hidden_size,
        wanted.num_hidden_layers,
        wanted.num_attention_heads,
        wanted.num_key_value_heads,
        wanted.head_dim,
        wanted.intermediate_size,
    )
    assert (spec.norm_eps, spec.tied, spec.context) == (
        wanted.rms_norm_eps,
        wanted.tie_word_embeddings,
        wanted.max_position_embeddings,
    )


def test_a_norm_without_its_eps_answers_as_transformers_does(plain: Path, tmp_path: Path) -> None:
    directory = copied(plain, tmp_path / "hf")
    foreign.edit(directory / "config.json", lambda v: v.pop("rms_norm_eps"))
    assert same(directory, tmp_path).spec.norm_eps == 1e-6


@pytest.mark.parametrize(
    "keys",
    [
        {"attention_bias": True},
        {"mlp_bias": True},
        {"hidden_act": "gelu"},
        {"hidden_act": None},
        {"sliding_window": 16},
        {"is_causal": False},
        {"rope_parameters": {"full_attention": {"rope_theta": 500.0}}},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"partial_rotary_factor": 0.5},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        {
            "rope_scaling": {
                "rope_type": "longrope",
                "factor": 2.0,
                "short_factor": [1.0],
                "long_factor": [1.0],
            }
        },
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 3}},
        {"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2.0}},
        {"quantization_config": {"quant_method": "gptq"}},
        {"logits_scaling": 8.0},
        {"logit_scale": 0.0625},
        {"residual_multiplier": 0.22},
        {"embedding_multiplier": 12.0},
        {"attention_multiplier": 0.01},
        {"final_logit_softcapping": 30.0},
        {"query_pre_attn_scalar": 256},
        {"use_qk_norm": True},
        {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
        {"per_layer_config": {"0": {"num_key_value_heads": 1}}},
        {"num_local_experts": 8},
        {"is_decoder": True},
        {"pruned_heads": {"0": [1]}},
        {"torch_dtype": "int8"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "mistral"},
        {"repetition_penalty": 1.3},
        {"a_key_of_tomorrow": 1},
    ],
)
def test_what_changes_the_answer_and_is_not_run_is_named(
    plain: Path, tmp_path: Path, keys: dict[str, Any]
) -> None:
    directory = copied(plain, tmp_path / "hf")

    def change(value: dict[str, Any]) -> None:
        if "rope_scaling" in keys:
            value.pop("rope_parameters", None)
        value.update(keys)

    foreign.edit(directory / "config.json", change)
    name = next(iter(keys))
    words = {"rope_scaling": "rope", "rope_parameters": "rotation", "model_type": "mistral"}.get(name, name)
    with pytest.raises(SevenfoldError, match=words) as caught:
        import_model("hf", directory, tmp_path / "in")
    assert caught.value.exit_code in (2, 4)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "in").exists()


def test_what_changes_no_answer_is_no_reason(plain: Path, tmp_path: Path) -> None:
    directory = copied(plain, tmp_path / "hf")
    relics = {
        "pretraining_tp": 2,
        "attention_dropout": 0.1,
        "initializer_range": 0.5,
        "use_cache": False,
        "torch_dtype": "bfloat16",
        "_name_or_path": "somewhere/else",
        "sliding_window": None,
        "head_dim": 8,
        "layer_types": ["full_attention", "full_attention"],
        "quantization_config": None,
        "temperature": 0.6,
        "id2label": {"0": "LABEL_0"},
        "pad_token_id": -1,
    }
    foreign.edit(directory / "config.json", lambda v: v.update(relics) or v.pop("dtype", None))
    source = foreign.imported("hf", directory, tmp_path / "in")
    assert np.abs(foreign.theirs(plain) - foreign.ours(source)).max() < TOLERANCE


VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    3,
    1 << 70,
    0.5,
    1e400,
    float("nan"),
    "x",
    "",
    [],
    [1],
    {},
    {"a": 1},
)
KEYS = sorted({*DEFAULTS, *WANTED, *HARMLESS, "architectures", "torch_dtype", "dtype", "layer_types"})
KEYS += [
    "sliding_window",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "original_max_position_embeddings",
]
KEYS += ["sevenfold", "quantization_config", "a_key_of_tomorrow"]
INNER = ("rope_type", "type", "factor", "rope_theta", *LLAMA3)


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_any_type_is_read_or_is_one_line(plain: Path, key: str) -> None:
    """Every key with every type: read with a finite, positive shape, or refused in
    one line; never a traceback.
    """
    known = json.loads((plain / "config.json").read_text())
    for value in VALUES:
        check(known | {key: value}, plain)


@pytest.mark.parametrize("key", INNER)
def test_a_value_of_any_type_inside_a_scaling_is_read_or_is_one_line(plain: Path, key: str) -> None:
    known = json.loads((plain / "config.json").read_text())
    for value in VALUES:
        check(known | {"rope_parameters": LLAMA3 | {"rope_theta": 1e4, key: value}}, plain)


def check(value: dict[str, Any], directory: Path) -> None:
    try:
        spec = Config(value, directory / "config.json").spec()
    except SevenfoldError as error:
        assert "\n" not in str(error)  # noqa: PT017 (what is right may pass, too)
        assert error.exit_code in (2, 4)  # noqa: PT017
    else:
        assert spec.rope_theta > 1
        assert spec.d_model == 32


@pytest.mark.parametrize(
    "name", ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json"]
)
@pytest.mark.parametrize(
    "key", ["bos_token_id", "eos_token_id", "pad_token_id", "eos_token", "bos_token", ""]
)
def test_a_value_of_any_type_in_the_files_beside_it_is_one_line(
    plain: Path, tmp_path: Path, name: str, key: str
) -> None:
    for i, value in enumerate(VALUES):
        directory = copied(plain, tmp_path / f"hf{i}")
        (directory / name).write_text(json.dumps({key: value} if key else value))
        try:
            import_model("hf", directory, tmp_path / f"in{i}")
        except SevenfoldError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert error.exit_code in (2, 4)  # noqa: PT017
