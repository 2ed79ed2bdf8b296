"""Select training text in the shares of `tokenizer.training_mix`. The scarcest domain decides the
total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from sevenfold.core.documents import Document
from sevenfold.core.errors import StorageError, UsageError


def mixed(read: Callable[[], Iterator[Document]], mix: Mapping[str, float]) -> Iterator[str]:
    """Yield the texts in their order, each domain up to its share of the bytes; all of them without
    a mix.

    The texts are read twice.

    Raises:
        UsageError: the shares do not add up to 1.
        StorageError: a domain of the mix has no documents.
    """
    if not mix:
        yield from (document.text for document in read())
        return
    if abs(sum(mix.values()) - 1.0) > 1e-6:
        raise UsageError(f"its shares add up to {sum(mix.values()):g}, not 1", where="tokenizer.training_mix")
    n_bytes: Counter[str] = Counter()
    for document in read():
        n_bytes[document.domain] += len(document.text)
    wanted = {domain: share for domain, share in mix.items() if share > 0}
    for domain in wanted:
        if not n_bytes[domain]:
            raise StorageError(
                f"no document of domain {domain!r}; there are {', '.join(sorted(n_bytes)) or 'none'}",
                where="tokenizer.training_mix",
                remedy="name the domains of corpus.sources, or add a source",
            )
    total = min(n_bytes[domain] / share for domain, share in wanted.items())
    left = {domain: share * total for domain, share in wanted.items()}
    for document in read():
        if left.get(document.domain, 0) > 0:
            left[document.domain] -= len(document.text)
            yield document.text
