"""One or two tokenizers on the same held-out documents, as one picture: bytes per token and
fertility for each group.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.ownership import SOFTWARE


def write_plot(path: Path, figures: Mapping[str, Json]) -> None:
    """Write the PNG of figures by tokenizer name.

    Raises ImportError without matplotlib, StorageError.
    """
    from matplotlib.figure import Figure

    first = next(iter(figures.values()))
    groups = [
        ("all", "all"),
        *(("domains", name) for name in first["domains"]),
        *(("extensions", name) for name in first["extensions"]),
    ]
    labels = [name if kind != "extensions" else f".{name}" for kind, name in groups]
    figure = Figure(figsize=(9, 1.5 + 0.22 * len(groups) * len(figures)), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    height = 0.8 / len(figures)
    for axes, key in zip(panels, ("bytes_per_token", "fertility"), strict=True):
        for place, (name, one) in enumerate(figures.items()):
            values = [(one["all"] if kind == "all" else one[kind][group])[key] for kind, group in groups]
            middle = (place - (len(figures) - 1) / 2) * height
            label = f"{name}, {one['vocab_size']:,} entries"
            axes.barh([-i - middle for i in range(len(groups))], values, height, label=label)
        axes.set_title(
            {"bytes_per_token": "bytes per token", "fertility": "tokens per word"}[key], fontsize=10
        )
        axes.grid(axis="x", alpha=0.3)
        axes.margins(y=0.01)
    panels[0].set_yticks([-i for i in range(len(groups))], labels, fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": SOFTWARE})
    write_bytes(path, buffer.getvalue())
