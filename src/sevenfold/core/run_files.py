"""Define the name of every file in a run directory, once.

A run directory holds `recipe.json`, one directory for each stage, and the results of the whole run.
Users and scripts rely on these names, so they do not change. A test finds a name that is written
anywhere else.
"""

from __future__ import annotations

# In the run directory itself.
RECIPE = "recipe.json"
ARTIFACT = "model.s7l"
LOCK = ".lock"
VERIFICATION = "verification.json"
COMPLETIONS = "completions.json"
REPORT = "report.html"
CORPUS_PAGE = "corpus.html"
CORPUS_PLOT = "corpus.png"

# The index of verbatim spans of the corpus (`s7 trace-output`); it can be removed at any time.
SPANS = "spans"

# In the directory of every stage and of every phase; written last.
MANIFEST = "manifest.json"

# corpus/
TRAIN_DOCUMENTS = "train.parquet"
HELDOUT_DOCUMENTS = "heldout.parquet"
LEDGER = "ledger.parquet"
FINDINGS = "findings.parquet"
# The shards of an unfinished corpus. They are removed when the stage ends successfully.
SHARDS = "parts"

# tokenizer/
TOKENIZER = "tokenizer.json"
ROUTER = "router.json"
TRAIN_TOKENS = "train.tokens"
HELDOUT_TOKENS = "heldout.tokens"
# The samples of the objectives `fim` and `cot`.
FIM_TOKENS = "fim.tokens"
COT_TOKENS = "cot.tokens"

# train/
WEIGHTS = "model.safetensors"
# In the directory of a phase.
PHASE_WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
TRACE = "trace.jsonl"
TENSORBOARD = "tensorboard"
# The origins of the rows of the step at which a loss stopped the run.
STOPPED = "stopped.json"

# quantize/
RECORDS = "records.safetensors"
SCALES = "scales.json"
GRAPH = "graph.json"
QUALITY = "quality.json"

# In the directory of an imported model, beside its weights and its tokenizer.
ORIGIN = "origin.json"
IMPORTED_RECIPE = "recipe.yaml"

# The directory of the sealed model that a run begins with (`train.from`): its weights as floats,
# its tokenizer and its description. The files have the names that they have in a run.
PARENT = "parent"
PARENT_FACTS = "parent.json"

# tune/: the samples of a tuning, cut before stage `train`, and what is said of them; held-out pairs
# are in HELDOUT_TOKENS. A tuning in several phases has a directory for each. What is said is an
# output of `train`, too.
TUNE = "tune"
TUNE_TOKENS = "tune.tokens"
TUNE_FACTS = "tune.json"

# In the work directory of an audit.
AUDIT = "audit.json"

# The stages in their order. Each has a directory of its name.
STAGES = ("corpus", "tokenizer", "train", "quantize", "seal")
# By split or objective, for code that iterates over them.
DOCUMENTS = {"train": TRAIN_DOCUMENTS, "heldout": HELDOUT_DOCUMENTS}
TOKENS = {"train": TRAIN_TOKENS, "heldout": HELDOUT_TOKENS, "fim": FIM_TOKENS, "cot": COT_TOKENS}


def sealed_name(model: str) -> str:
    """Return the file name of a sealed model outside a run."""
    return f"{model}.s7l"
