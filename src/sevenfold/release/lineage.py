"""Read the chain from sources to the root from a sealed file alone (specs/audit.md, "Lineage").

Nothing is computed. A figure that the file does not hold is null. Cost: that of opening the file.
"""

from __future__ import annotations

from sevenfold.artifact import Artifact, layout
from sevenfold.core.hashing import Json, finite
from sevenfold.release.statements import recorded_tools
from sevenfold.release.target import identity_of

_CORPUS_FIGURES = ("n_seen", "n_train", "n_heldout", "bytes_train", "bytes_heldout")


def at(value: Json, *keys: str) -> Json:
    """Return the value under `keys`, or None when an object on the path lacks a key."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _checkpoints(recipe: Json, n_steps: Json) -> dict[str, Json]:
    return {
        "every": at(recipe, "train", "checkpoint_every"),
        "kept_every": at(recipe, "train", "keep_every"),
        "last_step": n_steps,
    }


def _named(value: Json, *names: str) -> dict[str, Json]:
    return {name: at(value, name) for name in names}


def _trace(artifact: Artifact) -> dict[str, Json]:
    rows = _list(artifact.batch.get("rows"))
    return {"n_points": len(rows), "first": rows[0] if rows else None, "last": rows[-1] if rows else None}


def _quantisation(artifact: Artifact, facts: Json) -> dict[str, Json]:
    exponents = at(artifact.graph, "exponents")
    return {
        "figures": at(facts, "quantize"),
        "tensors": [
            {
                "name": tensor.name,
                "dims": list(tensor.dims),
                "scale": finite(tensor.scale),
                "exponent": at(exponents, tensor.name),
            }
            for tensor in artifact.tensors.values()
            if not tensor.training
        ],
    }


def _tuned(train: Json) -> list[dict[str, Json]]:
    """Return the files of a tuning in the form of the groups of the ledger."""
    return [
        {
            "source": at(file, "path"),
            "version": at(file, "sha256"),
            "licence": at(file, "licence"),
            "licence_evidence": ["declared in the recipe"],
            "domain": "tune",
            "train": {"n_documents": at(file, "n_conversations"), "n_bytes": at(file, "n_bytes")},
            "heldout": {"n_documents": 0, "n_bytes": 0},
            "dropped": {},
        }
        for phase in (at(train, "tune"), *_list(at(train, "tune", "phases")))
        for file in _list(at(phase, "sources"))
        if at(file, "path") is not None
    ]


def ancestors(name: str, artifact: Artifact) -> list[Json]:
    """Return the rows that a run keeps about the sealed model that it begins with: the model, then
    its own parents.

    `licences` are those of the documents that it was trained on.

    Raises ArtifactError when the file holds no identity.
    """
    identity = identity_of(artifact)
    facts = identity["facts"]
    groups = [*_list(at(facts, "corpus", "groups")), *_tuned(facts.get("train"))]
    used = [group for group in groups if at(group, "train", "n_documents")]
    licences = {str(licence) for group in used if (licence := at(group, "licence"))}
    own: dict[str, Json] = {
        "name": name,
        "root": artifact.root,
        **_named(identity, "recipe_name", "recipe_digest", "dataset_root", "tokenizer_digest"),
        **_named(identity, "training_seed", "code_version"),
        **_named(at(facts, "train"), "n_steps", "n_tokens"),
        "train_root": at(facts, "roots", "train"),
        "arithmetic": facts.get("arithmetic"),
        "licences": sorted(licences),
    }
    return [own, *_list(at(facts, "train", "trunk", "parents"))]


def recipe_from(artifact: Artifact) -> dict[str, Json]:
    """Return the sections of a recipe that begins with this model: the sections that have to be
    equal, and the key `train.from`. JSON is YAML, so a user can write the rest around it.

    Raises ArtifactError when the file holds no identity.
    """
    identity = identity_of(artifact)
    recipe = identity["facts"].get("recipe")
    model, name = at(recipe, "model"), at(recipe, "name")
    return {
        "model": {**(model if isinstance(model, dict) else {}), "pretrained": None},
        "tokenizer": at(recipe, "tokenizer"),
        "train": {"from": {"name": name, "root": artifact.root}},
    }


def lineage(artifact: Artifact) -> dict[str, Json]:
    """Return the links of the chain in the order in which they were made.

    Raises:
        ArtifactError: the file holds no identity.
    """
    identity = identity_of(artifact)
    facts = identity["facts"]
    recipe, corpus, train = facts.get("recipe"), facts.get("corpus"), facts.get("train")
    return {
        "path": str(artifact.path),
        "sources": [*_list(at(corpus, "groups")), *_tuned(train)],
        "corpus": {
            "root": identity.get("dataset_root"),
            **{name: at(corpus, name) for name in _CORPUS_FIGURES},
            "licences": _list(at(recipe, "corpus", "licences")),
        },
        "tokenizer": {
            "digest": identity.get("tokenizer_digest"),
            "root": at(facts, "roots", "tokenizer"),
            "vocab_size": at(recipe, "tokenizer", "vocab_size"),
        },
        "recipe": {
            "name": identity.get("recipe_name"),
            "summary": at(recipe, "summary"),
            "digest": identity.get("recipe_digest"),
            "family": facts.get("family"),
            "seed": identity.get("training_seed"),
            "code_version": identity.get("code_version"),
        },
        "model": at(recipe, "model"),
        "arithmetic": facts.get("arithmetic"),
        "tools": recorded_tools(artifact.path, artifact.root) or None,
        "training": {
            "root": at(facts, "roots", "train"),
            **_named(train, "n_parameters", "n_steps", "n_tokens", "final_loss"),
            **_named(train, "heldout_bpb", "heldout_windows", "heldout_bpb_parent"),
            "trunk": _named(at(train, "trunk"), "name", "step", "root", "chain"),
            "parents": _list(at(train, "trunk", "parents")),
            "tune": at(train, "tune"),
            "phases": _list(at(recipe, "train", "phases")),
            "trace": _trace(artifact),
            "checkpoints": _checkpoints(recipe, at(train, "n_steps")),
        },
        "quantisation": {
            "root": at(facts, "roots", "quantize"),
            **_quantisation(artifact, facts),
        },
        "golden": _list(artifact.provenance.get("golden")),
        "seal": {
            "root": artifact.root,
            "class": layout.ModelClass(artifact.class_).name.lower(),
            "n_bytes": artifact.n_bytes,
            "lanes": [
                {"name": lane.name, "kind": lane.kind, "n_bytes": lane.n_bytes, "sha256": lane.sha256}
                for lane in artifact.lanes
            ],
        },
    }
