"""The licence that a package's own metadata declares: Python, npm, Cargo, pyproject, Composer-like JSON.

Each reader takes the bytes of one file and gives (SPDX expression or None, which field said it). Nothing is guessed:
"BSD" may be one of many licences and is nobody's; it stays unknown unless a licence file says which.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from email.parser import HeaderParser
from typing import Any

from sevenfold.core.hashing import Json
from sevenfold.corpus.licences.policy import is_valid

Declared = tuple[str | None, str]

# Free text in licence fields -> SPDX; compared in lower case without punctuation and the words "the", "license".
_SPELLINGS = {
    "mit": "MIT", "expat": "MIT", "mit expat": "MIT", "x11": "X11",
    "apache 2": "Apache-2.0", "apache 2 0": "Apache-2.0", "apache version 2 0": "Apache-2.0",
    "apache software 2 0": "Apache-2.0", "apache software version 2 0": "Apache-2.0", "asl 2 0": "Apache-2.0",
    "bsd 3 clause": "BSD-3-Clause", "3 clause bsd": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause", "revised bsd": "BSD-3-Clause", "bsd 2 clause": "BSD-2-Clause",
    "2 clause bsd": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause", "bsd 3 clause new or revised": "BSD-3-Clause",
    "isc": "ISC", "isc iscl": "ISC", "python software foundation": "PSF-2.0", "psf": "PSF-2.0", "psfl": "PSF-2.0",
    "unlicense": "Unlicense", "zlib": "Zlib", "mpl 2 0": "MPL-2.0", "mozilla public 2 0": "MPL-2.0",
    "mozilla public 2 0 mpl 2 0": "MPL-2.0", "gpl": "GPL-1.0-or-later", "gplv2": "GPL-2.0-only",
    "gpl v2": "GPL-2.0-only", "gplv3": "GPL-3.0-only", "gpl v3": "GPL-3.0-only", "gplv2+": "GPL-2.0-or-later",
    "gplv3+": "GPL-3.0-or-later", "gpl 3 0": "GPL-3.0-only", "lgpl": "LGPL-2.0-or-later", "lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later", "agplv3": "AGPL-3.0-only", "agplv3+": "AGPL-3.0-or-later",
}  # fmt: skip
# Python's classifiers that mean one licence; the others ("BSD License") mean several, or none.
_CLASSIFIERS = {
    "MIT License": "MIT", "MIT No Attribution License (MIT-0)": "MIT-0", "Apache Software License": None,
    "ISC License (ISCL)": "ISC", "Python Software Foundation License": "PSF-2.0", "zlib/libpng License": "Zlib",
    "The Unlicense (Unlicense)": "Unlicense", "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU General Public License (GPL)": "GPL-1.0-or-later", "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0", "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
}  # fmt: skip


def spelled(text: str) -> str | None:
    """The SPDX expression that a licence field means, or None when it means none, or several."""
    text = text.strip()
    if not text or len(text) > 200 or "\n" in text:
        return None
    if is_valid(text):
        return text
    plain = re.sub(r"[^a-z0-9+]+", " ", text.lower())
    return _SPELLINGS.get(" ".join(w for w in plain.split() if w not in ("the", "license", "licence")))


def python_metadata(data: bytes) -> Declared:
    """A wheel's METADATA or an sdist's PKG-INFO (PEP 639, and what was before)."""
    headers = HeaderParser().parsestr(data.decode("utf-8", "replace"))
    if expression := headers.get("License-Expression"):
        return str(expression).strip(), "License-Expression of the package metadata"
    if said := spelled(str(headers.get("License") or "")):
        return said, "License of the package metadata"
    classifiers = [
        str(c).rpartition(" :: ")[2]
        for c in headers.get_all("Classifier") or []
        if str(c).startswith("License ::")
    ]
    found = [_CLASSIFIERS.get(c) for c in classifiers if c != "OSI Approved"]
    if found and all(found):
        return " AND ".join(str(f) for f in found), "classifiers of the package metadata"
    return None, ""


def _npm(data: bytes) -> Declared:
    value = _object(json.loads(data))
    licence = value.get("license") or value.get("licenses")
    if isinstance(licence, dict):
        licence = [licence]
    if isinstance(licence, list):
        names = [item.get("type") if isinstance(item, dict) else item for item in licence]
        parts = [spelled(name) if isinstance(name, str) else None for name in names]
        whole = " OR ".join(p for p in parts if p) if parts and all(parts) else None
        return whole, "licenses of package.json"
    if not isinstance(licence, str) or licence.upper().startswith("SEE LICEN"):
        return None, ""
    return spelled(licence) or licence, "license of package.json"


def _cargo(data: bytes) -> Declared:
    package = _object(tomllib.loads(data.decode()).get("package"))
    licence = package.get("license")
    if not isinstance(licence, str):
        return None, ""
    return licence.replace("/", " OR "), "license of Cargo.toml"


def _pyproject(data: bytes) -> Declared:
    licence = _object(tomllib.loads(data.decode()).get("project")).get("license")
    if isinstance(licence, dict):
        licence = licence.get("text")
    return (spelled(licence) if isinstance(licence, str) else None), "license of pyproject.toml"


def _object(value: Any) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


_READERS: Mapping[str, Callable[[bytes], Declared]] = {
    "METADATA": python_metadata,
    "PKG-INFO": python_metadata,
    "package.json": _npm,
    "Cargo.toml": _cargo,
    "pyproject.toml": _pyproject,
}
METADATA_NAMES = frozenset(_READERS)


def declared_by(name: str, data: bytes) -> Declared:
    """What the metadata file `name` declares; (None, "") when it declares nothing, or cannot be read."""
    try:
        expression, evidence = _READERS[name](data)
    except (ValueError, RecursionError, LookupError):
        return None, ""
    return (expression, evidence) if expression else (None, "")
