"""`s7 launch`: who waits for whom, what each gets, what is refused, and scripts that shells accept."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import Any

import pytest

from sevenfold.core.errors import RecipeError, SevenfoldError, UsageError
from sevenfold.plan.cost import phase_cost
from sevenfold.plan.launch import LaunchStep, launch
from sevenfold.plan.launch_script import bash_script, slurm_script
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import Recipe

NASTY = "a b'c$(touch x)`id`\"&;#"


def recipe_of(name: str, **train: Any) -> Recipe:
    recipe = load_recipe(resolve_recipe_path(name))
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=train)})


def steps_of(name: str, nodes: int, gpus: int, **train: Any) -> dict[str, LaunchStep]:
    return {step.name: step for step in launch(recipe_of(name, **train), name, "out", nodes=nodes, gpus=gpus)}


def test_a_recipe_of_one_part_trains_on_all_ranks() -> None:
    steps = steps_of("s7/code-8m", 2, 4, micro_batch_sequences=2)
    assert list(steps) == ["prepare", "train", "close"]
    assert steps["train"].ranks == 8
    assert [step.needs for step in steps.values()] == [(), ("prepare",), ("train",)]
    recipe = recipe_of("s7/code-8m", micro_batch_sequences=2)
    alone = steps_of("s7/code-8m", 1, 1, micro_batch_sequences=2)["train"]
    assert alone.hours == pytest.approx(8 * steps["train"].hours)
    assert alone.hours == pytest.approx(phase_cost(recipe, whole(recipe)).gpu_hours)
    assert steps["train"].memory < alone.memory


def whole(recipe: Recipe) -> Any:
    from sevenfold.plan.cost import phases_of

    return phases_of(recipe)[0]


@pytest.mark.parametrize(
    ("nodes", "gpus", "ranks", "first"),
    [(4, 8, (1, 8), (0, 0, 0, 0)), (1, 8, (1, 2), (0, 2, 4, 6)), (2, 4, (1, 2), (0, 2, 0, 2))],
)
def test_experts_are_jobs_of_their_own_in_pools(
    nodes: int, gpus: int, ranks: tuple[int, int], first: tuple[int, ...]
) -> None:
    steps = steps_of("s7/moe-140m", nodes, gpus)
    experts = [step for step in steps.values() if step.phase == "experts"]
    assert {step.name for step in experts} == {
        f"experts-{e}" for e in ("code", "math", "reasoning", "general")
    }
    assert {step.needs for step in experts} == {("trunk",)}  # nothing of each other
    assert steps["trunk"].needs == ("prepare",)
    assert steps["trunk"].ranks == nodes * gpus
    assert {(step.nodes, step.gpus) for step in experts} == {ranks}
    assert tuple(step.first_gpu for step in experts) == first
    assert set(steps["close"].needs) == {step.name for step in experts}


def test_experts_of_one_pool_follow_one_another() -> None:
    steps = steps_of("s7/moe-140m", 1, 2)
    pools: dict[int, list[LaunchStep]] = {}
    for step in steps.values():
        if step.phase == "experts":
            pools.setdefault(step.pool, []).append(step)
    assert len(pools) == 2
    for first, second in pools.values():
        assert first.needs == ("trunk",)
        assert second.needs == (first.name,)
    assert set(steps["close"].needs) == {own[-1].name for own in pools.values()}
    assert sum(step.hours for step in pools[0]) == pytest.approx(
        sum(step.hours for step in pools[1]), rel=0.2
    )


@pytest.mark.parametrize(
    ("name", "nodes", "gpus", "train", "words"),
    [
        ("slm/2b", 1, 8, {}, ("does not fit", "GB on each of 8 GPUs", "micro_batch_sequences: 4")),
        ("s7/demo-1m", 1, 2, {}, ("2 GPUs only 1 micro-batches", "micro_batch_sequences: ")),
        ("slm/2b", 1, 1, {"activation_checkpointing": True}, ("does not fit", "micro_batch_sequences")),
    ],
)
def test_what_cannot_run_is_refused_with_the_setting_that_would(
    name: str, nodes: int, gpus: int, train: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(RecipeError) as caught:
        steps_of(name, nodes, gpus, **train)
    for word in words:
        assert word in str(caught.value)


def test_the_setting_that_a_refusal_names_runs() -> None:
    with pytest.raises(RecipeError) as caught:
        steps_of("slm/2b", 1, 8)
    micro = int(caught.value.remedy.split("micro_batch_sequences: ")[1].split()[0])
    checkpointing = "activation_checkpointing" in caught.value.remedy
    change = {"micro_batch_sequences": micro}
    change |= {"activation_checkpointing": True} if checkpointing else {}
    assert steps_of("slm/2b", 1, 8, **change)["train"].memory <= recipe_of("slm/2b").hardware.gpu_memory


def test_what_no_script_can_hold_is_refused() -> None:
    for text in ("", "a\nS7_JOB\nrm -r x", "tab\t"):
        with pytest.raises(UsageError, match="cannot stand in a script"):
            launch(recipe_of("s7/moe-140m"), "s7/moe-140m", text, nodes=1, gpus=1)
    with pytest.raises(UsageError, match="--slurm"):
        bash_script(list(steps_of("s7/moe-140m", 2, 4).values()), nodes=2)


def scripts() -> dict[str, str]:
    found = {}
    for name, train in (("s7/moe-140m", {}), ("s7/code-8m", {"micro_batch_sequences": 2})):
        for nodes, gpus in ((1, 4), (2, 4)):
            steps = launch(recipe_of(name, **train), NASTY, NASTY, nodes=nodes, gpus=gpus)
            key = f"{name} {nodes}x{gpus}"
            found[f"{key} slurm"] = slurm_script(steps)
            try:
                found[key] = bash_script(steps, nodes=nodes)
            except SevenfoldError:
                assert (name, nodes) == ("s7/moe-140m", 2)
    return found


@pytest.mark.parametrize(("name", "script"), scripts().items(), ids=scripts())
def test_shells_accept_the_scripts(name: str, script: str) -> None:
    checks = [["bash", "-n"]]
    if shutil.which("shellcheck"):
        checks.append(["shellcheck", "--exclude=SC2016", "-"])  # a $ in a path is meant as it stands
    for check in checks:
        done = subprocess.run(check, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert shlex.quote(NASTY) in script
    trained = [line for line in script.splitlines() if "torchrun" in line]
    assert all(
        f"--nproc-per-node={4 if 'trunk' in line or '8m' in name else 1}" in line for line in trained[:1]
    )
    for line in trained:
        words = shlex.split(line)
        assert words[words.index("-m") + 1] == "sevenfold.cli"
        assert words[words.index("--out") + 1] == NASTY


def test_slurm_jobs_wait_for_the_jobs_they_need() -> None:
    # A stand-in for sbatch numbers the jobs and tells what each was to wait for.
    script = scripts()["s7/moe-140m 1x4 slurm"]
    stand_in = (
        'n=100; sbatch() { n=$((RANDOM + 1000)); cat > /dev/null; for word in "$@"; do case $word in'
        ' --job-name=*|--dependency=*) echo "$word" >&2;; esac; done; echo $n; }\n'
    )
    done = subprocess.run(["bash", "-c", stand_in + script], capture_output=True, text=True, check=True)
    jobs = dict(line.split(": job ") for line in done.stdout.splitlines())
    waits, name = {}, ""
    for line in done.stderr.splitlines():
        key, _, value = line.partition("=")
        if key == "--job-name":
            name = value.removeprefix("s7-")
        else:
            waits[name] = value.removeprefix("afterok:").split(":")
    assert waits["trunk"] == [jobs["prepare"]]
    experts = [job for name, job in jobs.items() if name.startswith("experts")]
    assert all(waits[name] == [jobs["trunk"]] for name in jobs if name.startswith("experts"))
    assert sorted(waits["close"]) == sorted(experts)
