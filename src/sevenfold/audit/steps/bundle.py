"""A step bundle: one step of training in one file, for recomputation from the file alone
(specs/step-bundle.md).

It is a safetensors file. It holds weights and moments before the step and the rows of the batch.
Its facts are canonical JSON and state what the step has to give. Before computing, a reader refuses
every bundle whose bytes differ from what its writer hashed, or whose parts do not match each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from sevenfold.core.errors import ArtifactError, storage
from sevenfold.core.files import unique_keys, write_bytes
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.model.kernels.operators import LAW
from sevenfold.recipe.fields import Root, Section, is_none
from sevenfold.recipe.schema import ModelSpec, PreferenceSpec, RopeScaling, TokenRouted, TrainSpec
from sevenfold.recipe.sizing import count, expert_of, tensors
from sevenfold.train.arithmetic import obstacle
from sevenfold.train.checkpoints.checkpoint import state_root
from sevenfold.train.checkpoints.tensor_digest import DAMAGE, StoredTensors, tensors_digest
from sevenfold.train.tuning.preferences import are_pairs

# 2 has an objective of pairs of answers, which 1 has not.
VERSIONS = (1, 2)
SUFFIX = ".s7step"
FACTS, DIGEST, TAG = "sevenfold.step", "sevenfold.sha256", "sevenfold/step-bundle/1"
TRANSCRIPT, ROUTER = "transcript", "router"
MOMENTS = ("exp_avg", "exp_avg_sq")
# The powers of a step are repeated products, so the step number in a bundle is limited.
MOST_STEPS = 10_000_000
# How many times the parameters that it holds a bundle may leave out.
MOST_ABSENT = 64
HEAD_BYTES = 1 << 20

Count = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Index = Annotated[int, Field(ge=0, lt=1 << 20)]


class StepBundleError(ArtifactError):
    """A step bundle that is refused: damaged, incomplete, of another version, or with parts that do
    not match.
    """


class Term(Section):
    """One objective of the loss."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    weight: Annotated[float, Field(gt=0.0, le=1e6)]
    preferences: PreferenceSpec | None = Field(default=None, exclude_if=is_none)


class Claims(Section):
    """The results of the step as the author of the bundle claims them. Roots are those of the trace
    of the run.

    `states` holds roots of the states after the steps before this one, as far as they were
    computed. The last is the state in which the step begins.
    """

    states: tuple[Root, ...] = Field(min_length=1, max_length=MOST_STEPS)
    state_after: Root
    gradient: Root
    weights: Root
    chain: Root
    loss: float
    learning_rate: float
    grad_norm: float


class BundleOrigin(Section):
    """The run of the step. Nothing here takes part in the computation."""

    recipe_name: str
    recipe_digest: Root
    tokens_root: Root
    sealed_root: Root | None


class StepFacts(Section):
    """The facts about a step except its tensors."""

    step_bundle: Literal[1, 2]
    arithmetic: str
    origin: BundleOrigin
    part: Annotated[str, Field(max_length=200)]
    trains: Literal["all", "trunk", "expert"]
    stack: Index | None
    step: Annotated[int, Field(gt=0, le=MOST_STEPS)]
    model: ModelSpec
    train: TrainSpec
    rope_scaling: RopeScaling
    is_curriculum: bool
    document_start: Index | None
    chain: Root
    terms: tuple[Term, ...] = Field(min_length=1, max_length=16)
    claims: Claims


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The rows of one objective. ids int64 [rows, T + 1]; counted float32 [rows, T], or None when
    all targets count; of pairs, the segments of `train.tuning.preferences.pairs_of`.
    """

    ids: Tensor
    counted: Tensor | None


@dataclass(frozen=True, kw_only=True)
class StepBundle:
    """A step.

    Args:
        model: weights before the step that the step changes.
        base: frozen weights that it reads: of the trunk, or of the reference of pairs.
        optimizer: moments by parameter and slot, as in a checkpoint; empty before the first step.
        router: expert of each token id, int64 [V], where the model has experts.
        transcript: what each operator of the step was given and gave (`audit.steps.transcript`); None
            when it was not asked for.
        kept: outputs of one operator, by number in the transcript.
    """

    facts: StepFacts
    model: Mapping[str, Tensor]
    base: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    batch: tuple[Batch, ...]
    router: Tensor | None = None
    transcript: list[Json] | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Return the root of the state in which the step begins."""
        return state_root(self.facts.step - 1, self.model, self.optimizer)


def _named_tensors(bundle: StepBundle) -> dict[str, Tensor]:
    found = {f"model.{n}": t for n, t in bundle.model.items()}
    found |= {f"base.{n}": t for n, t in bundle.base.items()}
    found |= {f"optimizer.{n}": t for n, t in bundle.optimizer.items() if not n.endswith(".step")}
    for number, batch in enumerate(bundle.batch):
        found[f"batch.{number}.ids"] = batch.ids
        if batch.counted is not None:
            found[f"batch.{number}.counted"] = batch.counted
    if bundle.router is not None:
        found[ROUTER] = bundle.router
    if bundle.transcript is not None:
        data = np.frombuffer(canonical_json(bundle.transcript), np.uint8).copy()
        found[TRANSCRIPT] = torch.from_numpy(data)
    found |= {f"kept.{n}": t for n, t in bundle.kept.items()}
    return {name: tensor.detach().contiguous() for name, tensor in found.items()}


def write_bundle(path: Path, bundle: StepBundle) -> int:
    """Write a bundle and return its bytes. Raises StorageError."""
    found = _named_tensors(bundle)
    facts = canonical_json(bundle.facts.model_dump(mode="json"))
    data = save_tensors(found, {FACTS: facts.decode(), DIGEST: tensors_digest(TAG, found, facts)})
    write_bytes(path, data)
    return len(data)


def refused(path: Path, what: str) -> StepBundleError:
    """Return the error for a refused bundle."""
    return StepBundleError(
        what, where=str(path), remedy="get it again from whoever exported it; it proves nothing as it is"
    )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn errors of the libraries about damaged bytes inside the block into StepBundleError."""
    try:
        yield
    except DAMAGE as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise refused(path, f"a damaged step bundle: {text}") from error


def begins_bundle(head: bytes) -> bool:
    """Return whether bytes begin a step bundle, by its metadata."""
    return head[8:9] == b"{" and f'"{FACTS}"'.encode() in head


def is_step_bundle(path: Path) -> bool:
    """Return whether the file says that it is a step bundle. Raises StorageError."""
    with storage(path):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return begins_bundle(file.read(HEAD_BYTES))


def read_bundle(path: Path) -> StepBundle:
    """Read a bundle, and check its bytes and that its parts match each other.

    Raises:
        StepBundleError: the bundle is refused.
        StorageError: the file cannot be read.
    """
    with storage(path):
        path.open("rb").close()
    with _refusing(path), storage(path), safe_open(path, framework="pt") as file:
        said = file.metadata() or {}
        if FACTS not in said or DIGEST not in said:
            raise ValueError("it does not say what step it is of")
        if tensors_digest(TAG, StoredTensors(file), said[FACTS].encode()) != said[DIGEST]:
            raise ValueError("its bytes do not have its digest")
        facts = _facts(said[FACTS])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        bundle = _assembled(facts, found)
    if bundle.state != facts.claims.states[-1]:
        raise refused(path, "its weights and moments are not those whose root it names")
    return bundle


def _facts(text: str) -> StepFacts:
    """Return the facts. Raises ValueError."""
    raw = json.loads(text, object_pairs_hook=unique_keys)
    version = raw.get("step_bundle")
    if version not in VERSIONS:
        raise ValueError(f"its version is {version!r}, this program reads {VERSIONS}")
    try:
        facts = StepFacts.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    why = obstacle(facts.model, facts.train, torch.device("cpu"))
    if (version == 2) != any(term.preferences for term in facts.terms):
        raise ValueError(f"its version is {version}, and its terms are those of the other")
    if facts.arithmetic != LAW or why:
        raise ValueError(f"it is of {facts.arithmetic[:80]!a}: {why or f'this program computes {LAW}'}")
    return facts


def _assembled(facts: StepFacts, found: dict[str, Tensor]) -> StepBundle:
    """Return the bundle of these facts and tensors. Raises ValueError where they do not match."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    batch = groups.pop("batch", {})
    single = {name: groups.pop(name, {}).get("") for name in (ROUTER, TRANSCRIPT)}
    model, base, optimizer, kept = (groups.pop(n, {}) for n in ("model", "base", "optimizer", "kept"))
    if groups:
        raise ValueError(f"it holds {min(groups)[:80]!a}, which no step has")
    _check_weights(facts, model, base, optimizer)
    text = single[TRANSCRIPT]
    return StepBundle(
        facts=facts,
        model=model,
        base=base,
        optimizer=optimizer | _counts(facts, model),
        batch=tuple(_batch(facts, number, batch) for number in range(len(facts.terms))),
        router=_router(facts, single[ROUTER]),
        transcript=None if text is None else _transcript(text),
        kept=kept,
    )


def _counts(facts: StepFacts, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the step counts of the optimiser, which equal the number of the step."""
    if facts.step == 1:
        return {}
    return {f"{name}.step": torch.tensor(float(facts.step - 1)) for name in model}


def _check_weights(
    facts: StepFacts, model: dict[str, Tensor], base: dict[str, Tensor], optimizer: dict[str, Tensor]
) -> None:
    """Compare names, shapes and types of all weights with the shape of the model."""
    n_stored = sum(tensor.numel() for tensor in (*model.values(), *base.values()))
    if count(facts.model) > MOST_ABSENT * max(n_stored, 1):
        raise ValueError(f"it holds {n_stored} of the {count(facts.model)} parameters that it tells of")
    shapes = tensors(facts.model)
    is_expert = facts.trains == "expert"
    if is_expert != (facts.stack is not None):
        raise ValueError(f"it trains {facts.trains} with expert stack {facts.stack}")
    trained = {n: s for n, s in shapes.items() if facts.trains == "all" or expert_of(n) == facts.stack}
    has_reference = facts.step_bundle == 2
    frozen = {n: s for n, s in shapes.items() if has_reference or (is_expert and expert_of(n) is None)}
    if not trained:
        raise ValueError(f"its model has no expert stack {facts.stack}")
    _check_shapes("model", model, trained)
    _check_shapes("base", base, frozen)
    moments = {f"{n}.{slot}": shape for n, shape in trained.items() for slot in MOMENTS}
    _check_shapes("optimizer", optimizer, {} if facts.step == 1 else moments)


def _check_shapes(group: str, found: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        raise ValueError(f"{group}.{name[:80]} is {'missing' if name in wanted else 'none of its tensors'}")
    for name, tensor in found.items():
        if tensor.dtype != torch.float32 or tuple(tensor.shape) != tuple(wanted[name]):
            raise ValueError(f"{group}.{name} is {tensor.dtype} {list(tensor.shape)}")


def _batch(facts: StepFacts, number: int, found: dict[str, Tensor]) -> Batch:
    ids, counted = found.pop(f"{number}.ids", None), found.pop(f"{number}.counted", None)
    if number + 1 == len(facts.terms) and found:
        raise ValueError(f"batch.{min(found)[:80]} is none of its tensors")
    if counted is None and facts.terms[number].preferences is not None:
        raise ValueError(f"batch.{number}.counted is missing")
    if ids is None or ids.dtype != torch.int64 or ids.dim() != 2 or not ids.shape[0] or ids.shape[1] < 2:
        raise ValueError(f"batch.{number}.ids is not rows of token ids")
    if int(ids.min()) < 0 or int(ids.max()) >= facts.model.vocab_size:
        raise ValueError(f"batch.{number}.ids holds a token that the vocabulary has not")
    if counted is None:
        return Batch(ids=ids, counted=None)
    if counted.dtype != torch.float32 or counted.shape != ids[:, 1:].shape:
        raise ValueError(f"batch.{number}.counted is {counted.dtype} {list(counted.shape)}")
    is_mask = bool(((counted == 0) | (counted == 1)).all())
    if facts.terms[number].preferences is not None:
        is_mask = bool((counted == counted.floor()).all()) and are_pairs(counted.numpy())
    if not is_mask or not bool(counted.any()):
        raise ValueError(f"batch.{number}.counted does not say which targets count")
    return Batch(ids=ids, counted=counted)


def _router(facts: StepFacts, router: Tensor | None) -> Tensor | None:
    moe = facts.model.moe
    if not isinstance(moe, TokenRouted):
        if router is not None:
            raise ValueError("it holds a router, and its model has none")
        return None
    if router is None or router.dtype != torch.int64 or router.shape != (facts.model.vocab_size,):
        raise ValueError("router is not an expert for each token id")
    if int(router.min()) < 0 or int(router.max()) >= len(moe.experts):
        raise ValueError("router names an expert that the model has not")
    return router


def _transcript(data: Tensor) -> list[Json]:
    if data.dtype != torch.uint8 or data.dim() != 1:
        raise ValueError("its transcript is not text")
    rows: Any = json.loads(data.numpy().tobytes(), object_pairs_hook=unique_keys)
    if not isinstance(rows, list):
        raise ValueError("its transcript is no list")
    return rows
