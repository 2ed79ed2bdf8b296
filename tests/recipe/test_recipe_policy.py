"""Every rule of every family: a recipe that breaks exactly that rule is
refused by that rule's id and text.
"""

import copy
import json

import pytest

from sevenfold.core.errors import PolicyError
from sevenfold.recipe import load_recipe
from sevenfold.recipe.policy import RULES, check_policies, violations
from sevenfold.recipe.schema import Recipe
from sevenfold.recipe.shipped import recipe_paths

MOE = {"kind": "token_routed", "experts": ["code", "general"]}
STACKS = {"kind": "expert_stacks", "experts": ["code", "math"], "n_layers": 1, "d_ffn": 64}
STACK_DATA = {
    "corpus.sources": [
        {"kind": "directory", "path": domain, "licence": "MIT", "domain": domain}
        for domain in ("code", "math")
    ],
    "corpus.mix": {"code": 0.5, "math": 0.5},
    "tokenizer.special_tokens": ["<|endoftext|>", "<|code|>", "<|math|>"],
}
HYBRID = {
    "scheme": "hybrid",
    "local_chunk": 256,
    "global_stride": 64,
    "global_tokens": "learned_summaries",
    "streaming_links": "ring",
    "rope_scaling": "none",
    "gqa": 1,
    "kv_quant_bits": 8,
}
PHASE = {"name": "one", "tokens": 4096, "batch_sequences": 8, "sequence": 512}
RETRIEVAL = {"name": "retrieval", "k": 4, "chunk_tokens": [6, 12], "multihop": 1}
WEB = {"name": "web", "allow_domains": ["docs"], "rate_limit_qpm": 6, "post_fetch_verifier": True}

# Rule id -> recipes that break it and no other rule: (a recipe that ships, key path ->
# value). [] appends to a list.
BROKEN: dict[str, list[tuple[str, dict]]] = {
    "G.heads": [("s7/demo-1m", {"model.n_heads": 3})],
    "G.vocabulary": [("s7/demo-1m", {"tokenizer.vocab_size": 4097})],
    "G.special-tokens": [
        ("s7/demo-1m", {"tokenizer.special_tokens": ["<a>", "<a>"]}),
        ("s7/demo-1m", {"tokenizer.special_tokens": [""]}),
        ("s7/demo-1m", {"tokenizer.special_tokens": [f"<{index}>" for index in range(3841)]}),
    ],
    "G.sequence": [("s7/demo-1m", {"train.sequence": 513})],
    "G.batch": [("s7/demo-1m", {"train.micro_batch_sequences": 3}), ("s7/demo-1m", {"train.tokens": 4095})],
    "G.licences": [
        ("llama/1.5b", {"corpus.licences": ["MIT or Apache"]}),
        ("llama/1.5b", {"corpus.licences": ["(MIT"]}),
        (
            "llama/tiny-30m",
            {
                "corpus.mix": {},
                "corpus.sources": [{"kind": "directory", "path": ".", "licence": "see LICENSE"}],
            },
        ),
    ],
    "G.source-licence": [("s7/demo-1m", {"corpus.sources": [{"kind": "jsonl", "path": "a.jsonl"}]})],
    "G.mix": [
        ("s7/demo-1m", {"corpus.mix": {"code": 0.9}}),
        ("s7/demo-1m", {"corpus.mix": {"prose": 1.0}}),
        ("s7/demo-1m", {"tokenizer.training_mix": {"code": 0.5}}),
    ],
    "G.sizes": [("s7/demo-1m", {"corpus.min_bytes": 9, "corpus.max_bytes": 8})],
    "G.experts": [("s7/demo-1m", {"model.moe": {**MOE, "experts": ["code", "code"]}})],
    "G.stacks": [
        (
            "s7/moe-140m",
            {"tokenizer.special_tokens": ["<|endoftext|>", "<|code|>", "<|math|>", "<|general|>"]},
        ),
        ("s7/demo-1m", {"model.moe": STACKS, "tier": ""}),
    ],
    "G.objectives": [
        ("m31r/60m", {"tokenizer.special_tokens": ["<|endoftext|>", "<|reason|>", "<|answer|>"]}),
        ("s7/demo-1m", {"train.objectives": {"fim": 0.0, "cot": 0.2, "comment": "#"}}),
    ],
    "G.phases": [
        ("s7/demo-1m", {"train.phases": [PHASE]}),
        ("s7/demo-1m", {"train.phases": [{**PHASE, "tokens": 4100000, "tokens_per_expert": {"code": 1}}]}),
        ("s7/demo-1m", {"train.phases": [{**PHASE, "tokens": 4100000, "trains": "trunk"}]}),
        ("s7/moe-140m", {"train.phases.0.tokens_per_expert": {"code": 1}}),
        ("s7/moe-140m", {"train.phases.1.tokens_per_expert": {}}),
        ("s7/moe-140m", {"train.phases.1.tokens_per_expert.code": 1}),
    ],
    "G.trunk": [
        ("s7/demo-1m", {"train.from": {"name": "oak", "step": 1000, "root": "0" * 64}}),
        (
            "s7/demo-1m",
            {
                "train.from": {"name": "oak", "step": 9, "root": "0" * 64},
                "model.pretrained": "sha256:" + "0" * 64,
            },
        ),
    ],
    "G.tune": [
        ("s7/tune-demo", {"train.packing": "stream"}),
        ("s7/tune-demo", {"train.from": None}),
        ("s7/tune-demo", {"tune.domains": []}),
        ("s7/tune-demo", {"tune.domains": ["poems"]}),
        ("s7/tune-demo", {"tune.pretraining": 0.0}),
    ],
    "G.hybrid": [
        ("slm/2b", {"model.n_kv_heads": 3, "tier": ""}),
        ("slm/2b", {"model.rope_scaling.kind": "ntk"}),
        ("slm/2b", {"model.attention.global_stride": 3000}),
    ],
    "G.rope-scaling": [("s7/demo-1m", {"model.rope_scaling": {"kind": "none", "factor": 2.0}})],
    "G.curriculum": [("slm/2b", {"context.target_stage2": 1000})],
    "G.tools": [
        ("s7/demo-1m", {"tools": [RETRIEVAL, RETRIEVAL]}),
        ("s7/demo-1m", {"tools": [{**RETRIEVAL, "chunk_tokens": [12, 6]}]}),
    ],
    "G.spine": [
        ("s7/demo-1m", {"model.architecture": "recurrent"}),
        ("slm/2b", {"model.architecture": "encoder_decoder"}),
        ("llama/1.5b", {"model.retrieval": True}),
        ("s7/demo-1m", {"train.rl_alignment": True}),
        ("s7/demo-1m", {"train.external_services": ["teacher"]}),
    ],
    "A1.tier": [("s7/demo-1m", {"tier": "2M"})],
    "A1.rope": [("s7/demo-1m", {"model.position": "learned"})],
    "A1.causal": [("s7/demo-1m", {"model.attention": HYBRID})],
    "A1.dropout": [("s7/demo-1m", {"model.dropout": 0.1})],
    "A1.tied": [("s7/demo-1m", {"model.tied": False})],
    "A1.budget": [
        ("s7/demo-1m", {"model.n_layers": 12}),
        ("s7/general-8m", {"model.d_ffn": 256}),
        ("s7/general-8m", {"model.d_ffn": 640}),
    ],
    "A1.shape": [("s7/general-8m", {"model.n_heads": 4, "model.n_kv_heads": 4})],
    "A2.mix": [("s7/code-8m", {"corpus.mix.code": 0.25, "corpus.mix.prose": 0.30})],
    "A2.reserved": [
        (
            "s7/math-8m",
            {"tokenizer.special_tokens": ["<REASON>", "<FINAL>"], "train.objectives.fim": 0.0},
        )
    ],
    "A3.experts": [("s7/demo-1m", {"model.moe": {**MOE, "experts": ["code", "general", "math"]}})],
    "A3.markers": [("s7/demo-1m", {"model.moe": {**MOE, "code_markers": ["class"]}})],
    "A3.split": [("s7/moe-8m", {"model.d_ffn": 192, "model.n_layers": 8})],
    "A4.order": [("s7/demo-1m", {"train.shuffle": True})],
    "A4.noise": [("s7/demo-1m", {"train.gradient_noise": 0.1})],
    "A4.optimizer": [("s7/code-300m", {"train.optimizer": "adamw"})],
    "A4.precision": [
        ("s7/demo-1m", {"train.precision": "bf16"}),
        ("s7/code-300m", {"train.precision": "bf16"}),
    ],
    "A5.licences": [("s7/demo-1m", {"corpus.licences": ["GPL-3.0-only"]})],
    "A7.dictionary": [("s7/demo-1m", {"model.vocab_size": 4352, "tokenizer.vocab_size": 4352})],
    "B1.stacks": [],  # see test_tier_140m_needs_stacks: without stacks the phases and the budget break too
    "B1.tier": [("s7/demo-1m", {"model.moe": STACKS, **STACK_DATA})],
    "B1.experts": [("s7/moe-140m", {"model.moe.n_layers": 7, "model.moe.d_ffn": 1682})],
    "B1.budget": [("s7/moe-140m", {"model.moe.d_ffn": 1536})],
    "B1.phases": [("s7/moe-140m", {"train.phases": [], "train.warmup_ratio": 0.01924055})],
    "B1.mix": [("s7/moe-140m", {"corpus.mix.code": 0.25, "corpus.mix.general": 0.30})],
    "B2.precision": [("s7/moe-140m", {"train.precision": "fp32"})],
    "B2.warmup": [("s7/moe-140m", {"train.warmup_ratio": 0.02})],
    "B7.packing": [("s7/moe-140m", {"seal.packing": "exact"})],
    "D1.tied": [("m31r/60m", {"model.tied": False, "model.d_ffn": 1152})],
    "D1.causal": [("m31r/60m", {"model.attention": HYBRID})],
    "D1.heads": [("m31r/200m", {"model.head_dim": 128, "model.n_heads": 8, "model.n_kv_heads": 8})],
    "D1.context": [("m31r/200m", {"model.context": 1024, "train.sequence": 1024})],
    "D1.vocabulary": [
        ("m31r/450m", {"model.vocab_size": 32768, "tokenizer.vocab_size": 32768}),
        ("m31r/450m", {"model.vocab_size": 15999, "tokenizer.vocab_size": 15999}),
    ],
    "D1.budget": [("m31r/60m", {"model.n_layers": 18}), ("m31r/450m", {"model.n_layers": 20})],
    "D2.encoder-decoder": [("m31r/200m", {"model.architecture": "encoder_decoder"})],
    "D2.moe": [("m31r/60m", {"tier": "", "model.moe": MOE})],
    "D2.retrieval": [("m31r/200m", {"model.retrieval": True}), ("m31r/200m", {"tools": [RETRIEVAL]})],
    "D2.recurrence": [("m31r/200m", {"model.architecture": "recurrent"})],
    "D2.learned-positions": [("m31r/200m", {"model.position": "learned"})],
    "D2.rl-alignment": [("m31r/200m", {"train.rl_alignment": True})],
    "D2.pretrained": [("m31r/200m", {"model.pretrained": "other/model"})],
    "D2.services": [("m31r/200m", {"train.external_services": ["api"]}), ("m31r/200m", {"tools": [WEB]})],
    "D2.size": [("m31r/450m", {"tier": "", "model.n_layers": 28})],
    "D3.objectives": [
        ("m31r/200m", {"train.objectives.fim": 0.0}),
        ("m31r/200m", {"train.objectives.cot": 0.0}),
    ],
    "D4.symbols": [("m31r/200m", {"tokenizer.preserve": ["::"]})],
    "D5.dropout": [("m31r/200m", {"model.dropout": 0.2})],
    "D5.precision": [("m31r/200m", {"train.precision": "fp32"}), ("m31r/200m", {"train.precision": "fp8"})],
    "D5.order": [("m31r/200m", {"train.shuffle": True})],
    "D5.noise": [("m31r/200m", {"train.gradient_noise": 0.01})],
    "E1.dense": [("llama/tiny-30m", {"model.moe": MOE})],
    "E1.rope": [("llama/1.5b", {"model.position": "learned"})],
    "E1.rope-base": [("llama/1.5b", {"model.rope_theta": 500000.0})],
    "E1.causal": [("llama/tiny-30m", {"model.attention": {**HYBRID, "gqa": 3}})],
    "E1.vocabulary": [("llama/tiny-30m", {"model.vocab_size": 16384, "tokenizer.vocab_size": 16384})],
    "E1.context": [("llama/1.5b", {"model.context": 8192})],
    "E1.contract": [("llama/1.5b", {"model.head_dim": 64, "model.n_heads": 32, "model.n_kv_heads": 16})],
    "E1.budget": [("llama/1.5b", {"model.d_ffn": 7936})],
    "E2.tokenizer": [("llama/1.5b", {"tokenizer.algo": "bpe"})],
    "E3.optimizer": [
        ("llama/1.5b", {"train.optimizer": "adam"}),
        ("llama/1.5b", {"train.betas": [0.9, 0.99]}),
    ],
    "E3.warmup": [
        ("llama/1.5b", {"train.warmup_ratio": 0.03}),
        ("llama/1.5b", {"train.warmup_ratio": 0.005}),
    ],
    "E3.clip": [("llama/1.5b", {"train.clip_norm": 0.5})],
    "E3.precision": [("llama/1.5b", {"train.precision": "fp32"})],
    "E3.checkpointing": [("llama/1.5b", {"train.activation_checkpointing": False})],
    "E3.order": [("llama/1.5b", {"train.shuffle": True})],
    "E7.milestone": [
        ("llama/tiny-30m", {"model.n_layers": 24}),
        ("llama/medium-150m", {"model.n_layers": 8}),
    ],
    "C2.tokenizer": [("slm/2b", {"tokenizer.algo": "bpe"}), ("slm/2b", {"tokenizer.byte_fallback": False})],
    "C2.specials": [("slm/2b", {"tokenizer.special_tokens": ["<nl>"]})],
    "C3.mix": [("slm/2b", {"corpus.mix.code": 0.30, "corpus.mix.text": 0.40})],
    "C3.licences": [("slm/2b", {"corpus.licences": ["MIT", "AGPL-3.0-only"]})],
    "C5.dense": [("slm/2b", {"tier": "", "model.moe": MOE})],
    "C5.rope": [("slm/2b", {"model.position": "learned"})],
    "C5.hybrid": [("slm/2b", {"model.attention": "causal"})],
    "C5.heads": [("slm/2b", {"model.n_heads": 12, "model.n_kv_heads": 2, "model.head_dim": 192})],
    "C5.curriculum": [("slm/2b", {"context": None}), ("slm/2b", {"train.sequence": 64000})],
    "C5.optimizer": [("slm/2b", {"train.optimizer": "adam"})],
    "C5.weight-decay": [("slm/2b", {"train.weight_decay": 0.01})],
    "C5.warmup": [("slm/2b", {"train.warmup_ratio": 0.01})],
    "C5.precision": [("slm/2b", {"train.precision": "bf16"})],
    "C5.checkpointing": [("slm/2b", {"train.activation_checkpointing": False})],
    "C5.sharding": [("slm/2b", {"hardware.sharding": "none"})],
    "C5.budget": [("slm/2b", {"model.n_layers": 31})],
    "C5.proxy": [("slm/proxy-10m", {"model.n_layers": 9})],
    "C13.draft": [("slm/draft-300m", {"model.n_layers": 34})],
}


def changed(name: str, changes: dict) -> Recipe:
    """A recipe that ships, with values replaced at key paths."""
    value = copy.deepcopy(load_recipe(recipe_paths()[name]).resolved())
    for path, item in changes.items():
        *parents, last = path.split(".")
        at = value
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[last] = item
    return Recipe.model_validate_json(json.dumps(value))


def test_every_rule_has_a_recipe_that_breaks_it():
    assert list(BROKEN) == [rule.id for rule in RULES]
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("rule", "name", "changes"),
    [(rule, *case) for rule, cases in BROKEN.items() for case in cases],
    ids=[f"{rule}-{index}" for rule, cases in BROKEN.items() for index in range(len(cases))],
)
def test_rule_is_broken_alone_and_named(rule, name, changes):
    recipe = changed(name, changes)
    assert [violation.rule.id for violation in violations(recipe)] == [rule]
    text = next(known.text for known in RULES if known.id == rule)
    with pytest.raises(PolicyError) as caught:
        check_policies(recipe, lambda key: f"file:{key}")
    assert caught.value.rule == rule
    assert caught.value.exit_code == 2
    assert caught.value.what.startswith(f"rule {rule}: {text}; ")
    assert caught.value.where.startswith("file:")
    assert "also broken" not in str(caught.value)


def test_tier_140m_needs_stacks():
    recipe = changed("s7/moe-140m", {"model.moe": None, "train.phases": []})
    broken = [violation.rule.id for violation in violations(recipe)]
    assert broken[0] == "B1.stacks"
    with pytest.raises(PolicyError, match=r"rule B1\.stacks: .*also broken: B1\.budget"):
        check_policies(recipe)


def test_a_rule_binds_its_own_family_only():
    moe = changed("s7/moe-8m", {})
    assert moe.model.moe is not None
    assert violations(moe) == []
    refused = changed("s7/moe-8m", {"family": "m31r"})
    assert "D2.moe" in [violation.rule.id for violation in violations(refused)]


def test_every_key_of_a_rule_is_a_key_of_a_recipe():
    values = [load_recipe(path).resolved() for path in recipe_paths().values()]
    for rule in RULES:
        for value in values:
            at = value
            for key in rule.key.split("."):
                at = at.get(key, {}) if isinstance(at, dict) else {}
            if at != {}:
                break
        else:
            pytest.fail(f"{rule.id}: no recipe has {rule.key}")


def test_m31r_moe_recipe_is_refused_at_its_line(write):
    base = recipe_paths()["m31r/60m"].parent / "_family.yaml"
    text = base.read_text() + "name: x\nsummary: y\n"
    text = text.replace("model:\n", "model:\n  moe: {kind: token_routed, experts: [a, b]}\n", 1)
    text = text.replace(
        "  context: 2048\n", "  context: 2048\n  d_model: 64\n  n_layers: 1\n  n_heads: 1\n", 1
    )
    text = text.replace(
        "  n_heads: 1\n",
        "  n_heads: 1\n  n_kv_heads: 1\n  head_dim: 64\n  d_ffn: 64\n  vocab_size: 16384\n",
        1,
    )
    text = text.replace("tokenizer:\n", "tokenizer:\n  vocab_size: 16384\n", 1)
    text = text.replace(
        "train:\n", "train:\n  tokens: 1M tokens\n  batch_sequences: 1\n  learning_rate: 0.1\n", 1
    )
    path = write(text)
    line = text[: text.index("  moe:")].count("\n") + 1
    with pytest.raises(
        PolicyError, match=r"rule D2\.moe: no mixture of experts; model\.moe is token_routed"
    ) as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}:{line}"
