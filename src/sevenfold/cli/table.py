"""The table of verbs: the module of each, its group in `s7 --help`, and its line there.

`s7 --help` reads only this table, so it is fast. The module of a verb is imported when the verb is
used. A test compares the table with what the modules define.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command line."""

    name: str
    module: str
    group: str
    help: str


# Earlier names of verbs. They are accepted, and `s7 --help` does not list them.
ALIASES = {"papers": "model-card"}

# The groups of `s7 --help`, in its order, and the package that holds the modules of each.
GROUPS = {
    "Make": "sevenfold.cli.factory",
    "Corpus and tokenizer": "sevenfold.cli.factory",
    "Inspect": "sevenfold.cli.inspect",
    "Run": "sevenfold.cli.models",
    "Evaluate": "sevenfold.cli.models",
    "Share": "sevenfold.cli.models",
    "This machine": "sevenfold.cli",
}

VERBS = tuple(
    Verb(*row)
    for row in (
        ("recipes", "make", "Make", "List the recipes that ship."),
        ("plan", "make", "Make", "Size a recipe: parameters, memory, hours, cost."),
        ("make", "make", "Make", "Make a recipe: every stage up to a sealed, verified model."),
        ("train", "make", "Make", "Stage 3: train a float checkpoint on token files."),
        ("tune", "tune", "Make", "Tune a sealed model on conversations."),
        (
            "quantize",
            "make",
            "Make",
            "Stage 4: convert to integers, and apply the quality gate.",
        ),
        ("seal", "make", "Make", "Stage 5: write the sealed model."),
        ("launch", "launch", "Make", "Write a script that trains on several processes or machines."),
        (
            "corpus",
            "corpus",
            "Corpus and tokenizer",
            "Stage 1: make documents; fetch, pin and query sources.",
        ),
        ("tokenizer", "make", "Corpus and tokenizer", "Stage 2: make a vocabulary and token files."),
        ("tokenizer-report", "tokens", "Corpus and tokenizer", "Measure a tokenizer on held-out documents."),
        (
            "eval-hashes",
            "evalhashes",
            "Corpus and tokenizer",
            "Hash evaluation sets, to keep them out of a corpus.",
        ),
        ("synth", "synth", "Corpus and tokenizer", "Make synthetic samples, each checked."),
        ("inspect", "verify", "Inspect", "Show what a sealed model holds."),
        ("verify", "verify", "Inspect", "Check a sealed model: V0 to V7, signature, golden logits."),
        ("lineage", "verify", "Inspect", "Show the chain from the sources to the root."),
        ("audit", "audit", "Inspect", "Train steps, or everything, again and compare the bytes."),
        ("reproduce", "audit", "Inspect", "Run a sealed recipe again, and state that the root is the same."),
        ("diff", "verify", "Inspect", "Show what differs between two models."),
        ("runs", "runs", "Inspect", "List runs and their progress."),
        ("trace-output", "trace", "Inspect", "Find what a model repeats of its corpus, and the licence."),
        ("compare", "runs", "Inspect", "Compare the loss of two runs."),
        ("models", "run", "Run", "List the models that ship."),
        ("run", "run", "Run", "Complete a prompt."),
        ("bench", "bench", "Run", "Measure tokens/s, and the share of what the machine can do."),
        ("chat", "chat", "Run", "Talk with a model in the terminal."),
        (
            "serve",
            "serve",
            "Run",
            "Serve models over HTTP, with a receipt for each answer.",
        ),
        ("verify-answer", "serve", "Run", "Check the receipt of an answer with one prefill."),
        ("memory", "memory", "Run", "Store texts, search them, prove what was found."),
        ("tools", "tools", "Run", "Tools of a model: one call, the record, the red team, the router."),
        ("backends", "run", "Run", "List the engines of this machine, and test each."),
        ("eval", "evaluate", "Evaluate", "Score a model under named protocols, in sealed runs."),
        ("collect", "collect", "Evaluate", "Keep answers that pass their tests, to tune on."),
        ("scorecard", "evaluate", "Evaluate", "Show which gates a model meets in its sealed runs."),
        ("experiments", "programme", "Evaluate", "Show experiments that were locked before their runs."),
        ("risks", "programme", "Evaluate", "Show the register of risks, evaluated over the records."),
        ("release", "programme", "Share", "Check everything that a model needs to ship: one table."),
        ("handover", "programme", "Share", "Write or check one ZIP with all that a model goes out with."),
        ("export", "export", "Share", "Write GGUF, Hugging Face or safetensors, proved by their runtimes."),
        ("import", "export", "Share", "Import a dense Llama from elsewhere."),
        ("model-card", "release", "Share", "Write model card, bill of materials and notice."),
        ("keygen", "release", "Share", "Make a key pair for signing."),
        ("sign", "release", "Share", "Sign a sealed model."),
        (
            "doctor",
            "doctor",
            "This machine",
            "Show what is installed here, what is missing, and how to install it.",
        ),
    )
)
