"""Build the SPDX 3.0 document of a sealed model: an AI package, a dataset package for each source,
and their licences (specs/release-documents.md).

The format asks for times. A sealed file records none, so that the same file gives the same bytes;
`NO_TIME` stands for it, and a comment says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from sevenfold.core.hashing import Json
from sevenfold.report.lineage import MISSING, shown

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
SPEC_VERSION = "3.0.1"
NO_TIME = "1970-01-01T00:00:00Z"
_INFO = "_:creation"
_NO_CLAIM = "noAssertion"


def spdx_document(
    value: Mapping[str, Json],
    sources: Sequence[Mapping[str, Json]],
    scores: Sequence[tuple[str, Json, str]],
    limits: Sequence[str],
) -> bytes:
    """Return the document as JSON-LD.

    Args:
        value: the lineage, with `seal.sha256`.
        sources: groups of the ledger that are in the model.
        scores: (what, figure, on what).
        limits: sentences.
    """
    base = f"urn:sevenfold:{value['seal']['root']}"
    agent = f"{base}:agent"
    rest = [
        _element("Agent", agent, name=MISSING, comment="The sealed file names no supplier."),
        _model(value, base, agent, scores, limits),
        *_datasets(sources, base, agent),
    ]
    document = _element(
        "SpdxDocument",
        f"{base}:document",
        rootElement=[f"{base}:model"],
        element=sorted(row["spdxId"] for row in rest),
        profileConformance=["core", "software", "simpleLicensing", "dataset", "ai"],
    )
    info = {
        "type": "CreationInfo",
        "@id": _INFO,
        "specVersion": SPEC_VERSION,
        "created": NO_TIME,
        "createdBy": [agent],
        "comment": f"No time is recorded; {NO_TIME} stands for it.",
    }
    graph = {"@context": CONTEXT, "@graph": [info, document, *rest]}
    return json.dumps(graph, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def _element(kind: str, spdx_id: str, **fields: Json) -> dict[str, Json]:
    return {"type": kind, "spdxId": spdx_id, "creationInfo": _INFO, **fields}


def _package(kind: str, spdx_id: str, agent: str, purpose: str, **fields: Json) -> dict[str, Json]:
    return _element(
        kind,
        spdx_id,
        suppliedBy=agent,
        releaseTime=NO_TIME,
        software_primaryPurpose=purpose,
        software_downloadLocation="urn:sevenfold:not-recorded",
        **fields,
    )


def _entry(key: str, value: Json) -> dict[str, Json]:
    return {"type": "DictionaryEntry", "key": key, "value": shown(value)}


def _model(
    value: Mapping[str, Json],
    base: str,
    agent: str,
    scores: Sequence[tuple[str, Json, str]],
    limits: Sequence[str],
) -> dict[str, Json]:
    recipe, training = value["recipe"], value["training"]
    model = value["model"] if isinstance(value["model"], dict) else {}
    shape = ("d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ffn", "vocab_size", "context")
    return _package(
        "ai_AIPackage",
        f"{base}:model",
        agent,
        "model",
        name=shown(recipe["name"]) or MISSING,
        software_packageVersion=value["seal"]["root"][:16],
        verifiedUsing=[{"type": "Hash", "algorithm": "sha256", "hashValue": value["seal"]["sha256"]}],
        ai_typeOfModel=["decoder-only transformer", f"{value['seal']['class']}, INT8 inference"],
        ai_hyperparameter=[_entry(name, model.get(name)) for name in shape],
        ai_metric=[_entry(f"{what}, on {on}", figure) for what, figure, on in scores],
        ai_limitation=" ".join(limits),
        ai_informationAboutTraining=(
            f"{shown(training['n_steps'])} steps, {shown(training['n_tokens'])} tokens, seed"
            f" {shown(recipe['seed'])}, recipe {shown(recipe['digest'])},"
            f" corpus {shown(value['corpus']['root'])}"
        ),
        ai_useSensitivePersonalInformation=_NO_CLAIM,
        ai_autonomyType=_NO_CLAIM,
    )


def _datasets(sources: Sequence[Mapping[str, Json]], base: str, agent: str) -> Iterator[dict[str, Json]]:
    names = [f"{base}:data:{index}" for index in range(len(sources))]
    for name, group in zip(names, sources, strict=True):
        train = group.get("train")
        n_bytes = train.get("n_bytes") if isinstance(train, dict) else None
        yield _package(
            "dataset_DatasetPackage",
            name,
            agent,
            "data",
            name=shown(group.get("source"), 400) or MISSING,
            software_packageVersion=shown(group.get("version"), 400) or MISSING,
            dataset_datasetType=["text"],
            **({"dataset_datasetSize": n_bytes} if type(n_bytes) is int else {}),
            dataset_hasSensitivePersonalInformation=_NO_CLAIM,
            dataset_intendedUse="training of the model",
        )
        licence = f"{name}:licence"
        yield _element(
            "simplelicensing_LicenseExpression",
            licence,
            simplelicensing_licenseExpression=shown(group.get("licence") or "NOASSERTION", 400),
        )
        yield _relation(f"{name}:declared", name, "hasDeclaredLicense", [licence])
    if names:
        yield _relation(f"{base}:trained-on", f"{base}:model", "trainedOn", names)


def _relation(name: str, source: str, kind: str, targets: Sequence[str]) -> dict[str, Json]:
    fields: dict[str, Json] = {"from": source, "to": list(targets), "relationshipType": kind}
    return _element("Relationship", name, **fields)
