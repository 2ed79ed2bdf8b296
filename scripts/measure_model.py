"""Measure a sealed model: every suite in turn, and the table of its figures for models/README.md.

    python scripts/measure_model.py code-8m --data DATA [--corpus RUN] [--minutes 12]

Each step of `measure_model.yaml` is one `s7 eval`, in a directory of its own below --out. A step that
is finished is not run again, and one that was interrupted goes on. A step that no longer fits
--minutes is left out, and the table says so. No figure is typed by hand: all come from sealed runs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.shipped_models import model_path
from sevenfold.engine.session import open_model
from sevenfold.evals.run import read_run

PLAN = Path(__file__).with_suffix(".yaml")
README = Path(__file__).parents[1] / "models" / "README.md"
# A step is begun with this share of its time left: the figures of the plan are rough.
ENOUGH = 0.5


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of the plan."""

    name: str
    suite: str
    text: str
    seconds: float
    options: tuple[str, ...] = ()
    limit: int | None = None
    corpus: bool = False
    needs_corpus: bool = False

    def words(self, model: str, data: str, corpus: str) -> list[str]:
        """The words of the command behind `s7`."""
        words = ["eval", model, "--suite", self.suite, "--data", data, *self.options]
        words += ["--limit", str(self.limit)] if self.limit else []
        return words + (["--corpus", corpus] if corpus and self.corpus else [])


def steps_of(path: Path) -> list[Step]:
    """The steps of a plan. Raises UsageError, StorageError."""
    try:
        plan = yaml.safe_load(read_bytes(path))
        always = plan.get("always", [])
        return [Step(**{**row, "options": (*row.get("options", ()), *always)}) for row in plan["steps"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"no plan of a measurement: {error}", where=str(path)) from error


def finished(folder: Path, root: str) -> list[Any]:
    """The sealed runs of a step of this model, in the order in which they were made."""
    if not (folder / "done").is_file():
        return []
    runs = [read_run(path) for path in sorted(folder.glob("*.eval.json"), key=lambda p: p.stat().st_mtime_ns)]
    return [run for run in runs if run["model"]["root"] == root]


def run_step(step: Step, arguments: argparse.Namespace, folder: Path, seconds: float | None) -> str:
    """Run a step for at most so many seconds; return why it has no figures, "" if it has."""
    words = step.words(arguments.model, str(arguments.data), str(arguments.corpus or ""))
    command = [sys.executable, "-m", "sevenfold", *words, "--out", str(folder)]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    try:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return "the time ended; run it again, it goes on"
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit {done.returncode}"]
        return said[-1][:160]
    write_bytes(folder / "done", b"")
    return ""


def shown(score: dict[str, Any]) -> str:
    """A score as the table shows it."""
    if score["metric"].startswith("bits_per_byte"):
        return f"{score['value']:.4f} ({score['low']:.4f} to {score['high']:.4f})"
    if "upper_bound" in score:
        return f"0; at most {score['upper_bound']:.2%}"
    text = f"{score['value']:.2%} ({score['low']:.2%} to {score['high']:.2%})"
    return text + (
        f", spread over {len(score['by_seed'])} seeds {score['spread']:.2%}" if "by_seed" in score else ""
    )


def figures(model: str, step: Step, runs: list[Any], command: str) -> list[str]:
    """The rows of a step: one for each score."""
    rows = []
    for run in runs:
        for score in run["scores"]:
            rule = f" ({score['extract']})" if score.get("extract") else ""
            skeletons = f", {score['n_skeletons']} skeletons" if "n_skeletons" in score else ""
            name = f"{step.text}: {run['name']} {score['metric']}{rule}, n {score['n']}{skeletons}"
            rows.append(f"| {model} | {name} | {shown(score)} | `{command}` |")
        for rule, counts in run.get("failures", {}).items():
            if counts:
                text = f"{step.text}: {run['name']} failures by class ({rule})"
                rows.append(f"| {model} | {text} | {_inline(counts)} | `{command}` |")
        for name, value in (run["evidence"].get("fp32") or {}).items():
            if name == "bits_per_byte":
                text = f"{step.text}: {run['name']} of the FP32 weights on the same windows"
                rows.append(f"| {model} | {text} | {value:.4f} | `{command}` |")
    return rows


def _inline(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def replace_block(text: str, model: str, block: str) -> str:
    """A page with the block of a model put in place of the one it had, or at its end."""
    begin, end = f"<!-- figures of {model}: begin -->", f"<!-- figures of {model}: end -->"
    whole = f"{begin}\n\n{block}\n\n{end}"
    head, found, rest = text.partition(begin)
    if not found:
        return f"{text.rstrip()}\n\n## Figures of {model}\n\n{whole}\n"
    return head + whole + rest.partition(end)[2]


def say(text: str, began: float) -> None:
    """Print what was done, with the time since `began` by the clock and of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    took = time.monotonic() - began
    print(f"{text}; {took:.0f} s by the clock, {seconds:.0f} s of processor", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="the run directory in which the model was made")
    parser.add_argument("--out", type=Path, help="else out/measured/MODEL")
    parser.add_argument("--minutes", type=float, help="what all steps may take")
    parser.add_argument("--steps", default="", help="names of steps, with commas between them")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--readme", action="store_true", help="write the table into models/README.md")
    arguments = parser.parse_args()
    name = Path(arguments.model).stem
    out = arguments.out or Path("out") / "measured" / name
    began = time.monotonic()
    root = open_model(model_path(Path(arguments.model))).root
    rows = ["| model | figure | value | command |", "| --- | --- | --- | --- |"]
    names = [part for part in arguments.steps.split(",") if part]
    steps = [step for step in steps_of(arguments.plan) if not names or step.name in names]
    for number, step in enumerate(steps, 1):
        folder = out / step.name
        folder.mkdir(parents=True, exist_ok=True)
        runs, reason = finished(folder, root), ""
        if not runs:
            left = None if arguments.minutes is None else 60 * arguments.minutes - (time.monotonic() - began)
            if step.needs_corpus and arguments.corpus is None:
                reason = "no --corpus was given"
            elif left is not None and left < ENOUGH * step.seconds:
                reason = "no time was left for it"
            else:
                print(f"{number}/{len(steps)} {step.name}", file=sys.stderr, flush=True)
                reason = run_step(step, arguments, folder, left)
                runs = finished(folder, root)
        say(f"{number}/{len(steps)} {step.name}: {reason or 'done'}", began)
        command = "s7 " + " ".join(step.words(name, "DATA", "RUN" if arguments.corpus else ""))
        rows += figures(name, step, runs, command)
        if not runs:
            rows.append(f"| {name} | {step.text} | not measured: {reason} | `{command}` |")
    table = "\n".join(rows)
    write_bytes(out / "figures.md", f"{table}\n".encode())
    if arguments.readme:
        page = README.read_text(encoding="utf-8")
        write_bytes(README, replace_block(page, name, table).encode())
    print(table)


if __name__ == "__main__":
    try:
        main()
    except SevenfoldError as error:
        sys.exit(f"{error}")
