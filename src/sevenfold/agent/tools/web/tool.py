"""The tool web: a page of the allow-list as text, at most so many in a minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from sevenfold.agent.tools.result import OK, ToolResult, refused
from sevenfold.agent.tools.result import failed as failed_result
from sevenfold.agent.tools.web.addresses import AddressError
from sevenfold.agent.tools.web.fetch import Fetcher, WebFetchError
from sevenfold.agent.tools.web.pages import PageError, check_page, text_of
from sevenfold.core.hashing import Json

WINDOW_SECONDS = 60.0


class WebTool:
    """Fetches pages. One object is shared by all conversations, so the rate is that of the process."""

    # A page may be another one tomorrow.
    is_repeatable = False

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        rate_limit_qpm: int,
        post_fetch_verifier: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher, self._rate, self._checks, self._clock = (
            fetcher,
            rate_limit_qpm,
            post_fetch_verifier,
            clock,
        )
        self._begun: deque[float] = deque()
        self._lock = threading.Lock()

    def _may_begin(self) -> bool:
        with self._lock:
            now = self._clock()
            while self._begun and now - self._begun[0] >= WINDOW_SECONDS:
                self._begun.popleft()
            if len(self._begun) >= self._rate:
                return False
            self._begun.append(now)
            return True

    def run(self, arguments: dict[str, Json]) -> ToolResult:
        """Return the text of a page under its URL."""
        if not self._may_begin():
            return refused("rate", f"at most {self._rate} pages a minute; try later")
        try:
            page = self._fetcher.fetch(arguments["url"])
            seen, unseen = text_of(page)
            if self._checks:
                check_page(seen, unseen)
        except (WebFetchError, PageError) as error:
            return failed_result(error.reason, error.what)
        except AddressError as error:
            return refused(error.reason, error.what)
        return ToolResult(outcome=OK, text=f"{page.url}\n{seen}")
