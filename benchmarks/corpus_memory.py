"""Peak memory of the corpus stage over the size of its input: 20 GB have to stream within 2 GB.

Documents are made as they are read (12 kB each, words without order, so that none is like
another) and go through quality rules, near duplicates and the split by cluster. Each size runs in
a process of its own; the figure is the peak of resident memory, libraries included. What grows is
the index, so many bytes a document; when 20 GB are not among the sizes, the last row is a
forecast by the slope between the two largest, and says so. Documents as small as 4 kB would make
the index three times as large.

The input is never on the disk, but the parts hold its texts until the corpus is written: about
twice the input at the peak (measured, too). With `--work` a run that was stopped or killed goes on
behind its last part, and sizes that are done are not run again: peak memory is then the largest of
all attempts, processor time their sum.

    python benchmarks/corpus_memory.py [--sizes 0.2 1 2 20] [--work DIR] \
        [--out benchmarks/results/corpus_memory]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GB = 1_000_000_000
LIMIT, GOAL = 2 * GB, 20 * GB
N_WORDS, N_VOCABULARY = 1500, 100_000
# Between two looks at memory, time and disk.
LOOK_SECONDS = 5.0


class Watch(threading.Thread):
    """Writes down every few seconds what this process has taken at most, on top of
    what attempts before it took.
    """

    def __init__(self, where: Path) -> None:
        super().__init__(daemon=True)
        self._where, self._file = where, where / "taken.json"
        self._before = (
            json.loads(self._file.read_text()) if self._file.is_file() else {"rss": 0, "cpu": 0.0, "disk": 0}
        )
        self._disk, self._done = self._before["disk"], threading.Event()

    def taken(self) -> dict[str, Any]:
        """Peak resident bytes, processor seconds, peak bytes on the disk; of all attempts."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._disk = max(self._disk, sum(_size(file) for file in self._where.rglob("*")))
        return {
            "rss": max(self._before["rss"], used.ru_maxrss * 1024),
            "cpu": self._before["cpu"] + time.process_time(),
            "disk": self._disk,
        }

    def run(self) -> None:
        """Look until the process ends, which it does with the one that started it: the next
        attempt is to find nobody here.
        """
        parent = os.getppid()
        while not self._done.wait(LOOK_SECONDS):
            self._write()
            if os.getppid() != parent:
                os._exit(1)

    def stop(self) -> dict[str, Any]:
        """The last look."""
        self._done.set()
        self.join()
        return self._write()

    def _write(self) -> dict[str, Any]:
        taken = self.taken()
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(taken))
        new.replace(self._file)
        return taken


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


def child(gigabytes: float, where: Path) -> None:
    """One run of the stage; prints its figures."""
    import numpy as np

    from sevenfold.core.hashing import sha256
    from sevenfold.corpus import stage
    from sevenfold.corpus.sources import SourceDocument, SourceOrigin
    from sevenfold.recipe import load_recipe
    from sevenfold.report.console import PlainProgress
    from sevenfold.runs.job import Job

    rng = np.random.default_rng(1)
    letters = rng.integers(ord("a"), ord("z") + 1, (N_VOCABULARY, 8), np.uint8)
    letters[:, 7] = ord(" ")
    letters[::10, 7] = ord("\n")
    origin = SourceOrigin(source="made", version="", licence="MIT", licence_evidence="", domain="code")

    def made(*_: object) -> Iterator[SourceDocument]:
        n_bytes = n = 0
        while n_bytes < gigabytes * GB:
            data = letters[rng.integers(0, N_VOCABULARY, N_WORDS)].tobytes()
            yield SourceDocument(origin, f"{n}.py", len(data), sha256(data).hex(), data)
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
    watch = Watch(where)
    watch.start()
    recipe = load_recipe(where / "recipe.yaml")
    facts = stage.run(Job(recipe=recipe, out=where / "out", recipe_dir=where, progress=PlainProgress())).facts
    print(json.dumps({"n_documents": facts["n_seen"], "n_kept": facts["n_kept"], **watch.stop()}))


def measure(size: float, work: Path | None) -> dict[str, Any]:
    """The row of one size (GB), from `work` when it is there already."""
    with tempfile.TemporaryDirectory() as temporary:
        where = (work or Path(temporary)) / f"{size:g}"
        done = where.with_suffix(f"{where.suffix}.json")
        if done.is_file():
            row: dict[str, Any] = json.loads(done.read_text())
            return row
        where.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--child", str(size), str(where)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        row = {"n_bytes": round(size * GB), **json.loads(said.splitlines()[-1])}
        done.write_text(json.dumps(row))
        shutil.rmtree(where)
        return row


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
    if rows[-1] is not measured[-1]:
        last = [measured[-1], rows[-1]]
        axes.plot(
            [r["n_bytes"] / GB for r in last],
            [r["rss"] / GB for r in last],
            "--",
            marker="x",
            label="forecast",
        )
    axes.axhline(LIMIT / GB, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="input, GB", ylabel="peak resident memory, GB", ylim=(0, 1.1 * LIMIT / GB))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def as_table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = (
        "| input, GB | documents | peak memory, MB | peak on the disk, GB | CPU seconds |\n| --- | --- | ---"
        " | --- | --- |\n"
    )
    return head + "".join(
        f"| {r['n_bytes'] / GB:g} | {r['n_documents']:,} | {r['rss'] / 1e6:.0f} | "
        + (
            f"{r['disk'] / GB:.1f} | {r['cpu']:.0f} |\n"
            if "cpu" in r
            else f"forecast, {r['bytes_a_document']:.0f} bytes a document | |\n"
        )
        for r in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.2, 1, 2], help="GB")
    parser.add_argument("--work", type=Path, help="keep what is done here, and go on from it")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "corpus_memory")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(float(args.child[0]), Path(args.child[1]))
        return
    rows = []
    for size in sorted(args.sizes):
        rows.append(measure(size, args.work))
        print(rows[-1], flush=True)
    if rows[-1]["n_bytes"] < GOAL and len(rows) > 1:
        rows.append(forecast(rows))
    args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(as_table(rows))
    plot(rows, args.out.with_suffix(".png"))
    print(as_table(rows))


if __name__ == "__main__":
    main()
