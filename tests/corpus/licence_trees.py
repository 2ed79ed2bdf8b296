"""A package as a table of files and links, and the reason for which one of its files leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from identify.vendor.licenses import LICENSES

from sevenfold.corpus.licences import LicencePolicy, Seen, Survey, read_through

TEXT = {name: text.encode() for name, text in LICENSES}
POLICY = LicencePolicy(["MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0"])
NOT, UNKNOWN = "licence_not_allowed", "licence_unknown"
MIT, GPL = TEXT["MIT"], TEXT["GPL-3.0"]
NPM = {"package.json": b'{"license": "MIT"}'}


def reason(files: Mapping[str, bytes | None], path: str) -> str | None:
    """The reason for which a file at `path` that says nothing itself leaves; None when it is kept."""

    def look(wanted: Callable[[str], bool]) -> Iterator[Seen]:
        return (Seen(name, data) for name, data in files.items() if wanted(name))

    read_through(survey := Survey(), look)
    return POLICY.judge(survey.licence_of(path, None).expression).reason
