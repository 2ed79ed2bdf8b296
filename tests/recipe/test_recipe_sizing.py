"""Counts and FLOPs against closed forms written by hand here, and the memory of
attention against brute force.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import ExpertStacks, HybridAttentionSpec, ModelSpec, TokenRouted
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.recipe.sizing import (
    active_parameters,
    components,
    count,
    expert_of,
    expert_parameters,
    flops_parts,
    forward_flops,
    kv_bytes_per_token,
    kv_entries,
    mean_attended,
    part_of,
    tensors,
    trunk_parameters,
)


def model(**changes) -> ModelSpec:
    shape = {
        "d_model": 8,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 6,
        "d_ffn": 10,
        "vocab_size": 300,
    }
    return ModelSpec(**{**shape, "context": 16, **changes})


def hybrid(chunk: int, stride: int) -> HybridAttentionSpec:
    return HybridAttentionSpec(
        scheme="hybrid",
        local_chunk=chunk,
        global_stride=stride,
        global_tokens="learned_summaries",
        streaming_links="ring",
        rope_scaling="yarn",
        gqa=2,
        kv_quant_bits=4,
    )


ROUTED = TokenRouted(kind="token_routed", experts=("code", "general"))
STACKS = ExpertStacks(kind="expert_stacks", experts=("a", "b", "c"), n_layers=3, d_ffn=7)


def test_tensor_names_and_shapes_of_a_dense_model():
    assert tensors(model(n_layers=1)) == {
        "embedding.weight": (300, 8),
        "layers.00.attn_norm.weight": (8,),
        "layers.00.attn.q_proj.weight": (24, 8),
        "layers.00.attn.k_proj.weight": (12, 8),
        "layers.00.attn.v_proj.weight": (12, 8),
        "layers.00.attn.o_proj.weight": (8, 24),
        "layers.00.ffn_norm.weight": (8,),
        "layers.00.ffn.gate_proj.weight": (10, 8),
        "layers.00.ffn.up_proj.weight": (10, 8),
        "layers.00.ffn.down_proj.weight": (8, 10),
        "final_norm.weight": (8,),
    }
    assert tensors(model(tied=False))["lm_head.weight"] == (300, 8)


def test_tensor_names_of_experts():
    routed = tensors(model(moe=ROUTED))
    assert routed["layers.01.ffn.experts.1.down_proj.weight"] == (8, 10)
    assert "layers.01.ffn.down_proj.weight" not in routed
    stacks = tensors(model(moe=STACKS))
    assert stacks["experts.2.layers.02.ffn.up_proj.weight"] == (7, 8)
    assert stacks["experts.2.layers.02.attn.k_proj.weight"] == (12, 8)
    assert stacks["layers.01.ffn.up_proj.weight"] == (10, 8)
    assert (expert_of("experts.2.layers.00.attn_norm.weight"), expert_of("layers.00.attn_norm.weight")) == (
        2,
        None,
    )
    assert part_of("experts.2.layers.00.attn_norm.weight") == "norm"


@given(
    d=st.integers(1, 64),
    layers=st.integers(1, 12),
    kv=st.integers(1, 4),
    group=st.integers(1, 4),
    half=st.integers(1, 32),
    ffn=st.integers(1, 200),
    vocab=st.integers(257, 5000),
    tied=st.booleans(),
    moe=st.sampled_from([None, ROUTED, STACKS]),
)
def test_count_is_the_closed_form(d, layers, kv, group, half, ffn, vocab, tied, moe):
    head_dim = 2 * half
    spec = ModelSpec(
        d_model=d,
        n_layers=layers,
        n_heads=kv * group,
        n_kv_heads=kv,
        head_dim=head_dim,
        d_ffn=ffn,
        vocab_size=vocab,
        context=8,
        tied=tied,
        moe=moe,
    )
    attention = 2 * d * kv * group * head_dim + 2 * d * kv * head_dim + 2 * d
    expert = {"token_routed": layers * 3 * d * ffn, "expert_stacks": 3 * (attention + 21 * d)}.get(
        moe.kind if moe else "", 0
    )
    own = layers * (attention + (0 if moe is ROUTED else 3 * d * ffn))
    trunk = vocab * d * (1 if tied else 2) + own + d
    assert trunk_parameters(spec) == trunk
    assert expert_parameters(spec) == expert
    assert active_parameters(spec) == trunk + expert
    assert count(spec) == trunk + expert * (len(moe.experts) if moe else 0)
    assert sum(part.parameters for part in components(spec)) == count(spec)


def test_demo_by_hand():
    demo = load_recipe(recipe_paths()["s7/demo-1m"]).model
    assert count(demo) == 4096 * 128 + 4 * (4 * 128 * 128 + 3 * 128 * 192 + 2 * 128) + 128
    matrices = 4096 * 128 + 4 * (4 * 128 * 128 + 3 * 128 * 192)
    assert forward_flops(demo, 512) == 2 * matrices + 4 * 4 * 128 * 256.5
    assert kv_bytes_per_token(demo) == 2 * 4 * 2 * 64


def test_components_of_experts_are_named():
    parts = {part.name: part for part in components(model(moe=STACKS))}
    assert list(parts) == ["embedding", "norm", "attention", "ffn", "expert a", "expert b", "expert c"]
    assert parts["expert a"].active is False
    assert parts["ffn"].active is True
    assert (parts["ffn"].fp32_bytes, parts["ffn"].int8_bytes) == (4 * 480, 480)


def test_flops_of_experts():
    dense, routed, stacks = (flops_parts(model(moe=moe), 1) for moe in (None, ROUTED, STACKS))
    assert dense["expert"] == 0
    assert routed["trunk"] + routed["expert"] == dense["trunk"]
    assert routed["expert"] == 2 * 2 * 3 * 8 * 10
    assert stacks["trunk"] == dense["trunk"]
    per_layer = 2 * (2 * 8 * 24 + 2 * 8 * 12 + 3 * 8 * 7) + 4 * 24
    assert stacks["expert"] == 3 * per_layer
    assert dense["head"] == 2 * 300 * 8


@given(sequence=st.integers(1, 300))
def test_causal_attention_sees_half(sequence):
    assert mean_attended(model(), sequence) == sum(range(1, sequence + 1)) / sequence


@given(
    sequence=st.integers(1, 400),
    strides=st.integers(1, 12),
    stride=st.integers(1, 20),
    context=st.integers(1, 500),
)
def test_hybrid_attention_sees_its_window_and_summaries(sequence, strides, stride, context):
    # The rule of specs/attention.md, counted token by token.
    window = strides * stride
    spec = model(attention=hybrid(window, stride), context=context)
    ring = math.ceil(context / stride)
    seen = 0
    for t in range(sequence):
        seen += len([j for j in range(t + 1) if t - j < window])
        seen += min(ring, len([c for c in range(t + 1) if (c + 1) * stride - 1 <= t]))
    assert mean_attended(spec, sequence) == seen / sequence


def test_a_hybrid_cache_stops_growing():
    spec = model(attention=hybrid(8, 2), context=32)
    assert [kv_entries(spec, n) for n in (0, 1, 2, 8, 9, 40, 41, 1000)] == [0, 1, 3, 12, 12, 24, 24, 24]
    assert [kv_entries(model(), n) for n in (1, 1000)] == [1, 1000]


def test_key_value_cache():
    assert kv_bytes_per_token(model()) == 2 * 2 * 2 * 6
    assert kv_bytes_per_token(model(moe=STACKS)) == 2 * (2 + 3) * 2 * 6
    assert kv_bytes_per_token(model(attention=hybrid(4, 2))) == 2 * 2 * 2 * 6 // 2
    assert kv_bytes_per_token(model(), bits=16) == 2 * kv_bytes_per_token(model())


@pytest.mark.parametrize("name", list(recipe_paths()))
def test_matrices_fill_32_byte_records(name):
    """B7: no tensor of a recipe that ships leaves a tail, so padded and exact
    records have the same data bytes.
    """
    for shape in tensors(load_recipe(recipe_paths()[name]).model).values():
        assert math.prod(shape) % 32 == 0
