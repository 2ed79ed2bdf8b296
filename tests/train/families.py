"""Tiny recipes of every family on real text in several domains, and a check of two runs' bytes."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from sevenfold.core.process.log import Silent
from sevenfold.recipe.schema import FIM_TOKENS, REASON_TOKENS, Recipe
from sevenfold.runs.job import Job

OUTPUTS = ("model.safetensors", "metrics.jsonl", "trace.jsonl")
DOMAINS = {
    "code": ("json/decoder", "json/encoder", "textwrap", "shlex", "csv", "argparse"),
    "math": ("statistics", "fractions", "numbers", "random"),
    "prose": ("this", "antigravity", "sched", "stat", "heapq", "bisect", "types"),
}
MIX = {"code": 0.5, "math": 0.3, "prose": 0.2}
STACKS = {"kind": "expert_stacks", "experts": ("code", "math", "prose"), "n_layers": 1, "d_ffn": 32}


def write_domains(directory: Path) -> None:
    """A folder of real files for each domain."""
    library = Path(sysconfig.get_paths()["stdlib"])
    for domain, names in DOMAINS.items():
        (directory / domain).mkdir(parents=True)
        for name in names:
            text = (library / f"{name}.py").read_text(encoding="utf-8")
            (directory / domain / f"{name.replace('/', '_')}.py").write_text(text, encoding="utf-8")


def mixed_values() -> dict[str, Any]:
    """A recipe with a mix of three domains; 20 steps."""
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 16, "d_ffn": 48}
    sources = tuple(
        {"kind": "directory", "path": domain, "licence": "PSF-2.0", "include": ("*.py",), "domain": domain}
        for domain in DOMAINS
    )
    return {
        "recipe": 1,
        "name": "tiny-mix",
        "family": "s7",
        "summary": "a test",
        "model": shape | {"vocab_size": 400, "context": 64},
        "tokenizer": {"vocab_size": 400},
        "corpus": {"sources": sources, "mix": MIX, "licences": ("PSF-2.0",), "holdout": 3},
        "train": {
            "seed": 3,
            "tokens": 20 * 4 * 64,
            "batch_sequences": 4,
            "sequence": 64,
            "learning_rate": 0.01,
            "init_std": 0.08,
            "checkpoint_every": 5,
        },
        "quantize": {"eval_windows": 8},
        "seal": {"golden_prompts": ("def ", "import ", "# ")},
    }


def dense_values() -> dict[str, Any]:
    """The smallest recipe: one domain, no mix; 20 steps."""
    values = mixed_values()
    corpus = values["corpus"]
    values["name"] = "tiny-dense"
    values["corpus"] = {
        "sources": corpus["sources"][:1], "licences": corpus["licences"], "holdout": corpus["holdout"]
    }  # fmt: skip
    return values


def stack_values() -> dict[str, Any]:
    """Trunk and three expert stacks, in two phases of 12 and 3 * 4 steps."""
    values = mixed_values()
    values["name"] = "tiny-stacks"
    values["model"] |= {"moe": STACKS, "d_model": 16, "head_dim": 8, "d_ffn": 24}
    specials = ("<|endoftext|>", *(f"<|{domain}|>" for domain in DOMAINS))
    values["tokenizer"] = {"vocab_size": 400, "special_tokens": specials}
    step = 4 * 64
    values["train"] |= {
        "tokens": 24 * step,
        "checkpoint_every": 3,
        "phases": (
            {"name": "trunk", "trains": "trunk", "tokens": 12 * step, "batch_sequences": 4, "sequence": 64},
            {
                "name": "experts",
                "trains": "experts",
                "tokens": 12 * step,
                "tokens_per_expert": dict.fromkeys(DOMAINS, 4 * step),
                "batch_sequences": 4,
                "sequence": 64,
            },
        ),
    }
    return values


def reasoning_document(number: int) -> str:
    """A small sum, thought through."""
    a, b = number % 17 + 2, number % 5 + 3
    steps = "\n".join(f"{a} taken {i} times is {a * i}." for i in range(1, b + 1))
    return (
        f"### Instruction:\nWrite `area` of a {a} by {b} field. Number {number}.\n"
        f"### Reasoning:\n{steps}\n### Response:\nfn area() -> u32 {{ {a * b} }}\n"
    )


def write_reasoning(directory: Path) -> None:
    """A folder `reasoning` of such documents, and one that has no reasoning."""
    (directory / "reasoning").mkdir(parents=True)
    for number in range(120):
        (directory / "reasoning" / f"{number:03d}.md").write_text(
            reasoning_document(number), encoding="utf-8"
        )
    (directory / "reasoning" / "plain.md").write_text("### Instruction:\nNothing.\n", encoding="utf-8")


def objective_values() -> dict[str, Any]:
    """A recipe with L_next + 0.3 L_fim + 0.2 L_cot and light dropout; 20 steps."""
    values = mixed_values()
    values["name"], values["family"] = "tiny-objectives", "m31r"
    reasoning = {
        "kind": "directory",
        "path": "reasoning",
        "licence": "MIT",
        "include": ("*.md",),
        "domain": "reasoning",
    }
    code = values["corpus"]["sources"][0]
    values["corpus"] |= {
        "sources": (code, reasoning),
        "mix": {"code": 0.75, "reasoning": 0.25},
        "licences": ("PSF-2.0", "MIT"),
    }
    specials = ("<|endoftext|>", *FIM_TOKENS, *REASON_TOKENS)
    values["tokenizer"] = {"vocab_size": 400, "special_tokens": specials}
    values["model"] |= {"dropout": 0.1, "context": 128}
    values["train"] |= {
        "objectives": {"fim": 0.3, "cot": 0.2},
        "sequence": 128,
        "tokens": 20 * 4 * 128,
        "optimizer": "adamw",
    }
    return values


def bf16_values() -> dict[str, Any]:
    """`objective_values` in BF16."""
    values = objective_values()
    values["train"]["precision"] = "bf16"
    return values


def trunk_values() -> dict[str, Any]:
    """A run at a constant rate with a mix, which others may leave at step 10; 20 steps."""
    values = mixed_values()
    values["name"] = "tiny-trunk"
    values["train"] |= {"min_learning_rate_ratio": 1.0, "keep_every": 10}
    return values


def branch_values() -> dict[str, Any]:
    """A run that leaves it there with another mix, at a rate that falls to zero; to step 18.

    The root of the trunk's state is in the environment, as for the processes of `kill_driver`.
    """
    values = trunk_values()
    values["name"] = "tiny-branch"
    values["corpus"] |= {"mix": {"code": 0.2, "math": 0.6, "prose": 0.2}}
    values["train"] |= {
        "from": {"name": "tiny-trunk", "step": 10, "root": os.environ["S7_TEST_TRUNK"]},
        "tokens": 18 * 4 * 64,
        "min_learning_rate_ratio": 0.0,
        "keep_every": 0,
    }
    return values


def job_of(values: dict[str, Any], source: Path, out: Path, **changes: dict[str, Any]) -> Job:
    """A job; `changes` are merged into sections."""
    merged = {**values, **{section: values[section] | change for section, change in changes.items()}}
    return Job(recipe=Recipe(**merged), out=out, recipe_dir=source, progress=Silent())


def outputs(job: Job) -> dict[str, bytes]:
    """What the training stage wrote."""
    return {name: (job.directory("train") / name).read_bytes() for name in OUTPUTS}
