"""Report a corpus as a page and a PNG: contents by domain, language and licence, distance from the
mix, dropped documents with reasons.

The report uses only the facts of the manifest (rule V4), so it shows what the stage has counted and
checked. The same manifest gives the same page. The PNG depends on the version of matplotlib, and is
left out without it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import Manifest, read_manifest
from sevenfold.core.run_files import CORPUS_PAGE, CORPUS_PLOT
from sevenfold.report import corpus_plot, page
from sevenfold.report.corpus_plot import DROPPED, SIDES, bars, kept_by_kind
from sevenfold.report.html import number, percent, size
from sevenfold.report.page import Markup, section, table, tag

# Rows of the table of sources. The remaining sources share one row.
MAX_SOURCES = 40


def write_corpus_report(out: Path) -> Path | None:
    """Write `out`/corpus.html and corpus.png from the manifest of the corpus stage. Return the path of
    the page, or None when the stage has not finished.

    Raises:
        StorageError: the manifest cannot be read, or a file cannot be written.
    """
    manifest = read_manifest(out / "corpus")
    if manifest is None or "languages" not in manifest.facts:
        return None
    try:
        corpus_plot.write(out / CORPUS_PLOT, manifest.facts)
        has_plot = True
    except ImportError:
        has_plot = False
    write_bytes(out / CORPUS_PAGE, render(manifest, has_plot=has_plot))
    return out / CORPUS_PAGE


def render(manifest: Manifest, *, has_plot: bool) -> bytes:
    """Return the page."""
    facts = manifest.facts
    n_seen, n_kept = facts["n_seen"], facts["n_kept"]
    cards = [
        page.card("Documents seen", number(n_seen)),
        page.card("Kept", number(n_kept), percent(n_kept / n_seen, 1)),
        page.card("Training text", size(facts["bytes_train"]), f"{number(facts['n_train'])} documents"),
        page.card("Held-out text", size(facts["bytes_heldout"]), f"{number(facts['n_heldout'])} documents"),
        *_kinds(facts["groups"]),
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
        section("What is in it", plot if has_plot else ""),
        _mix(facts),
        *(_side(facts["languages"], side) for side in SIDES),
        _duplicates(facts),
        _drops(facts),
        _sources(facts["groups"]),
        _findings(facts),
        tag("footer", "Made from the manifest of the corpus stage. Every file: corpus/ledger.parquet."),
        pictures="'self'",
    )


def _side(rows: Sequence[Mapping[str, Json]], side: str) -> Markup:
    cells = []
    for name, parts in bars(rows, side).items():
        kept = parts.total() - parts[DROPPED]
        cells.append([name, size(kept), size(parts[DROPPED]), percent(kept / max(1, parts.total()), 1)])
    return section(
        f"By {side}", table((side.capitalize(), "#Kept", "#Dropped", "#Kept, share of the bytes"), cells)
    )


def _kinds(groups: Sequence[Mapping[str, Json]]) -> list[Markup]:
    """Return the real and synthetic text as cards; none when nothing is synthetic."""
    kept = kept_by_kind(groups)
    total = sum(counts.total() for counts in kept.values())
    if not kept[True]:
        return []
    return [
        page.card(
            name, size(kept[kind].total()), f"{percent(kept[kind].total() / total, 1)} of what was kept"
        )
        for name, kind in (("Real text and code", False), ("Synthetic text", True))
    ]


def _mix(facts: Mapping[str, Json]) -> Markup:
    """Return the target and reached shares, and how much text the target mix has before its
    scarcest domain repeats.
    """
    mix, kept = facts.get("mix"), kept_by_kind(facts["groups"])
    if not mix:
        return Markup("")
    total = kept[False] + kept[True]
    whole = min((total[domain] / share for domain, share in mix.items() if share), default=0)
    rows = []
    for domain in sorted({*mix, *total}):
        share = mix.get(domain, 0.0)
        reached = total[domain] / max(1, total.total())
        rows.append(
            [
                domain,
                percent(share, 1),
                percent(reached, 1),
                size(kept[False][domain]),
                size(kept[True][domain]),
                percent(share * whole / total[domain], 1) if total[domain] else "-",
            ]
        )
    note = tag(
        "p",
        "Training deals windows by the target, exactly, whatever the corpus holds. "
        f"{size(int(whole))} of text follow the target before the scarcest domain is read a second time; "
        "the last column is what of each domain that is.",
        class_="note",
    )
    head = ("Domain", "#Target", "#Of the corpus", "#Real", "#Synthetic", "#Used in one pass of the mix")
    return section("Mix", table(head, rows), note)


def _sources(groups: Sequence[Mapping[str, Json]]) -> Markup:
    """Return the kept and dropped amounts of each source, with the most important reasons, largest
    first.
    """
    seen: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    lost: dict[str, Counter[str]] = defaultdict(Counter)
    for row in groups:
        source = str(row["source"])
        seen[source] += row["seen"]["n_bytes"]
        kept[source] += row["train"]["n_bytes"] + row["heldout"]["n_bytes"]
        for reason, count in row["dropped"].items():
            lost[source][reason] += count["n_bytes"]
    ordered = sorted(seen, key=lambda name: (-seen[name], name))
    rows = [(name, seen[name], kept[name], lost[name]) for name in ordered[:MAX_SOURCES]]
    if rest := ordered[MAX_SOURCES:]:
        together = sum((lost[name] for name in rest), Counter[str]())
        rows.append((f"{len(rest)} more", sum(seen[n] for n in rest), sum(kept[n] for n in rest), together))
    cells = [
        [name, size(n_seen), size(n_kept), percent(n_kept / max(1, n_seen), 1), _reasons(reasons, n_seen)]
        for name, n_seen, n_kept, reasons in rows
    ]
    head = ("Source", "#Seen", "#Kept", "#Share", "Dropped, of the bytes seen")
    return section("Sources", table(head, cells))


def _reasons(reasons: Counter[str], n_seen: int) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{reason} {percent(n / max(1, n_seen), 1)}" for reason, n in ordered[:3] if n >= n_seen / 1000]
    return ", ".join(named) or "-"


def _duplicates(facts: Mapping[str, Json]) -> Markup:
    dropped, n_seen = facts["dropped"], facts["n_seen"]
    rows = [
        [kind, number(dropped.get(reason, 0)), percent(dropped.get(reason, 0) / n_seen, 2)]
        for kind, reason in (("Exact", "duplicate"), ("Near", "near_duplicate"))
    ]
    near = facts.get("near_duplicates")
    text = (
        f"{number(near['n_clusters'])} clusters with {number(near['n_in_clusters'])} of"
        f" {number(near['n_different'])} different documents; {number(near['n_verified'])} pairs verified."
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
