"""The steps of a run as a shell script: torchrun on one or more machines, or Slurm jobs.

`shlex` quotes every word of a recipe or a path. A rank that dies ends its group. torchrun starts the
group again up to MAX_RESTARTS times, each time from the last checkpoint.
"""

from __future__ import annotations

import math
import shlex
from itertools import groupby

from sevenfold.core.errors import UsageError
from sevenfold.core.run_files import MANIFEST
from sevenfold.plan.launch import LaunchStep

MAX_RESTARTS = 3
_PORT = 29400
# A job asks for the estimated time multiplied by the factor, and for these hours to start. A job that
# needs more is submitted again.
_TIME_FACTOR, _TIME_MORE = 1.5, 0.5
_GB = 1e9
_BEGIN = ("#!/usr/bin/env bash", "set -euo pipefail")
# By default PyTorch 2.13 keeps one store for all attempts, so ranks that start again find the
# addresses of ranks that died.
_FRESH_STORE = "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


def _words(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _about(step: LaunchStep) -> str:
    if not step.ranks:
        return f"# {step.name}"
    where = f"{step.nodes} x {step.gpus} GPUs" if step.nodes > 1 else f"{step.gpus} GPUs"
    return f"# {step.name}: {where}, {step.memory / _GB:.2f} GB on each, about {step.hours:.2f} h"


def torchrun(step: LaunchStep, *rendezvous: str) -> str:
    """Return the command of a step. The words of `rendezvous` are inserted without quoting."""
    if not step.ranks:
        return f"s7 {_words(*step.arguments)}"
    options = [
        *rendezvous,
        f"--nproc-per-node={step.gpus}",
        f"--max-restarts={MAX_RESTARTS}",
        "--monitor-interval=1",
    ]
    return " ".join(["torchrun", *options, "-m", "sevenfold.cli", _words(*step.arguments)])


_HERE = ("--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")


def _on_gpus(step: LaunchStep, is_shared: bool) -> str:
    own = ",".join(str(step.first_gpu + i) for i in range(step.gpus))
    return (f"CUDA_VISIBLE_DEVICES={own} " if is_shared else "") + torchrun(step, *_HERE)


def _pools(steps: list[LaunchStep]) -> list[str]:
    """Return the lines of one phase: pools side by side, the steps of a pool one after another."""
    pools = {number: list(own) for number, own in groupby(steps, key=lambda step: step.pool)}
    if len(pools) == 1:
        return [line for step in steps for line in (_about(step), _on_gpus(step, False))]
    lines = []
    for number, own in pools.items():
        lines.append(f"pool_{number}() {{")
        lines += [f"  {line}" for step in own for line in (_about(step), _on_gpus(step, True))]
        lines.append("}")
    lines.append("pids=()")
    for number in pools:
        lines += [f"pool_{number} &", "pids+=($!)"]
    return [*lines, 'for pid in "${pids[@]}"; do', '  wait "$pid"', "done"]


def bash_script(steps: list[LaunchStep], *, nodes: int) -> str:
    """Return a script for one machine. For a recipe of one phase it may be started on each of several
    machines that share a file system.

    Raises UsageError for phases on several machines, because a scheduler has to order those.
    """
    head = [*_BEGIN, _FRESH_STORE]
    trained = [step for step in steps if step.ranks]
    first, last = steps[0], steps[-1]
    if nodes == 1:
        lines = [_about(first), torchrun(first)]
        for _, phase in groupby(trained, key=lambda step: step.phase):
            lines += _pools(list(phase))
        return "\n".join([*head, *lines, _about(last), torchrun(last), ""])
    if len(trained) > 1:
        raise UsageError(
            "phases on several nodes wait for one another", remedy="add --slurm, or use --nodes 1"
        )
    (step,) = trained
    ready = shlex.quote(f"{step.arguments[step.arguments.index('--out') + 1]}/tokenizer/{MANIFEST}")
    rendezvous = (f"--nnodes={nodes}", "--rdzv-backend=c10d", f'--rdzv-endpoint="$S7_HEAD:{_PORT}"')
    return "\n".join(
        [
            *head,
            ': "${S7_HEAD:?name of the first node}" '
            '"${S7_NODE:?0 on the first node, another number on the others}"',
            'if [ "$S7_NODE" = 0 ]; then',
            f"  {torchrun(first)}",
            "fi",
            f"until [ -f {ready} ]; do sleep 5; done",
            _about(step),
            torchrun(step, *rendezvous),
            'if [ "$S7_NODE" = 0 ]; then',
            f"  {torchrun(last)}",
            "fi",
            "",
        ]
    )


def _limit(hours: float) -> str:
    minutes = math.ceil((hours * _TIME_FACTOR + _TIME_MORE) * 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


def _slurm_job(step: LaunchStep, jobs: dict[str, str]) -> list[str]:
    """Return the lines that submit a step. `jobs`: the shell variable that holds the id of each."""
    options = [f"--job-name={shlex.quote('s7-' + step.name)}", "--parsable", "--requeue"]
    if step.needs:
        waits = ":".join(f'"${jobs[name]}"' for name in step.needs)
        options += [f"--dependency=afterok:{waits}", "--kill-on-invalid-dep=yes"]
    body = [*_BEGIN, _FRESH_STORE]
    if step.ranks:
        options += [
            f"--nodes={step.nodes}",
            "--ntasks-per-node=1",
            f"--gpus-per-node={step.gpus}",
            f"--time={_limit(step.hours)}",
        ]
        body += [
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "port=$((20000 + SLURM_JOB_ID % 20000))",
        ]
        rendezvous = (
            f"--nnodes={step.nodes}",
            "--rdzv-backend=c10d",
            '--rdzv-id="$SLURM_JOB_ID"',
            '--rdzv-endpoint="$head:$port"',
        )
        body.append(f"srun --kill-on-bad-exit=1 {torchrun(step, *rendezvous)}")
    else:
        options += ["--nodes=1", "--ntasks=1"]
        body.append(torchrun(step))
    submit = f"{jobs[step.name]}=$(sbatch {' '.join(options)} <<'S7_JOB'"
    return [_about(step), submit, *body, "S7_JOB", ")"]


def slurm_script(steps: list[LaunchStep]) -> str:
    """Return a script that submits one Slurm job for each step. A job starts when those that it needs
    have ended successfully.
    """
    jobs = {step.name: f"job_{number}" for number, step in enumerate(steps)}
    lines = [line for step in steps for line in _slurm_job(step, jobs)]
    said = " ".join(f'{shlex.quote(name)} "${variable}"' for name, variable in jobs.items())
    return "\n".join([*_BEGIN, *lines, f"printf '%s: job %s\\n' {said}", ""])
