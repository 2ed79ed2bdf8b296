"""Peak memory of the corpus stage over the size of its input: 20 GB have to stream within 2 GB.

Documents are made as they are read (12 kB each, words without order, so that none is like another) and go through quality rules,
near duplicates and the split by cluster. Each size runs in a process of its own; the figure is the peak of resident memory,
libraries included. What grows is the index, so many bytes a document; the last row is a forecast by the slope between the two
largest sizes, and says so. Documents as small as 4 kB would make the index three times as large.

    python benchmarks/corpus_memory.py [--sizes 0.2 1 2] [--out benchmarks/results/corpus_memory]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GB = 1_000_000_000
LIMIT, GOAL = 2 * GB, 20 * GB
N_WORDS, N_VOCABULARY = 1500, 100_000


def child(gigabytes: float, where: Path) -> None:
    """One run of the stage; prints its figures."""
    import numpy as np

    from sevenfold.core.hashing import sha256
    from sevenfold.corpus import stage
    from sevenfold.corpus.sources import Found, Origin
    from sevenfold.recipe import load_recipe
    from sevenfold.recipe.job import Job

    rng = np.random.default_rng(1)
    letters = rng.integers(ord("a"), ord("z") + 1, (N_VOCABULARY, 8), np.uint8)
    letters[:, 7] = ord(" ")
    letters[::10, 7] = ord("\n")
    origin = Origin(source="made", version="", licence="MIT", licence_evidence="", domain="code")

    def made(*_: object) -> Iterator[Found]:
        n_bytes = n = 0
        while n_bytes < gigabytes * GB:
            data = letters[rng.integers(0, N_VOCABULARY, N_WORDS)].tobytes()
            yield Found(origin, f"{n}.py", len(data), sha256(data).hex(), data)
            n_bytes, n = n_bytes + len(data), n + 1

    stage._found = made
    shipped = load_recipe(HERE.parent / "recipes" / "s7" / "demo-1m.yaml").resolved()
    steps = {"quality": True, "near_duplicates": {}, "split": "cluster"}
    shipped["corpus"] |= {
        "sources": [{"kind": "stdlib"}],
        "licences": ["MIT"],
        "holdout": 100,
        "steps": steps,
    }
    (where / "recipe.yaml").write_text(json.dumps(shipped))
    started = time.process_time()
    facts = stage.run(
        Job(recipe=load_recipe(where / "recipe.yaml"), out=where / "out", recipe_dir=where)
    ).facts
    cpu = time.process_time() - started
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"n_documents": facts["n_seen"], "n_kept": facts["n_kept"], "rss": rss, "cpu": cpu}))


def forecast(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of GOAL, by the slope between the two largest sizes."""
    a, b = rows[-2:]
    slope = (b["rss"] - a["rss"]) / (b["n_documents"] - a["n_documents"])
    n_documents = round(b["n_documents"] * GOAL / b["n_bytes"])
    rss = b["rss"] + max(slope, 0) * (n_documents - b["n_documents"])
    return {
        "n_bytes": GOAL,
        "n_documents": n_documents,
        "rss": round(rss),
        "bytes_a_document": slope,
        "forecast": True,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Peak memory over input."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    measured = [row for row in rows if "cpu" in row]
    axes.plot(
        [r["n_bytes"] / GB for r in measured], [r["rss"] / GB for r in measured], marker="o", label="measured"
    )
    last = [measured[-1], rows[-1]]
    axes.plot(
        [r["n_bytes"] / GB for r in last], [r["rss"] / GB for r in last], "--", marker="x", label="forecast"
    )
    axes.axhline(LIMIT / GB, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="input, GB", ylabel="peak resident memory, GB", ylim=(0, 1.1 * LIMIT / GB))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def as_table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = "| input, GB | documents | peak memory, MB | CPU seconds | |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(
        f"| {r['n_bytes'] / GB:g} | {r['n_documents']:,} | {r['rss'] / 1e6:.0f} | "
        + (
            f"{r['cpu']:.0f} | |\n"
            if "cpu" in r
            else f"| forecast, {r['bytes_a_document']:.0f} bytes a document |\n"
        )
        for r in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.2, 1, 2], help="GB")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "corpus_memory")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(float(args.child[0]), Path(args.child[1]))
        return
    rows = []
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as where:
            command = [sys.executable, __file__, "--child", str(size), where]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"n_bytes": round(size * GB), **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1], flush=True)
    rows.append(forecast(rows))
    args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(as_table(rows))
    plot(rows, args.out.with_suffix(".png"))
    print(as_table(rows))


if __name__ == "__main__":
    main()
