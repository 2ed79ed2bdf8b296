"""Opening and verifying a sealed model of 228M parameters, beside what readers of safetensors and
GGUF do with the same weights.

Random INT8 codes in 96 tensors, the same in every format. `open` gives names and shapes; `load`
gives every tensor and touches all its bytes; `verify` proves them: here lanes, root, chunks,
parts and rules V0 to V7, there the SHA-256 of the file by hand, for the formats hold no hash.
Rounds alternate between the formats, so a slow moment hits all; medians. Wall time, and CPU
time too, because a busy machine stretches the first and not the second. The memory roof is one
core adding up 8-byte words.

    python benchmarks/artifact.py [--parameters 228000000] [--rounds 5] \
        [--out benchmarks/results/artifact.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "attacks"))
from build_attacks import sample_input

from sevenfold.artifact import StreamVerifier, Tensor, build_contents, open_artifact, verify, write_artifact
from sevenfold.artifact.seal import all_chunk_digests
from sevenfold.core.hashing import sha256

N_TENSORS = 96
Work = Callable[[], object]


def tensors(n_parameters: int) -> list[Tensor]:
    """Random codes: 96 square-ish matrices beside the two required ones."""
    rng, side = np.random.default_rng(1), round((n_parameters / N_TENSORS) ** 0.5)
    return [
        Tensor(f"layers.{i:02d}.weight", (side, side), 0.01, rng.integers(-127, 128, (side, side), np.int8))
        for i in range(N_TENSORS)
    ]


def write_all(directory: Path, made: list[Tensor]) -> dict[str, Path]:
    """The same weights in every format whose writer is installed."""
    paths = {"s7l": directory / "model.s7l"}
    write_artifact(paths["s7l"], build_contents(sample_input(tensors=[*sample_input().tensors, *made])))
    from safetensors.numpy import save_file

    paths["safetensors"] = directory / "model.safetensors"
    save_file({t.name: t.data for t in made}, paths["safetensors"])
    try:
        from gguf import GGUFWriter
    except ImportError:
        return paths
    paths["gguf"] = directory / "model.gguf"
    writer = GGUFWriter(paths["gguf"], "llama")
    for tensor in made:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return paths


def touch(arrays: list[Any]) -> int:
    """Read every byte of every array."""
    return sum(int(np.bitwise_xor.reduce(np.asarray(array).reshape(-1).view(np.uint8))) for array in arrays)


def load_safetensors(path: Path) -> int:
    """Every tensor through the library's reader."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return touch([file.get_tensor(name) for name in file.keys()])  # noqa: SIM118 - not a dict


def open_safetensors(path: Path) -> object:
    """Names and shapes."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a dict


def read_gguf(path: Path) -> Any:
    """The library's reader, which maps the file."""
    from gguf import GGUFReader

    return GGUFReader(path)


def digest_file(path: Path) -> str:
    """SHA-256 of a whole file, as a user would take it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stream(path: Path) -> str:
    """The file through the stream verifier, in blocks of one megabyte."""
    verifier = StreamVerifier()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            verifier.update(block)
    return verifier.finish()


def works(paths: dict[str, Path]) -> dict[str, Work]:
    """What is measured, by name: `format verb`."""
    s7l = paths["s7l"]
    table: dict[str, Work] = {
        "s7l open": lambda: [record.dims for record in open_artifact(s7l).records.values()],
        "s7l load (proved)": lambda: touch([t.data for t in open_artifact(s7l).tensors.values()]),
        "s7l verify": lambda: verify(open_artifact(s7l)),
        "s7l stream": lambda: stream(s7l),
        "safetensors open": lambda: open_safetensors(paths["safetensors"]),
        "safetensors load": lambda: load_safetensors(paths["safetensors"]),
        "safetensors sha256": lambda: digest_file(paths["safetensors"]),
    }
    if "gguf" in paths:
        table |= {
            "gguf open": lambda: [t.shape for t in read_gguf(paths["gguf"]).tensors],
            "gguf load": lambda: touch([t.data for t in read_gguf(paths["gguf"]).tensors]),
            "gguf sha256": lambda: digest_file(paths["gguf"]),
        }
    return table


def measure(table: dict[str, Work], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall and CPU seconds of each; the first round warms the page cache and is not counted."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
    for turn in range(rounds + 1):
        for name, work in table.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:
                seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "wall_s": statistics.median(wall for wall, _ in rows),
            "best_wall_s": min(wall for wall, _ in rows),
            "cpu_s": statistics.median(cpu for _, cpu in rows),
        }
        for name, rows in seen.items()
    }


def roofs(rounds: int) -> dict[str, float]:
    """Bytes a CPU-second: memory read by one core, SHA-256 of one buffer
    and of chunks on every core.
    """
    data = np.random.default_rng(2).integers(0, 1 << 63, 1 << 24, np.uint64)
    view = memoryview(data).cast("B")
    rates = {}
    for name, work in {
        "memory read": lambda: data.sum(),
        "sha256 whole": lambda: sha256(view),
        "sha256 chunks": lambda: all_chunk_digests([view], 1 << 16),
    }.items():
        times = []
        for _ in range(rounds):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
        rates[name] = data.nbytes / statistics.median(times)
    return rates


def draw(path: Path, rows: dict[str, dict[str, float]], n_bytes: int) -> None:
    """Seconds of each, as bars on a logarithmic axis."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "sevenfold"
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    names = list(rows)[::-1]
    colours = ["#1b6ca8" if name.startswith("s7l") else "#9aa5b1" for name in names]
    axes.barh(names, [rows[name]["cpu_s"] * 1e3 for name in names], color=colours)
    for index, name in enumerate(names):
        axes.text(rows[name]["cpu_s"] * 1e3, index, f" {rows[name]['cpu_s'] * 1e3:,.1f} ms", va="center")
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel(f"CPU milliseconds, {n_bytes / 1e6:,.0f} MB of weights (logarithmic)")
    axes.set_title("Open, load, verify")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and print; write JSON and a chart when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=228_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = write_all(Path(name), tensors(args.parameters))
        n_bytes = paths["s7l"].stat().st_size
        rows, rates = measure(works(paths), args.rounds), roofs(args.rounds)
    for label, row in rows.items():
        rate = n_bytes / row["cpu_s"] / 1e9
        print(
            f"{label:20} {row['wall_s'] * 1e3:10.2f} ms wall {row['cpu_s'] * 1e3:10.2f} ms CPU {rate:8.2f}"
            " GB/s"
        )
    for label, rate in rates.items():
        print(
            f"{label:20} {rate / 1e9:8.2f} GB a CPU-second, {rate / rates['memory read']:.0%} of the memory"
            " roof"
        )
    if args.out:
        result = {
            "machine": platform.machine(),
            "n_bytes": n_bytes,
            "rows": rows,
            "bytes_per_cpu_second": rates,
        }
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="ascii")
        draw(args.out.with_suffix(".svg"), rows, n_bytes)


if __name__ == "__main__":
    main()
