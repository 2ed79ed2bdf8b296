"""Show lineage and differences: rows for tables, and the chain as one self-contained SVG.

The shown values may come from a foreign file, so every text is made printable here.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json

MISSING = "-"
MAX_TEXT = 120
_WIDTH, _LINE, _PAD, _GAP = 760, 18, 12, 26


def shown(value: Json, limit: int = MAX_TEXT) -> str:
    """Return one printable line of ASCII for any value."""
    if value is None:
        return MISSING
    if isinstance(value, bool | dict | list):
        # An infinite number is shown as well.
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, float):
        text = repr(value)
    else:
        text = str(value).encode("ascii", "backslashreplace").decode()
        text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _count(value: Json, name: str) -> str:
    group = value.get(name) if isinstance(value, dict) else None
    group = group if isinstance(group, dict) else {}
    return f"{shown(group.get('n_documents'))} ({shown(group.get('n_bytes'))} bytes)"


def _dropped(group: Mapping[str, Json]) -> str:
    dropped = group.get("dropped")
    if not isinstance(dropped, dict) or not dropped:
        return "none dropped"
    return "dropped " + ", ".join(f"{shown(k)} {_count(dropped, k)}" for k in sorted(dropped))


def _source(group: Json) -> str:
    if not isinstance(group, dict):
        return shown(group)
    about = " ".join(shown(group.get(name)) for name in ("source", "version", "licence"))
    return f"{about}: train {_count(group, 'train')}, held out {_count(group, 'heldout')}, {_dropped(group)}"


def _tools(tools: Json) -> str:
    stages = tools if isinstance(tools, dict) else {}
    found: dict[str, Json] = {}
    for stage in sorted(stages):
        found |= stages[stage] if isinstance(stages[stage], dict) else {}
    return ", ".join(f"{shown(name)} {shown(found[name])}" for name in sorted(found)) or MISSING


def _parent(parent: Json, what: str) -> list[str]:
    row = parent if isinstance(parent, dict) else {}
    licences = row.get("licences")
    named = ", ".join(map(shown, licences)) if isinstance(licences, list) else MISSING
    return [
        f"{what} {shown(row.get('name'))}, root {shown(row.get('root'))}",
        f"  recipe {shown(row.get('recipe_digest'))}, corpus {shown(row.get('dataset_root'))},"
        f" licences {named or MISSING}",
    ]


def _tuning(tune: Mapping[str, Json], before: Json) -> list[str]:
    template, phases = tune.get("template"), tune.get("phases")
    template = template if isinstance(template, dict) else {}
    rows = phases if isinstance(phases, list) else [tune]
    lines = [_tuned_on(row, template) for row in rows if isinstance(row, dict)]
    return [*lines, f"held-out bits per byte of the parent {shown(before)}"]


def _tuned_on(row: Mapping[str, Json], template: Mapping[str, Json]) -> str:
    """Return the line of a phase; a tuning of one phase has no name and no root of its own."""
    counts, pairs = row.get("counts"), row.get("heldout_pairs")
    counts, pairs = (value if isinstance(value, dict) else {} for value in (counts, pairs))
    line = (
        f"tuned on {shown(counts.get('samples'))} answers of {shown(counts.get('answer_bytes'))} bytes,"
        f" form {shown(template.get('name'))}, share of pretraining {shown(row.get('pretraining'))}"
    )
    if "name" in row:
        name, objective, root = (shown(row.get(key)) for key in ("name", "objective", "root"))
        line = f"phase {name}, {objective}, root {root}: {line}"
    if pairs:
        line += (
            f"; held-out pairs won {shown(pairs.get('win_rate'))}, with the parent"
            f" {shown(pairs.get('win_rate_parent'))}"
        )
    return line


def _training(training: Mapping[str, Json]) -> list[str]:
    trace, checkpoints = training["trace"], training["checkpoints"]
    lines = [
        (
            f"{shown(training['n_steps'])} steps, {shown(training['n_tokens'])} tokens,"
            f" {shown(training['n_parameters'])} parameters, phases {len(training['phases']) or 1}"
        ),
        (
            f"final loss {shown(training['final_loss'])}, held-out bits per byte"
            f" {shown(training['heldout_bpb'])}"
        ),
    ]
    trunk, parents = training["trunk"], training["parents"]
    if trunk["root"] is not None and not parents:
        lines.append(
            f"goes on from step {shown(trunk['step'])} of {shown(trunk['name'])}, root {shown(trunk['root'])}"
        )
    for number, parent in enumerate(parents):
        lines += _parent(parent, "its parent" if number else "begins with the weights of")
    tune = training["tune"]
    if isinstance(tune, dict):
        lines += _tuning(tune, training["heldout_bpb_parent"])
    for which in ("first", "last"):
        row = trace[which] if isinstance(trace[which], dict) else {}
        lines.append(f"{which} trace, step {shown(row.get('step'))}: {shown(row.get('chain'))}")
    kept = checkpoints["kept_every"]
    lines.append(
        f"checkpoints every {shown(checkpoints['every'])} steps, kept "
        + (f"every {shown(kept)}, and the last two" if kept else "the last two")
        + f"; files {shown(training['root'])}"
    )
    return lines


def links(value: Mapping[str, Json]) -> list[tuple[str, list[str]]]:
    """Return the chain as titles and lines, in order."""
    corpus, tokenizer, recipe = value["corpus"], value["tokenizer"], value["recipe"]
    quantisation, seal = value["quantisation"], value["seal"]
    figures = quantisation["figures"] if isinstance(quantisation["figures"], dict) else {}
    quality = ("bpb_fp32", "bpb_int", "bpb_increase", "top1_agreement", "outcome")
    return [
        ("sources", [_source(group) for group in value["sources"]] or [MISSING]),
        (
            "corpus",
            [
                f"root {shown(corpus['root'])}",
                (
                    f"seen {shown(corpus['n_seen'])}, train {shown(corpus['n_train'])}"
                    f" ({shown(corpus['bytes_train'])} bytes), held out {shown(corpus['n_heldout'])}"
                    f" ({shown(corpus['bytes_heldout'])} bytes)"
                ),
            ],
        ),
        (
            "tokenizer",
            [f"digest {shown(tokenizer['digest'])}", f"vocabulary {shown(tokenizer['vocab_size'])}"],
        ),
        (
            "recipe",
            [
                f"{shown(recipe['name'])}, digest {shown(recipe['digest'])}",
                f"seed {shown(recipe['seed'])}, code version {shown(recipe['code_version'])}",
                f"tools {_tools(value['tools'])}",
            ],
        ),
        ("training", _training(value["training"])),
        (
            "quantisation",
            [
                f"{len(quantisation['tensors'])} tensors, files {shown(quantisation['root'])}",
                ", ".join(f"{name} {shown(figures.get(name))}" for name in quality),
            ],
        ),
        ("golden logits", [_golden(row) for row in value["golden"]] or [MISSING]),
        ("seal", [f"root {shown(seal['root'])}", f"{shown(seal['n_bytes'])} bytes"]),
    ]


def _golden(row: Json) -> str:
    if not isinstance(row, dict):
        return shown(row)
    prompt = shown(repr(row.get("prompt")), 40)
    return f"{prompt}, {shown(row.get('n_steps'))} steps: {shown(row.get('logits_sha256'))}"


def lineage_rows(value: Mapping[str, Json]) -> list[list[str]]:
    """Return two columns: link, line."""
    return [
        [title if index == 0 else "", line]
        for title, lines in links(value)
        for index, line in enumerate(lines)
    ]


def quantisation_rows(value: Mapping[str, Json]) -> list[list[str]]:
    """Return name, shape, scale and exponent of each tensor."""
    return [
        [t["name"], "x".join(map(str, t["dims"])), shown(t["scale"]), shown(t["exponent"])]
        for t in value["quantisation"]["tensors"]
    ]


def _wrap(line: str, width: int = 92) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False) or [""]


def lineage_picture(value: Mapping[str, Json]) -> bytes:
    """Return the chain as boxes from top to bottom. The same value gives the same bytes."""
    boxes: list[str] = []
    y = _PAD
    chain = links(value)
    for index, (title, lines) in enumerate(chain):
        text = [part for line in lines for part in _wrap(line)]
        height = _LINE * (len(text) + 1) + _PAD
        boxes.append(f'<rect x="{_PAD}" y="{y}" width="{_WIDTH - 2 * _PAD}" height="{height}" rx="6"/>')
        boxes.append(f'<text class="t" x="{2 * _PAD}" y="{y + _LINE}">{escape(title)}</text>')
        for n, part in enumerate(text):
            boxes.append(f'<text x="{2 * _PAD}" y="{y + _LINE * (n + 2)}">{escape(part)}</text>')
        y += height
        if index + 1 < len(chain):
            middle = _WIDTH // 2
            boxes.append(f'<path d="M{middle} {y}v{_GAP - 7}m-5 0l5 7l5 -7z"/>')
            y += _GAP
    style = (
        "rect{fill:#f6f7f9;stroke:#2563c9}text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1c2024;"
        "white-space:pre}.t{font-weight:bold;fill:#2563c9}path{stroke:#60646c;fill:#60646c}"
    )
    page = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + _PAD}"'
        f' viewBox="0 0 {_WIDTH} {y + _PAD}" role="img"><title>Lineage</title><style>{style}</style>'
        f'<rect width="{_WIDTH}" height="{y + _PAD}" style="fill:#fff;stroke:none"/>{"".join(boxes)}</svg>\n'
    )
    return page.encode()


def is_lineage_picture(data: bytes) -> bool:
    """Return whether bytes are a picture that `write_picture` wrote."""
    return (
        data.startswith(b'<svg xmlns="http://www.w3.org/2000/svg" width="')
        and b"<title>Lineage</title>" in data
    )


def write_picture(path: Path, value: Mapping[str, Json]) -> None:
    """Write the picture. Raises StorageError."""
    write_bytes(path, lineage_picture(value))


def _change_rows(rows: Sequence[Mapping[str, Json]]) -> list[list[str]]:
    def side(value: Json) -> str:
        return "(absent)" if value == {"absent": True} else shown(value)

    return [[shown(row["key"]), side(row["a"]), side(row["b"])] for row in rows]


def _lane_rows(rows: Sequence[Mapping[str, Json]]) -> list[list[str]]:
    def side(lane: Json) -> str:
        return "(absent)" if lane is None else f"{shown(lane['n_bytes'])} bytes, {lane['sha256'][:16]}"

    return [[shown(row["lane"]), side(row["a"]), side(row["b"])] for row in rows]


def _tensor_rows(rows: Sequence[Mapping[str, Json]]) -> list[list[str]]:
    result = []
    for row in rows:
        detail = " -> ".join("(absent)" if dims is None else "x".join(map(str, dims)) for dims in row["dims"])
        if row["status"] in ("codes", "scale", "floats"):
            detail = (
                f"{shown(row['n_different'])} of {shown(row['n_codes'])} values differ, by {row['largest']}"
                " at most"
            )
            if row["scales"][0] != row["scales"][1]:
                detail += f"; scale {shown(row['scales'][0])} -> {shown(row['scales'][1])}"
        result.append([row["name"], row["status"], detail])
    return result


def diff_tables(value: Mapping[str, Json]) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Return the title, columns and rows of each part that differs."""
    tables: list[tuple[str, tuple[str, ...], list[list[str]]]] = []
    for part in (
        "header",
        "identity",
        "recipe",
        "tools",
        "corpus",
        "roots",
        "train",
        "quantize",
        "graph",
        "golden",
    ):
        if value[part]:
            tables.append((part, ("key", "A", "B"), _change_rows(value[part])))
    if value["lanes"]:
        tables.append(("lanes", ("lane", "A", "B"), _lane_rows(value["lanes"])))
    if value["tensors"]:
        tables.append(("tensors", ("name", "what", "detail"), _tensor_rows(value["tensors"])))
    return tables


def diff_verdict(value: Mapping[str, Json]) -> str:
    """Return the verdict, which is the last line."""
    if value["equal"]:
        return f"same: root {value['a']['root']}"
    keys = ", ".join(shown(row["key"]) for row in value["recipe"]) or "no recipe key"
    return f"they differ: {keys}; {len(value['lanes'])} lanes, {len(value['tensors'])} tensors"
