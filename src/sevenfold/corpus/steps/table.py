"""The table of the steps between a source and the corpus: name, function, reasons, version, in the
order of use.

A step sees one document and the recipe, and no clock, order or other document. Shards of a corpus
can therefore be made by any process, in any order, repeatedly, with the same result. What needs all
documents (duplicates, perplexity, the split) is in `sevenfold.corpus.global_steps`.
"""

from __future__ import annotations

from importlib.metadata import version

from sevenfold.core.errors import UsageError
from sevenfold.corpus.ledger import Reason
from sevenfold.corpus.steps.decode import decode
from sevenfold.corpus.steps.decontaminate import benchmark
from sevenfold.corpus.steps.domains import domains
from sevenfold.corpus.steps.generated import generated
from sevenfold.corpus.steps.language import language
from sevenfold.corpus.steps.lines import lines
from sevenfold.corpus.steps.quality import quality
from sevenfold.corpus.steps.secrets import personal, secrets
from sevenfold.corpus.steps.syntax import syntax
from sevenfold.corpus.steps.working_document import CorpusStep, StepSettings, WorkingDocument
from sevenfold.corpus.text.grammars import GRAMMARS
from sevenfold.recipe.corpus_schema import StepsSpec

_GRAMMAR_TOOLS = ("tree-sitter", *(grammar.module.replace("_", "-") for grammar in GRAMMARS.values()))

STEPS = (
    CorpusStep(
        name="decode",
        function=decode,
        reasons=("empty", "too_small", "not_utf8", "forbidden_control"),
    ),
    CorpusStep(
        name="generated",
        function=generated,
        reasons=("vendored", "minified", "generated"),
        is_on=lambda spec: bool(spec.drop),
    ),
    CorpusStep(
        name="lines",
        function=lines,
        reasons=("long_lines", "too_many_lines", "not_alphabetic"),
        is_on=lambda spec: spec.lines is not None,
    ),
    CorpusStep(
        name="language",
        function=language,
        reasons=("language_not_wanted",),
        is_on=lambda spec: bool(spec.prose_languages or spec.syntax or spec.domains),
        tools=("py3langid",),
        # Version 2: an indented line ends only itself and not the sample; the sample is a kilobyte.
        version=2,
    ),
    CorpusStep(
        name="syntax",
        function=syntax,
        reasons=("syntax_error",),
        is_on=lambda spec: bool(spec.syntax),
        tools=_GRAMMAR_TOOLS,
        # Version 2: a header with marks of C++ is C++ when it can be read as both.
        version=2,
    ),
    CorpusStep(
        name="quality",
        function=quality,
        reasons=("low_quality_prose", "low_quality_code"),
        is_on=lambda spec: spec.quality,
        # It does not apply to samples of our generators.
        version=2,
    ),
    CorpusStep(
        name="secrets",
        function=secrets,
        reasons=("secret",),
        is_on=lambda spec: spec.secrets != "keep",
        # It covers formats of issuers, values without quotes, and arguments of calls and programs.
        version=4,
    ),
    CorpusStep(
        name="personal",
        function=personal,
        reasons=("personal_data",),
        is_on=lambda spec: spec.personal != "keep",
        # Domains of countries may equal endings of files; more cards, accounts and forms of addresses.
        version=3,
    ),
    CorpusStep(
        name="benchmark",
        function=benchmark,
        reasons=("benchmark",),
        is_on=lambda spec: spec.decontaminate is not None,
        tools=("tree-sitter", "tree-sitter-python"),
        # It covers methods, fences, notebooks and other characters.
        version=2,
    ),
    CorpusStep(name="domains", function=domains, reasons=(), is_on=lambda spec: bool(spec.domains)),
)


def switched_on(spec: StepsSpec) -> tuple[CorpusStep, ...]:
    """Return the steps of a recipe, in order.

    Raises:
        UsageError: the recipe names a language without a grammar.
    """
    if unknown := [name for name in spec.syntax if name not in GRAMMARS]:
        raise UsageError(
            f"no grammar for {', '.join(map(repr, unknown))}",
            where="corpus.steps.syntax",
            remedy=f"grammars: {', '.join(GRAMMARS)}",
        )
    return tuple(step for step in STEPS if step.is_on(spec))


def apply(text: WorkingDocument, steps: tuple[CorpusStep, ...], settings: StepSettings) -> Reason | None:
    """Apply the steps to a document. Return the reason for which it is dropped, or None. An empty
    result is dropped as well.
    """
    for step in steps:
        if reason := step.function(text, settings):
            return reason
    return None


def tool_versions(spec: StepsSpec) -> dict[str, str]:
    """Return the distributions that decide the results of the steps of a recipe, with their
    versions.
    """
    names = {tool for step in switched_on(spec) for tool in step.tools}
    names |= {"rensa", "numpy"} if spec.near_duplicates else set()
    return {name: version(name) for name in sorted(names)}
