"""The recipe: one YAML file that decides one model, as strict, frozen data (specs/recipe.md).

Every field has its type and its bounds here. `policy` holds what a family forbids, `sizing` counts
parameters, and `loader` reads YAML with line numbers. A resolved recipe has one canonical form and
one digest.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.recipe.corpus_schema import CorpusSpec
from sevenfold.recipe.fields import (
    MOST,
    Bytes,
    FilePath,
    Name,
    Positive,
    Ratio,
    Root,
    Section,
    Tokens,
    is_none,
    is_zero,
)
from sevenfold.recipe.units import Unit

Family = Literal["s7", "m31r", "llama", "slm"]
MAX_BPB_INCREASE = 0.02  # what integers may cost at most, whatever the recipe (B4)
Width = Annotated[int, Field(gt=0, le=1 << 20)]
Layers = Annotated[int, Field(gt=0, le=100)]  # tensor names have two digits for a layer
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Scaling = Literal["none", "linear", "ntk", "yarn"]


class RopeScaling(Section):
    """Position scaling beyond the trained context.

    The last three keys belong to `llama3` and are omitted for other kinds.
    """

    kind: Scaling | Literal["llama3"] = "none"
    factor: float = Field(default=1.0, ge=1.0)
    low_frequency: float | None = Field(default=None, gt=0.0, le=1e6, exclude_if=is_none)
    high_frequency: float | None = Field(default=None, gt=0.0, le=1e6, exclude_if=is_none)
    original_context: Tokens | None = Field(default=None, exclude_if=is_none)


class HybridAttentionSpec(Section):
    """Block `attention.yaml` of the SLM programme, with its own keys (C21)."""

    scheme: Literal["hybrid"]
    local_chunk: Tokens
    global_stride: Tokens
    global_tokens: Literal["learned_summaries"]
    streaming_links: Literal["ring"]
    rope_scaling: Scaling
    gqa: Positive  # query heads that share one key/value head
    kv_quant_bits: Literal[4, 6, 8]


class TokenRouted(Section):
    """One feed-forward network per expert in every layer; a token's own text picks the expert (A3)."""

    kind: Literal["token_routed"]
    experts: tuple[Name, ...] = Field(min_length=2, max_length=16)
    # experts[0] takes a token whose text contains one of these. Every other token goes to experts[1].
    code_markers: tuple[str, ...] = Field(default=("{", "def", ";", "fn"), min_length=1)


class ExpertStacks(Section):
    """A shared trunk (the layers of the model), then a stack of layers for each domain (B1)."""

    kind: Literal["expert_stacks"]
    experts: tuple[Name, ...] = Field(min_length=2, max_length=16)
    n_layers: Layers
    d_ffn: Width


class ModelSpec(Section):
    """Shape of the decoder. `head_dim` is free: d_model need not equal n_heads * head_dim."""

    architecture: Literal["decoder", "encoder_decoder", "recurrent"] = "decoder"
    d_model: Width
    n_layers: Layers
    n_heads: Width
    n_kv_heads: Width
    head_dim: Annotated[int, Field(gt=0, le=1 << 20, multiple_of=2)]
    d_ffn: Width
    vocab_size: Annotated[int, Field(ge=257, le=1 << 20)]
    context: Tokens
    position: Literal["rope", "learned"] = "rope"
    rope_theta: float = Field(default=10000.0, gt=1.0)
    rope_scaling: RopeScaling = RopeScaling()
    norm_eps: float = Field(default=1e-5, gt=0.0, lt=1e-1)
    tied: bool = True
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    attention: Literal["causal"] | HybridAttentionSpec = "causal"
    moe: Annotated[TokenRouted | ExpertStacks, Field(discriminator="kind")] | None = None
    pretrained: str | None = None
    retrieval: bool = False


TokenId = Annotated[int, Field(ge=0, lt=1 << 20)]


class TokenRoles(Section):
    """The roles of token ids in an imported model. `s7 import` writes them where the names of the
    vocabulary do not tell them.

    `begin` is put before a text, or is null. Each of `ends` ends a text. `bos` and `pad` have these
    names in the imported files.
    """

    begin: TokenId | None
    bos: TokenId | None
    ends: tuple[TokenId, ...] = Field(max_length=64)
    pad: TokenId | None


class TokenizerSpec(Section):
    """Block `tokenizer.yaml` of the SLM programme is a valid value of this section (C21)."""

    algo: Literal["bpe", "sentencepiece_unigram", "sentencepiece_bpe"] = "bpe"
    vocab_size: Annotated[int, Field(ge=257, le=1 << 20)]
    byte_fallback: bool = True
    pieces: Literal["code", "llama3"] = (
        "code"  # llama3: other runtimes split text the same way (specs/export.md)
    )
    preserve: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)
    training_mix: dict[str, Ratio] = Field(default_factory=dict)
    eval_metrics: tuple[str, ...] = ()
    roles: TokenRoles | None = Field(default=None, exclude_if=is_none)


FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
REASON_TOKENS = ("<|reason|>", "<|answer|>")


class Objectives(Section):
    """Weights of the losses: L_next + fim * L_fim + cot * L_cot (D3).

    `comment` begins a line of reasoning in a comment.
    """

    fim: float = Field(default=0.0, ge=0.0)
    cot: float = Field(default=0.0, ge=0.0)
    comment: str = "//"

    def special_tokens(self) -> tuple[str, ...]:
        """Return the special tokens that the objectives with weight need."""
        return FIM_TOKENS * (self.fim > 0) + REASON_TOKENS * (self.cot > 0)


class Phase(Section):
    """One phase of training on one pool of GPUs, for `plan` (B1, B3)."""

    name: Name
    trains: Literal["all", "trunk", "experts"] = "all"
    tokens: Tokens  # of all pools together
    tokens_per_expert: dict[str, Tokens] = Field(default_factory=dict)
    batch_sequences: Positive
    sequence: Tokens
    n_gpus: Positive = 1  # in one pool
    n_pools: Positive = 1


class Trunk(Section):
    """The state that this run goes on from: that of another run after `step` steps (weights and
    moments), or the weights of a sealed model, when `step` is 0.

    `root` binds the state of the run together with everything that led to it (`train.trunk`). For a
    sealed model it is the root of the file.
    """

    name: Name
    step: Annotated[int, Field(ge=0, le=MOST)] = Field(default=0, exclude_if=is_zero)
    root: Root


class TrainSpec(Section):
    """The training. Everything that decides a bit of the weights is here. The thread count decides
    none.
    """

    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    origin: Trunk | None = Field(default=None, alias="from", exclude_if=is_none)
    tokens: Tokens  # those of the trunk counted
    batch_sequences: Positive
    sequence: Tokens
    micro_batch_sequences: Positive | None = None
    packing: Literal["stream", "documents"] = "stream"  # documents: attention stays inside each
    precision: Literal["fp32", "bf16", "fp16", "fp8"] = "fp32"
    # How the gradients of several ranks are added. `ordered` adds them in the order of the
    # micro-batches, which gives the same bytes for any number of ranks.
    reduction: Literal["ordered", "fast"] = "ordered"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(gt=0.0, le=1.0)
    min_learning_rate_ratio: Ratio = 0.0
    warmup_ratio: Ratio = 0.02
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    clip_norm: float = Field(default=1.0, gt=0.0)
    init_std: float = Field(default=0.02, gt=0.0)
    shuffle: bool = False
    gradient_noise: float = Field(default=0.0, ge=0.0)
    activation_checkpointing: bool = False
    # The run stops when a loss is so many nats above the median of the 50 steps before. 0 stops for no
    # finite loss.
    spike: float = Field(default=0.0, ge=0.0)
    rl_alignment: bool = False
    external_services: tuple[str, ...] = ()
    checkpoint_every: Positive = 200
    keep_every: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    # Held-out windows that are scored at the end, evenly spaced; None is all of them.
    eval_windows: Positive | None = Field(default=None, exclude_if=is_none)
    objectives: Objectives = Objectives()
    phases: tuple[Phase, ...] = ()

    @property
    def trunk(self) -> Trunk | None:
        """Return the run that this one goes on from."""
        return self.origin if self.origin and self.origin.step else None

    @property
    def parent(self) -> Trunk | None:
        """Return the sealed model whose weights this run begins with."""
        return self.origin if self.origin and not self.origin.step else None

    @property
    def first_step(self) -> int:
        """Return the steps that were done before this run: those of its trunk."""
        return self.trunk.step if self.trunk else 0

    def micro_batch(self, batch_sequences: int) -> int:
        """Return the rows of a micro-batch of a batch with so many rows."""
        return self.micro_batch_sequences or batch_sequences


class TuneFile(Section):
    """A file of conversations, one JSON object a line (specs/tune.md).

    `path` is relative to the recipe; `sha256` is that of its bytes.
    """

    path: FilePath
    sha256: Root
    licence: Annotated[str, Field(min_length=1, max_length=200)]


class TuneSpec(Section):
    """Tuning of a sealed parent on conversations. Only the tokens of answers carry loss (C7).

    `pretraining` is the share of the rows of a step that are windows of the corpus. `domains` names
    the corpus documents in the form `### Instruction:`, `### Response:`. `max_bpb_increase` is the
    largest allowed increase of held-out bits per byte over the parent.
    """

    template: Literal["instruction"] = "instruction"
    pretraining: Ratio = 0.2
    domains: tuple[Name, ...] = Field(default=(), max_length=16)
    files: tuple[TuneFile, ...] = Field(default=(), max_length=64)
    too_long: Literal["refuse", "leave_out"] = "refuse"
    max_bpb_increase: Ratio = 0.01


class PreferenceSpec(Section):
    """The loss of pairs of answers (DPO, C8), and its gate (specs/tune.md).

    `beta` scales the log ratio to the reference. `normalised` divides it by the answer's tokens. One
    prompt in `holdout` is held out. `min_win_increase` is by how much the share of held-out pairs
    whose chosen answer is the more likely one has to rise.
    """

    beta: Annotated[float, Field(gt=0.0, le=100.0)] = 0.1
    normalised: bool = True
    holdout: Annotated[int, Field(ge=2, le=1000)] = 10
    min_win_increase: Annotated[float, Field(ge=-1.0, le=1.0), Unit.RATIO] = 0.1


class TunePhase(TuneSpec):
    """A phase of a tuning in several: its data, its objective, its share of `train.tokens`.

    It begins with the weights of the phase before it. `preferences` makes its files pairs of answers.
    `learning_rate` is that of `train` where it is not set.
    """

    name: Name
    tokens: Tokens
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    preferences: PreferenceSpec | None = None


Tuning = TuneSpec | Annotated[tuple[TunePhase, ...], Field(min_length=1, max_length=16)]


class QuantizeSpec(Section):
    """Quantisation (B4): INT8 per row, and the gate that refuses a model that lost too much."""

    bits: Literal[4, 8] = 8
    max_bpb_increase: Annotated[float, Field(ge=0.0, le=MAX_BPB_INCREASE), Unit.RATIO] = MAX_BPB_INCREASE
    min_top1_agreement: Ratio = 0.0
    eval_windows: Positive = 32


class SealSpec(Section):
    """The artifact: record packing, golden prompts that are stored in the model, and sample prompts
    for people.
    """

    packing: Literal["exact", "padded"] = "exact"
    golden_prompts: tuple[str, ...] = ("def ", "import os\n", "class Node:\n    def __init__(self")
    sample_prompts: tuple[str, ...] = ()


class Hardware(Section):
    """The hardware that `plan` assumes: bytes, FLOP/s at the recipe's precision, USD per GPU-hour."""

    gpu: str = "A100-40GB"
    gpu_memory: Bytes = 40 * 10**9
    peak_flops: Annotated[float, Field(ge=1e6, le=1e30), Unit.FLOPS] = 312e12
    mfu: Annotated[float, Field(ge=1e-4, le=1.0), Unit.RATIO] = 0.4
    price_per_gpu_hour: Annotated[float, Field(ge=0.0, le=1e6), Unit.MONEY] = 2.5
    n_gpus: Positive = 1
    sharding: Literal["none", "zero3"] = "none"


class ContextSpec(Section):
    """Block `context.yaml` of the SLM programme, with its own keys (C21): the context curriculum.

    `extend_at_tokens` is the share of the training tokens after which `train_base` grows to
    `target_stage1`.
    """

    train_base: Tokens
    extend_at_tokens: Ratio
    target_stage1: Tokens
    target_stage2: Tokens
    latency_slo_tokens: Tokens


class PythonExec(Section):
    """Tool: run Python."""

    name: Literal["python_exec"]
    timeout_ms: Positive
    mem_mb: Positive


class CompilerRun(Section):
    """Tool: compile and run."""

    name: Literal["compiler_run"]
    langs: tuple[Literal["py", "cpp", "java", "js", "rust"], ...] = Field(min_length=1)
    timeout_ms: Positive
    mem_mb: Positive


class Retrieval(Section):
    """Tool: search the vector store; a chunk has between the two numbers of tokens."""

    name: Literal["retrieval"]
    k: Positive
    chunk_tokens: tuple[Tokens, Tokens]
    multihop: Positive


class Web(Section):
    """Tool: fetch a page of an allowed domain."""

    name: Literal["web"]
    allow_domains: tuple[str, ...]
    rate_limit_qpm: Positive
    post_fetch_verifier: bool


class Calculator(Section):
    """Tool: arithmetic."""

    name: Literal["calculator"]


Tool = Annotated[PythonExec | CompilerRun | Retrieval | Web | Calculator, Field(discriminator="name")]


class Recipe(Section):
    """A resolved recipe (after `extends:` and `include:`)."""

    recipe: Literal[1]
    name: Name
    family: Family
    tier: str = ""
    summary: str
    model: ModelSpec
    tokenizer: TokenizerSpec
    corpus: CorpusSpec
    train: TrainSpec
    tune: Tuning | None = Field(default=None, exclude_if=is_none)
    quantize: QuantizeSpec = QuantizeSpec()
    seal: SealSpec = SealSpec()
    hardware: Hardware = Hardware()
    context: ContextSpec | None = None
    tools: tuple[Tool, ...] = ()

    @property
    def tunings(self) -> tuple[TuneSpec, ...]:
        """Return the phases of the tuning in order; one without a name for a tuning of one phase; ()
        for none.
        """
        if self.tune is None:
            return ()
        return (self.tune,) if isinstance(self.tune, TuneSpec) else self.tune

    def resolved(self) -> dict[str, Json]:
        """Return the recipe as JSON values, every default written out."""
        value: dict[str, Json] = self.model_dump(mode="json")
        return value

    def canonical(self) -> bytes:
        """Return the one byte form of this recipe."""
        return canonical_json(self.resolved())

    @property
    def digest(self) -> str:
        """Return the hex digest of the canonical form; it enters every manifest and the seal."""
        return digest("sevenfold/recipe/1", self.canonical())
