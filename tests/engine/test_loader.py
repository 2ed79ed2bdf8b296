"""What the engine loads: every record and graph entry that is missing or out
of range is refused, by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_models import Tiny, random_state, spec, tiny

from sevenfold.core.errors import ArtifactError, RecipeError
from sevenfold.engine.weights import LIMITS, STACK_LIMITS
from sevenfold.quantize.convert import IntTensor, convert

Edit = Callable[[dict[str, IntTensor], dict[str, Any]], None]
Q_PROJ = "layers.00.attn.q_proj.weight"


def refused(model: Tiny, edit: Edit) -> str:
    with pytest.raises(ArtifactError) as caught:
        model.changed(edit).load()
    text = str(caught.value)
    assert text.startswith("model.s7l: ")
    assert "\n" not in text
    return text


def test_every_record_is_needed_or_not_read() -> None:
    model = tiny("moe")
    for name in model.records:
        assert f"record {name!r} is missing" in refused(model, lambda records, graph, n=name: records.pop(n))


def test_every_record_has_its_shape() -> None:
    model = tiny("moe")
    for name, record in model.records.items():
        wrong = IntTensor(name=name, dims=(1, *record.dims), scale=1.0, data=record.data)
        text = refused(model, lambda records, graph, r=wrong: records.__setitem__(r.name, r))
        assert f"record {name!r} has shape" in text


def test_transposed_weights_are_refused() -> None:
    def transpose(records, graph):
        record = records["layers.00.ffn.up_proj.weight"]
        records[record.name] = IntTensor(
            name=record.name, dims=record.dims[::-1], scale=1.0, data=record.data.T.copy()
        )

    assert "has shape [24, 10], the graph needs [10, 24]" in refused(tiny("dense"), transpose)


def test_the_code_minus_128_is_refused() -> None:
    model = tiny("moe")
    codes = [name for name in model.records if name.endswith(".weight")]
    assert len(codes) == 2 + 2 * (4 + 6)
    for name in codes:

        def ban(records, graph, name=name):
            records[name].data[-1, -1] = -128

        assert f"record {name!r} holds the code -128" in refused(model, ban)


@pytest.mark.parametrize("expert", [-1, 2, 127])
def test_a_router_past_the_experts_is_refused(expert: int) -> None:
    def misroute(records, graph):
        records["router.experts"].data[36, 0] = expert

    assert "names an expert outside 0 .. 1" in refused(tiny("moe"), misroute)


def test_stacks_are_loaded_whole_or_refused() -> None:
    model = tiny("stacks")
    assert [len(stack) for stack in model.load().stacks] == [2, 2, 2]
    for name in ("experts.2.layers.01.ffn.up_proj.weight", "experts.0.layers.00.attn_norm.weight.gain"):
        assert f"record {name!r} is missing" in refused(model, lambda records, graph, n=name: records.pop(n))
    for key, most in STACK_LIMITS.items():
        for value in (0, most + 1, None, 2.0):

            def put(records, graph, key=key, value=value):
                graph["model"][key] = value

            assert f"the graph's model.{key} is {value!r}" in refused(model, put)
        assert f"model.{key} is None" in refused(model, lambda records, graph, k=key: graph["model"].pop(k))
    one = refused(model, lambda records, graph: graph["model"].update(n_experts=1))
    assert "an expert stack, but one expert" in one


def test_a_file_with_stacks_is_no_token_routed_file() -> None:
    # An engine that knows no stacks ignores their keys; it must miss a record
    # then, not run the trunk alone.
    def forget(records, graph):
        for key in STACK_LIMITS:
            del graph["model"][key]

    assert "record 'layers.00.ffn.experts.0.gate_proj.weight' is missing" in refused(tiny("stacks"), forget)


def test_what_the_law_does_not_define_is_not_converted() -> None:
    stacks = spec("stacks")
    with pytest.raises(RecipeError, match="go together"):
        convert(random_state(stacks), stacks, 8.0)


def test_a_row_shift_below_16_is_refused() -> None:
    def shorten(records, graph):
        records[f"{Q_PROJ}.rows"].data[4] = [127, 0, 0, 15]

    assert f"'{Q_PROJ}.rows' has a shift of 15, below 16" in refused(tiny(), shorten)


@pytest.mark.parametrize("value", [None, 1.0, 7.5, "7", True, [7], 2**40, -1025, 1025])
def test_an_exponent_is_a_small_integer(value: Any) -> None:
    model = tiny()
    for name in model.graph["exponents"]:

        def put(records, graph, name=name):
            graph["exponents"][name] = value

        assert f"exponents.{name} is {value!r}, not an integer" in refused(model, put)


@pytest.mark.parametrize("name", ["lm_head.weight", Q_PROJ, "final_norm.weight"])
def test_a_missing_exponent_is_named(name: str) -> None:
    text = refused(tiny(), lambda records, graph: graph["exponents"].pop(name))
    assert f"exponents.{name} is None" in text


@pytest.mark.parametrize("name", LIMITS)
def test_the_shape_has_limits(name: str) -> None:
    for value in (0, -1, LIMITS[name] + 1, None, 2.0, "2", True):

        def put(records, graph, value=value):
            graph["model"][name] = value

        assert f"the graph's model.{name} is {value!r}" in refused(tiny(), put)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("score_scale", "m"), 32767),
        (("score_scale", "m"), 65536),
        (("score_scale", "e"), 2000),
        (("norm_eps",), -1),
        (("norm_eps",), 2**48 + 1),
        (("residual_exponent",), 0.5),
        (("residual_exponent",), 5000),
        (("score_scale",), 7),
        (("model",), []),
        (("exponents",), None),
    ],
)
def test_other_entries_have_limits(path: tuple[str, ...], value: Any) -> None:
    def put(records, graph):
        if len(path) == 2:
            graph[path[0]][path[1]] = value
        else:
            graph[path[0]] = value

    assert f"the graph's {path[0]}" in refused(tiny(), put)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3, "n_kv_heads": 2}, "do not divide evenly"),
        ({"head_dim": 5}, "do not divide evenly"),
        ({"n_heads": 1024, "head_dim": 1024}, "1048576 wide, past 133144"),
    ],
)
def test_heads_that_do_not_fit(changes: dict[str, int], message: str) -> None:
    assert message in refused(tiny(), lambda records, graph: graph["model"].update(changes))


@pytest.mark.parametrize("law", [None, {"version": 2}, {"version": 1, "tables": "00"}, 1])
def test_another_arithmetic_is_refused(law: Any) -> None:
    text = refused(tiny(), lambda records, graph: graph.__setitem__("arithmetic", law))
    assert "this engine computes versions 1 and 2" in text


def test_an_embedding_of_any_size_keeps_its_shift() -> None:
    # A row multiplier of 2^16 or more has no shift that u16 holds; the residual's
    # exponent gives way instead.
    for factor in (1e2, 1e4, 1e6, 1e30):

        def grow(state, factor=factor):
            state["embedding.weight"] *= np.float32(factor)

        model = tiny("dense", grow, largest=1.0)
        rows = model.records["embedding.weight.rows"].data.view(">u2")
        assert rows[:, 1].max() <= 62
        assert (rows[:, 0] >= 2**15).all()
        real = model.records["embedding.weight"].data.astype(np.float64) * (
            rows[:, :1] * 2.0 ** (-rows[:, 1:].astype(np.float64) - model.graph["residual_exponent"])
        )
        assert 0.3 * factor < np.abs(real).max() < 2 * factor
