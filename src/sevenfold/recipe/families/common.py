"""Rules of every family: the sections of a recipe agree with each other, and the pipeline can do
everything that they ask for.
"""

from __future__ import annotations

import re

from sevenfold.recipe.corpus_schema import DatasetSource, DirectorySource, GitSource, JsonlSource
from sevenfold.recipe.families.rule import FamilyRule, missing_from, number
from sevenfold.recipe.schema import (
    ExpertStacks,
    Family,
    HybridAttentionSpec,
    Phase,
    Recipe,
    Retrieval,
    TunePhase,
    TuneSpec,
)
from sevenfold.recipe.yamltree import show

ALL: tuple[Family, ...] = ("s7", "m31r", "llama", "slm")

_SPDX = re.compile(r"\(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*( (AND|OR|WITH) \(*[A-Za-z0-9][A-Za-z0-9.+-]*\)*)*")


def _heads(recipe: Recipe) -> str | None:
    model = recipe.model
    if model.n_heads % model.n_kv_heads == 0:
        return None
    return f"{model.n_heads} heads are not a multiple of {model.n_kv_heads} key/value heads"


def _vocabulary(recipe: Recipe) -> str | None:
    tokenizer, model = recipe.tokenizer.vocab_size, recipe.model.vocab_size
    return None if tokenizer == model else f"tokenizer.vocab_size is {tokenizer}, model.vocab_size is {model}"


def _special_tokens(recipe: Recipe) -> str | None:
    special, size = recipe.tokenizer.special_tokens, recipe.tokenizer.vocab_size
    if len(set(special)) != len(special) or "" in special:
        return "tokenizer.special_tokens has an empty or a repeated entry"
    needed = len(special) + (256 if recipe.tokenizer.byte_fallback else 0)
    return f"{needed} bytes and special tokens do not fit {size} entries" if needed > size else None


def _sequence(recipe: Recipe) -> str | None:
    longest = max([recipe.train.sequence, *(phase.sequence for phase in recipe.train.phases)])
    context = recipe.model.context
    return f"a training sequence of {longest} tokens, a context of {context}" if longest > context else None


def _batch(recipe: Recipe) -> str | None:
    train = recipe.train
    micro = train.micro_batch_sequences
    if micro is not None and train.batch_sequences % micro:
        return f"micro batches of {micro} do not divide a batch of {train.batch_sequences}"
    step = train.batch_sequences * train.sequence
    return (
        f"{number(train.tokens)} tokens are less than one batch of {number(step)}"
        if train.tokens < step
        else None
    )


def _licences(recipe: Recipe) -> str | None:
    declared = [
        source.licence
        for source in recipe.corpus.sources
        if isinstance(source, DirectorySource | JsonlSource | GitSource | DatasetSource)
        and source.licence is not None
    ]
    for licence in (*recipe.corpus.licences, *declared):
        if not _SPDX.fullmatch(licence) or licence.count("(") != licence.count(")"):
            return f"{show(licence)} does not have the form of an SPDX licence expression"
    return None


def _source_licence(recipe: Recipe) -> str | None:
    for index, source in enumerate(recipe.corpus.sources):
        known = isinstance(source, DatasetSource) and source.layout != "plain"
        if not isinstance(source, JsonlSource | DatasetSource) or known:
            continue
        if source.licence is None and source.licence_key is None:
            return f"corpus.sources[{index}] declares no licence and names no licence key"
    return None


def _mix(recipe: Recipe) -> str | None:
    for name, mix in (
        ("corpus.mix", recipe.corpus.mix),
        ("tokenizer.training_mix", recipe.tokenizer.training_mix),
    ):
        if mix and abs(sum(mix.values()) - 1.0) > 1e-9:
            return f"{name} sums to {sum(mix.values()):g}"
    domains = {source.domain for source in recipe.corpus.sources}
    if recipe.corpus.mix and recipe.corpus.mix.keys() != domains:
        named = show(", ".join(sorted(recipe.corpus.mix)))
        return f"corpus.mix names {named}; the sources have {', '.join(sorted(domains))}"
    return None


def _sizes(recipe: Recipe) -> str | None:
    low, high = recipe.corpus.min_bytes, recipe.corpus.max_bytes
    return f"corpus.min_bytes {low} is above corpus.max_bytes {high}" if low > high else None


def _experts(recipe: Recipe) -> str | None:
    experts = recipe.model.moe.experts if recipe.model.moe else ()
    return f"{', '.join(experts)}" if len(set(experts)) != len(experts) else None


def _stacks(recipe: Recipe) -> str | None:
    moe = recipe.model.moe
    if not isinstance(moe, ExpertStacks):
        return None
    if recipe.corpus.mix.keys() != set(moe.experts):
        return (
            f"the experts are {', '.join(moe.experts)}; corpus.mix has"
            f" {show(', '.join(recipe.corpus.mix)) or 'none'}"
        )
    lacking = missing_from(recipe.tokenizer.special_tokens, [f"<|{expert}|>" for expert in moe.experts])
    return f"tokenizer.special_tokens lacks {lacking}" if lacking else None


def _objectives(recipe: Recipe) -> str | None:
    lacking = missing_from(recipe.tokenizer.special_tokens, recipe.train.objectives.special_tokens())
    return f"tokenizer.special_tokens lacks {lacking}" if lacking else None


def _trunk(recipe: Recipe) -> str | None:
    train = recipe.train
    if train.origin is None:
        return None
    steps = train.tokens // (train.batch_sequences * train.sequence)
    if steps <= train.origin.step:
        return f"train.tokens pay for {steps} steps, and the trunk has {train.origin.step}"
    others = {
        "train.phases": train.phases,
        "context": recipe.context,
        "model.pretrained": recipe.model.pretrained,
    }
    return next((f"{key} is set beside train.from" for key, is_set in others.items() if is_set), None)


def _tune(recipe: Recipe) -> str | None:
    tunings, train = recipe.tunings, recipe.train
    if not tunings:
        return None
    phases = [tune for tune in tunings if isinstance(tune, TunePhase)]
    total, names = sum(phase.tokens for phase in phases), [phase.name for phase in phases]
    wrong = {
        "train.from names no sealed model": train.parent is None,
        "train.packing is not documents": train.packing != "documents",
        "train.objectives are set beside it": bool(train.objectives.special_tokens()),
        "two phases have one name": len(set(names)) < len(names),
        f"the phases' tokens sum to {number(total)}": bool(phases) and total != train.tokens,
    }
    found = [text for text, is_so in wrong.items() if is_so]
    return next((text for text in (*found, *(_tuning(recipe, tune) for tune in tunings)) if text), None)


def _tuning(recipe: Recipe, tune: TuneSpec) -> str | None:
    """Return what is wrong with one phase of a tuning."""
    batch, phase = recipe.train.batch_sequences, tune if isinstance(tune, TunePhase) else None
    is_paired = phase is not None and phase.preferences is not None
    rows = round(tune.pretraining * batch)
    # A tuning by preferences may go without windows of the corpus.
    few = rows < 0 if is_paired else rows < 1
    wrong = {
        "it names no domain and no file": not (tune.domains or tune.files),
        "pairs stand in files; it names domains": is_paired and bool(tune.domains),
        f"{rows} of {batch} rows are pretraining: each kind needs one": few or rows >= batch,
        "it pays for no step": phase is not None and phase.tokens < batch * recipe.train.sequence,
    }
    unknown = missing_from([source.domain for source in recipe.corpus.sources], tune.domains)
    found = [text for text, is_so in wrong.items() if is_so]
    found += [f"no source has the domain {unknown}"] if unknown else []
    found += [
        f"{show(file.licence)} does not have the form of an SPDX licence expression"
        for file in tune.files
        if not _SPDX.fullmatch(file.licence)
    ]
    return f"{phase.name}: {found[0]}" if found and phase else next(iter(found), None)


def _phase(phase: Phase, moe: object) -> str | None:
    if phase.trains == "all":
        return (
            f"phase {phase.name} trains all, so it has no tokens per expert"
            if phase.tokens_per_expert
            else None
        )
    if not isinstance(moe, ExpertStacks):
        return f"phase {phase.name} trains {phase.trains}; the model has no expert stacks"
    if phase.trains == "trunk":
        return (
            f"phase {phase.name} trains the trunk; no tokens per expert" if phase.tokens_per_expert else None
        )
    if phase.tokens_per_expert.keys() != set(moe.experts):
        return f"phase {phase.name} gives tokens to {show(', '.join(phase.tokens_per_expert))}"
    if sum(phase.tokens_per_expert.values()) != phase.tokens:
        return (
            f"phase {phase.name}: the experts' tokens sum to {number(sum(phase.tokens_per_expert.values()))}"
        )
    return None


def _phases(recipe: Recipe) -> str | None:
    phases = recipe.train.phases
    wrong = next((text for phase in phases if (text := _phase(phase, recipe.model.moe))), None)
    if wrong or not phases:
        return wrong
    total = sum(phase.tokens for phase in phases)
    return None if total == recipe.train.tokens else f"the phases' tokens sum to {number(total)}"


def _hybrid(recipe: Recipe) -> str | None:
    model = recipe.model
    if not isinstance(model.attention, HybridAttentionSpec):
        return None
    if model.n_heads != model.attention.gqa * model.n_kv_heads:
        return f"gqa {model.attention.gqa} x {model.n_kv_heads} key/value heads is not {model.n_heads} heads"
    window, stride = model.attention.local_chunk, model.attention.global_stride
    if window % stride:
        return f"local_chunk {window} is not a multiple of global_stride {stride}"
    scaling = model.attention.rope_scaling
    return (
        None
        if scaling == model.rope_scaling.kind
        else f"{scaling} in the block, {model.rope_scaling.kind} in model"
    )


def _scaling(recipe: Recipe) -> str | None:
    scaling = recipe.model.rope_scaling
    if (scaling.kind == "none") != (scaling.factor == 1):
        return f"kind {scaling.kind}, factor {scaling.factor:g}"
    extra = (scaling.low_frequency, scaling.high_frequency, scaling.original_context)
    if scaling.kind != "llama3":
        return f"kind {scaling.kind} with a key of llama3" if any(extra) else None
    low, high, original = extra
    if low is None or high is None or original is None:
        return "kind llama3 without low_frequency, high_frequency and original_context"
    return None if low < high else f"low_frequency {low:g} is not below high_frequency {high:g}"


def _curriculum(recipe: Recipe) -> str | None:
    context = recipe.context
    if context is None or context.train_base <= context.target_stage1 <= context.target_stage2:
        return None
    return f"{context.train_base}, {context.target_stage1}, {context.target_stage2} do not ascend"


def _tools(recipe: Recipe) -> str | None:
    names = [tool.name for tool in recipe.tools]
    if len(set(names)) != len(names):
        return "a tool is listed twice"
    chunks = [tool.chunk_tokens for tool in recipe.tools if isinstance(tool, Retrieval)]
    return next((f"chunks of {low} to {high} tokens" for low, high in chunks if low > high), None)


def _decoder_only(recipe: Recipe) -> str | None:
    model, train = recipe.model, recipe.train
    if model.architecture != "decoder":
        return f"model.architecture is {model.architecture}"
    wanted = {
        "model.retrieval": model.retrieval,
        "train.rl_alignment": train.rl_alignment,
        "train.external_services": bool(train.external_services),
    }
    return next((f"{key} is set" for key, is_set in wanted.items() if is_set), None)


RULES = (
    FamilyRule("G.heads", ALL, "query heads are a multiple of key/value heads", "model.n_kv_heads", _heads),
    FamilyRule(
        "G.vocabulary",
        ALL,
        "tokenizer and model agree on the size",
        "tokenizer.vocab_size",
        _vocabulary,
    ),
    FamilyRule(
        "G.special-tokens",
        ALL,
        "special tokens are distinct, and fit the vocabulary with the 256 bytes",
        "tokenizer.special_tokens",
        _special_tokens,
    ),
    FamilyRule("G.sequence", ALL, "training sequences fit the context", "train.sequence", _sequence),
    FamilyRule(
        "G.batch",
        ALL,
        "micro batches divide the batch; at least one batch",
        "train.tokens",
        _batch,
    ),
    FamilyRule("G.licences", ALL, "licences are SPDX expressions", "corpus.licences", _licences),
    FamilyRule(
        "G.source-licence",
        ALL,
        "each source has a licence",
        "corpus.sources",
        _source_licence,
    ),
    FamilyRule("G.mix", ALL, "a mix sums to 1 and names the sources' domains", "corpus.mix", _mix),
    FamilyRule("G.sizes", ALL, "min_bytes is at most max_bytes", "corpus.min_bytes", _sizes),
    FamilyRule("G.experts", ALL, "experts have distinct names", "model.moe.experts", _experts),
    FamilyRule(
        "G.stacks",
        ALL,
        "each expert stack has a domain of the mix and that domain's token",
        "model.moe",
        _stacks,
    ),
    FamilyRule(
        "G.objectives",
        ALL,
        "each objective's special tokens are reserved",
        "tokenizer.special_tokens",
        _objectives,
    ),
    FamilyRule(
        "G.phases", ALL, "phases fit the model, and their tokens sum to the run's", "train.phases", _phases
    ),
    FamilyRule(
        "G.trunk", ALL, "a run continues a trunk in one phase, and beyond its last step", "train", _trunk
    ),
    FamilyRule(
        "G.tune",
        ALL,
        "a tuning begins with a sealed model, keeps documents apart, and mixes both kinds of rows",
        "tune",
        _tune,
    ),
    FamilyRule(
        "G.hybrid",
        ALL,
        "a hybrid block agrees with heads and scaling, and its stride divides its chunk",
        "model.attention",
        _hybrid,
    ),
    FamilyRule(
        "G.rope-scaling",
        ALL,
        "a factor above 1 if and only if scaled; the frequencies of llama3 with it alone",
        "model.rope_scaling",
        _scaling,
    ),
    FamilyRule("G.curriculum", ALL, "context targets ascend", "context", _curriculum),
    FamilyRule("G.tools", ALL, "each tool is listed once, and its ranges ascend", "tools", _tools),
    FamilyRule(
        "G.spine",
        ("s7", "llama", "slm"),
        "a decoder, without retrieval, reinforcement or outside services",
        "model",
        _decoder_only,
    ),
)
