"""Measure the memory: hit rates on questions made by program, and the speed of the exact scan.

    python benchmarks/memory.py --out benchmarks/results        (about 20 minutes on two cores)

The corpus is the standard library and installed packages, up to a number of tokens. Questions are
those of `memory_questions`; nothing was tuned on them (the weights were chosen on eight other
packages, which are left out here). A question is hit when one of the k chunks holds a line that
answers it.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from memory_questions import KINDS, Question, make_questions, python_files
from sevenfold.agent.memory import Addition, MemoryQuery, MemorySearch, add_source, open_memory, open_source
from sevenfold.agent.memory.embed import WIDTH
from sevenfold.agent.memory.scan import INSTRUCTION_SETS, dots, engine_name, numpy_dots
from sevenfold.core.files import write_pretty_json

# What the weights were chosen on.
TUNED_ON = {"hypothesis", "pydantic", "rich", "fsspec", "anyio", "jinja2", "typer", "starlette"}
# Packages of generated or copied code, and those that are larger than the whole corpus may be.
LEFT_OUT = {"transformers", "torch", "sympy", "pip", "_pytest", "test"}
CHUNKS = (6144, 12000)
KS = (4, 6, 8)
BYTES_PER_TOKEN = 3.7
GOAL = 0.9


def corpus(n_tokens: int) -> dict[str, bytes]:
    """Return path -> text of about so many tokens: the standard library, then packages by name."""
    paths = sysconfig.get_paths()
    found = {f"lib/{name}": text for name, text in python_files([Path(paths["stdlib"])]).items()}
    left = n_tokens * BYTES_PER_TOKEN - sum(map(len, found.values()))
    for root in sorted(Path(paths["purelib"]).iterdir()):
        name = root.name
        if not root.is_dir() or name in TUNED_ON | LEFT_OUT or name.startswith(("_", ".")):
            continue
        files = python_files([root])
        if (size := sum(map(len, files.values()))) <= left and files:
            found |= files
            left -= size
    return found


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    """Write the files below a directory."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text)


def is_hit(question: Question, hits: list) -> bool:
    """Return whether a chunk holds a line that answers."""
    return any(
        hit.entry.path == path and hit.lines[0] <= line <= hit.lines[1]
        for hit in hits
        for path, line in question.places
    )


def rates(search: MemorySearch, questions: list[Question]) -> dict:
    """Return hops -> k -> kind -> share of hits, and "all" without the kind that needs a hop."""
    found: dict = {(hops, k): defaultdict(list) for hops in (1, 2) for k in KS}
    n_tokens: Counter = Counter()
    scan, held = search._sims, {}

    def sims(codes: np.ndarray) -> np.ndarray:
        # The settings share the scans of a question.
        key = codes.tobytes()
        if key not in held:
            held[key] = scan(codes)
        return held[key]

    search._sims = sims  # type: ignore[method-assign]
    for question in questions:
        held.clear()
        whole = search.ask(MemoryQuery(text=question.text, k=max(KS), hops=1))
        for hops, k in found:
            query = MemoryQuery(text=question.text, k=k, hops=hops)
            hits = whole[:k] if hops == 1 else search.ask(query)
            found[hops, k][question.kind].append(is_hit(question, hits))
            n_tokens[hops, k] += sum(hit.n_tokens for hit in hits)
    search._sims = scan  # type: ignore[method-assign]
    table: dict = {"hops_1": {}, "hops_2": {}}
    for (hops, k), kinds in found.items():
        row = {kind: round(float(np.mean(values)), 4) for kind, values in kinds.items()}
        row["all"] = round(float(np.mean([kinds[kind] for kind in KINDS if kind != "hop"])), 4)
        table[f"hops_{hops}"][str(k)] = row | {"tokens_returned": round(n_tokens[hops, k] / len(questions))}
    return table


def scan_times(rows: np.ndarray, rounds: int = 15) -> dict:
    """Return the best and the median milliseconds of a scan of vectors, by what computes it."""
    query = rows[0]
    found = {}
    ways = {name: i for i, name in enumerate(INSTRUCTION_SETS)} | {"numpy": -1}
    for name, isa in ways.items():
        times = []
        for _ in range(rounds if name != "numpy" else 3):
            start = time.perf_counter()
            numpy_dots(rows, query) if name == "numpy" else dots(rows, query, isa=isa)
            times.append((time.perf_counter() - start) * 1000)
        found[name] = {"best_ms": round(min(times), 2), "median_ms": round(float(np.median(times)), 2)}
    return found


def question_times(search: MemorySearch, questions: list[Question]) -> dict:
    """Return milliseconds of whole questions at k = 6."""
    found = {}
    for hops in (1, 2):
        times = []
        for question in questions[:: max(len(questions) // 60, 1)]:
            start = time.perf_counter()
            search.ask(MemoryQuery(text=question.text, k=6, hops=hops))
            times.append((time.perf_counter() - start) * 1000)
        found[f"hops_{hops}"] = {
            "median_ms": round(float(np.median(times)), 1),
            "p95_ms": round(float(np.quantile(times, 0.95)), 1),
        }
    return found


def measure(work: Path, files: dict[str, bytes], questions: list[Question], chunk: int) -> dict:
    """Return what one length of chunks gives."""
    start = time.perf_counter()
    with open_source(work / "tree", "packages") as source:
        report = add_source(work / f"memory-{chunk}", source, Addition(chunk_tokens=chunk))
    added = time.perf_counter() - start
    start = time.perf_counter()
    search = MemorySearch(open_memory(work / f"memory-{chunk}"))
    opened = time.perf_counter() - start
    value = {
        "n_files": len(files),
        "n_tokens": report.n_tokens,
        "n_spans": len(search.memory.vectors()),
        "n_chunks": sum(len(blob.chunks) for blob in search.blobs),
        "dropped": dict(report.dropped),
        "bytes_on_disk": sum(one.n_bytes for one in search.memory.manifest.segments),
        "add_seconds": round(added, 1),
        "open_seconds": round(opened, 2),
        "root": report.root,
        "scan": scan_times(search.memory.vectors()),
        "question": question_times(search, questions),
        "hit_rate": rates(search, questions),
    }
    print(json.dumps({"chunk": chunk} | value), flush=True)
    return value


def draw(path: Path, result: dict) -> None:
    """Draw the rates by kind and k."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(CHUNKS), figsize=(11, 4), sharey=True)
    for axis, chunk in zip(axes, CHUNKS, strict=True):
        for hops, style in ((1, "--"), (2, "-")):
            table = result["chunks"][str(chunk)]["hit_rate"][f"hops_{hops}"]
            for i, kind in enumerate((*KINDS, "all")):
                line = [table[str(k)][kind] for k in KS]
                axis.plot(KS, line, style, color=f"C{i}", marker="o", label=f"{kind}, hops {hops}")
        axis.axhline(GOAL, color="grey", linewidth=0.8)
        axis.set(title=f"chunks of at most {chunk} tokens", xlabel="k", xticks=KS, ylim=(0, 1.02))
    axes[0].set_ylabel("hit rate")
    axes[-1].legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": "Sevenfold"})


def main() -> None:
    """Measure, and write memory.json and memory.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--each", type=int, default=340, help="questions of each kind")
    given = parser.parse_args()
    questions, files = make_questions(corpus(given.tokens), given.each)
    counts = Counter(question.kind for question in questions)
    print(f"{len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB, {dict(counts)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_tree(work / "tree", files)
        chunks = {str(chunk): measure(work, files, questions, chunk) for chunk in CHUNKS}
    # As many vectors as 10M tokens have, at the rate that was measured.
    first = chunks[str(CHUNKS[0])]
    n_rows = round(10_000_000 * first["n_spans"] / first["n_tokens"])
    rows = np.random.default_rng(0).integers(-127, 128, (n_rows, WIDTH)).astype(np.int8)
    result = {
        "scan_of_10m_tokens": {"n_vectors": n_rows, "bytes": rows.nbytes} | scan_times(rows),
        "questions": dict(counts),
        "goal": {"hit_rate": GOAL, "k": 6},
        "scan_engine": engine_name(),
        "chunks": chunks,
    }
    write_pretty_json(given.out / "memory.json", result)
    draw(given.out / "memory.png", result)


if __name__ == "__main__":
    main()
