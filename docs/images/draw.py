"""Draw the picture of the front page from measured data.

`python docs/images/draw.py RUN` reads a finished run, computes the golden logits on every backend
and instruction set of this machine, and writes `chain.json`. Without RUN it draws `chain.svg` and
`chain.png` from `chain.json`. The drawing is a pure function of that file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE / "chain.json"
INK, BOX, EDGE, GOOD = "#1f2937", "#eef2ff", "#6366f1", "#059669"
# One process for each row: an instruction set is chosen when the library is loaded.
PROBE = """
import json, sys
from sevenfold.artifact import read_artifact
from sevenfold.engine.backends import make_engine
from sevenfold.engine.session import greedy_steps, open_tokenizer, prompt_ids
from sevenfold.engine.weights import load_weights
artifact = read_artifact(sys.argv[1])
model = load_weights(artifact.tensors, artifact.graph, sys.argv[1])
engine = make_engine(sys.argv[2], model)
golden = artifact.provenance["golden"][0]
ids = prompt_ids(open_tokenizer(artifact, model), golden["prompt"], golden.get("domain", ""))
run = greedy_steps(engine, ids, golden["n_steps"])
assert run.logits_sha256 == golden["logits_sha256"], "other logits than the sealed ones"
print(json.dumps({"logits": run.logits_sha256}))
"""


def rows() -> list[tuple[str, str, str]]:
    """Return (label, backend, instruction set) for what this machine can run."""
    from sevenfold.engine import native

    found = [("NumPy reference", "reference", "")]
    found += [(f"C++ {isa}", "native", isa) for isa in native.instruction_sets()]
    found.append(("PyTorch integers", "torch", ""))
    return found


def measure(run: Path) -> dict[str, Any]:
    """Return the chain of a run and the digest of its golden logits on each backend."""
    from sevenfold.release.lineage import lineage
    from sevenfold.release.target import sealed_file

    artifact = sealed_file(run)
    chain = lineage(artifact)
    backends = []
    for label, backend, isa in rows():
        environment = os.environ | ({"S7_ISA": isa} if isa else {})
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(artifact.path), backend],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        backends.append({"label": label, "logits": json.loads(done.stdout)["logits"]})
    groups = chain["sources"]
    return {
        "recipe": chain["recipe"]["name"],
        "n_sources": len({row["source"] for row in groups}),
        "licences": sorted({row["licence"] for row in groups if row["train"]["n_documents"]}),
        "n_documents": chain["corpus"]["n_train"],
        "corpus_root": chain["corpus"]["root"],
        "tokenizer": chain["tokenizer"]["digest"],
        "n_steps": chain["training"]["n_steps"],
        "train_root": chain["training"]["root"],
        "root": chain["seal"]["root"],
        "backends": backends,
    }


def draw(data: dict[str, Any]) -> None:
    """Write chain.svg and chain.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "sevenfold"
    from matplotlib import pyplot as plt
    from matplotlib.patches import FancyBboxPatch

    figure, axes = plt.subplots(figsize=(11, 4.2))
    axes.set(xlim=(0, 11), ylim=(0, 4.2))
    axes.axis("off")

    def box(x: float, y: float, w: float, h: float, lines: list[str], colour: str = EDGE) -> None:
        shape = FancyBboxPatch((x, y), w, h, boxstyle="round,pad=0.04", fc=BOX, ec=colour, lw=1.4)
        axes.add_patch(shape)
        for i, line in enumerate(lines):
            place = y + h - (i + 0.75) * h / (len(lines) + 0.5)
            weight, size = ("bold", 10.5) if i == 0 else ("normal", 8.5)
            axes.text(x + w / 2, place, line, ha="center", va="center", color=INK, weight=weight, size=size)

    def arrow(x0: float, y0: float, x1: float, y1: float, colour: str = EDGE) -> None:
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.4})

    licences = ", ".join(data["licences"][:2]) + (" ..." if len(data["licences"]) > 2 else "")
    box(0.1, 1.5, 1.6, 1.2, ["Source", licences, f"{data['n_documents']:,} documents"])
    box(2.1, 1.5, 1.6, 1.2, ["Corpus", "root", data["corpus_root"][:12]])
    box(4.1, 1.5, 1.6, 1.2, ["Training", f"{data['n_steps']:,} steps", data["train_root"][:12]])
    box(6.1, 1.5, 1.6, 1.2, ["Seal", "Merkle root", data["root"][:12]])
    for x in (1.75, 3.75, 5.75):
        arrow(x, 2.1, x + 0.3, 2.1)
    n = len(data["backends"])
    for i, backend in enumerate(data["backends"]):
        y = 4.1 - (i + 1) * 4.0 / n + 0.06
        box(8.5, y, 2.4, 4.0 / n - 0.2, [backend["label"], f"logits {backend['logits'][:12]}"], GOOD)
        arrow(7.78, 2.1, 8.44, y + (4.0 / n - 0.2) / 2, GOOD)
    axes.text(3.9, 0.75, f"{data['recipe']}: every box is measured; equal digests are equal bits",
              ha="center", color=INK, size=9)  # fmt: skip
    figure.savefig(HERE / "chain.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    figure.savefig(HERE / "chain.png", dpi=110, metadata={"Software": None}, bbox_inches="tight")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        DATA.write_text(json.dumps(measure(Path(sys.argv[1])), indent=2) + "\n", encoding="utf-8")
    draw(json.loads(DATA.read_text(encoding="utf-8")))
