"""Build the bill of materials of a sealed model: CycloneDX 1.6 with a model card and a component
for each source (specs/release-documents.md).

It is built by hand, because the classes of the maintained library do not know `modelCard` and
`data`. Tests validate it with that library. It contains no time, and its serial number follows from
the root.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from sevenfold.core.hashing import Json
from sevenfold.core.process.log import one_line
from sevenfold.report.lineage import MISSING, shown

SPEC_VERSION = "1.6"


def _present(**fields: Json) -> dict[str, Json]:
    return {
        name.replace("_ref", "-ref"): value for name, value in fields.items() if value not in (None, "", [])
    }


def _text(value: Json) -> str | None:
    return None if value is None else shown(value, 400)


def _properties(values: Mapping[str, Json]) -> list[Json]:
    return [
        {
            "name": f"sevenfold:{name}",
            "value": one_line(str(value)) if type(value) in (str, int) else shown(value),
        }
        for name, value in values.items()
        if value is not None
    ]


def _data(group: Mapping[str, Json], ref: str) -> dict[str, Json]:
    counts = {
        f"{split}:{what}": found.get(what)
        for split in ("train", "heldout")
        if isinstance(found := group.get(split), dict)
        for what in ("n_documents", "n_bytes")
    }
    licence, evidence = group.get("licence"), group.get("licence_evidence")
    named = shown(group.get("source"), 400) or MISSING
    return _present(
        type="data",
        bom_ref=ref,
        name=named,
        version=_text(group.get("version")),
        licenses=[{"expression": shown(licence, 400)}] if licence else None,
        data=[
            _present(
                type="dataset",
                name=named,
                contents={"properties": _properties(counts)},
                description=f"Documents of domain {shown(group.get('domain'))}, trained on and held out",
            )
        ],
        properties=[
            row
            for known_by in (evidence if isinstance(evidence, list) else [])
            for row in _properties({"licence_evidence": known_by})
        ],
    )


def _model_card(
    value: Mapping[str, Json],
    refs: Sequence[str],
    scores: Sequence[tuple[str, Json, str]],
    limits: Sequence[str],
) -> dict[str, Json]:
    model = value["model"] if isinstance(value["model"], dict) else {}
    layers, width = shown(model.get("n_layers")), shown(model.get("d_model"))
    return {
        "modelParameters": {
            "approach": {"type": "self-supervised"},
            "task": "text generation",
            "architectureFamily": "transformer",
            "modelArchitecture": (
                f"decoder-only, {value['seal']['class']}, {layers} layers of width {width}, INT8"
            ),
            "datasets": [{"ref": ref} for ref in refs],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "text"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": what, "value": shown(figure), "slice": on} for what, figure, on in scores
            ]
        },
        "considerations": {"technicalLimitations": list(limits)},
    }


def bill_of_materials(
    value: Mapping[str, Json],
    sources: Sequence[Mapping[str, Json]],
    scores: Sequence[tuple[str, Json, str]],
    limits: Sequence[str],
) -> dict[str, Json]:
    """Return the bill of materials as a JSON value.

    Args:
        value: the lineage.
        sources: groups of the ledger that are in the model.
        scores: (what, figure, on what).
        limits: sentences.
    """
    recipe, root = value["recipe"], value["seal"]["root"]
    model_ref = f"model:{root}"
    refs = [f"data:{index}" for index in range(len(sources))]
    digests = {
        "root": root,
        "recipe_digest": recipe["digest"],
        "dataset_root": value["corpus"]["root"],
        "tokenizer_digest": value["tokenizer"]["digest"],
        "training_seed": recipe["seed"],
        "arithmetic": value["arithmetic"],
    }
    component = _present(
        type="machine-learning-model",
        bom_ref=model_ref,
        name=shown(recipe["name"]) or MISSING,
        version=root[:16],
        description=shown(recipe["summary"], 400),
        hashes=[{"alg": "SHA-256", "content": value["seal"]["sha256"]}],
        modelCard=_model_card(value, refs, scores, limits),
        properties=_properties(digests),
    )
    maker = _present(type="application", name="sevenfold", version=_text(recipe["code_version"]))
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, root)}",
        "version": 1,
        "metadata": {"component": component, "tools": {"components": [maker]}},
        "components": [_data(group, ref) for group, ref in zip(sources, refs, strict=True)],
        "dependencies": [{"ref": model_ref, "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }
