"""MB/s of raw source through the corpus stage on one core, beside datatrove on the
same documents in the same run.

Documents are the text files below the directories given (default: this interpreter's library and
site-packages), a few times over with every copy's words changed when there are too few. Each engine
runs in a process of its own, pinned to one core; the figure is CPU time (user and system, without
imports), because the machine may be shared; wall time stands beside it.

    equivalent     quality rules, personal data redacted, exact and near duplicates:
                   what datatrove is asked for, too
    without trees  all steps but syntax, decontamination (both need syntax trees) and perplexity
    all            all steps but perplexity; decontamination when $SEVENFOLD_DATA has the sets

datatrove's own tokenizer takes an hour of a core for 1,000 MB, so it is left out above
`--default-limit`, and the table says so. Figures are written as they come; with `--work DIR` they
are kept there, and a run that was stopped goes on behind them.

    python benchmarks/corpus.py [--sizes 10 100 1000] [--peers build/corpus-peers] \
        [--work DIR] [--out benchmarks/results/corpus]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENDINGS = (
    ".py",
    ".pyi",
    ".md",
    ".rst",
    ".txt",
    ".c",
    ".h",
    ".cpp",
    ".hpp",
    ".js",
    ".ts",
    ".go",
    ".rs",
    ".java",
    ".sh",
)
MB = 1_000_000
# Bytes in which licences and generators name themselves.
HEAD = 2000
EQUIVALENT: dict[str, Any] = {"quality": True, "personal": "redact", "near_duplicates": {}}
WITHOUT_TREES = EQUIVALENT | {
    "lines": {}, "drop": ["generated", "minified"], "prose_languages": ["en"], "secrets": "redact",
    "domains": [{"domain": "prose", "languages": ["markdown", "text", "restructuredtext"]}],
    "split": "cluster",
}  # fmt: skip
LANGUAGES = ["bash", "c", "cpp", "go", "java", "javascript", "python", "rust", "typescript"]
LINES = {
    "equivalent": EQUIVALENT,
    "without trees": WITHOUT_TREES,
    "all": WITHOUT_TREES | {"syntax": LANGUAGES},
}


@cache
def reserved() -> frozenset[bytes]:
    """Words that mean something to the grammars of LANGUAGES: with other names
    programs would not be programs.
    """
    from tree_sitter import Language

    from sevenfold.corpus.text.grammars import parser

    parsers = [parser(name) for name in LANGUAGES]
    grammars: list[Language] = [one.language for one in parsers]  # type: ignore[misc] # each has one
    kinds = (g.node_kind_for_id(i) or "" for g in grammars for i in range(g.node_kind_count))
    return frozenset(word.encode() for kind in kinds for word in re.findall("[a-z]+", kind))


def renamed(data: bytes, round_: int) -> bytes:
    """Another document of the same kind: its words have other names, but for its head, which says
    whose it is and who made it.
    """

    def rename(match: re.Match[bytes]) -> bytes:
        word = match[0]
        return word if word in reserved() else word[::-1] + b"x" * round_

    return data[:HEAD] + re.sub(rb"\b[a-z]{4,}\b", rename, data[HEAD:])


def documents(roots: list[Path], n_bytes: int) -> Iterator[tuple[str, bytes]]:
    """(path, text) of files until they sum up to `n_bytes`, in an order that mixes the directories."""
    files = sorted(f for root in roots for f in root.rglob("*") if f.suffix in ENDINGS and f.is_file())
    random.Random(1).shuffle(files)
    taken, round_ = 0, 0
    while taken < n_bytes:
        for number, file in enumerate(files):
            data = file.read_bytes()
            if not 100 < len(data) <= 1 << 20:
                continue
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            if round_:
                data = renamed(data, round_)
            yield f"{round_}/{number % 97}/{number}{file.suffix}", data
            taken += len(data)
            if taken >= n_bytes:
                return
        round_ += 1


def prepare(roots: list[Path], size: int, where: Path) -> int:
    """The documents as a tree and as JSON lines; their bytes."""
    n_bytes = 0
    where.mkdir(parents=True)
    with (where / "in.jsonl").open("w") as lines:
        for number, (path, data) in enumerate(documents(roots, size * MB)):
            file = where / "tree" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            lines.write(json.dumps({"id": str(number), "text": data.decode()}) + "\n")
            n_bytes += len(data)
    return n_bytes


def ours(where: Path, steps: dict[str, Any]) -> None:
    """One run of the corpus stage in this process; prints its figures."""
    from sevenfold.corpus.stage import run
    from sevenfold.recipe import load_recipe
    from sevenfold.runs.job import Job

    shipped = load_recipe(HERE.parent / "recipes" / "s7" / "demo-1m.yaml").resolved()
    shipped["corpus"] |= {
        "sources": [{"kind": "directory", "path": "tree", "licence": "PSF-2.0"}], "steps": steps,
    }  # fmt: skip
    (where / "recipe.yaml").write_text(json.dumps(shipped))
    job = Job(recipe=load_recipe(where / "recipe.yaml"), out=where / "out", recipe_dir=where)
    _import_all(where, steps)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    facts = run(job).facts
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {name: facts[name] for name in ("n_seen", "n_kept", "dropped")}
    print(
        json.dumps(
            {"wall": time.perf_counter() - started, "cpu": cpu, "rss": after.ru_maxrss * 1024, **figures}
        )
    )


def _import_all(where: Path, steps: dict[str, Any]) -> None:
    """Load libraries and models, which are loaded when first used, by taking one document of
    each kind through the steps.
    """
    import pyarrow.parquet  # noqa: F401 - loaded, not used

    from sevenfold.corpus.licences import Judgement
    from sevenfold.corpus.licences.wording.own import licences_in
    from sevenfold.corpus.shards import ShardTask, make_shard
    from sevenfold.corpus.sources import SourceDocument, SourceOrigin
    from sevenfold.recipe.corpus_schema import CorpusSpec

    text = (
        b"# The names of all files that are found below a path, in the order in which somebody would read"
        b" them.\n"
    )
    text += b"".join(b"def listing(path%d):\n    return sorted(path%d.names)\n" % (n, n) for n in range(9))
    origin = SourceOrigin(source="", version="", licence="MIT", licence_evidence="", domain="code")
    found = [
        SourceDocument(origin, f"a{end}", len(text), f"{n:064x}", text + b"%d" % n)
        for n, end in enumerate(ENDINGS)
    ]
    licences_in(
        b"# "
        + b"Permission is hereby granted, free of charge, to any person obtaining a copy of this software. "
        * 2
    )
    source = [{"kind": "stdlib"}]
    spec = CorpusSpec.model_validate_json(
        json.dumps({"sources": source, "licences": ["MIT"], "steps": steps})
    )
    documents = tuple((item, Judgement("MIT", None)) for item in found)
    make_shard(
        ShardTask(number=0, key="", directory=where / "warm", base=where, spec=spec, documents=documents)
    )


def measure(command: list[str], n_bytes: int) -> dict[str, Any]:
    """Run one engine pinned to a core; its figures, or why there are none."""
    core = max(os.sched_getaffinity(0))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(
        ["taskset", "-c", str(core), *command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["failed"])[-1][:300]}
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said | {"mb_per_cpu_s": n_bytes / MB / said["cpu"], "mb_per_s": n_bytes / MB / said["wall"]}


def eval_hashes(where: Path) -> dict[str, Any]:
    """Recipe key of decontamination, when the sets are there."""
    sets = Path(os.environ.get("SEVENFOLD_DATA", HERE.parent.parent / "shared" / "data")) / "eval"
    if not sets.is_dir():
        return {}
    from sevenfold.corpus.text.contamination_index import build

    return {
        "decontaminate": {
            "path": str(where / "eval.s7eh"),
            "sha256": build(sets, where / "eval.s7eh")["sha256"],
        }
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """MB/s over the size of the corpus."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["line"] for row in rows):
        points = [
            (row["n_bytes"] / MB, row["mb_per_cpu_s"]) for row in rows if row["line"] == name and "cpu" in row
        ]
        if points:
            style = "--" if "datatrove" in name else "-"
            axes.plot(*zip(*points, strict=True), style, marker="o", label=name)
    axes.axhline(12, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log", yscale="log", xlabel="raw source, MB", ylabel="MB per second of one core (CPU time)"
    )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def as_table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = (
        "| MB | line | MB per CPU second | MB per second of wall | peak memory, MB |\n| --- | --- | --- | ---"
        " | --- |\n"
    )
    return head + "".join(
        f"| {row['n_bytes'] / MB:.0f} | {row['line']} | "
        + (
            f"{row['mb_per_cpu_s']:.2f} | {row['mb_per_s']:.2f} | {row['rss'] / MB:.0f} |\n"
            if "cpu" in row
            else f"{row['error']} | | |\n"
        )
        for row in rows
    )


class Rows:
    """Figures in the order in which they were asked for; what `file` has is not measured again."""

    def __init__(self, file: Path, out: Path) -> None:
        self._file, self._out = file, out
        self._known: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
        self.rows: list[dict[str, Any]] = []

    def add(self, line: str, size: int, figures: Callable[[], dict[str, Any]]) -> None:
        """A row, from `file` or from `figures`; table, plot and JSON follow at once."""
        known = [row for row in self._known if (row["line"], row["size"]) == (line, size) and "cpu" in row]
        self.rows.append(known[0] if known else {"line": line, "size": size, **figures()})
        print(self.rows[-1], flush=True)
        merged = {(row["line"], row["size"]): row for row in self._known + self.rows}
        self._file.write_text(json.dumps(list(merged.values()), indent=1) + "\n")
        self._out.parent.mkdir(parents=True, exist_ok=True)
        machine = platform.processor() or platform.machine()
        value = {"machine": machine, "python": platform.python_version(), "rows": self.rows}
        self._out.with_suffix(".json").write_text(json.dumps(value, indent=1) + "\n")
        self._out.with_suffix(".md").write_text(as_table(self.rows))
        plot(self.rows, self._out.with_suffix(".png"))


def measure_size(size: int, directory: Path, rows: Rows, args: argparse.Namespace) -> None:
    """All lines at one size (MB)."""
    where = directory / str(size)
    shutil.rmtree(where, ignore_errors=True)
    n_bytes = prepare(args.roots, size, where)

    def sevenfold(steps: dict[str, Any]) -> dict[str, Any]:
        command = [sys.executable, __file__, "--ours", str(where), json.dumps(steps)]
        try:
            return {"n_bytes": n_bytes, **measure(command, n_bytes)}
        finally:
            shutil.rmtree(where / "out", ignore_errors=True)

    def datatrove(tokenizer: str) -> dict[str, Any]:
        limit = args.default_limit if tokenizer == "default" else args.peer_limit
        if size > limit:
            return {"n_bytes": n_bytes, "error": f"left out above {limit} MB"}
        peer = [str(args.peers / "bin" / "python"), str(HERE / "corpus_datatrove.py")]
        try:
            said = measure([*peer, str(where / "in.jsonl"), str(where / tokenizer), tokenizer], n_bytes)
        finally:
            shutil.rmtree(where / tokenizer, ignore_errors=True)
        return {"n_bytes": n_bytes, **said}

    for name, steps in LINES.items():
        steps = steps | (eval_hashes(where) if name == "all" else {})
        rows.add(f"sevenfold, {name}", size, partial(sevenfold, steps))
    for tokenizer in ("default", "regex"):
        rows.add(f"datatrove, {tokenizer} tokenizer", size, partial(datatrove, tokenizer))
    shutil.rmtree(where)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000], help="MB")
    parser.add_argument(
        "--roots", type=Path, nargs="+", default=[Path(sysconfig.get_path(n)) for n in ("stdlib", "purelib")]
    )
    parser.add_argument("--peers", type=Path, default=HERE.parent / "build" / "corpus-peers")
    parser.add_argument(
        "--peer-limit", type=int, default=1000, help="largest size for datatrove with a regex tokenizer, MB"
    )
    parser.add_argument(
        "--default-limit", type=int, default=100, help="largest size for datatrove as it comes, MB"
    )
    parser.add_argument("--work", type=Path, help="keep figures and documents here, and go on from them")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "corpus")
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        ours(Path(args.ours[0]), json.loads(args.ours[1]))
        return
    with tempfile.TemporaryDirectory() as directory:
        work = args.work or Path(directory)
        work.mkdir(parents=True, exist_ok=True)
        rows = Rows(work / "rows.json", args.out)
        for size in args.sizes:
            measure_size(size, work, rows, args)
    print(as_table(rows.rows))


if __name__ == "__main__":
    main()
