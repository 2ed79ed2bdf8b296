"""Write the report of a run: one HTML page made only from manifests and logs.

It reads files and imports only core, so it shows what was written and not what a program remembers
(rule V4). For an unfinished stage it says that the stage has not run. A missing figure is a dash.
The same files give the same page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.files import read_bytes, read_json, write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import Manifest, read_manifest
from sevenfold.core.run_files import ARTIFACT, COMPLETIONS, CORPUS_PAGE, METRICS, REPORT, STAGES, VERIFICATION
from sevenfold.report import page, plots
from sevenfold.report.page import Markup, section, table, tag

MISSING = "-"
FP32_BYTES = 4


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run directory. A stage without a manifest is absent from `manifests`."""

    manifests: Mapping[str, Manifest]
    metrics: Sequence[plots.StepChart] = ()
    verification: Sequence[Mapping[str, Json]] = ()
    completions: Sequence[Mapping[str, Json]] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def fact(self, stage: str, name: str) -> Json:
        """Return one figure of a stage, or None."""
        return self.manifests[stage].facts.get(name) if stage in self.manifests else None


def write_report(out: Path) -> Path:
    """Write `out`/report.html from what is in `out`, and return its path.

    Raises:
        StorageError: a manifest or log cannot be read, or the page cannot be written.
    """
    path = out / REPORT
    write_bytes(path, render(read_run(out)))
    return path


def read_run(out: Path) -> RunRecord:
    """Read a run directory. Raises StorageError for a file that cannot be parsed."""
    manifests = {stage: read_manifest(out / stage) for stage in STAGES}
    verification = _optional_json(out / VERIFICATION, {"rows": []})
    metrics, notes = _read_metrics(out / "train" / METRICS)
    return RunRecord(
        manifests={stage: manifest for stage, manifest in manifests.items() if manifest is not None},
        metrics=metrics,
        verification=verification.get("rows", []) if isinstance(verification, dict) else verification,
        completions=_optional_json(out / COMPLETIONS, []),
        notes=notes,
    )


def _optional_json(path: Path, default: Json) -> Json:
    return read_json(path) if path.is_file() else default


def _read_metrics(path: Path) -> tuple[list[plots.StepChart], list[str]]:
    """Return the complete steps, and a note when lines were left out. An interrupted run may leave
    half a line.
    """
    if not path.is_file():
        return [], []
    lines = read_bytes(path).splitlines()
    steps = []
    for line in lines:
        try:
            row = json.loads(line)
            values = [float(row[name]) for name in ("tokens", "loss", "learning_rate", "grad_norm")]
        except (ValueError, KeyError, TypeError):
            continue
        if all(map(math.isfinite, values)):
            steps.append(plots.StepChart(*values))
    skipped = len(lines) - len(steps)
    return steps, [f"{skipped} unreadable line(s) of the training log left out."] if skipped else []


def render(run: RunRecord) -> bytes:
    """Return the page."""
    any_manifest = next(iter(run.manifests.values()), None)
    name = any_manifest.recipe_name if any_manifest else "no stage has run"
    return page.document(
        f"{name} - Sevenfold report",
        _header(run, name),
        _headline(run),
        _training(run),
        _data(run),
        _verification(run),
        _completions(run),
        _sizes(run),
        _provenance(run),
        tag(
            "footer",
            "Made by Sevenfold from the manifests and logs of this run. A view: it can be deleted and made"
            " again.",
        ),
    )


def number(value: Json, digits: int = 4) -> str:
    """Return a figure in readable form: thousands separated, `digits` after the point, a dash for a
    missing one.
    """
    if value is None or isinstance(value, bool):
        return MISSING
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}" if isinstance(value, float) else str(value)


def size(n_bytes: Json) -> str:
    """Return a number of bytes in readable form, in powers of 1000."""
    if not isinstance(n_bytes, int | float):
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.2f} {unit}"
    return f"{n_bytes} B"


def percent(value: Json, digits: int = 3, *, sign: bool = False) -> str:
    """Return a ratio as a percentage."""
    return MISSING if not isinstance(value, int | float) else f"{value:{'+' if sign else ''}.{digits}%}"


def _pill(status: object) -> Markup:
    name = str(status)
    return tag("span", name, class_=f"pill {name}" if name in ("pass", "fail", "skipped") else "pill")


def _not_run(stage: str) -> Markup:
    return tag("p", f"Stage {stage}: not run.", class_="muted")


def _header(run: RunRecord, name: str) -> Markup:
    statuses = [row.get("status") for row in run.verification]
    if not statuses:
        verdict = tag("span", "verification not run", class_="pill skipped")
    elif "fail" in statuses:
        verdict = tag("span", "not verified", class_="pill fail")
    elif "skipped" in statuses:
        verdict = tag(
            "span", f"verified, {statuses.count('skipped')} check(s) skipped", class_="pill skipped"
        )
    else:
        verdict = tag("span", "verified with replay", class_="pill pass")
    missing = [stage for stage in STAGES if stage not in run.manifests]
    text = f"Not run: {', '.join(missing)}." if missing else "From licensed source to a sealed integer model."
    return tag("header", tag("h1", name, " ", verdict), tag("p", text, class_="muted"))


def _headline(run: RunRecord) -> Markup:
    parameters, artifact = run.fact("train", "n_parameters"), run.fact("seal", "n_bytes")
    smaller = f"FP32 weights alone are {size(parameters * FP32_BYTES)}" if isinstance(parameters, int) else ""
    compared = (
        f"on {number(run.fact('quantize', 'n_eval_tokens'))} tokens, {_increase(run)} against FP32 on the"
        " same"
    )
    cards = (
        page.card(
            "Held-out bits per byte, FP32", number(run.fact("train", "heldout_bpb")), f"{_heldout(run)} files"
        ),
        page.card(
            "Held-out bits per byte, INT8",
            number(run.fact("quantize", "bpb_int")),
            compared if "quantize" in run.manifests else "",
        ),
        page.card(
            "gzip -9, same files",
            number(run.fact("corpus", "heldout_gzip_bpb")),
            "bits per byte, all of them in one stream",
        ),
        page.card("Parameters", number(parameters), smaller),
        page.card("Sealed model", size(artifact), ARTIFACT),
        page.card(
            "Greedy agreement",
            percent(run.fact("quantize", "top1_agreement"), 2),
            "INT8 and FP32 choose the same token",
        ),
    )
    root = run.fact("seal", "root") or MISSING
    seal = tag(
        "div", tag("span", "Merkle root ", class_="muted"), tag("span", root, class_="hash"), class_="root"
    )
    return page.join((tag("div", *cards, class_="cards"), seal, _bars(run)))


def _heldout(run: RunRecord) -> str:
    """Return the files of the FP32 figure as text: all, or windows of them."""
    n_windows = run.fact("train", "heldout_windows")
    return "all held-out" if n_windows is None else f"{n_windows} windows of the held-out"


def _increase(run: RunRecord) -> str:
    return percent(run.fact("quantize", "bpb_increase"), sign=True)


def _bars(run: RunRecord) -> Markup:
    named = (
        (f"FP32, {_heldout(run)} files", run.fact("train", "heldout_bpb")),
        ("FP32, tokens compared", run.fact("quantize", "bpb_fp32")),
        ("INT8, tokens compared", run.fact("quantize", "bpb_int")),
        ("gzip -9, all files", run.fact("corpus", "heldout_gzip_bpb")),
    )
    rows = [(name, value) for name, value in named if isinstance(value, float)]
    if len(rows) < len(named):
        return Markup("")
    try:
        return Markup(plots.bits_per_byte_bars(rows))
    except ImportError:
        return Markup("")


def _training(run: RunRecord) -> Markup:
    parts: list[object] = []
    if "train" in run.manifests:
        shown = {
            "Steps": number(run.fact("train", "n_steps")),
            "Tokens read": number(run.fact("train", "n_tokens")),
            "Tokens in the training files": number(run.fact("tokenizer", "n_tokens_train")),
            "Bytes per token, held out": number(run.fact("tokenizer", "bytes_per_token_heldout"), 3),
            "Vocabulary": number(run.fact("tokenizer", "vocab_size")),
            "Final loss": number(run.fact("train", "final_loss")),
        }
        parts.append(table([f"#{name}" for name in shown], [list(shown.values())]))
    else:
        parts.append(_not_run("train"))
    if run.metrics:
        try:
            parts.append(Markup(plots.training_curves(run.metrics)))
            parts.append(
                tag("p", "Loss of each step, and its mean over a fiftieth of the run.", class_="note")
            )
        except ImportError:
            parts.append(
                tag(
                    "p",
                    "No curves: matplotlib is not installed (pip install 'sevenfold[train]').",
                    class_="note",
                )
            )
    parts += [tag("p", note, class_="note") for note in run.notes]
    return section("Training", *parts)


def _data(run: RunRecord) -> Markup:
    title = "Data and licences"
    groups = run.fact("corpus", "groups")
    if not groups:
        return section(title, _not_run("corpus"))
    head = (
        "Source",
        "Version",
        "Licence",
        "Domain",
        "#Seen",
        "#Train",
        "#Held out",
        "#Dropped",
        "#Train bytes",
        "#Held-out bytes",
    )
    rows, drops = [], []
    for group in groups:
        dropped = group["dropped"]
        n_dropped = sum(count["n_documents"] for count in dropped.values())
        documents = [group[name]["n_documents"] for name in ("seen", "train", "heldout")]
        n_bytes = [size(group[name]["n_bytes"]) for name in ("train", "heldout")]
        about = [group[name] for name in ("source", "version", "licence", "domain")]
        rows.append([*about, *map(number, (*documents, n_dropped)), *n_bytes])
        for reason, count in dropped.items():
            drops.append(
                [
                    group["source"],
                    group["licence"],
                    reason,
                    number(count["n_documents"]),
                    size(count["n_bytes"]),
                ]
            )
    evidence = sorted({line for group in groups for line in group["licence_evidence"]})
    return section(
        title,
        table(head, rows),
        tag("p", "Licence known from: ", "; ".join(evidence), ".", class_="note"),
        tag("h3", "Dropped, and why") if drops else "",
        table(("Source", "Licence", "Reason", "#Documents", "#Bytes"), drops) if drops else "",
        tag(
            "p",
            "Seen = train + held out + dropped, checked per source and licence. Every file:"
            " corpus/ledger.parquet.",
            class_="note",
        ),
        (
            tag("p", tag("a", "By domain, language and licence", href=CORPUS_PAGE), class_="note")
            if run.fact("corpus", "languages")
            else ""
        ),
    )


def _verification(run: RunRecord) -> Markup:
    rows = [
        [row.get("id", ""), row.get("title", ""), _pill(row.get("status", "")), row.get("detail", "")]
        for row in run.verification
    ]
    if not rows:
        return section("Verification", _not_run("verify"))
    return section("Verification", table(("Rule", "What", "Status", "Detail"), rows))


def _completions(run: RunRecord) -> Markup:
    if not run.completions:
        return section("Completions", tag("p", "None made.", class_="muted"))
    blocks = [
        tag(
            "pre",
            tag("span", item.get("prompt", ""), class_="prompt"),
            tag("span", item.get("text", ""), class_="text"),
        )
        for item in run.completions
    ]
    note = tag("p", "Greedy, with integers only, by the sealed model; the prompt is grey.", class_="note")
    return section("Completions", note, *blocks)


def _sizes(run: RunRecord) -> Markup:
    rows = [
        [stage, output.path.removeprefix("../"), number(output.n_bytes), size(output.n_bytes)]
        for stage, manifest in run.manifests.items()
        for output in manifest.outputs
    ]
    if not rows:
        return section("Sizes", tag("p", "Nothing written yet.", class_="muted"))
    lanes = run.fact("seal", "lanes")
    parts: list[object] = [table(("Stage", "File", "#Bytes", "#"), rows)]
    if lanes:
        parts.append(tag("h3", "Lanes of the sealed model"))
        parts.append(
            table(
                ("Lane", "#Bytes", "#"),
                [[lane["name"], number(lane["n_bytes"]), size(lane["n_bytes"])] for lane in lanes],
            )
        )
    return section("Sizes", *parts)


def _provenance(run: RunRecord) -> Markup:
    if not run.manifests:
        return section("Provenance", tag("p", "Nothing written yet.", class_="muted"))
    last = list(run.manifests.values())[-1]
    rows = [
        [
            stage,
            tag("span", manifest.root, class_="hash"),
            ", ".join(f"{k} {v}" for k, v in sorted(manifest.tools.items())),
        ]
        for stage, manifest in run.manifests.items()
    ]
    return section(
        "Provenance",
        tag(
            "p",
            "Recipe ",
            tag("code", last.recipe_name),
            ", digest ",
            tag("span", last.recipe_digest, class_="hash"),
            ", seed ",
            last.seed,
            ".",
        ),
        table(("Stage", "Merkle root of its files", "Tools"), rows),
    )
