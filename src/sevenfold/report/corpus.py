"""The corpus for people: what is in it by domain, language and licence, what left and why. One HTML page, one PNG.

Made of the manifest's facts alone (rule V4), so it shows what the stage has counted and checked. The same manifest gives the same
page; the PNG depends on the version of matplotlib, and is left out without it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sevenfold.core.files import atomic_writer, write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import Manifest, read_manifest
from sevenfold.report import page
from sevenfold.report.html import number, percent, size
from sevenfold.report.page import Markup, section, table, tag

CORPUS_PAGE, CORPUS_PLOT = "corpus.html", "corpus.png"
SIDES = ("domain", "language", "licence")
DROPPED = "dropped"
OTHERS = "others"
MAX_BARS = 12  # of a side; the smallest are one bar together
# Kept domains in the first colours, what was dropped in the last.
COLOURS = ("#2563c9", "#2e9e6b", "#c98a1b", "#8c56c2", "#c2566b", "#4a9fb5", "#7a7f87")
DROP_COLOUR = "#d9dde3"

Bars = dict[str, Counter[str]]  # bar -> domain, or DROPPED -> bytes


def bars(rows: Sequence[Mapping[str, Json]], side: str) -> Bars:
    """Bytes of each value of a side, by domain for what was kept; largest first, at most MAX_BARS."""
    found: Bars = defaultdict(Counter)
    for row in rows:
        found[str(row[side])][str(row["domain"])] += row["kept"]["n_bytes"]
        found[str(row[side])][DROPPED] += sum(count["n_bytes"] for count in row["dropped"].values())
    ordered = sorted(found, key=lambda name: (-found[name].total(), name))
    shown = {name: found[name] for name in ordered[: MAX_BARS - 1]}
    if rest := ordered[MAX_BARS - 1 :]:
        shown[OTHERS if len(rest) > 1 else rest[0]] = sum((found[name] for name in rest), Counter())
    return shown


def write_corpus_report(out: Path) -> Path | None:
    """Write `out`/corpus.html and corpus.png from the corpus stage's manifest; None when the stage has not finished.

    Raises:
        StorageError: the manifest cannot be read, or a file cannot be written.
    """
    manifest = read_manifest(out / "corpus")
    if manifest is None or "languages" not in manifest.facts:
        return None
    try:
        _write_plot(out / CORPUS_PLOT, manifest.facts["languages"])
        has_plot = True
    except ImportError:
        has_plot = False
    write_bytes(out / CORPUS_PAGE, render(manifest, has_plot=has_plot))
    return out / CORPUS_PAGE


def render(manifest: Manifest, *, has_plot: bool) -> bytes:
    """The page."""
    facts = manifest.facts
    n_seen, n_kept = facts["n_seen"], facts["n_kept"]
    cards = [
        page.card("Documents seen", number(n_seen)),
        page.card("Kept", number(n_kept), percent(n_kept / n_seen, 1)),
        page.card("Training text", size(facts["bytes_train"]), f"{number(facts['n_train'])} documents"),
        page.card("Held-out text", size(facts["bytes_heldout"]), f"{number(facts['n_heldout'])} documents"),
    ]
    plot = tag("img", src=CORPUS_PLOT, alt="Bytes by domain, language and licence", width="100%")
    return page.document(
        f"{manifest.recipe_name} - corpus",
        tag(
            "header",
            tag("h1", manifest.recipe_name, " - corpus"),
            tag("p", "Root ", tag("code", manifest.root)),
        ),
        tag("div", *cards, class_="cards"),
        section(
            "What is in it", plot if has_plot else "", *(_side(facts["languages"], side) for side in SIDES)
        ),
        _duplicates(facts),
        _drops(facts),
        _findings(facts),
        tag("footer", "Made from the manifest of the corpus stage. Every file: corpus/ledger.parquet."),
        pictures="'self'",
    )


def _side(rows: Sequence[Mapping[str, Json]], side: str) -> Markup:
    cells = []
    for name, parts in bars(rows, side).items():
        kept = parts.total() - parts[DROPPED]
        cells.append([name, size(kept), size(parts[DROPPED]), percent(kept / max(1, parts.total()), 1)])
    return table((side.capitalize(), "#Kept", "#Dropped", "#Kept, share of the bytes"), cells)


def _duplicates(facts: Mapping[str, Json]) -> Markup:
    dropped, n_seen = facts["dropped"], facts["n_seen"]
    rows = [
        [kind, number(dropped.get(reason, 0)), percent(dropped.get(reason, 0) / n_seen, 2)]
        for kind, reason in (("Exact", "duplicate"), ("Near", "near_duplicate"))
    ]
    near = facts.get("near_duplicates")
    text = (
        f"{number(near['n_clusters'])} clusters with {number(near['n_in_clusters'])} of {number(near['n_different'])} different "
        f"documents; {number(near['n_verified'])} pairs verified."
        if near
        else "Near duplicates were not looked for."
    )
    return section(
        "Duplicates", table(("Duplicates", "#Dropped", "#Of all seen"), rows), tag("p", text, class_="note")
    )


def _drops(facts: Mapping[str, Json]) -> Markup:
    n_bytes: Counter[str] = Counter()
    for row in facts["languages"]:
        for reason, count in row["dropped"].items():
            n_bytes[reason] += count["n_bytes"]
    rows = [
        [reason, number(n), percent(n / facts["n_seen"], 2), size(n_bytes[reason])]
        for reason, n in facts["dropped"].items()
    ]
    note = tag("p", f"Steps: {', '.join(facts['steps'])}.", class_="note")
    return section("Dropped, and why", table(("Reason", "#Documents", "#Of all seen", "#Bytes"), rows), note)


def _findings(facts: Mapping[str, Json]) -> Markup:
    found = facts.get("findings")
    if not found:
        return Markup("")
    rows = [[row["step"], row["kind"], number(row["n"])] for row in found]
    note = tag("p", "Each one, with its document: corpus/findings.parquet.", class_="note")
    return section("What the steps found", table(("Step", "What", "#"), rows), note)


def _write_plot(path: Path, rows: Sequence[Mapping[str, Json]]) -> None:
    """Horizontal stacked bars, one panel a side. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    sides = {side: bars(rows, side) for side in SIDES}
    domains = sorted({str(row["domain"]) for row in rows})
    figure = Figure(figsize=(9.0, 1.9 + 0.3 * sum(map(len, sides.values()))), layout="constrained")
    panels = figure.subplots(len(SIDES), 1, height_ratios=[len(b) + 0.6 for b in sides.values()])
    for axes, (side, shown) in zip(panels, sides.items(), strict=True):
        left = [0.0] * len(shown)
        for place, part in enumerate([*domains, DROPPED]):
            widths = [parts[part] / 1e6 for parts in shown.values()]
            colour = DROP_COLOUR if part == DROPPED else COLOURS[place % len(COLOURS)]
            axes.barh(list(shown), widths, left=left, color=colour, height=0.68, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_title(f"by {side}", loc="left", fontsize=10, color="#60646c")
        axes.tick_params(axis="y", length=0)
        for spine in ("top", "right", "left"):
            axes.spines[spine].set_visible(False)
    panels[-1].set_xlabel("million bytes; kept by domain, then dropped")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncols=min(6, len(labels)), frameon=False, fontsize=9
    )
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
