"""Stage `seal`: write everything that a run knows about its model into one file (B5, D6).

It writes ../model.s7l (mode 0444) beside the stage directories, and beside that file the evidence
of which tools computed it. The reference engine computes golden logits here, which are stored in
the model. The FP32 training weights are stored as well when the job asks for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.numpy import load as load_arrays

from sevenfold import __version__
from sevenfold.artifact import (
    Golden,
    Identity,
    ModelClass,
    SealInput,
    Tensor,
    build_contents,
    open_artifact,
    training_tensor,
    write_artifact,
)
from sevenfold.artifact.errors import ExistingArtifactError
from sevenfold.core.errors import ArtifactError, StorageError
from sevenfold.core.files import read_bytes, remove_partials
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import ARTIFACT, METRICS, TOKENIZER, TRACE, WEIGHTS
from sevenfold.engine.session import GOLDEN_STEPS, TOKENS, greedy_run, prompt_ids
from sevenfold.engine.weights import IntegerModel, load_weights, with_kv_bits
from sevenfold.quantize.stage import read_records
from sevenfold.recipe.schema import ExpertStacks
from sevenfold.release.statements import PROVENANCE, provenance, remove_outdated, write_statement
from sevenfold.runs.job import Job, StageResult
from sevenfold.runs.machine import inventory
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles

STAGE = "seal"
# Rows of the loss curve that are stored in the model, evenly spaced.
TRACE_ROWS = 200


def _jsonl(path: Path) -> list[Json]:
    return [json.loads(line) for line in read_bytes(path).splitlines()]


def thin(rows: list[Json], count: int = TRACE_ROWS) -> list[Json]:
    """Return at most `count` + 1 evenly spaced rows. The last row is always included."""
    if len(rows) <= count:
        return rows
    kept = [rows[i * len(rows) // count] for i in range(count)]
    return kept if kept[-1] is rows[-1] else [*kept, rows[-1]]


def identity(job: Job) -> Identity:
    """Return the origin of the model: the digests and figures of every stage, without anything of
    the machine.
    """
    corpus, tokenizer = job.manifest("corpus"), job.manifest("tokenizer")
    train, quantize = job.manifest("train"), job.manifest("quantize")
    digests = {output.path: output.sha256 for output in tokenizer.outputs}
    # The gzip figure is a yardstick and not an input. With it, the root would change with the zlib
    # of the machine.
    facts = {name: value for name, value in corpus.facts.items() if name != "heldout_gzip_bpb"}
    stages = (corpus, tokenizer, train, quantize)
    return Identity(
        recipe_name=job.recipe.name,
        recipe_digest=job.recipe.digest,
        dataset_root=corpus.root,
        tokenizer_digest=digests[TOKENIZER],
        training_seed=job.recipe.train.seed,
        code_version=__version__,
        facts={
            "recipe": job.recipe.resolved(),
            "family": job.recipe.family,
            "roots": {m.stage: m.root for m in stages},
            "arithmetic": train.tools.get("arithmetic", "unrecorded"),
            "corpus": facts,
            "train": dict(train.facts),
            "quantize": dict(quantize.facts),
        },
    )


def check_job(job: Job) -> None:
    """Refuse, before any work is done, to replace the model of another recipe without permission.

    Raises:
        ExistingArtifactError: the run directory holds such a model.
    """
    path = job.out / ARTIFACT
    if job.replace or not path.exists():
        return
    try:
        made_by = open_artifact(path).provenance["identity"]["recipe_digest"]
    except (ArtifactError, KeyError, TypeError):
        made_by = "unknown"
    if made_by != job.recipe.digest:
        raise ExistingArtifactError(
            f"the path holds a model of another recipe ({made_by[:16]}; this one is"
            f" {job.recipe.digest[:16]})",
            where=str(path),
            remedy="replace it with --replace, or choose another --out",
        )


def fingerprint(job: Job) -> str:
    """Return what decides the file besides recipe and inputs."""
    return "with training weights" if job.with_training_weights else ""


def training_tensors(job: Job) -> list[Tensor]:
    """Return the float checkpoint as records; none unless the job asks for it. Raises StorageError."""
    if not job.with_training_weights:
        return []
    arrays = load_arrays(read_bytes(job.directory("train") / WEIGHTS))
    return [training_tensor(name, array) for name, array in arrays.items()]


def golden_runs(job: Job, tokenizer: Tokenizer, weights: IntegerModel) -> list[Golden]:
    """Return the golden prompts of the recipe with their results on the reference.

    They are assigned to the expert stacks in turn, so that a replay runs each stack. A model with a
    choice of cached codes has each prompt with each of them, the default first.

    Raises:
        StorageError: a prompt leaves no room for a step.
    """
    recipe, golden = job.recipe, []
    hybrid = weights.shape.hybrid
    stacks = recipe.model.moe.experts if isinstance(recipe.model.moe, ExpertStacks) else ("",)
    for number, prompt in enumerate(recipe.seal.golden_prompts):
        domain = stacks[number % len(stacks)]
        ids = prompt_ids(tokenizer, prompt, domain)
        n_steps = min(GOLDEN_STEPS, recipe.model.context - len(ids))
        if n_steps < 1:
            raise StorageError(
                f"golden prompt {prompt[:20]!r} has {len(ids)} tokens, the context {recipe.model.context}",
                where="seal.golden_prompts",
                remedy="shorten it",
            )
        for bits in hybrid.kv_bits if hybrid else (0,):
            done = greedy_run(with_kv_bits(weights, bits or None), ids, n_steps)
            golden.append(
                Golden(
                    prompt=prompt,
                    ids=ids,
                    n_steps=n_steps,
                    tokens=done.tokens,
                    logits_sha256=done.logits_sha256,
                    domain=domain,
                    kv_bits=bits,
                )
            )
    return golden


def state_provenance(job: Job, path: Path, root: str) -> None:
    """Write beside the file which tools and inputs it was made with. Raises StorageError."""
    manifests = [job.manifest(name) for name in ("corpus", "tokenizer", "train", "quantize")]
    for old in remove_outdated(path, root):
        job.progress.note(f"{old.name} was about another model, and is gone")
    predicate = provenance(
        recipe={
            "recipe": job.recipe.name,
            "recipeDigest": job.recipe.digest,
            "acceptQuality": job.accept_quality,
            "withTrainingWeights": job.with_training_weights,
        },
        stages={manifest.stage: manifest.root for manifest in manifests},
        tools={manifest.stage: manifest.tools for manifest in manifests},
        machine=inventory(),
        law=manifests[2].tools.get("arithmetic", "unrecorded"),
    )
    write_statement(path, root, PROVENANCE, predicate)


def run(job: Job) -> StageResult:
    """Assemble and write the artifact.

    Raises:
        ExistingArtifactError: a file with another root exists, and the job does not allow to
            replace it.
        StorageError: an input is missing, or the disk is full; no partial file is left.
        ArtifactError: the contents cannot be sealed.
    """
    recipe = job.recipe
    records, graph = read_records(job.directory("quantize"))
    dictionary = read_bytes(job.directory("tokenizer") / TOKENIZER)
    roles = Roles.of(recipe.tokenizer.roles)
    tokenizer = Tokenizer.from_json(dictionary, roles)
    if roles is not None:
        graph = graph | {TOKENS: roles.as_json()}
    golden = golden_runs(job, tokenizer, load_weights(records, graph, str(job.directory("quantize"))))
    contents = build_contents(
        SealInput(
            class_=ModelClass.MOE if recipe.model.moe else ModelClass.DENSE,
            padded=recipe.seal.packing == "padded",
            dictionary=dictionary,
            tensors=[
                *(Tensor(r.name, r.dims, r.scale, r.data) for r in records.values()),
                *training_tensors(job),
            ],
            graph=graph,
            trace=thin(_jsonl(job.directory("train") / METRICS)),
            batch=_jsonl(job.directory("train") / TRACE),
            identity=identity(job),
            golden=golden,
        )
    )
    path = job.out / ARTIFACT
    remove_partials(job.out)
    sealed = write_artifact(path, contents, replace=job.replace)
    state_provenance(job, path, sealed.root)
    job.progress.note(f"sealed {path}, root {sealed.root}")
    return StageResult(
        outputs=[f"../{ARTIFACT}"],
        facts={
            "root": sealed.root,
            "n_bytes": sealed.n_bytes,
            "n_golden": len(golden),
            "lanes": [{"name": lane.name, "n_bytes": lane.n_bytes} for lane in open_artifact(path).lanes],
        },
    )
