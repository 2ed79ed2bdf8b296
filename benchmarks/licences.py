"""How well the licence of a file is told from its own text, on the data-driven
test files of scancode-toolkit.

Each of the test files (at most 1 MiB) comes with the licence expressions that a person reviewed.
Each is laid into a package that declares MIT, and judged as the corpus stage judges it, against the
allow-list of the shipped recipes. Two figures count:

    recall      of the files that carry a copyleft, proprietary or otherwise restricted licence,
                how many are not kept
    dropped     of the files whose expressions the allow-list satisfies, how many are dropped
                all the same

    git -C REPOSITORY archive HEAD tests/licensedcode/data/datadriven \
        src/licensedcode/data/licenses | tar x -C DIR
    python benchmarks/licences.py DIR [--json] [--out benchmarks/results/licences]

What remains wrong stands in `benchmarks/results/licences-judged.json`, each with
the reason that a person gave. `benchmarks/results/licence-packages.json` holds what was judged by
hand when the survey of whole packages changed: what packages lost, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sevenfold.corpus.licences import LicencePolicy
from sevenfold.corpus.licences.policy import combine
from sevenfold.corpus.licences.wording.own import licences_in

HERE = Path(__file__).resolve().parent
TESTS, LICENCES = "tests/licensedcode/data/datadriven", "src/licensedcode/data/licenses"
MAX_BYTES = 1 << 20
JUDGED = HERE / "results" / "licences-judged.json"
PACKAGES = HERE / "results" / "licence-packages.json"
ALLOWED = (
    "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "PSF-2.0", "Zlib", "0BSD",
    "Unlicense", "CC0-1.0",
    "BSL-1.0",
)  # fmt: skip
OPEN = ("Permissive", "Public Domain")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Key:
    """A licence of scancode: its category and its SPDX identifier."""

    category: str
    spdx: str


def licences(folder: Path) -> dict[str, Key]:
    """The licences by their keys."""
    found = {}
    for file in sorted(folder.glob("*.LICENSE")):
        about = yaml.load(
            file.read_text().split("---")[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        found[str(about["key"])] = Key(about["category"], str(about.get("spdx_license_key") or ""))
    return found


def holds(expression: str, is_true: Callable[[str], bool]) -> bool:
    """Whether a boolean expression over licence keys holds; a key WITH an
    exception holds when both do.
    """
    from license_expression import Licensing

    return _holds(Licensing().parse(expression), is_true)


def _holds(node: Any, is_true: Callable[[str], bool]) -> bool:
    parts = getattr(node, "args", ())
    if parts:
        return (any if type(node).__name__ == "OR" else all)(_holds(part, is_true) for part in parts)
    if hasattr(node, "exception_symbol"):
        return is_true(node.license_symbol.key) and is_true(node.exception_symbol.key)
    return is_true(node.key)


def kind_of(expressions: list[str], keys: dict[str, Key]) -> str:
    """What the reviewed expressions of a file are, all of which hold at once.

    allowed: the allow-list satisfies them; permissive: other permissive licences do; unstated: no
    licence is named; restricted: all else.
    """
    if not expressions:
        return "none"
    whole = " AND ".join(f"({expression})" for expression in expressions)
    if holds(whole, lambda key: keys[key].category in OPEN):
        return "allowed" if holds(whole, lambda key: keys[key].spdx in ALLOWED) else "permissive"
    unstated = (*OPEN, "Unstated License", "CLA")
    return "unstated" if holds(whole, lambda key: keys[key].category in unstated) else "restricted"


def judge(folder: Path) -> list[dict[str, Any]]:
    """One row for each test file."""
    keys, policy, rows = licences(folder / LICENCES), LicencePolicy(ALLOWED), []
    tests = folder / TESTS
    for about in sorted(tests.rglob("*.yml")):
        file = about.with_suffix("")
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            continue
        told = yaml.load(about.read_text(), Loader=LOADER)
        expressions = [str(e) for e in told.get("license_expressions") or []]
        own, evidence = licences_in(file.read_bytes())
        judgement = policy.judge(combine(("MIT", *own)))
        rows.append({
            "file": str(file.relative_to(tests)), "kind": kind_of(expressions, keys), "expected": expressions,
            "found": judgement.spdx, "reason": judgement.reason, "evidence": evidence,
        })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]], judged: dict[str, str]) -> dict[str, Any]:
    """The two figures, the counts behind them, the confusion by licence, and what is left."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    confusion: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        verdict = row["reason"] or "kept"
        counts[row["kind"]][verdict] += 1
        confusion[" AND ".join(sorted(set(row["expected"]))) or "none"][verdict] += 1
    restricted, allowed = counts["restricted"], counts["allowed"]
    missed = [row for row in rows if row["kind"] == "restricted" and not row["reason"]]
    return {
        "n_files": len(rows),
        "recall": 1 - restricted["kept"] / max(1, restricted.total()),
        "dropped": 1 - allowed["kept"] / max(1, allowed.total()),
        "counts": {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())},
        "missed": {row["file"]: judged.get(row["file"], "not judged") for row in missed},
        "dropped_files": {
            row["file"]: row["evidence"] for row in rows if row["kind"] == "allowed" and row["reason"]
        },
        "confusion": {name: dict(sorted(found.items())) for name, found in sorted(confusion.items())},
    }


def as_table(found: dict[str, Any]) -> str:
    """The figures as Markdown: the counts, the licences that are missed or dropped,
    the misses with their reasons.
    """
    lines = [
        (
            f"{found['n_files']} files. Restricted ones not kept: {found['recall']:.2%}. Allowed ones"
            f" dropped: {found['dropped']:.2%}."
        ),
        "",
        "| files | kept | licence_not_allowed | licence_unknown |",
        "| --- | --- | --- | --- |",
    ]
    verdicts = ("kept", "licence_not_allowed", "licence_unknown")
    for kind, counts in found["counts"].items():
        lines.append(f"| {kind} | " + " | ".join(str(counts.get(v, 0)) for v in verdicts) + " |")
    lines += ["", "| restricted and kept | reason |", "| --- | --- |"]
    lines += [f"| {file} | {reason} |" for file, reason in found["missed"].items()]
    lines += ["", "| allowed and dropped | evidence |", "| --- | --- |"]
    lines += [f"| {file} | {evidence} |" for file, evidence in found["dropped_files"].items()]
    return "\n".join(lines) + "\n"


def packages_as_table(found: dict[str, Any]) -> str:
    """What packages lost, as Markdown: each sample, then its rows."""
    lines: list[str] = []
    for sample in found["samples"]:
        lines += [
            "",
            sample["about"],
            "",
            "| package | files lost | bytes | why |",
            "| --- | --- | --- | --- |",
        ]
        lines += [f"| {r['package']} | {r['files']} | {r['bytes']} | {r['why']} |" for r in sample["lost"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge, count, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the two folders of scancode-toolkit are")
    parser.add_argument("--json", action="store_true", help="print JSON with the confusion of every licence")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "licences")
    given = parser.parse_args()
    if not (given.folder / TESTS).is_dir():
        parser.error(f"no {TESTS} in {given.folder}")
    judged: dict[str, str] = json.loads(JUDGED.read_text()) if JUDGED.is_file() else {}
    began = time.process_time()
    found = summary(judge(given.folder), judged)
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    packages = packages_as_table(json.loads(PACKAGES.read_text()))
    given.out.with_suffix(".md").write_text(as_table(found) + packages)
    print(json.dumps(found, indent=1) if given.json else as_table(found))
    print(f"{time.process_time() - began:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
