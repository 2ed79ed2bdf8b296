"""Draw figures as inline SVG that follows the colours of the page, light or dark, and refers to
nothing outside itself.

matplotlib draws with stand-in colours, which then become CSS variables. The same figures give the same
bytes, because there is no clock and ids are fixed. Cost: about half a second, most of it the import of
matplotlib, which is therefore inside the function.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sevenfold.core.ownership import SOFTWARE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-in colour in the drawing -> colour in the page.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--accent)",
    "#050505": "var(--second)",
}
_INK, _MUTED, _LINE, _ACCENT, _SECOND = _COLOURS
MAX_POINTS = 1000
_SMOOTHING_PARTS = 50


@dataclass(frozen=True)
class StepChart:
    """One row of the training metrics."""

    tokens: float
    loss: float
    learning_rate: float
    grad_norm: float


def thin(steps: Sequence[StepChart], limit: int = MAX_POINTS) -> list[StepChart]:
    """Return at most `limit` evenly spread steps, with the first and the last."""
    if len(steps) <= limit:
        return list(steps)
    return [steps[i * (len(steps) - 1) // (limit - 1)] for i in range(limit)]


def smooth(values: Sequence[float]) -> list[float]:
    """Return the mean over a window of a fiftieth of the run around each value. At the ends the window
    is cut off.
    """
    half = len(values) // _SMOOTHING_PARTS // 2
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    windows = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in windows]


def training_curves(steps: Sequence[StepChart]) -> str:
    """Return SVG of loss, learning rate and gradient norm over tokens.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    means = smooth([step.loss for step in steps])
    shown = thin(
        [StepChart(s.tokens, m, s.learning_rate, s.grad_norm) for s, m in zip(steps, means, strict=True)]
    )
    raw = thin(steps)
    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=(9.0, 5.2), layout="constrained")
        loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(5, 1.4, 1.4))
        tokens = [step.tokens / 1e6 for step in raw]
        loss.plot(tokens, [step.loss for step in raw], color=_ACCENT, alpha=0.3, linewidth=0.8)
        loss.plot(tokens, [step.loss for step in shown], color=_ACCENT, linewidth=1.8)
        loss.set_ylabel("loss (nats per token)")
        loss.annotate(
            f"{means[-1]:.3f}",
            (tokens[-1], means[-1]),
            xytext=(-4, 8),
            textcoords="offset points",
            ha="right",
            color=_INK,
            weight="bold",
        )
        rate.plot(tokens, [step.learning_rate for step in raw], color=_SECOND, linewidth=1.4)
        rate.set_ylabel("learning\nrate")
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        norm.plot(tokens, [step.grad_norm for step in raw], color=_SECOND, linewidth=0.8)
        norm.set_ylabel("gradient\nnorm")
        norm.set_xlabel("million tokens")
        for axes in (loss, rate, norm):
            _plain(axes)
        figure.align_ylabels()
        return _inline(figure, "training")


def overlay(curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> bytes:
    """Return PNG of several losses over tokens: (name, tokens, losses) of each.

    The same curves give the same bytes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for name, tokens, losses in curves:
        axes.plot([n / 1e6 for n in tokens], losses, label=name, linewidth=1.6)
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss (nats per token), smoothed")
    axes.legend(frameon=False)
    axes.grid(visible=True, axis="y", alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": SOFTWARE})
    return buffer.getvalue()


def bits_per_byte_bars(rows: Sequence[tuple[str, float]]) -> str:
    """Return an SVG with one horizontal bar for each row.

    Shorter is better. The last row is the reference.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=(9.0, 0.42 * len(rows) + 0.5), layout="constrained")
        axes = figure.subplots()
        names, values = [name for name, _ in rows], [value for _, value in rows]
        colours = [_ACCENT] * (len(rows) - 1) + [_MUTED]
        bars = axes.barh(names, values, color=colours, height=0.62)
        axes.bar_label(bars, [f"{value:.4f}" for value in values], padding=5, color=_INK, weight="bold")
        axes.invert_yaxis()
        axes.set_xlim(0, max(values) * 1.12)
        axes.set_xlabel("bits per byte of the held-out files: shorter is better")
        _plain(axes)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        return _inline(figure, "bpb")


def _style() -> dict[Any, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "sevenfold",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _INK,
        "axes.labelcolor": _MUTED,
        "axes.edgecolor": _LINE,
        "xtick.color": _LINE,
        "ytick.color": _LINE,
        "xtick.labelcolor": _MUTED,
        "ytick.labelcolor": _MUTED,
        "grid.color": _LINE,
        "grid.linewidth": 0.6,
    }


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(visible=True, axis="y")
    axes.margins(x=0.01)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _inline(figure: Figure, prefix: str) -> str:
    """Return the figure as an <svg> element for a page: no prologue, no metadata, no foreign names,
    ids of its own.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r'<svg\1 role="img"', text, count=1)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    # It would reach the whole page.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for stand_in, variable in _COLOURS.items():
        text = text.replace(stand_in, variable)
    return text
