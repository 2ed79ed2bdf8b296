"""The sizing calculator: figures by hand for small cases, laws for all recipes,
and the document's own table.
"""

import json
import math
from dataclasses import replace

import pytest

from sevenfold.plan.calculator import Cpu, measure_cpu, plan, training_rate
from sevenfold.plan.cost import layer_activations, memory, phase_cost, phases_of
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import Phase, Recipe
from sevenfold.recipe.shipped import recipe_paths

CPU = Cpu(matmul_flops=1e11, bytes_per_second=1e10)


def recipe_named(name: str, **changes: dict) -> Recipe:
    value = load_recipe(recipe_paths()[name]).resolved()
    for section, items in changes.items():
        value[section] |= items
    return Recipe.model_validate_json(json.dumps(value))


def numbers(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.parametrize("name", list(recipe_paths()))
def test_plan_is_json_with_finite_numbers_and_consistent_sums(name):
    found = plan(load_recipe(recipe_paths()[name]), CPU)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(math.isfinite(number) and number >= 0 for number in numbers(found))
    assert sum(part["parameters"] for part in found["components"].values()) == found["parameters"]["total"]
    assert math.isclose(sum(part["share"] for part in found["components"].values()), 1.0)
    training = found["training"]
    assert math.isclose(training["gpu_hours"], sum(phase["gpu_hours"] for phase in found["phases"]))
    assert math.isclose(training["cost"], training["gpu_hours"] * training["price_per_gpu_hour"])
    assert sum(phase["tokens"] for phase in found["phases"]) == training["tokens"]
    for phase in found["phases"]:
        parts = phase["memory"]
        kept = "activations_checkpointed" if parts["checkpointing"] else "activations"
        assert parts["total"] == parts["weights"] + parts["gradients"] + parts["optimizer"] + parts[kept]
        assert parts["activations_checkpointed"] <= parts["activations"]
        assert phase["fits"] is True
        assert phase["needed_gpus"] <= phase["n_gpus"]
        assert math.isclose(phase["gpu_hours"], sum(pool["gpu_hours"] for pool in phase["pools"]))
    assert (len(found["document"]) > 0) == (name == "s7/moe-140m")


def test_plan_repeats_itself():
    recipe = load_recipe(recipe_paths()["s7/moe-140m"])
    assert json.dumps(plan(recipe, CPU)) == json.dumps(plan(recipe, CPU))


def test_time_and_cost_by_hand():
    recipe = recipe_named(
        "s7/demo-1m", hardware={"peak_flops": 1e12, "mfu": 0.5, "n_gpus": 4, "price_per_gpu_hour": 3.0}
    )
    found = plan(recipe, CPU)
    flops = 3 * (2 * (4096 * 128 + 4 * (4 * 128 * 128 + 3 * 128 * 192)) + 16 * 128 * 256.5) * 4_100_000
    assert math.isclose(found["flops"]["total"], flops)
    assert math.isclose(found["training"]["gpu_hours"], flops / 5e11 / 3600)
    assert math.isclose(found["training"]["wall_hours"], flops / 5e11 / 3600 / 4)
    assert math.isclose(found["training"]["cost"], 3 * flops / 5e11 / 3600)
    assert found["phases"][0]["steps"] == 4_100_000 // 4096


def test_memory_by_hand():
    recipe = load_recipe(recipe_paths()["s7/demo-1m"])
    (phase,) = phases_of(recipe)
    found = memory(recipe.model, recipe.train, phase, 2, 1)
    n = 1_082_496
    assert (found.weights, found.gradients, found.optimizer) == (4 * n, 4 * n, 8 * n)
    layer = 4 * 128 + 2 * 128 + 2 * 128 + 4 * 192
    assert layer_activations(recipe.model, 192) == layer
    head = 1024 * 2 * 128 * 4 + 1024 * 4096 * 8
    assert found.activations == 1024 * 4 * layer * 4 + head
    assert found.activations_checkpointed == 1024 * (4 * 128 + layer) * 4 + head


def test_precision_and_sharding_change_the_states():
    recipe = load_recipe(recipe_paths()["m31r/60m"])
    (phase,) = phases_of(recipe)
    n = 59_785_728
    assert memory(recipe.model, recipe.train, phase, 1, 1).states == (6 + 4 + 8) * n
    assert memory(recipe.model, recipe.train, phase, 1, 8).states == math.ceil(6 * n / 8) + n // 2 + n
    slm = load_recipe(recipe_paths()["slm/2b"])
    (long,) = phases_of(slm)
    assert memory(slm.model, slm.train, long, 1, 1).states == (5 + 4 + 8) * 1_991_902_464


def test_phases_of_the_cluster():
    recipe = load_recipe(recipe_paths()["s7/moe-140m"])
    trunk, experts = (phase_cost(recipe, phase) for phase in recipe.train.phases)
    assert (trunk.trained, trunk.frozen) == (29_891_072, 0)
    assert (experts.trained, experts.frozen) == (25_698_304, 29_891_072)
    assert experts.memory.weights == 6 * experts.trained + 2 * experts.frozen
    assert [pool.items for pool in experts.pools] == [("code",), ("math",), ("general",), ("reasoning",)]
    assert experts.wall_hours == experts.pools[0].gpu_hours / 4
    assert experts.flops_per_token < 3 * trunk.flops_per_token


def test_experts_share_pools_longest_first():
    recipe = load_recipe(recipe_paths()["s7/moe-140m"])
    phase = recipe.train.phases[1].model_copy(update={"n_pools": 2})
    pools = phase_cost(recipe, phase).pools
    assert [pool.tokens for pool in pools] == [32 * 10**9, 27 * 10**9]
    assert sorted(item for pool in pools for item in pool.items) == ["code", "general", "math", "reasoning"]


def test_a_model_that_no_gpu_holds_says_so():
    small = {"gpu_memory": 10**9, "n_gpus": 4}
    found = plan(recipe_named("llama/1.5b", hardware={**small, "sharding": "none"}), CPU)["phases"][0]
    assert (found["fits"], found["needed_gpus"]) == (False, None)
    sharded = plan(recipe_named("llama/1.5b", hardware={**small, "gpu_memory": 4 * 10**9}), CPU)["phases"][0]
    assert sharded["needed_gpus"] > 4
    assert sharded["fits"] is False
    tiny = plan(recipe_named("llama/1.5b", hardware={**small, "gpu_memory": 10**6}), CPU)["phases"][0]
    assert tiny["needed_gpus"] is None


def test_micro_batch_is_the_recipes_or_the_largest_that_fits():
    given = recipe_named("s7/demo-1m", train={"micro_batch_sequences": 2})
    assert plan(given, CPU)["phases"][0]["micro_batch_sequences"] == 2
    chosen = load_recipe(recipe_paths()["m31r/200m"])
    cost = phase_cost(chosen, phases_of(chosen)[0])
    assert cost.memory.total <= chosen.hardware.gpu_memory
    double = memory(chosen.model, chosen.train, cost.phase, 2 * cost.micro_batch_sequences, 1)
    assert double.total > chosen.hardware.gpu_memory


def test_phase_defaults_to_the_whole_run():
    recipe = load_recipe(recipe_paths()["m31r/200m"])
    assert phases_of(recipe) == (
        Phase(name="train", tokens=20 * 10**9, batch_sequences=256, sequence=2048, n_gpus=8),
    )


def test_the_documents_figures_that_do_not_add_up():
    rows = plan(load_recipe(recipe_paths()["s7/moe-140m"]), CPU)["document"]
    wrong = {(row["section"], row["quantity"]) for row in rows if row["adds_up"] is False}
    assert wrong == {
        ("title", "model size"),
        ("2", "trunk layers (6)"),
        ("2", "one expert"),
        ("2", "total, INT8"),
        ("3", "gradients"),
        ("3", "optimiser (AdamW)"),
        ("3", "memory per GPU"),
        ("3", "GPU-hours, from FLOPs"),
        ("4", "optimiser"),
        ("4", "memory per GPU"),
        ("4", "GPUs of a node"),
        ("4", "GPU-hours, from FLOPs"),
        ("6", "wall time"),
        ("8", "one expert layer, INT8"),
        ("8", "one expert layer, as printed"),
        ("8", "trunk layers (6), INT8"),
        ("8", "trunk layers, against section 2"),
        ("8", "embedding, INT8"),
    }
    named = {(row["section"], row["quantity"]): row for row in rows}
    assert len(named) == len(rows)
    assert named["2", "total"]["ours"] == 132_684_288
    assert named["6", "wall time"]["own"] == 1700
    assert named["6", "cost at 2.50 USD/h"]["adds_up"] is True
    ours = named["2", "embedding, FP32"]
    assert ours["ours_ratio"] == ours["ours"] / ours["stated"]


def test_cpu_estimate_is_labelled_and_follows_the_rate():
    recipe = load_recipe(recipe_paths()["s7/demo-1m"])
    slow, fast = (plan(recipe, Cpu(matmul_flops=rate, bytes_per_second=1e12))["cpu"] for rate in (1e10, 2e10))
    assert slow["estimate"] is True
    assert slow["measured"] is False
    assert math.isclose(fast["training_tokens_per_second"], 2 * slow["training_tokens_per_second"])
    assert math.isclose(fast["decode_tokens_per_second"], 2 * slow["decode_tokens_per_second"])
    bound = plan(recipe, Cpu(matmul_flops=1e15, bytes_per_second=1_082_496))["cpu"]
    assert math.isclose(bound["decode_tokens_per_second"], 1.0)


def test_a_measured_step_decides_training_and_nothing_else():
    recipe = load_recipe(recipe_paths()["s7/demo-1m"])
    slow = Cpu(matmul_flops=1e9, bytes_per_second=1e10)
    (phase,) = phases_of(recipe)
    cost = phase_cost(recipe, phase)
    assert math.isclose(training_rate(recipe, cost, slow), 0.5e9 / cost.flops_per_token)
    timed = replace(slow, training_flops=4e10)
    assert math.isclose(training_rate(recipe, cost, timed), 4e10 / cost.flops_per_token)
    # A step: gradients of its tokens at that speed, then an update of 1 ns a parameter.
    tokens = phase.batch_sequences * phase.sequence
    seconds = tokens * cost.flops_per_token / 4e10 + cost.trained * 1e-9
    with_update = replace(timed, update_seconds=1e-9)
    assert math.isclose(training_rate(recipe, cost, with_update), tokens / seconds)
    found = plan(recipe, with_update)["cpu"]
    assert math.isclose(found["training_tokens_per_second"], tokens / seconds)
    assert math.isclose(found["training_hours"], phase.tokens * seconds / tokens / 3600)
    assert found["decode_tokens_per_second"] == plan(recipe, slow)["cpu"]["decode_tokens_per_second"]


@pytest.mark.parametrize("extreme", ["least", "most"])
def test_extremes_of_the_schema_give_finite_figures(extreme):
    most = extreme == "most"
    n, width = (2**53, 2**20) if most else (1, 2)
    hardware = {"gpu_memory": n, "n_gpus": n, "price_per_gpu_hour": 1e6 if most else 0.0}
    hardware |= {"peak_flops": 1e6 if most else 1e30, "mfu": 1e-4 if most else 1.0, "sharding": "zero3"}
    train = {"tokens": n, "batch_sequences": n, "sequence": n}
    shape = {
        "d_model": width,
        "n_heads": width,
        "n_kv_heads": width,
        "head_dim": width,
        "d_ffn": width,
        "context": n,
    }
    model = {**shape, "n_layers": 100 if most else 1, "vocab_size": 2**20 if most else 257}
    found = plan(recipe_named("s7/demo-1m", hardware=hardware, train=train, model=model), CPU)
    assert all(math.isfinite(number) for number in numbers(found))


def test_measuring_this_cpu():
    found = measure_cpu(seconds=0.002)
    assert found.measured is True
    assert 1e6 < found.matmul_flops < 1e17
    assert 1e6 < found.bytes_per_second < 1e15
    assert plan(load_recipe(recipe_paths()["s7/demo-1m"]))["cpu"]["measured"] is True
