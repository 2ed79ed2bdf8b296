"""Measure the scratchpad on the standard library: how small outlines are, and which facts they keep.

    python benchmarks/scratchpad.py --out benchmarks/results        (two minutes)

The facts are those that Python's own parser finds: names of definitions, names of parameters,
imported names, and calls of a definition. A fact is kept when the outline holds it at its line.
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
import warnings
from collections import Counter
from pathlib import Path

from memory_questions import called, python_files
from sevenfold.agent.memory.scratchpad import CALLS, Scratchpad, compress
from sevenfold.core.files import write_pretty_json

BUDGETS = (None, 4000, 1000)


def facts_of(text: bytes) -> list[tuple[str, int, str]]:
    """Return (kind, line, name) of the facts of a file; [] where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    found: list[tuple[str, int, str]] = []
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, around = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            around = node.lineno
            found.append(("definition", around, node.name))
            if not isinstance(node, ast.ClassDef):
                every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                found += [("parameter", around, one.arg) for one in every]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found += [("import", node.lineno, one.name) for one in node.names]
        elif isinstance(node, ast.Call) and around and (name := called(node)):
            found.append(("call", around, name))
        waiting += [(child, around) for child in ast.iter_child_nodes(node)]
    return sorted(set(found))


def kept_of(pad: Scratchpad, facts: list[tuple[str, int, str]]) -> Counter[str]:
    """Return how many facts of each kind an outline holds."""
    lines: dict[tuple[bool, int], str] = {}
    for fact in pad.facts:
        key = (fact.kind == CALLS, fact.line)
        lines[key] = lines.get(key, "") + " " + fact.detail
    return Counter(
        kind for kind, line, name in facts if name in lines.get((kind == "call", line), "").replace("(", " ")
    )


def main() -> None:
    """Measure, and write scratchpad.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    files = python_files([Path(sysconfig.get_paths()["stdlib"])])
    result = {"n_files": len(files), "budgets": {}}
    for budget in BUDGETS:
        every: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        n_text = n_outline = 0
        for text in files.values():
            pad = compress(text, "python", budget=budget)
            facts = facts_of(text)
            every += Counter(kind for kind, _, _ in facts)
            kept += kept_of(pad, facts)
            n_text += len(text)
            n_outline += len(pad.text.encode())
        result["budgets"][str(budget)] = {
            "bytes": n_text,
            "bytes_kept": n_outline,
            "ratio": round(n_text / n_outline, 2),
            "facts": dict(sorted(every.items())),
            "share_kept": {kind: round(kept[kind] / n, 4) for kind, n in sorted(every.items())},
        }
    write_pretty_json(given.out / "scratchpad.json", result)
    print(result)


if __name__ == "__main__":
    main()
