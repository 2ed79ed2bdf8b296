"""What a shipped recipe's corpus costs, from a filled store to token files: processor time, wall
time and memory of each part.

Runs the stages `corpus` and `tokenizer` as `s7 corpus build` and `s7 make --until tokenizer` do.
Processor time is this process's and its ended children's; half of it is what two free cores would
take (an estimate, and called so: the machine may be shared).

    python benchmarks/real_corpus.py s7/code-8m --run out/code-8m [--workers 2] \
        [--again out/again] [--out FILE]

`--again` builds a second time into another directory, from the same store, and compares the roots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevenfold.cli.base import make_job
from sevenfold.core.manifest import read_manifest
from sevenfold.core.run_files import CORPUS_PLOT
from sevenfold.corpus.missing_packages import fetch_missing
from sevenfold.pipeline import find_stage, run_stage
from sevenfold.report.corpus import write_corpus_report
from sevenfold.report.corpus_plot import dropped_bytes, kept_by_kind
from sevenfold.runs.job import Job

MB = 1_000_000
KEYS = (
    "n_seen",
    "n_kept",
    "n_train",
    "n_heldout",
    "bytes_train",
    "bytes_heldout",
    "dropped",
    "near_duplicates",
    "heldout_gzip_bpb",
)


def cpu_seconds() -> float:
    """Processor seconds of this process and of the children that ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


@dataclass
class Clock:
    """A progress listener that writes down what each part took."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def start(self, stage: str, total: int | None, unit: str) -> None:  # noqa: ARG002  (a listener)
        """A part begins, and the one before ends."""
        self.close()
        self.rows.append({"part": stage, "cpu_s": cpu_seconds(), "wall_s": time.monotonic(), "open": True})

    def close(self) -> None:
        """The part ends."""
        if self.rows and self.rows[-1].pop("open", False):
            row = self.rows[-1]
            row |= {
                "cpu_s": round(cpu_seconds() - row["cpu_s"], 1),
                "wall_s": round(time.monotonic() - row["wall_s"], 1),
            }

    def advance(self, done: int, **fields: float | str) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """One line."""
        print(text, flush=True)


class Memory(threading.Thread):
    """Peak of the memory that this process and its children hold at once (proportional set
    size), looked at twice a second.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.peak = max(
                self.peak, sum(_proportional(pid) for pid in [os.getpid(), *_children(os.getpid())])
            )
            time.sleep(0.5)


def _children(pid: int) -> list[int]:
    try:
        found = [
            int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()
        ]
    except OSError:
        return []
    return found + [below for child in found for below in _children(child)]


def _proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def build(recipe: str, out: Path, workers: str, stages: tuple[str, ...]) -> tuple[Job, dict[str, Any]]:
    """Run stages into a directory; the job and what they took."""
    from dataclasses import replace

    clock, memory = Clock(), Memory()
    memory.start()
    began, cpu = time.monotonic(), cpu_seconds()
    job = replace(make_job(recipe, out, workers=workers), progress=clock)
    clock.start("fetch, key", None, "")
    n_fetched = fetch_missing(job.recipe.corpus, job.recipe_dir, clock)
    for name in stages:
        run_stage(job, find_stage(name))
        if name == "corpus":
            clock.start("report", None, "")
            write_corpus_report(out)
        clock.start("between", None, "")
    clock.close()
    took = {
        "n_fetched": n_fetched,
        "parts": [row for row in clock.rows if row["cpu_s"] >= 0.1],
        "cpu_s": round(cpu_seconds() - cpu, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "two_core_estimate_s": round((cpu_seconds() - cpu) / 2, 1),
        "peak_memory_MB": round(memory.peak / MB),
    }
    return job, took


def figures(job: Job) -> dict[str, Any]:
    """What is in the corpus and in the token files, from their manifests."""
    corpus, tokens = (read_manifest(job.directory(name)) for name in ("corpus", "tokenizer"))
    if corpus is None:
        raise SystemExit("the corpus was not built")
    facts, found = corpus.facts, {}
    kept = kept_by_kind(facts["groups"])
    sides = {side: _by(facts["languages"], side) for side in ("domain", "language", "licence")}
    found = {
        "root": corpus.root,
        **{name: facts[name] for name in KEYS if name in facts},
        "mix": facts["mix"],
        "kept_MB": {"real": _mega(kept[False]), "synthetic": _mega(kept[True])},
        "dropped_MB": _mega(dropped_bytes(facts["languages"])),
        **{f"kept_MB_by_{side}": values for side, values in sides.items()},
    }
    if tokens is not None:
        found["tokens"] = {name: value for name, value in tokens.facts.items() if not isinstance(value, dict)}
        found["tokenizer_root"] = tokens.root
    return found


def _by(rows: list[dict[str, Any]], side: str) -> dict[str, float]:
    n_bytes: dict[str, int] = {}
    for row in rows:
        n_bytes[row[side]] = n_bytes.get(row[side], 0) + row["kept"]["n_bytes"]
    return {name: value for name, value in _mega(n_bytes).items() if value >= 0.05}


def _mega(n_bytes: dict[str, int]) -> dict[str, float]:
    return {
        name: round(value / MB, 2)
        for name, value in sorted(n_bytes.items(), key=lambda item: (-item[1], item[0]))
    }


def main() -> None:
    """Build, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--again", type=Path)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--stages", nargs="+", default=["corpus", "tokenizer"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "real-corpus")
    given = parser.parse_args()
    job, took = build(given.recipe, given.run, given.workers, tuple(given.stages))
    result = {
        "recipe": given.recipe,
        "machine": (
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; shared with"
            " other work"
        ),
        "workers": given.workers,
        "took": took,
        **figures(job),
    }
    if given.again:
        again, second = build(given.recipe, given.again, given.workers, ("corpus",))
        manifest = read_manifest(again.directory("corpus"))
        result["again"] = {"took": second, "root": manifest.root if manifest else None}
        if result["again"]["root"] != result["root"]:
            raise SystemExit(f"the roots differ: {result['root']} and {result['again']['root']}")
    given.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    if (given.run / CORPUS_PLOT).is_file():
        shutil.copyfile(given.run / CORPUS_PLOT, given.out.with_suffix(".png"))
    print(json.dumps(took, indent=1))


if __name__ == "__main__":
    main()
