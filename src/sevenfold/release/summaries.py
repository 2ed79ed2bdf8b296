"""Two summaries of a sealed model for others' forms: the public summary of training content that the
EU asks of general-purpose models (template of July 2025), and the metadata of the Hugging Face Hub.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence

from sevenfold.core.documents import SYNTHETIC
from sevenfold.core.hashing import Json
from sevenfold.report.lineage import MISSING, shown

NOT_RECORDED = "not recorded"
Group = Mapping[str, Json]


def _is_user_data(group: Group) -> bool:
    return group.get("domain") == "tune"


def _is_synthetic(group: Group) -> bool:
    return group.get("source") == SYNTHETIC


def _is_package(group: Group) -> bool:
    return not _is_user_data(group) and not _is_synthetic(group)


def _never(_: Group) -> bool:
    return False


# Section of the template, and which groups of the ledger belong there. The factory crawls nothing: a
# source is a pinned package, a directory, a generator or a file of conversations.
_SECTIONS: tuple[tuple[str, Callable[[Group], bool]], ...] = (
    ("2.1 Publicly available datasets", _is_package),
    ("2.2 Private datasets obtained from third parties", _never),
    ("2.3 Data crawled and scraped from online sources", _never),
    ("2.4 User data", _never),
    ("2.5 Synthetic data", _is_synthetic),
    ("2.6 Other sources: conversations that the recipe names", _is_user_data),
)


def training_summary(
    value: Mapping[str, Json],
    sources: Sequence[Group],
    table: Callable[[Sequence[str], Sequence[Sequence[Json]]], list[str]],
) -> bytes:
    """Return the summary as Markdown, in the sections of the template. What the file does not hold is
    "not recorded".

    Args:
        value: the lineage.
        sources: groups of the ledger that are in the model.
        table: makes the lines of a Markdown table of plain text.
    """
    recipe, corpus = value["recipe"], value["corpus"]
    lines = [
        "# Summary of training content",
        "",
        "In the sections of the template of the European Commission of July 2025, from the sealed file.",
        "",
        "## 1 General information",
        "",
        *table(
            ("", ""),
            [
                ("1.1 Provider", NOT_RECORDED),
                ("1.2 Model", f"{shown(recipe['name'])}, root {shown(value['seal']['root'])}"),
                ("1.2 Depends on", _parents(value)),
                ("1.3 Modality", "text"),
                ("1.3 Size: bytes of training documents", corpus["bytes_train"]),
                ("1.3 Size: tokens trained on, repeats included", value["training"]["n_tokens"]),
                ("1.3 Latest date of acquisition", NOT_RECORDED),
            ],
        ),
        "## 2 Data sources",
        "",
    ]
    for title, belongs in _SECTIONS:
        rows = [_row(group) for group in sources if belongs(group)]
        lines += [f"### {title}", ""]
        head = ("source", "version", "licence", "documents", "bytes")
        lines += table(head, rows) if rows else ["None.", ""]
    lines += [
        "## 3 Data processing",
        "",
        "### 3.1 Reservation of rights",
        "",
        "Each source was kept under a licence that the recipe allows. Nothing was crawled, so no opt-out",
        "of text and data mining was passed over.",
        "",
        *table(("licences that the recipe allows",), [[licence] for licence in corpus["licences"]]),
        "### 3.2 Removal of content",
        "",
        *table(("reason", "documents dropped"), _dropped(value)),
        "### 3.3 Other",
        "",
        "The ledger of the corpus has a row for every document seen, with licence, evidence and reason.",
        "",
    ]
    return "\n".join(lines).encode()


def _parents(value: Mapping[str, Json]) -> str:
    parents = [row for row in value["training"]["parents"] if isinstance(row, dict)]
    return ", ".join(f"{shown(row.get('name'))} {shown(row.get('root'))}" for row in parents) or "none"


def _row(group: Group) -> list[Json]:
    train = group.get("train")
    train = train if isinstance(train, dict) else {}
    named = [group.get(name) or MISSING for name in ("source", "version", "licence")]
    return [*named, train.get("n_documents"), train.get("n_bytes")]


def _dropped(value: Mapping[str, Json]) -> list[tuple[str, Json]]:
    counts: dict[str, int] = {}
    for group in value["sources"]:
        dropped = group.get("dropped") if isinstance(group, dict) else None
        for reason, row in dropped.items() if isinstance(dropped, dict) else ():
            n = row.get("n_documents") if isinstance(row, dict) else None
            counts[shown(reason)] = counts.get(shown(reason), 0) + (n if type(n) is int else 0)
    return sorted(counts.items()) or [("none", 0)]


def hub_metadata(value: Mapping[str, Json], scores: Sequence[tuple[str, Json, str]]) -> bytes:
    """Return what stands between the lines `---` of a card on the Hugging Face Hub: tags and
    `model-index`. It is JSON, which is YAML. The licence of a model is not in its file: `unknown`.
    """
    name = shown(value["recipe"]["name"])
    metrics = [
        {"type": _metric_type(what), "name": f"{what}, on {on}", "value": figure}
        for what, figure, on in scores
        if type(figure) in (int, float) and math.isfinite(figure)
    ]
    data = {"type": "held-out", "name": f"held-out documents of corpus {shown(value['corpus']['root'])[:16]}"}
    result = {"task": {"type": "text-generation"}, "dataset": data, "metrics": metrics}
    card: Json = {
        "library_name": "sevenfold",
        "license": "unknown",
        "pipeline_tag": "text-generation",
        "tags": ["code", "integer-inference", "sevenfold"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return json.dumps(card, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _metric_type(what: str) -> str:
    return "_".join(what.lower().replace(",", "").split())
