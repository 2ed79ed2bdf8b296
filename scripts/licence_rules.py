"""Write the data of `sevenfold.corpus.licences.wording.rules` and `.explained`: the licence rules of
scancode-toolkit as hashes of words.

The texts are the licences and rules of scancode-toolkit (CC-BY-4.0, nexB Inc. and others). No text
is written: of each rule only hashes of its words, how many they are, and the licence expression.

    git -C REPOSITORY archive HEAD src/licensedcode/data | tar x -C DIR
    python scripts/licence_rules.py DIR/src/licensedcode/data COMMIT
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sevenfold.corpus.licences.policy import is_valid
from sevenfold.corpus.licences.wording import explained, rules
from sevenfold.corpus.licences.wording.explained import plain_words
from sevenfold.corpus.licences.wording.notices import RESTRICTED, normalise
from sevenfold.corpus.text.ngrams import ngram_hashes, unique, word_hashes

# Licences that people allow. The order is the order of the bits.
LICENCES = (
    "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "CC0-1.0", "Unlicense",
    "Zlib", "BSL-1.0",
    "BlueOak-1.0.0", "PSF-2.0", "Python-2.0", "PostgreSQL", "HPND", "X11", "NCSA", "Unicode-DFS-2016",
    "Unicode-3.0",
    "BSD-1-Clause", "CC-BY-4.0", "WTFPL", "LLVM-exception",
)  # fmt: skip
# A dedication to the public domain, a disclaimer: explained, and no licence by themselves.
OTHER = len(LICENCES)
SILENT = (
    "warranty-disclaimer",
    "public-domain",
    "cc-pd",
    "public-domain-disclaimer",
    "generic-cla",
    "no-license",
)
# Addresses that programs show beside a map: they speak of the data of the map.
OF_DATA = ("odbl-1.0", "reference")
# A grant of patents that a licence's notice mentions: it gives more, and binds
# nobody who asks for no more.
MORE_RIGHTS = " AND google-patent-license-webm"
# Some licence of that kind, and nobody can tell which.
GENERIC = ("proprietary-license", "commercial-license", "other-copyleft", "free-unknown", "commercial-option")
# The first half of a text of the other one.
ALIASES = {"mit-taylor-variant": "ISC"}
KINDS = ("text", "notice", "tag", "reference")


@dataclass(frozen=True)
class Rule:
    """One rule: its licence in scancode's keys, its kind, its words."""

    expression: str
    kind: str
    words: bytes


def _parts(file: Path) -> tuple[dict[str, Any], str]:
    _, about, text = file.read_text().split("---", 2)
    return yaml.load(about, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), text


def read_rules(folder: Path) -> list[Rule]:
    """Every rule and licence text; a rule that tells of no licence has an empty expression."""
    found = {}
    for file in [*sorted(folder.glob("licenses/*.LICENSE")), *sorted(folder.glob("rules/*.RULE"))]:
        about, text = _parts(file)
        kind = next((k for k in KINDS if about.get(f"is_license_{k}")), "text" if "key" in about else "")
        expression = str(about.get("license_expression") or about.get("key") or "").replace(MORE_RIGHTS, "")
        if about.get("is_false_positive"):
            kind, expression = "false", ""
        words = plain_words(normalise(text.replace("{{", " ").replace("}}", " ")))
        if (expression, kind) == OF_DATA:
            continue
        if kind and words and not about.get("is_deprecated"):
            found[words] = Rule(expression, kind, words)
    return list(found.values())


def read_names(folder: Path) -> dict[str, str]:
    """SPDX identifier, or LicenseRef, of each key of scancode; "": the key is of no licence."""
    names = {}
    for file in sorted(folder.glob("licenses/*.LICENSE")):
        about, _ = _parts(file)
        spdx = str(about.get("spdx_license_key") or "")
        names[about["key"]] = (
            spdx if is_valid(spdx) or about.get("is_exception") else f"LicenseRef-scancode-{about['key']}"
        )
        if about["key"] in GENERIC:
            names[about["key"]] = RESTRICTED
        if about["category"] in ("Unstated License", "CLA") or about["key"] in SILENT:
            names[about["key"]] = ""
    return names | ALIASES


def spelled(expression: str, names: dict[str, str]) -> str:
    """An expression in SPDX identifiers; "" when all of it tells of no licence."""
    if not any(
        names.get(key, key) for key in re.findall(r"[\w.+-]+", expression) if key not in ("AND", "OR", "WITH")
    ):
        return ""
    # An offer of some licence that nobody can tell is no reason not to take the other one.
    if " AND " not in expression and " OR " in expression:
        told = [part for part in expression.split(" OR ") if part.strip("() ") not in GENERIC]
        expression = " OR ".join(told) or expression
    silent = {key for key, name in names.items() if not name}
    kept = [part for part in re.split(r" AND ", expression) if part.strip("() ") not in silent]
    return re.sub(r"[\w.+-]+", lambda m: names.get(m[0], m[0]) or "NOASSERTION", " AND ".join(kept))


def rule_table(found: list[Rule], names: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays of `rules.npz`."""
    rows = []
    for rule in found:
        n = rule.words.count(b" ") + 1
        if n < (rules.LEAST) or n > rules.MOST:
            continue
        hashes = word_hashes(rule.words)
        if len(hashes) != n:
            raise SystemExit(f"a word was cut: {rule.words[:80]!r}")
        head = max(length for length in rules.HEADS if length <= n)
        rows.append((head, int(ngram_hashes(hashes[:head], head)[0]), n, int(ngram_hashes(hashes, n)[0]),
                     spelled(rule.expression, names), rule.kind))  # fmt: skip
    rows.sort()
    expressions = sorted({row[4] for row in rows})
    number = {expression: i for i, expression in enumerate(expressions)}
    kinds = {kind: i for i, kind in enumerate(rules.KINDS)}
    return {
        "head": np.array([row[1] for row in rows], np.uint64),
        "n_head": np.array([row[0] for row in rows], np.uint8),
        "n_words": np.array([row[2] for row in rows], np.uint16),
        "whole": np.array([row[3] >> 32 for row in rows], np.uint32),
        "expression": np.array([number[row[4]] for row in rows], np.uint16),
        "kind": np.array([kinds[row[5]] for row in rows], np.uint8),
        "expressions": np.frombuffer("\n".join(expressions).encode(), np.uint8),
    }


def explained_table(found: list[Rule], names: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays of `explained.npz`."""
    grams, owners = [], []
    for rule in found:
        if rule.kind == "false":
            continue
        keys = [key for key in re.findall(r"[\w.+-]+", rule.expression) if key not in ("AND", "OR", "WITH")]
        bits = {bit(key, names) for key in keys}
        if not bits or None in bits:
            continue
        hashes = unique(ngram_hashes(word_hashes(rule.words), explained.WORDS_IN_A_GRAM))
        grams.append(hashes)
        owners.append(np.full(len(hashes), sum(1 << b for b in bits if b is not None), np.uint32))
    known, places = np.unique(np.concatenate(grams), return_inverse=True)
    held = np.zeros(len(known), np.uint32)
    np.bitwise_or.at(held, places, np.concatenate(owners))
    return {"grams": known, "owners": held, "licences": np.frombuffer("\n".join(LICENCES).encode(), np.uint8)}


def bit(key: str, names: dict[str, str]) -> int | None:
    """Number of the licence with a key of scancode, or None."""
    if key in SILENT:
        return OTHER
    name = names.get(key, "")
    return LICENCES.index(name) if name in LICENCES else None


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The arrays as an npz of which the bytes depend on nothing else."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            about = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(about, buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def main() -> None:
    """Read, hash, write."""
    folder, commit = Path(sys.argv[1]), sys.argv[2]
    found, names = read_rules(folder), read_names(folder)
    about = {"commit": np.frombuffer(commit.encode(), np.uint8)}
    write(rules.DATA, rule_table(found, names) | about)
    write(explained.DATA, explained_table(found, names) | about)
    for path in (rules.DATA, explained.DATA):
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
