"""Write the documents that go out with a sealed model: a model card, bills of materials in two
formats, a notice of sources and summaries (specs/release-documents.md).

All are made only from the lineage of the sealed file (`release.lineage`), so the same file
gives the same bytes. They say "not recorded" for what the file does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from sevenfold.artifact import Artifact
from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json, sha256_file
from sevenfold.core.ownership import refuse_foreign
from sevenfold.release.bom import bill_of_materials
from sevenfold.release.lineage import lineage
from sevenfold.release.spdx import CONTEXT, spdx_document
from sevenfold.release.summaries import hub_metadata, training_summary
from sevenfold.report.lineage import MISSING, shown

# The SPDX value for "no claim".
UNKNOWN = "NOASSERTION"


def _cell(value: Json) -> str:
    """Return a value as Markdown that is always plain text."""
    return "".join(f"\\{c}" if c in "\\`*_[]|#~$" else c for c in escape(shown(value, 400), quote=False))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Json]]) -> list[str]:
    """Return the lines of a Markdown table, its cells as plain text."""
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return [*head, *(f"| {' | '.join(map(_cell, row))} |" for row in rows), ""]


def kept_sources(value: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """Return the groups of the ledger that have a document in training or held-out data."""
    groups = [group for group in value["sources"] if isinstance(group, dict)]
    return [g for g in groups if count(g, "train")[0] or count(g, "heldout")[0]]


def count(group: Mapping[str, Json], split: str) -> tuple[Json, Json]:
    """Return (documents, bytes) of a split."""
    found = group.get(split)
    found = found if isinstance(found, dict) else {}
    return found.get("n_documents"), found.get("n_bytes")


def scores(value: Mapping[str, Json]) -> list[tuple[str, Json, str]]:
    """Return (what, figure, on what) of everything that was measured; None for a missing figure."""
    training, figures = value["training"], value["quantisation"]["figures"]
    figures = figures if isinstance(figures, dict) else {}
    windows = "held-out windows that both were run on"
    some = training["heldout_windows"]
    heldout = "all held-out documents" if some is None else f"{some} windows of the held-out documents"
    rows = (
        ("bits per byte, FP32", training["heldout_bpb"], heldout),
        ("bits per byte, FP32", figures.get("bpb_fp32"), windows),
        ("bits per byte, INT8", figures.get("bpb_int"), windows),
        ("relative increase of INT8 over FP32", figures.get("bpb_increase"), windows),
        ("greedy agreement of INT8 with FP32", figures.get("top1_agreement"), windows),
        ("quality gate of the recipe", figures.get("outcome"), windows),
        ("training loss, mean of the last steps, nats", training["final_loss"], "training windows"),
    )
    return [row for row in rows if row[1] is not None]


def limits(value: Mapping[str, Json]) -> list[str]:
    """Return the known limits of the model, one sentence each."""
    model = value["model"] if isinstance(value["model"], dict) else {}
    domains = sorted({shown(group.get("domain")) for group in kept_sources(value)})
    return [
        (
            f"A prompt and its answer share a context of {shown(model.get('context'))} tokens; a longer"
            " prompt is refused."
        ),
        (
            f"It has seen {shown(value['training']['n_tokens'])} tokens, of the data above alone (domains:"
            f" {', '.join(domains) or MISSING}): expect nothing elsewhere."
        ),
        "The scores are of held-out documents from the same sources; no other benchmark is recorded.",
        "No tuning on instructions or for safety, and no measurement of bias, is recorded.",
        "Like any language model it may state what is false, and may repeat text that it was trained on.",
        "Licences are as the sources declare them; no licence for the model itself is recorded.",
    ]


def model_card(value: Mapping[str, Json]) -> bytes:
    """Return the card, as Markdown."""
    recipe, training = value["recipe"], value["training"]
    model = value["model"] if isinstance(value["model"], dict) else {}
    shape = ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ffn", "vocab_size", "context")
    lines = [f"# {_cell(recipe['name'])}", "", _cell(recipe["summary"]), "", "## The file", ""]
    lines += markdown_table(
        ("", ""),
        [
            ("Merkle root", value["seal"]["root"]),
            ("SHA-256", value["seal"]["sha256"]),
            ("bytes", value["seal"]["n_bytes"]),
            ("class", value["seal"]["class"]),
            ("recipe", f"{shown(recipe['name'])}, digest {shown(recipe['digest'])}"),
            ("seed, code version", f"{shown(recipe['seed'])}, {shown(recipe['code_version'])}"),
            ("tokenizer", value["tokenizer"]["digest"]),
        ],
    )
    lines += [
        "## The model",
        "",
        "A decoder-only transformer that predicts the next token. Inference is in integers.",
        "",
    ]
    lines += markdown_table(
        ("", ""), [("parameters", training["n_parameters"]), *((n, model.get(n)) for n in shape)]
    )
    lines += [
        *_data_section(value),
        "## Training",
        "",
        (
            f"{_cell(training['n_steps'])} steps, {_cell(training['n_tokens'])} tokens. The trace of the"
            " training and the hashes of its gradients are in the file."
        ),
        "",
        "## Measured",
        "",
    ]
    lines += markdown_table(
        ("what", "figure", "on"), [(what, _rounded(figure), on) for what, figure, on in scores(value)]
    )
    lines += ["## Limits", "", *(f"- {_cell(line)}" for line in limits(value)), "", "## How to check it", ""]
    lines += [
        "```sh",
        "s7 verify model.s7l --replay        # every hash, rules V0 to V7, golden prompts on this machine",
        "s7 verify model.s7l --key KEY.pub   # the signature, when there is one beside the file",
        "s7 lineage model.s7l                # what this card says, from the file alone",
        "s7 papers model.s7l --out again     # this card again: the same bytes",
        "s7 audit model.s7l --full           # makes the model again and compares the root",
        "```",
        "",
        f"The root must be `{shown(value['seal']['root'])}`.",
        "",
    ]
    return "\n".join(lines).encode()


def _data_section(value: Mapping[str, Json]) -> list[str]:
    corpus = value["corpus"]
    columns = ("source", "version", "licence", "trained on", "bytes", "held out", "bytes", "dropped")
    groups = [group for group in value["sources"] if isinstance(group, dict)]
    return [
        "## Data",
        "",
        f"Corpus root: {_cell(corpus['root'])}. In = kept + every named drop.",
        "",
        *markdown_table(columns, [_source(group) for group in groups]),
        "Licences that the recipe allows: "
        + (", ".join(map(_cell, corpus["licences"])) or MISSING)
        + ". How each licence is known: the notice of sources.",
        "",
    ]


def _rounded(figure: Json) -> Json:
    return f"{figure:.4g}" if isinstance(figure, float) else figure


def _source(group: Mapping[str, Json]) -> list[Json]:
    dropped = group.get("dropped")
    dropped = dropped if isinstance(dropped, dict) else {}
    reasons = ", ".join(f"{shown(r)} {shown(count(dropped, r)[0])}" for r in sorted(dropped)) or "none"
    named = [group.get(name) or MISSING for name in ("source", "version", "licence")]
    return [*named, *count(group, "train"), *count(group, "heldout"), reasons]


def notice(value: Mapping[str, Json]) -> bytes:
    """Return the sources of the data with SPDX licence expressions, as text.

    Args:
        value: `recipe.name` and `sources`; `corpus.root` and `seal.root` where they are known.
    """
    named = (("corpus root", "corpus"), ("Merkle root of the model", "seal"))
    roots = [(label, value[key]["root"]) for label, key in named if value.get(key, {}).get("root")]
    lines = [
        f"Sources of the data of {shown(value['recipe']['name'])}",
        *(f"{label}: {shown(root)}" for label, root in roots),
        "",
        (
            "From the corpus ledger. A licence is the SPDX expression that its source declares; NOASSERTION:"
            " nothing is recorded."
        ),
    ]
    for parent in value.get("training", {}).get("parents", []):
        licences = parent.get("licences") if isinstance(parent, dict) else None
        lines += [
            "",
            f"Begins with the weights of: {shown(parent.get('name'))}, root {shown(parent.get('root'))}",
            f"Licences of its sources: {'; '.join(map(shown, licences or [])) or UNKNOWN}",
        ]
    for group in kept_sources(value):
        evidence = group.get("licence_evidence")
        described = " ".join(shown(group[n], 400) for n in ("source", "version") if group.get(n))
        trained, held = count(group, "train"), count(group, "heldout")
        lines += [
            "",
            f"Source: {described}",
            f"SPDX-License-Identifier: {shown(group.get('licence') or UNKNOWN, 400)}",
            f"SPDX-FileCopyrightText: {UNKNOWN}",
            *(f"Licence evidence: {shown(e, 400)}" for e in (evidence if isinstance(evidence, list) else [])),
            f"Domain: {shown(group.get('domain'))}",
            f"Trained on: {shown(trained[0])} documents, {shown(trained[1])} bytes",
            f"Held out: {shown(held[0])} documents, {shown(held[1])} bytes",
        ]
    return ("\n".join(lines) + "\n").encode()


def _is_bill(data: bytes) -> bool:
    makers = json.loads(data)["metadata"]["tools"]["components"]
    return any(maker["name"] == "sevenfold" for maker in makers)


# Ending of a name -> the test whether such a file is one that this project wrote.
_OURS: dict[str, Callable[[bytes], bool]] = {
    "card.md": lambda data: data.startswith(b"# ") and b"Merkle root" in data,
    "cdx.json": _is_bill,
    "notice.txt": lambda data: data.startswith(b"Sources of the data of "),
    "spdx.json": lambda data: json.loads(data)["@context"] == CONTEXT and b"urn:sevenfold:" in data,
    "training.md": lambda data: data.startswith(b"# Summary of training content\n"),
    "hub.json": lambda data: json.loads(data)["library_name"] == "sevenfold",
}


def write_release_documents(artifact: Artifact, directory: Path | None = None) -> list[Path]:
    """Write the release documents. Return their paths.

    Args:
        artifact: the sealed file.
        directory: the directory to write into; None is the directory of the file.

    Raises:
        ArtifactError: the file does not say where it comes from.
        StorageError: the documents cannot be written.
    """
    return write_from_lineage(directory or artifact.path.parent, artifact.path.stem, described(artifact))


def documents_of(value: Mapping[str, Json]) -> dict[str, bytes]:
    """Return the documents of a lineage, by the ending of their names; `seal.sha256` is set in it."""
    bom = bill_of_materials(value, kept_sources(value), scores(value), limits(value))
    return {
        "card.md": model_card(value),
        "cdx.json": (
            json.dumps(bom, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        ),
        "notice.txt": notice(value),
        "spdx.json": spdx_document(value, kept_sources(value), scores(value), limits(value)),
        "training.md": training_summary(value, kept_sources(value), markdown_table),
        "hub.json": hub_metadata(value, scores(value)),
    }


def described(artifact: Artifact) -> dict[str, Json]:
    """Return the lineage of a file, with its SHA-256. Raises ArtifactError, StorageError."""
    value = lineage(artifact)
    value["seal"]["sha256"] = sha256_file(artifact.path)
    return value


def write_from_lineage(directory: Path, stem: str, value: Mapping[str, Json]) -> list[Path]:
    """Write the documents of a lineage as `stem`.card.md and so on. Return their paths.

    Raises:
        StorageError: a document cannot be written, or its name is taken by a file that this project
            did not write.
    """
    documents = documents_of(value)
    for ending in documents:
        refuse_foreign(directory / f"{stem}.{ending}", _OURS[ending], "release document")
    for ending, data in documents.items():
        write_bytes(directory / f"{stem}.{ending}", data)
    return [directory / f"{stem}.{ending}" for ending in documents]
