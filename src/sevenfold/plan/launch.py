"""Plan a run on several processes (`s7 launch`): its jobs, the needs of each, and their order.

The sizes are those of `plan`. One job makes the token files. A recipe of one phase is trained by one
job on all ranks. With expert stacks (B1) the trunk is trained on all ranks, then each expert is a job
of its own. Each expert is assigned to a pool. Pools work at the same time; the jobs of one pool run
one after another. The last job joins the phases, quantises and seals. A job that died is started
again and goes on from its last checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.plan.cost import memory, phase_cost, phases_of, trained_parameters
from sevenfold.plan.forecast import settings
from sevenfold.recipe.schema import Phase, Recipe, TrainSpec
from sevenfold.recipe.sizing import count

MOST_RANKS = 1 << 16
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class LaunchStep:
    """One job. `arguments` are those of `s7`; with `ranks` 0 it is a single process without a GPU.

    `first_gpu` is where its GPUs begin on a node that it shares with other pools.
    """

    name: str
    arguments: tuple[str, ...]
    phase: str = ""
    needs: tuple[str, ...] = ()
    nodes: int = 1
    # Of each node.
    gpus: int = 0
    first_gpu: int = 0
    pool: int = 0
    # Bytes on each GPU.
    memory: int = 0
    hours: float = 0.0

    @property
    def ranks(self) -> int:
        """Return the processes that train together."""
        return self.nodes * self.gpus


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of one pool of a phase: a number of GPUs on each of a number of nodes. Pool p begins
    at GPU `first(p)` of its node.
    """

    n_pools: int
    nodes: int
    gpus: int
    pools_per_node: int

    def first(self, pool: int) -> int:
        """Return the number of the pool's first GPU on its node."""
        return pool % self.pools_per_node * self.gpus


def share_of(phase: Phase, nodes: int, gpus: int) -> Share:
    """Divide the nodes among the pools of a phase, or the GPUs of each node where there are fewer
    nodes than pools.
    """
    n_pools = min(phase.n_pools, len(phase.tokens_per_expert) or 1, nodes * gpus)
    if nodes >= n_pools:
        return Share(n_pools=n_pools, nodes=nodes // n_pools, gpus=gpus, pools_per_node=1)
    per_node = math.ceil(n_pools / nodes)
    return Share(n_pools=n_pools, nodes=1, gpus=gpus // per_node, pools_per_node=per_node)


def needed(recipe: Recipe, train: TrainSpec, phase: Phase, ranks: int) -> int:
    """Return the most bytes that a phase holds on each of `ranks` GPUs, with all states sharded, as
    `plan` computes them.
    """
    idle = 4 * (count(recipe.model) - sum(trained_parameters(recipe.model, phase)))
    rows = train.micro_batch(phase.batch_sequences)
    return memory(recipe.model, train, phase, rows, ranks).total + math.ceil(idle / ranks)


def _works(recipe: Recipe, train: TrainSpec, phase: Phase, ranks: int) -> bool:
    rows = train.micro_batch(phase.batch_sequences)
    return (
        needed(recipe, train, phase, ranks) <= recipe.hardware.gpu_memory
        and math.ceil(phase.batch_sequences / rows) >= ranks
    )


def _remedies(recipe: Recipe, shares: list[tuple[Phase, int]]) -> Iterator[str]:
    phases = tuple(phase for phase, _ in shares)
    for text, train in settings(recipe.train, phases):
        if all(_works(recipe, train, phase, ranks) for phase, ranks in shares):
            yield f"it does with {text}"
            return
    for text, train in settings(recipe.train, phases):
        factor = 2
        while factor * max(ranks for _, ranks in shares) <= MOST_RANKS:
            if all(_works(recipe, train, phase, ranks * factor) for phase, ranks in shares):
                yield f"it does on {factor} times as many GPUs with {text}"
                return
            factor *= 2


def _check(recipe: Recipe, shares: list[tuple[Phase, int]]) -> None:
    """Refuse what cannot run. Raises RecipeError, whose remedy names a setting that can run."""
    hardware, train = recipe.hardware, recipe.train
    for phase, ranks in shares:
        if _works(recipe, train, phase, ranks):
            continue
        need, rows = needed(recipe, train, phase, ranks), train.micro_batch(phase.batch_sequences)
        if need > hardware.gpu_memory:
            what = (
                f"phase {phase.name} does not fit: {need / _GB:.1f} GB on each of {ranks} GPUs with {rows}"
                f" rows at a time, {hardware.gpu} has {hardware.gpu_memory / _GB:.1f} GB"
            )
        else:
            n_micros = math.ceil(phase.batch_sequences / rows)
            what = f"phase {phase.name} gives {ranks} GPUs only {n_micros} micro-batches a step to share"
        remedy = next(_remedies(recipe, shares), "take a smaller model, or GPUs with more memory")
        raise RecipeError(what, where=f"{recipe.name}: train.micro_batch_sequences", remedy=remedy)


def launch(recipe: Recipe, name: str, out: str, *, nodes: int, gpus: int) -> list[LaunchStep]:
    """Return the steps of a run on `nodes` with `gpus` each, in an order in which they can be done.

    Args:
        name, out: recipe and directory as the arguments of `s7`.

    Raises:
        UsageError: a script cannot hold one of the texts.
        RecipeError: the run does not fit there. The remedy names a setting that fits.
    """
    for text in (name, out):
        if not text or not text.isprintable():
            raise UsageError(
                f"{text!r} cannot stand in a script", remedy="choose a path of printable characters"
            )
    phases = phases_of(recipe)
    shares = {phase.name: share_of(phase, nodes, gpus) for phase in phases}
    _check(recipe, [(phase, shares[phase.name].nodes * shares[phase.name].gpus) for phase in phases])
    steps = [LaunchStep(name="prepare", arguments=("make", name, "--out", out, "--until", "tokenizer"))]
    command = ("train", name, "--out", out)
    for phase in phases:
        steps += _jobs(recipe, phase, shares[phase.name], command, needs=(steps[-1].name,))
    ends = tuple(step.name for step in steps if not any(step.name in other.needs for other in steps))
    return [*steps, LaunchStep(name="close", arguments=("make", name, "--out", out), needs=ends)]


def _jobs(
    recipe: Recipe, phase: Phase, share: Share, command: tuple[str, ...], needs: tuple[str, ...]
) -> Iterator[LaunchStep]:
    """Yield one job for a phase, or one for each of its experts, those of a pool one after another."""
    ranks = share.nodes * share.gpus
    sized = phase.model_copy(update={"n_gpus": ranks, "n_pools": share.n_pools})
    cost = phase_cost(recipe, sized)
    hours = cost.gpu_hours / phase.tokens / ranks
    for number, pool in enumerate(cost.pools):
        before = needs
        for item in pool.items:
            is_expert = item in phase.tokens_per_expert
            arguments = command + (("--phase", phase.name) if recipe.train.phases else ())
            step = LaunchStep(
                name=f"{phase.name}-{item}" if is_expert else phase.name,
                phase=phase.name,
                arguments=arguments + (("--expert", item) if is_expert else ()),
                needs=before,
                nodes=share.nodes,
                gpus=share.gpus,
                first_gpu=share.first(number),
                pool=number,
                memory=needed(recipe, recipe.train, phase, ranks),
                hours=hours * phase.tokens_per_expert.get(item, phase.tokens),
            )
            yield step
            before = (step.name,)


def as_json(steps: list[LaunchStep]) -> list[Json]:
    """Return the steps as values."""
    return [asdict(step) | {"ranks": step.ranks} for step in steps]
