"""Recall of the step `secrets` on public cases, and its precision on real code.

Recall: the cases of gitleaks (secrets that it has to find, in the forms of 25 languages, and texts
that it must not find), and the sample files of CredSweeper with its own report of what is in them.
A case counts as found when something of it goes. SecretBench, the largest labelled set, is given to
researchers on request only, and is not used.

Precision: the text files below the interpreter's library and its packages, in an order that mixes
them, until `--megabytes` are read. What is found there was read by a person: `secrets-judged.json`
says of each finding, by a hash of what stands around it, whether it is a credential. A finding
that nobody judged is counted apart.

    git clone https://github.com/gitleaks/gitleaks; git clone https://github.com/Samsung/CredSweeper
    python benchmarks/find_secrets.py --gitleaks gitleaks --credsweeper CredSweeper

The figures are written to benchmarks/results/secrets.json, and as a table beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from secret_cases import Case, GoCases, Labelled, credsweeper
from sevenfold.core.files import write_bytes
from sevenfold.corpus.steps.secrets import MORE_SECRETS, SECRETS, find

RESULTS = Path(__file__).parent / "results" / "secrets.json"
JUDGED = Path(__file__).parent / "results" / "secrets-judged.json"
ALL = (*SECRETS, *MORE_SECRETS)
ENDINGS = frozenset((
    ".py", ".md", ".rst", ".txt", ".c", ".h", ".cpp", ".hpp", ".js", ".ts", ".go", ".rs", ".java",
    ".sh", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".html",
))  # fmt: skip
# What CredSweeper reports besides: names of things, and numbers that are public.
NO_SECRETS = frozenset((
    "UUID", "AWS Client ID", "AWS S3 Bucket", "Firebase Domain", "Tencent WeChat API App ID", "Salt", "Nonce",
    "Alibaba Access Key ID", "PostHog Credentials", "Google Multi",
))  # fmt: skip
# Bytes around a finding by which it is known again.
AROUND = 24


def share(found: int, n: int) -> str:
    """Return `found` of `n` as a share."""
    return f"{found:,} of {n:,} ({100 * found / max(1, n):.1f} %)"


def of_gitleaks(checkout: Path) -> dict[str, Any]:
    """Recall by rule file, and how many of the near misses are taken."""
    cases = GoCases(checkout / "cmd" / "generate")
    groups: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    wrong = Counter[bool]()
    for case in cases:
        is_found = _goes(case)
        if case.is_secret:
            groups[case.group][0] += is_found
            groups[case.group][1] += 1
        else:
            wrong[is_found] += 1
    return {
        "found": sum(found for found, _ in groups.values()),
        "cases": sum(n for _, n in groups.values()),
        "rule_files": len(groups),
        "rule_files_whole": sum(found == n for found, n in groups.values()),
        "near_misses_taken": wrong[True],
        "near_misses": sum(wrong.values()),
        "expressions_not_evaluated": cases.n_unknown,
        "missing": {name: counts for name, counts in sorted(groups.items()) if counts[0] < counts[1]},
    }


def _goes(case: Case) -> bool:
    return bool(find(case.text.encode(), ALL))


def of_credsweeper(checkout: Path) -> dict[str, Any]:
    """Recall by rule. Lines that only mark where a key begins and ends are no values."""
    labelled, n_elsewhere = credsweeper(checkout)
    spans: dict[Path, list[tuple[int, int, str]]] = {}
    rules: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for value in labelled:
        if value.file not in spans:
            spans[value.file] = find(value.file.read_bytes(), ALL)
        if value.rule in NO_SECRETS or value.file.read_bytes()[value.start :].startswith(b"-----"):
            continue
        rules[value.rule][0] += _is_hit(value, spans[value.file])
        rules[value.rule][1] += 1
    return {
        "found": sum(found for found, _ in rules.values()),
        "values": sum(n for _, n in rules.values()),
        "rules": len(rules),
        "rules_whole": sum(found == n for found, n in rules.values()),
        "values_written_otherwise": n_elsewhere,
        "missing": {name: counts for name, counts in sorted(rules.items()) if counts[0] < counts[1]},
    }


def _is_hit(value: Labelled, spans: list[tuple[int, int, str]]) -> bool:
    return any(start < value.end and value.start < end for start, end, _ in spans)


def of_code(megabytes: int) -> dict[str, Any]:
    """Findings in real code, with what people said of them."""
    roots = (Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    files = sorted(file for root in roots for file in root.rglob("*") if file.suffix in ENDINGS)
    random.Random(3).shuffle(files)
    judged: dict[str, bool] = json.loads(JUDGED.read_text()) if JUDGED.exists() else {}
    seen, n_bytes = set[bytes](), 0
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        if n_bytes >= megabytes * 1_000_000:
            break
        data = file.read_bytes() if file.is_file() else b""
        digest = hashlib.sha256(data).digest()
        if not 100 < len(data) <= 1 << 20 or digest in seen:
            continue
        seen.add(digest)
        n_bytes += len(data)
        for start, end, kind in find(data, ALL):
            by_kind[kind][
                {True: "right", False: "wrong", None: "not judged"}[judged.get(key_of(data, start, end))]
            ] += 1
    counts = sum(by_kind.values(), Counter[str]())
    return {
        "bytes": n_bytes,
        "findings": sum(counts.values()),
        **counts,
        "kinds": {k: dict(c) for k, c in by_kind.items()},
    }


def key_of(data: bytes, start: int, end: int) -> str:
    """Return the hash by which a finding is known again."""
    return hashlib.sha256(data[max(0, start - AROUND) : end + AROUND]).hexdigest()[:16]


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = ["| what | figure |", "| --- | --- |"]
    if (of := figures.get("gitleaks")) is not None:
        rows += [
            f"| recall, cases of gitleaks | {share(of['found'], of['cases'])} |",
            f"| rule files found whole | {share(of['rule_files_whole'], of['rule_files'])} |",
            f"| near misses of gitleaks that go, too | {share(of['near_misses_taken'], of['near_misses'])} |",
        ]
    if (of := figures.get("credsweeper")) is not None:
        rows.append(f"| recall, values in CredSweeper's samples | {share(of['found'], of['values'])} |")
    if (of := figures.get("code")) is not None:
        right, wrong = of.get("right", 0), of.get("wrong", 0)
        rows += [
            f"| findings in real code | {of['findings']} in {of['bytes'] / 1e6:.0f} MB |",
            f"| precision, of those judged | {share(right, right + wrong)} |",
            f"| not judged | {of.get('not judged', 0)} |",
        ]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Measure what is there, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gitleaks", type=Path)
    parser.add_argument("--credsweeper", type=Path)
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    if args.gitleaks:
        figures["gitleaks"] = of_gitleaks(args.gitleaks)
    if args.credsweeper:
        figures["credsweeper"] = of_credsweeper(args.credsweeper)
    if args.megabytes:
        figures["code"] = of_code(args.megabytes)
    write_bytes(args.out, json.dumps(figures, indent=1).encode() + b"\n")
    write_bytes(args.out.with_suffix(".md"), table(figures).encode())
    print(table(figures))


if __name__ == "__main__":
    main()
