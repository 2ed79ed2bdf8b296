"""Learn a vocabulary: the same texts give the same bytes, in memory that does not grow with the
corpus.

The `tokenizers` library learns `bpe`. It counts words in parallel and merges the most frequent
pair, ties by id. Neither depends on the number of threads, which a test checks. SentencePiece
learns `sentencepiece_unigram` and `sentencepiece_bpe` from counts of pieces (`spm`). All become one
form of file, over bytes, that `codec` reads without the library that learnt it. The first
MAX_TEXT_BYTES of the texts are read. Documents are in the order of their hashes, so these are a
sample. Cost: 12 MB of Python to 4096 entries in about 3 s and 0.3 GB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sevenfold.core.documents import Document
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer import spm
from sevenfold.tokenizer.codec import BEGINNINGS, byte_letters
from sevenfold.tokenizer.pieces import PIECES, Cutter, protected_forms, protected_pattern

N_BYTES = 256
MIN_FREQUENCY = 2
MAX_TEXT_BYTES = 1 << 29
# Score of a special token in a Unigram. No piece contains one, and this score would never win.
_SPECIAL_SCORE = -1e6
_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}


def train_tokenizer(texts: Iterable[str], spec: TokenizerSpec) -> bytes:
    """Train on `texts`. Return the tokenizer file as canonical JSON, with exactly `spec.vocab_size`
    entries.

    Raises:
        UsageError: the recipe asks for a setting that contradicts itself.
        StorageError: the texts do not hold enough repeated pairs for the vocabulary.
    """
    _refuse_impossible(spec)
    sample = _first(texts, MAX_TEXT_BYTES)
    if spec.algo == "bpe":
        return _train_bpe(sample, spec)
    return _train_sentencepiece(sample, spec)


def _first(texts: Iterable[str], n_bytes: int) -> Iterator[str]:
    for text in texts:
        yield text
        n_bytes -= len(text)
        if n_bytes <= 0:
            return


def _train_bpe(texts: Iterable[str], spec: TokenizerSpec) -> bytes:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer(spec)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        special_tokens=list(spec.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    size = tokenizer.get_vocab_size()
    if size != spec.vocab_size:
        raise _too_small(spec, size)
    value = json.loads(tokenizer.to_str())
    if spec.preserve:
        _protect(value["model"], spec)
    return canonical_json(value)


def _protect(model: Json, spec: TokenizerSpec) -> None:
    """Make every protected symbol an entry, in place of the last merges. A piece that is an entry
    becomes one token.
    """
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    symbols = [_in_letters(form) for form in protected_forms(spec.preserve)]
    n_kept = len(names)
    while n_kept + sum(symbol not in names[:n_kept] for symbol in symbols) > spec.vocab_size:
        n_kept -= 1
    kept = names[:n_kept]
    kept += [symbol for symbol in dict.fromkeys(symbols) if symbol not in set(kept)]
    entries = set(kept[:n_kept])
    model["vocab"] = {name: i for i, name in enumerate(kept)}
    model["merges"] = [pair for pair in model["merges"] if {*pair, "".join(pair)} <= entries]
    model["ignore_merges"] = True


def _train_sentencepiece(texts: Iterable[str], spec: TokenizerSpec) -> bytes:
    symbols = [_in_letters(form) for form in protected_forms(spec.preserve) if len(form.encode()) > 1]
    size = spec.vocab_size - len(spec.special_tokens) - len(symbols)
    counts = spm.PieceCounts()
    cut = _cutting(spec)
    for text in texts:
        counts.add(cut(text))
    ranked = counts.ranked()
    # With millions of pieces, the library needs this memory.
    del counts
    in_letters = ((_in_letters(piece), n) for piece, n in ranked)
    kept = ((piece, n) for piece, n in in_letters if piece not in symbols)
    kind = spec.algo.removeprefix("sentencepiece_")
    found = spm.train(kept, kind, size + len(symbols), "".join(byte_letters()))
    learnt = [(entry, score) for entry, score in found if entry not in symbols]
    entries = [*((symbol, 0.0) for symbol in symbols), *_cut_to(learnt, size)]
    if len(entries) + len(spec.special_tokens) != spec.vocab_size:
        raise _too_small(spec, len(entries) + len(spec.special_tokens))
    model = _unigram(entries, spec) if kind == "unigram" else _merges(entries, spec, len(symbols))
    return _file(model, spec)


def _cut_to(entries: list[tuple[str, float]], size: int) -> list[tuple[str, float]]:
    """Return the first `size` entries. Single bytes are always kept."""
    excess = len(entries) - size
    multi = [entry for entry, _ in entries if len(entry) > 1]
    left_out = set(multi[len(multi) - excess :]) if excess > 0 else set()
    return [(entry, score) for entry, score in entries if entry not in left_out]


def _unigram(entries: list[tuple[str, float]], spec: TokenizerSpec) -> Json:
    vocabulary = [[name, _SPECIAL_SCORE] for name in spec.special_tokens] + [list(entry) for entry in entries]
    return {"type": "Unigram", "unk_id": None, "vocab": vocabulary, "byte_fallback": False}


def _merges(entries: list[tuple[str, float]], spec: TokenizerSpec, n_symbols: int) -> Json:
    """Return a BPE in the form of the library: every way to join two entries to a third, in the
    order in which the third was learnt.
    """
    names = [*spec.special_tokens, *(entry for entry, _ in entries)]
    learnt = {entry for entry, _ in entries[n_symbols:]}
    merges = []
    for entry in (entry for entry, _ in entries[n_symbols:]):
        for at in range(1, len(entry)):
            if entry[:at] in learnt and entry[at:] in learnt:
                merges.append([entry[:at], entry[at:]])
    return {
        "byte_fallback": False, "continuing_subword_prefix": None, "dropout": None,
        "end_of_word_suffix": None, "fuse_unk": False,
        "ignore_merges": bool(n_symbols), "merges": merges, "type": "BPE", "unk_token": None,
        "vocab": {name: i for i, name in enumerate(names)},
    }  # fmt: skip


def _file(model: Json, spec: TokenizerSpec) -> bytes:
    """Return the tokenizer file for a model, as the library writes it."""
    from tokenizers import Tokenizer, decoders, models

    shell = Tokenizer(models.BPE())
    shell.pre_tokenizer = _pre_tokenizer(spec)
    shell.decoder = decoders.ByteLevel()
    added = [{**_FLAGS, "id": i, "content": name} for i, name in enumerate(spec.special_tokens)]
    return canonical_json({**json.loads(shell.to_str()), "added_tokens": added, "model": model})


def _in_letters(text: str) -> str:
    letters = byte_letters()
    return "".join(letters[byte] for byte in text.encode())


def _cutting(spec: TokenizerSpec) -> Any:
    """Return a function that cuts a text into pieces: in Python for ASCII, in the library for the
    rest.
    """
    cutter = Cutter(PIECES[spec.pieces], protected_pattern(spec.preserve) if spec.preserve else None)
    splits = _splits(spec)

    def cut(text: str) -> Iterable[str]:
        if text.isascii():
            return cutter.pieces(text)
        return (piece for piece, _ in splits.pre_tokenize_str(text))

    return cut


def _splits(spec: TokenizerSpec, *more: Any) -> Any:
    from tokenizers import Regex, pre_tokenizers

    rules = [protected_pattern(spec.preserve)] if spec.preserve else []
    splits = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in (*rules, PIECES[spec.pieces])]
    return pre_tokenizers.Sequence([*splits, *more])


def _pre_tokenizer(spec: TokenizerSpec) -> Any:
    from tokenizers import pre_tokenizers

    return _splits(spec, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))


def _too_small(spec: TokenizerSpec, size: int) -> StorageError:
    return StorageError(
        f"the corpus is too small for tokenizer.vocab_size {spec.vocab_size}: it gives {size} entries",
        where="tokenizer",
        remedy=f"add text, or set tokenizer.vocab_size and model.vocab_size to at most {size}",
    )


def _refuse_impossible(spec: TokenizerSpec) -> None:
    if not spec.byte_fallback:
        raise UsageError(
            "without byte fallback some bytes would have no token",
            where="tokenizer.byte_fallback",
            remedy="leave it true: any byte string then decodes back",
        )
    specials, where = spec.special_tokens, "tokenizer.special_tokens"
    if len(set(specials)) != len(specials) or not {*BEGINNINGS} & {*specials}:
        raise UsageError(
            f"special tokens {list(specials)} must be distinct, and one of {', '.join(BEGINNINGS)} among"
            " them",
            where=where,
        )
    needed = N_BYTES + len(specials) + len(protected_forms(spec.preserve))
    if spec.vocab_size < needed:
        raise UsageError(
            f"{spec.vocab_size} entries cannot hold {N_BYTES} bytes, {len(specials)} special tokens and "
            f"{len({*spec.preserve})} protected symbols",
            where="tokenizer.vocab_size",
        )
    for special in specials:
        # No merge can join what the pieces always cut, so no text becomes a special token.
        if len(_splits(spec).pre_tokenize_str(special)) < 2:
            raise UsageError(
                f"special token {special!r} could be mistaken for a word of the text",
                where=where,
                remedy="write it with brackets, such as <name>",
            )
    for symbol in spec.preserve:
        if (
            not symbol
            or any(ch.isspace() for ch in symbol)
            or len(_splits(spec).pre_tokenize_str(symbol)) != 1
        ):
            raise UsageError(
                f"{symbol!r} cannot be kept whole: pieces of kind {spec.pieces} cut it",
                where="tokenizer.preserve",
                remedy="protect marks, or one word with one mark before it",
            )


def mixed(read: Callable[[], Iterator[Document]], mix: Mapping[str, float]) -> Iterator[str]:
    """Yield the texts in their order, each domain up to its share of the bytes (`training_mix`); all
    of them without a mix.

    The scarcest domain decides the total. The texts are read twice.

    Raises:
        UsageError: the shares do not add up to 1.
        StorageError: a domain of the mix has no documents.
    """
    if not mix:
        yield from (document.text for document in read())
        return
    if abs(sum(mix.values()) - 1.0) > 1e-6:
        raise UsageError(f"its shares add up to {sum(mix.values()):g}, not 1", where="tokenizer.training_mix")
    n_bytes: Counter[str] = Counter()
    for document in read():
        n_bytes[document.domain] += len(document.text)
    wanted = {domain: share for domain, share in mix.items() if share > 0}
    for domain in wanted:
        if not n_bytes[domain]:
            raise StorageError(
                f"no document of domain {domain!r}; there are {', '.join(sorted(n_bytes)) or 'none'}",
                where="tokenizer.training_mix",
                remedy="name the domains of corpus.sources, or add a source",
            )
    total = min(n_bytes[domain] / share for domain, share in wanted.items())
    left = {domain: share * total for domain, share in wanted.items()}
    for document in read():
        if left.get(document.domain, 0) > 0:
            left[document.domain] -= len(document.text)
            yield document.text
