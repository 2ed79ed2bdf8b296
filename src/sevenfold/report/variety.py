"""How different the samples of each generator are, as one picture: samples beside shapes, and where
samples were refused.
"""

from __future__ import annotations

import io
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.ownership import SOFTWARE


def write_plot(path: Path, facts: Json) -> None:
    """Write the PNG of a variety report (`s7 synth --json`). Raises ImportError without matplotlib,
    StorageError.
    """
    from matplotlib.figure import Figure

    generators = facts["generators"]
    names, places = list(generators)[::-1], range(len(generators))
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(names)), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, columns in (
        (left, (("n_samples", "samples"), ("n_shapes", "distinct shapes"))),
        (right, (("n_refused_by_check", "failed a check"), ("n_refused_by_cap", "over the cap of a shape"))),
    ):
        for offset, (column, label) in zip((0.2, -0.2), columns, strict=True):
            axes.barh(
                [place + offset for place in places],
                [generators[name][column] for name in names],
                0.38,
                label=label,
            )
        axes.legend(loc="lower right", fontsize=8)
        axes.grid(axis="x", alpha=0.3)
    left.set_yticks(list(places), names, fontsize=8)
    left.set_title("kept", fontsize=10)
    right.set_title("refused", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": SOFTWARE})
    write_bytes(path, buffer.getvalue())
