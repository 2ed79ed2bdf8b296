"""The name of every file in a run directory, once.

A run directory holds `recipe.json`, one directory for each stage, and what ends the run. The names
are part of what users and scripts rely on: they do not change.
"""

from __future__ import annotations

# In the run directory itself. The first two are written by `core.manifest`.
from sevenfold.core.manifest import MANIFEST_NAME as MANIFEST
from sevenfold.core.manifest import RECIPE_NAME as RECIPE

ARTIFACT = "model.s7l"
LOCK = ".lock"
VERIFICATION = "verification.json"
COMPLETIONS = "completions.json"
REPORT = "report.html"
# In an imported model's directory, beside WEIGHTS and TOKENIZER.
ORIGIN = "origin.json"

# corpus/
TRAIN_DOCUMENTS = "train.parquet"
HELDOUT_DOCUMENTS = "heldout.parquet"
LEDGER = "ledger.parquet"
FINDINGS = "findings.parquet"
# The shards of an unfinished corpus; removed when the stage ends well.
SHARDS = "parts"

# tokenizer/
TOKENIZER = "tokenizer.json"
ROUTER = "router.json"
TRAIN_TOKENS = "train.tokens"
HELDOUT_TOKENS = "heldout.tokens"

# train/
WEIGHTS = "model.safetensors"
PHASE_WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
TRACE = "trace.jsonl"
TENSORBOARD = "tensorboard"

# quantize/
RECORDS = "records.safetensors"
SCALES = "scales.json"
GRAPH = "graph.json"
QUALITY = "quality.json"

__all__ = [
    "ARTIFACT",
    "COMPLETIONS",
    "FINDINGS",
    "GRAPH",
    "HELDOUT_DOCUMENTS",
    "HELDOUT_TOKENS",
    "LEDGER",
    "LOCK",
    "MANIFEST",
    "METRICS",
    "ORIGIN",
    "PHASE_WEIGHTS",
    "QUALITY",
    "RECIPE",
    "RECORDS",
    "REPORT",
    "ROUTER",
    "SCALES",
    "SHARDS",
    "TENSORBOARD",
    "TOKENIZER",
    "TRACE",
    "TRAIN_DOCUMENTS",
    "TRAIN_TOKENS",
    "VERIFICATION",
    "WEIGHTS",
]
