"""Make receipts: statements that prove an answer, which one prefill checks (specs/receipt.md).

A receipt contains the root of the model, digests of the ids of prompt and answer, the law by which
tokens were chosen, the rule that ended the answer, and one hash over the logits of every step. It
does not mention batches, caches and threads, because they change no bit (specs/arithmetic.md).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from sevenfold.core.hashing import Json, sha256
from sevenfold.core.merkle import merkle_root
from sevenfold.core.numbers.tables import LAW_VERSION as LAW_OF_CAUSAL_FILES
from sevenfold.engine.sampling import LAW_VERSION, DecodingLaw
from sevenfold.release import dsse
from sevenfold.serve.batching.request import BANNED, Finished, Generation

PREDICATE_TYPE = "https://in-toto.io/attestation/sevenfold/answer/v1"
FORMAT = 1
SUBJECT = "answer"
KEYS = {"format", "model", "request", "sampling", "output", "trace"}


def ids_digest(ids: Sequence[int], salt: bytes = b"") -> str:
    """Return SHA-256 of a salt, the number of ids and the ids, each a big-endian u32."""
    return sha256(salt + struct.pack(f">I{len(ids)}I", len(ids), *ids)).hex()


def leaf(step: int, token: int, logits_sha256: bytes) -> bytes:
    """Return the leaf of one step: the chosen token, and the hash of the logits."""
    return struct.pack(">II", step, token) + logits_sha256


def trace_root(ids: Sequence[int], logits_sha256: Sequence[bytes]) -> str:
    """Return the Merkle root over the steps of an answer."""
    leaves = [leaf(step, *pair) for step, pair in enumerate(zip(ids, logits_sha256, strict=True))]
    return merkle_root(leaves).hex() if leaves else sha256(b"").hex()


def predicate(
    root: str, arithmetic: int, generation: Generation, index: int, finished: Finished, salt: bytes
) -> dict[str, Json]:
    """Return the predicate of the receipt of one sample. It contains only strings and whole
    numbers.
    """
    law = generation.law
    return {
        "format": FORMAT,
        "model": {"root": root, "arithmetic": arithmetic, "sampling": LAW_VERSION},
        "request": {
            "prompt_sha256": ids_digest(generation.ids, salt),
            "is_salted": bool(salt),
            "n_prompt": len(generation.ids),
            "max_tokens": generation.max_tokens,
            "stops": list(generation.stops),
            "biases": [[token, None if bias == BANNED else bias] for token, bias in generation.biases],
            "ignore_end": generation.ignore_end,
            "is_constrained": generation.constraint is not None,
        },
        "sampling": {
            "temperature": list(law.temperature),
            "top_k": law.top_k,
            "min_p": list(law.min_p),
            "top_p": list(law.top_p),
            # As a string, because many JSON readers lose precision above 2^53.
            "seed": str(law.seed),
            "sample": index,
        },
        "output": {
            "ids_sha256": ids_digest(finished.ids),
            "text_sha256": hashlib.sha256(finished.text.encode("utf-8", "replace")).hexdigest(),
            "n_tokens": len(finished.ids),
            "reason": finished.reason,
            "rule": finished.rule,
            "word": finished.word,
        },
        "trace": {"root": trace_root(finished.ids, finished.leaves), "n_steps": len(finished.leaves)},
    }


def make(
    root: str,
    generation: Generation,
    index: int,
    finished: Finished,
    *,
    arithmetic: int = LAW_OF_CAUSAL_FILES,
    key: Any = None,
    salt: bytes = b"",
) -> dict[str, Json]:
    """Return a receipt with what its check needs: the envelope, the ids, and the hash of each step.

    `arithmetic` is the version of specs/arithmetic.md that computes the model.
    """
    said = predicate(root, arithmetic, generation, index, finished, salt)
    value = dsse.statement(SUBJECT, ids_digest(finished.ids), PREDICATE_TYPE, said)
    return {
        "envelope": dsse.envelope(value, key),
        "prompt_ids": list(generation.ids),
        "output_ids": list(finished.ids),
        "salt": salt.hex(),
        "steps": [step.hex() for step in finished.leaves],
    }


def law_from(said: Mapping[str, Any]) -> DecodingLaw:
    """Return the law that a receipt names. Raises ValueError, or UsageError for an invalid law."""
    ratios = {}
    for name in ("temperature", "min_p", "top_p"):
        pair = said[name]
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(i) is int for i in pair):
            raise ValueError(f"{name} is no fraction")
        ratios[name] = (pair[0], pair[1])
    if type(said["top_k"]) is not int or not isinstance(said["seed"], str) or not said["seed"].isdigit():
        raise ValueError("top_k or seed is no number")
    return DecodingLaw(**ratios, top_k=said["top_k"], seed=int(said["seed"]))
