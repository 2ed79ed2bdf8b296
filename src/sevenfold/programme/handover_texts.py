"""The texts of a handover pack, made from its records: README, safety report, memory bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sevenfold.agent.memory.chunks import MAX_CHUNK_TOKENS, MAX_OVERLAP, MIN_CHUNK_TOKENS, MIN_OVERLAP
from sevenfold.core.hashing import Json
from sevenfold.programme.risks import RiskState
from sevenfold.release.documents import limits, markdown_table
from sevenfold.release.frameworks import framework_tables

# What lies below each folder of a pack.
FOLDERS = (
    (
        "model",
        "the sealed model, its documents, safety report, signature, statements and runs",
    ),
    ("serving", "systemd unit, container, alert rules and dashboard of the server"),
    ("evaluation", "cards, digests of the data, suites, gates, and items with their results"),
    ("risks", "the register of risks"),
    ("memory", "how a memory is made and kept"),
    ("data", "recipe, ledger of the corpus, and the locks that pin every package by hash"),
)


def readme(manifest: Mapping[str, Json], paths: Sequence[str]) -> bytes:
    """Return the README of a pack."""
    model = manifest["model"]
    left_out = [(row["card"], row["why"]) for row in manifest["items_left_out"]]
    lines = [
        f"# Handover of {manifest['name']}",
        "",
        f"The model is `{model['path']}`, root `{model['root']}`, made with sevenfold"
        f" {manifest['code_version']}.",
        "",
        "## Check it",
        "",
        "A base install is enough. No network, data set or GPU takes part.",
        "",
        "```sh",
        "pip install sevenfold",
        "s7 handover --check pack.zip",
        "```",
        "",
        "The command proves every byte of the pack, every rule of the model, its golden prompts on each",
        f"engine of the machine, and {len(manifest['items'])} evaluation items bit for bit.",
        "",
        "## What is in it",
        "",
        *markdown_table(
            ("folder", "files", "what"),
            [(name, sum(p.startswith(f"{name}/") for p in paths), what) for name, what in FOLDERS],
        ),
        "## Use it",
        "",
        "```sh",
        f's7 run {model["path"]} "def read_lines(path):"',
        f"s7 serve {model['path']}",
        f"s7 eval {model['path']} --suite quick --data DATA --seed 0",
        f"s7 release {model['path']}",
        "```",
        "",
        "## Evaluation items that are not in the pack",
        "",
        *(markdown_table(("card", "why"), left_out) if left_out else ["None.", ""]),
    ]
    return "\n".join(lines).encode()


def safety_report(value: Mapping[str, Json], states: Sequence[RiskState]) -> bytes:
    """Return the safety report: the limits of the model and the register of risks, from records."""
    rows = [(s.id, s.state, s.trigger, "-" if s.figure is None else f"{s.figure:g}", s.then) for s in states]
    lines = [
        f"# Safety report of {value['recipe']['name']}",
        "",
        f"Root `{value['seal']['root']}`. Every line follows from the sealed file and from records.",
        "",
        "## Limits",
        "",
        *(f"- {line}" for line in limits(value)),
        "",
        "## Risks",
        "",
        *markdown_table(("risk", "state", "trigger", "figure", "mitigation, or what measures it"), rows),
        "## Execution and network",
        "",
        "- The model file holds no code. Engines read integers from it and nothing else.",
        "- The engine, `s7 run` and `s7 eval` open no connection. The server answers and never calls out.",
        "- Programs of samples run in a sandbox without network, with limits of time and memory. Where",
        "  the sandbox is missing, none is executed.",
        "",
        *framework_tables(markdown_table),
    ]
    return "\n".join(lines).encode()


def memory_bootstrap(model: str) -> Json:
    """Return how a memory is made, checked and kept: parameters of the index, and the commands."""
    return {
        "memory": 1,
        "chunk_tokens": [MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS],
        "overlap_percent": [MIN_OVERLAP, MAX_OVERLAP],
        "make": [f"s7 memory add MEMORY SOURCE --model {model}"],
        "search": ["s7 memory search MEMORY QUESTION"],
        "maintain": ["s7 memory verify MEMORY", "s7 memory compact MEMORY", "s7 memory stats MEMORY"],
    }
