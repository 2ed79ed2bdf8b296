"""Download source distributions of Python packages directly from the index that pip is configured
for.

pip builds the metadata of a source distribution before it keeps the file, which runs code of the
package. So the file is looked up here by its name and hash in the pages of the index (PEP 503) and
copied.
"""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse

from sevenfold.core.errors import storage
from sevenfold.corpus.fetch.client import FetchFailure, run_client
from sevenfold.corpus.fetch.lock import Pin

_TIMEOUT_SECONDS = 60
# This asks pip for its settings, and for its default where nothing is set.
_SETTINGS = """
import json
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
settings = Configuration(isolated=False)
settings.load()
found = {}
for section in ("global", "download", ":env:"):
    for key in ("index-url", "extra-index-url", "cert"):
        try: found[key] = settings.get_value(section + "." + key)
        except Exception: pass
print(json.dumps({"index-url": PyPI.simple_url} | found))
"""


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attributes if name == "href" and value]


def download_sdist(pin: Pin, staging: Path) -> None:
    """Copy the pinned file from the first index that has it. Raises FetchFailure."""
    settings = json.loads(run_client([sys.executable, "-c", _SETTINGS], staging))
    indexes = [settings["index-url"], *settings.get("extra-index-url", "").split()]
    context = ssl.create_default_context(cafile=settings.get("cert"))
    normal = re.sub(r"[-_.]+", "-", pin.name).lower()
    failure = FetchFailure("not found", f"no index has {pin.file}")
    for index in indexes:
        page = f"{index.rstrip('/')}/{normal}/" + ("index.html" if index.startswith("file:") else "")
        try:
            links = _Links()
            links.feed(_read(page, context).decode("utf-8", "replace"))
            for link in links.found:
                if unquote(Path(urlparse(link).path).name) == pin.file:
                    address = urljoin(page, link.partition("#")[0])
                    _require_scheme(address, index)
                    _copy(address, staging / pin.file, context)
                    return
        except urllib.error.HTTPError as error:
            error.close()
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if urlparse(index).scheme != "file":
                failure = FetchFailure("no network", f"the index does not answer: {error}")
    raise failure


def _require_scheme(address: str, index: str) -> None:
    """Refuse an address by which a page of the network would read files of this machine.

    Raises FetchFailure.
    """
    wanted = ("file",) if urlparse(index).scheme == "file" else ("http", "https")
    if urlparse(address).scheme not in wanted:
        raise FetchFailure(
            "failed", f"the index points to {address[:80]!a}, which is no {' or '.join(wanted)} address"
        )


def _read(url: str, context: ssl.SSLContext) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS, context=context) as answer:
        data: bytes = answer.read(64 << 20)
        return data


def _copy(url: str, target: Path, context: ssl.SSLContext) -> None:
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS, context=context) as answer,
        storage(target),
        target.open("wb") as file,
    ):
        shutil.copyfileobj(answer, file, 1 << 20)
