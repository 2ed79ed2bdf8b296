"""Tokens per second: Sevenfold, llama.cpp Q8_0 and CTranslate2 int8, in one run on
the same weights and prompts.

Each engine runs in a process of its own for each thread count (worker.py), loaded once. A round
asks every one of them for every line, after a pause in which the threads of the one before stop
spinning, and the next round begins with another one, so that a slow moment of the machine hits all.
Medians and quartiles over the rounds; an engine counts with the thread count at which its median is
best, and we are divided by the best peer.

    prefill 512       a prompt of 512 ids, until its last logits are there
    decode 16+128     128 greedy tokens after a prompt of 16; the prompt's time is not in it
    decode 512+128    the same after a prompt of 512
    batch 8, 32       8 or 32 sequences of ours decoding together, against one

Decoding of ours is what a session calls (`engine.decoding`), token by token; batches are
`NativeEngine.greedy_batch`. Each instruction set has a table of its own, OUT-ISA, which names the
machine; `--isa all` makes one after the other. All engines are held to it: llama.cpp is built for
each. The table in README.md is made of the results (engine_tables.py).

The peers' environment is made by `make bench-peers`; without it, or with one that fails, the others
run. Every engine must give as many tokens as were asked for, inside the vocabulary; how many of the
first agree with ours is in the JSON.

    python benchmarks/engine.py [--rounds 5] [--shapes 8M 34M 228M] [--threads 1 2] [--isa all] \
        [--out benchmarks/results/engine]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from sevenfold.engine.native import ISA_VARIABLE, choose_isa, instruction_sets
from shapes import SHAPES

HERE = Path(__file__).resolve().parent
US, PEERS = "sevenfold", ("llama.cpp", "ctranslate2")
LINES: dict[str, dict[str, Any]] = {
    "prefill 512": {"do": "prefill", "prompt": 512},
    "decode 16+128": {"do": "decode", "prompt": 16, "steps": 128},
    "decode 512+128": {"do": "decode", "prompt": 512, "steps": 128},
}
BATCHES, BATCH_SHAPE = (8, 32), "8M"
# Seconds; threads that wait spin for up to 0.2.
PAUSE = 0.4
BATCH_LINES = {f"batch {n}": {"do": "batch", "prompt": 16, "steps": 64, "sequences": n} for n in BATCHES}
# What holds CTranslate2, and the libraries that it calls, to an instruction set.
HELD = {
    "avx2": {"CT2_FORCE_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avxvnni": {
        "CT2_FORCE_CPU_ISA": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
# (shape, line, engine, threads) -> tokens/s.
Samples = dict[tuple[str, str, str, int], list[float]]


class Worker:
    """One engine's process for a shape and a thread count. `error` says why there is none."""

    def __init__(self, engine: str, shape: str, threads: int, isa: str, args: argparse.Namespace) -> None:
        self.engine, self.shape, self.threads = engine, shape, threads
        python = sys.executable if engine == US else str(args.peers / "bin" / "python")
        self.version, self.error, self.process = "", "", None
        if not Path(python).exists():
            self.error = "no peers' environment: `make bench-peers`"
            return
        # Threads of a library that does not ask: as many as the engine may use.
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), ISA_VARIABLE: isa}
        environment |= HELD.get(isa, {})
        self.process = subprocess.Popen(
            [python, HERE / "worker.py", engine, shape, str(threads), args.models],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            stderr=None if args.verbose else subprocess.DEVNULL,
        )  # fmt: skip
        said = json.loads(
            self.process.stdout.readline() or '{"error": "it did not start (--verbose shows why)"}'
        )
        self.error, self.version = said.get("error", ""), said.get("version", "")

    def ask(self, request: dict[str, Any]) -> tuple[float, list[int]]:
        """Tokens per second, and the tokens.

        Raises SystemExit when the engine gives other than what was asked for.
        """
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.engine} on {self.shape} stopped at {request} (--verbose shows why)")
        said = json.loads(line)
        tokens, asked = said["tokens"], request.get("steps", 1)
        if len(tokens) != asked or not all(0 <= t < SHAPES[self.shape].vocab_size for t in tokens):
            raise SystemExit(
                f"{self.engine} on {self.shape} gives {len(tokens)} tokens of {asked}: {tokens[:8]}"
            )
        counted = request["prompt"] if request["do"] == "prefill" else asked * request.get("sequences", 1)
        return counted / max(said["seconds"], 1e-9), tokens

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.stdin.close()
            self.process.wait()


def common(a: list[int], b: list[int]) -> int:
    """How many first tokens agree."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def measure(shape: str, isa: str, args: argparse.Namespace, samples: Samples) -> dict[str, Any]:
    """All rounds of one shape, into `samples`; what ran, and how far the
    greedy tokens agree with ours.
    """
    wanted = [(engine, threads) for engine in (US, *PEERS) for threads in args.threads]
    workers = [Worker(engine, shape, threads, isa, args) for engine, threads in wanted]
    facts: dict[str, Any] = {"versions": {}, "missing": {}, "agree": {}}
    for worker in workers:
        where = "missing" if worker.error else "versions"
        facts[where][f"{worker.engine}, {worker.threads} threads"] = worker.error or worker.version
    workers = [w for w in workers if not w.error]
    lines = LINES | (BATCH_LINES if shape == BATCH_SHAPE else {})
    # The first only warms up.
    for number in range(-1, args.rounds):
        turn = max(number, 0) % len(workers)
        for line, request in lines.items():
            ours: dict[str, list[int]] = {}
            for worker in workers[turn:] + workers[:turn]:
                if request["do"] == "batch" and worker.engine != US:
                    continue
                time.sleep(PAUSE)
                speed, tokens = worker.ask({**request, "seed": 1000 + max(number, 0)})
                ours.setdefault(worker.engine, tokens)
                if number >= 0:
                    samples[shape, line, worker.engine, worker.threads].append(speed)
            for peer in set(ours) - {US} if US in ours and number < 0 else ():
                facts["agree"][f"{peer}, {line}"] = common(ours[US], ours[peer])
        print(f"{shape}: {'warm' if number < 0 else f'round {number + 1} of {args.rounds}'}", file=sys.stderr)
    for worker in workers:
        worker.close()
    return facts


def rows_of(samples: Samples) -> list[dict[str, Any]]:
    """One row for each sample: median and quartiles."""
    rows = []
    for (shape, line, engine, threads), speeds in samples.items():
        several = len(speeds) > 1
        low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive") if several else speeds * 3
        rows.append(
            {"shape": shape, "line": line, "engine": engine, "threads": threads, "median": middle,
                "quartiles": [low, high]}
        )  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each engine at its best thread count on each line, and us over the best peer."""
    best: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        held = best[row["shape"], row["line"]].get(row["engine"])
        if held is None or row["median"] > held["median"]:
            best[row["shape"], row["line"]][row["engine"]] = row
    lines = []
    for (shape, line), engines in best.items():
        peers = [engines[p]["median"] for p in PEERS if p in engines]
        ratio = engines[US]["median"] / max(peers) if peers and US in engines else None
        if line in BATCH_LINES:
            ratio = engines[US]["median"] / best[shape, "decode 16+128"][US]["median"]
        lines.append({"shape": shape, "line": line, "engines": engines, "ratio": ratio})
    return lines


def cell(row: dict[str, Any] | None) -> str:
    """Median, quartiles and threads."""
    if row is None:
        return "-"
    low, high = row["quartiles"]
    return f"{row['median']:,.0f} ({low:,.0f} to {high:,.0f}), {row['threads']} thr"


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    header = (
        f"| shape | line | {US} | {' | '.join(PEERS)} | us / best peer |\n| --- | --- | --- | --- | --- |"
        " --- |\n"
    )
    text = ""
    for line in lines:
        cells = [cell(line["engines"].get(name)) for name in (US, *PEERS)]
        ratio = "-" if line["ratio"] is None else f"{line['ratio']:.2f}"
        note = " (of one sequence)" if line["line"] in BATCH_LINES else ""
        text += f"| {line['shape']} | {line['line']} | {' | '.join(cells)} | {ratio}{note} |\n"
    return header + text


def chart(lines: list[dict[str, Any]], path: Path) -> None:
    """Bars of tokens/s over the best peer's, a panel for each line."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(LINES), sharey=True), LINES, strict=True):
        shown = [line for line in lines if line["line"] == name]
        for index, engine in enumerate((US, *PEERS)):
            for group, line in enumerate(shown):
                peers = [line["engines"][p]["median"] for p in PEERS if p in line["engines"]]
                if engine in line["engines"] and peers:
                    value = line["engines"][engine]["median"] / max(peers)
                    bar = panel.bar(group + 0.27 * (index - 1), value, 0.25, color=f"C{index}", label=engine)
                    panel.bar_label(bar, [f"{value:.2f}"], fontsize=7)
        panel.set_xticks(range(len(shown)), [line["shape"] for line in shown])
        panel.set_title(name)
        panel.axhline(1.0, color="grey", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("tokens/s over the best peer's")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (x.split(": ", 1)[1] for x in info.read_text().splitlines() if x.startswith("model name")), cpu
        )
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()}


def make_table(isa: str, args: argparse.Namespace) -> None:
    """Measure with one instruction set, print and write."""
    samples: Samples = defaultdict(list)
    facts = {"machine": machine(), "isa": isa, "rounds": args.rounds, "shapes": {}}
    for shape in args.shapes:
        facts["shapes"][shape] = measure(shape, isa, args, samples)
    rows = rows_of(samples)
    lines = summary(rows)
    cpu, cores = facts["machine"]["cpu"], facts["machine"]["cores"]
    # Of the minute before: past the number of cores, others ran beside.
    load = facts["machine"]["load"][0]
    title = f"{isa}: {cpu}, {cores} cores, load {load:.1f}, medians of {args.rounds} rounds, tokens/s"
    text = f"{title}\n\n{table(lines)}"
    print(text)
    for shape, what in facts["shapes"].items():
        for engine, reason in what["missing"].items():
            print(f"{shape}: {engine} did not run: {reason}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        out = args.out.with_name(f"{args.out.name}-{isa}")
        out.with_suffix(".md").write_text(text)
        ratios = [{k: line[k] for k in ("shape", "line", "ratio")} for line in lines]
        value = facts | {"rows": rows, "ratios": ratios}
        out.with_suffix(".json").write_text(json.dumps(value, indent=2) + "\n")
        chart(lines, out.with_suffix(".png"))
        print(f"the table of {isa} is {out.with_suffix('.md')}")


def main() -> None:
    """Make a table for each instruction set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--peers", type=Path, default=HERE.parent / "build" / "peers")
    parser.add_argument("--models", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--out", type=Path, help="Writes OUT-ISA.md, .json and .png.")
    parser.add_argument("--verbose", action="store_true", help="Show what the engines say.")
    parser.add_argument(
        "--isa", choices=[*instruction_sets(), "all"], help="The widest of this machine, if not given."
    )
    args = parser.parse_args()
    args.models.mkdir(parents=True, exist_ok=True)
    # The portable text is there to be read, not to be fast.
    every = [isa for isa in instruction_sets() if isa != "scalar"]
    for isa in every if args.isa == "all" else [args.isa or choose_isa()]:
        make_table(isa, args)


if __name__ == "__main__":
    main()
