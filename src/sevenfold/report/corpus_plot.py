"""Draw the picture of a corpus: target and reached mix, bars by domain, language and licence,
reasons of drops.

matplotlib is optional. The same facts give the same bytes for one version of matplotlib.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevenfold.core.files import atomic_writer
from sevenfold.core.hashing import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = ("domain", "language", "licence")
DROPPED = "dropped"
OTHERS = "others"
# The source of documents of the generators of this project.
SYNTHETIC = "synthetic"
# Bars of one side. The smallest values share one bar.
MAX_BARS = 12
# Maximal length of the name of a bar.
MAX_LABEL = 34
# Kept domains have the first colours, and dropped documents the last.
COLOURS = ("#2563c9", "#2e9e6b", "#c98a1b", "#8c56c2", "#c2566b", "#4a9fb5", "#7a7f87")
DROP_COLOUR = "#d9dde3"
MUTED = "#60646c"

# Bar -> domain, or DROPPED -> bytes.
Bars = dict[str, Counter[str]]


def bars(rows: Sequence[Mapping[str, Json]], side: str) -> Bars:
    """Return the bytes of each value of a side. Kept bytes are split by domain. The values with the
    most kept bytes come first, and there are at most MAX_BARS.
    """
    found: Bars = defaultdict(Counter)
    for row in rows:
        found[str(row[side])][str(row["domain"])] += row["kept"]["n_bytes"]
        found[str(row[side])][DROPPED] += sum(count["n_bytes"] for count in row["dropped"].values())
    ordered = sorted(
        found, key=lambda name: (found[name][DROPPED] - found[name].total(), -found[name].total(), name)
    )
    shown = {name: found[name] for name in ordered[: MAX_BARS - 1]}
    if rest := ordered[MAX_BARS - 1 :]:
        shown[OTHERS if len(rest) > 1 else rest[0]] = sum((found[name] for name in rest), Counter())
    return shown


def kept_by_kind(groups: Sequence[Mapping[str, Json]]) -> dict[bool, Counter[str]]:
    """Return the bytes kept of each domain: False -> real, True -> synthetic."""
    kept: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for row in groups:
        n_bytes = row["train"]["n_bytes"] + row["heldout"]["n_bytes"]
        kept[row["source"] == SYNTHETIC][str(row["domain"])] += n_bytes
    return kept


def dropped_bytes(rows: Sequence[Mapping[str, Json]]) -> Counter[str]:
    """Return the bytes dropped under each reason."""
    n_bytes: Counter[str] = Counter()
    for row in rows:
        for reason, count in row["dropped"].items():
            n_bytes[reason] += count["n_bytes"]
    return n_bytes


def write(path: Path, facts: Mapping[str, Json]) -> None:
    """Draw the picture. Raises ImportError without matplotlib, StorageError when the file cannot be
    written.
    """
    from matplotlib.figure import Figure

    rows, domains = facts["languages"], sorted({str(row["domain"]) for row in facts["languages"]})
    colours = {domain: COLOURS[place % len(COLOURS)] for place, domain in enumerate(domains)}
    sides = {side: bars(rows, side) for side in SIDES}
    reasons = dropped_bytes(rows)
    panels: list[tuple[int, Callable[[Axes], None]]] = []
    if facts.get("mix"):
        panels.append((2 * len(domains), partial(_mix, facts=facts, domains=domains, colours=colours)))
    for side, shown in sides.items():
        panels.append((len(shown), partial(_side, side=side, shown=shown, colours=colours)))
    if reasons:
        panels.append((min(MAX_BARS, len(reasons)), partial(_reasons, reasons=reasons)))
    # In bars of 0.26 inches; a title, ticks and a label take 0.8 more.
    heights = [n + 0.4 for n, _ in panels]
    figure = Figure(figsize=(9.5, 0.5 + sum(0.26 * height + 0.8 for height in heights)), layout="constrained")
    places = figure.subplots(len(panels), 1, height_ratios=heights)
    for axes, (_, draw) in zip(places, panels, strict=True):
        draw(axes)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=9, colors="#1c2024")
        for spine in ("top", "right", "left"):
            axes.spines[spine].set_visible(False)
    handles = {
        label: handle
        for axes in places
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper right",
        ncols=min(7, len(handles)),
        frameon=False,
        fontsize=9,
    )
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=MUTED)
    axes.margins(y=0.02)
    axes.invert_yaxis()


def _mix(axes: Axes, facts: Mapping[str, Json], domains: Sequence[str], colours: Mapping[str, str]) -> None:
    """Draw two bars for each domain: its share of the corpus, with the generated part hatched, and
    its target share.
    """
    kept, mix = kept_by_kind(facts["groups"]), facts["mix"]
    total = max(1, sum(counts.total() for counts in kept.values()))
    longest = 1.0
    for place, domain in enumerate(domains):
        left, target = 0.0, 100 * mix.get(domain, 0.0)
        for made in (False, True):
            share = 100 * kept[made][domain] / total
            style: dict[str, Any] = {"hatch": "////", "edgecolor": "white", "linewidth": 0} if made else {}
            axes.barh(place - 0.2, share, left=left, height=0.36, color=colours[domain], **style)
            left += share
        axes.barh(place + 0.2, target, height=0.32, color="none", edgecolor=colours[domain], linewidth=1.4)
        for at, end, label in (
            (place - 0.2, left, f"{left:.1f} %"),
            (place + 0.2, target, f"target {target:g} %"),
        ):
            text = axes.text(end + 0.5, at, label, va="center", fontsize=8, color=MUTED)
            text.set_in_layout(False)
            longest = max(longest, end)
    # This leaves room for the figures after the bars.
    axes.set_xlim(0.0, 1.14 * longest)
    axes.set_yticks(range(len(domains)), list(domains))
    axes.set_xlabel("per cent of the bytes kept; hatched: made by generators", fontsize=9, color=MUTED)
    _titled(axes, "mix: the corpus, and the target that training deals by")


def _side(axes: Axes, side: str, shown: Bars, colours: Mapping[str, str]) -> None:
    """Draw a stacked bar for each value: domains of the kept documents, then the dropped ones."""
    left = [0.0] * len(shown)
    names = [name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 3]}..." for name in shown]
    for part in (*colours, DROPPED):
        widths = [parts[part] / 1e6 for parts in shown.values()]
        axes.barh(
            range(len(shown)),
            widths,
            left=left,
            color=colours.get(part, DROP_COLOUR),
            height=0.68,
            label=part,
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(shown)), names)
    axes.set_xlabel("million bytes", fontsize=9, color=MUTED)
    _titled(axes, f"by {side}: kept, then dropped")


def _reasons(axes: Axes, reasons: Counter[str]) -> None:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:MAX_BARS]
    axes.barh(range(len(ordered)), [n / 1e6 for _, n in ordered], color="#9aa1ab", height=0.68)
    axes.set_yticks(range(len(ordered)), [reason for reason, _ in ordered])
    axes.set_xlabel("million bytes", fontsize=9, color=MUTED)
    _titled(axes, "dropped, by reason")
