"""Sealed files of tiny models with real tokenizers: what libsevenfold and Python both open."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tiny_models import Tiny, tiny

from sevenfold.artifact import Golden, Identity, ModelClass, SealInput, Tensor
from sevenfold.core.hashing import canonical_json
from sevenfold.engine.session import greedy_run, prompt_ids
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles
from sevenfold.tokenizer.train import train_tokenizer

VOCAB, CONTEXT, STEPS = 320, 96, 5
TEXTS = [
    "def add(left, right):\n    return left + right\n",
    "class Adder:\n    def add(self, left, right):\n        return add(left, right)\n",
    "for number in range(10):\n    print(number, add(number, number))  # gr\u00fc\u00dfe \u4e16\u754c\n",
] * 3
# Each is a model shape of tests/engine, changes of the tokenizer, and roles of tokens.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "plain": ("gqa", {}, None),
    "llama3": ("dense", {"pieces": "llama3"}, None),
    "unigram": ("dense", {"algo": "sentencepiece_unigram"}, None),
    "protected": ("moe", {"preserve": ("->", "fn", "'a", "|")}, None),
    "markers": ("dense", {"special_tokens": ("<bos>", "<eos>", "<pad>", "<THINK>")}, None),
    "roles": ("dense", {}, {"begin": None, "bos": 3, "ends": [40, 0, 7], "pad": None}),
    "stacks": ("stacks", {"special_tokens": ("<|endoftext|>", "<|code|>", "<|math|>")}, None),
    # As imports have them: `imported` changes the file.
    "as Llama 3": (
        "dense",
        {"pieces": "llama3", "special_tokens": ("<|endoftext|>", "<pad>", "<eos>")},
        {"begin": VOCAB - 3, "bos": VOCAB - 3, "ends": [VOCAB - 2, VOCAB - 1], "pad": None},
    ),
    "special tokens last": ("dense", {"special_tokens": ("<s>", "</s>", "<FINAL>")}, None),
    "unigram, last": ("dense", {"algo": "sentencepiece_unigram"}, None),
}
IMPORTED = ("as Llama 3", "special tokens last", "unigram, last")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")


def imported(kind: str, data: bytes) -> bytes:
    """Return the file as an import of another project's model would have it.

    The special tokens have the last ids. As in Llama 3 they stand beside the vocabulary, and a
    piece that is an entry is that entry, also where no merges make it.
    """
    tree = json.loads(data)
    model, added = tree["model"], tree["added_tokens"]
    n_specials = len(added)
    for token in added:
        token["id"] += VOCAB - n_specials
    if kind == "unigram, last":
        model["vocab"] = model["vocab"][n_specials:] + model["vocab"][:n_specials]
        return canonical_json(tree)
    model["vocab"] = {name: (i - n_specials) % VOCAB for name, i in model["vocab"].items()}
    if kind == "as Llama 3":
        for token, name in zip(added, LLAMA3, strict=True):
            del model["vocab"][token["content"]]
            token["content"] = name
        model |= {"ignore_merges": True, "merges": [m for i, m in enumerate(model["merges"]) if i % 3]}
    return canonical_json(tree)


@cache
def dictionary(kind: str) -> bytes:
    """The tokenizer file of a kind."""
    # Unigram takes more text than pairs of bytes do, to have as many entries to choose from.
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [
        *TEXTS,
        *((library / f"{name}.py").read_text(encoding="utf-8") for name in ("textwrap", "shlex")),
    ]
    data = train_tokenizer(texts, TokenizerSpec(vocab_size=VOCAB, **KINDS[kind][1]))
    return imported(kind, data) if kind in IMPORTED else data


@cache
def seal_input(kind: str = "plain", context: int = CONTEXT) -> SealInput:
    """A model that verifies, as the sealing stage takes it."""
    shape, _, named = KINDS[kind]
    data = dictionary(kind)
    roles = Roles.read(named) if named else None
    tokenizer = Tokenizer.from_json(data, roles)
    small: Tiny = tiny(shape, vocab_size=tokenizer.vocab_size, context=context)
    graph = dict(small.graph) | ({"tokens": named} if named else {})
    weights, golden = small.load(), []
    for prompt in ("def add(", "print", "gr\u00fc\u00dfe", ""):
        ids = prompt_ids(tokenizer, prompt)
        run = greedy_run(weights, ids, STEPS)
        golden.append(
            Golden(prompt=prompt, ids=ids, n_steps=STEPS, tokens=run.tokens, logits_sha256=run.logits_sha256)
        )
    return SealInput(
        class_=ModelClass.DENSE if shape in ("dense", "gqa") else ModelClass.MOE,
        padded=shape != "dense",
        dictionary=data,
        tensors=[Tensor(r.name, r.dims, r.scale, r.data) for r in small.records.values()],
        graph=graph,
        trace=[{"step": 1, "loss": 1.25e-07}],
        batch=[],
        identity=Identity(
            recipe_name="tiny",
            recipe_digest="11" * 32,
            dataset_root="22" * 32,
            tokenizer_digest=hashlib.sha256(data).hexdigest(),
            training_seed=1,
            code_version="0",
        ),
        golden=golden,
    )


def changed(kind: str = "plain", **changes: Any) -> SealInput:
    """The same with other parts."""
    return replace(seal_input(kind), **changes)
