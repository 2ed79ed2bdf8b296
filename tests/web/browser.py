"""A headless Chromium, driven over its debugging pipe: no library, no port.

Messages of the DevTools protocol are JSON, each ended by a zero byte, on the descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")
FLAGS = (
    "--headless=new", "--no-sandbox", "--no-first-run", "--remote-debugging-pipe", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
)  # fmt: skip
# A GPU in software, which Chromium has with it.
SOFTWARE_GPU = (
    "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan",
    "--disable-vulkan-surface", "--ignore-gpu-blocklist",
)  # fmt: skip
PATIENCE_S = 120


class BrowserError(Exception):
    """The browser answered with an error, or a program of a page failed."""


class Browser:
    """One process of Chromium with a profile of its own."""

    def __init__(self, profile: Path, flags: tuple[str, ...] = ()) -> None:
        assert PROGRAM
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        # Out of the way of 3 and 4.
        given = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, from_write)]
        arguments = ["nice", "-n", "5", PROGRAM, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        actions = [
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, given[0], 3),
            (os.POSIX_SPAWN_DUP2, given[1], 4),
        ]
        self._pid = os.posix_spawnp("nice", arguments, os.environ, file_actions=actions)
        for end in (to_read, from_write, *given):
            os.close(end)
        self._to, self._from = to_write, from_read
        self._next, self._held = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self._read(end, method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self, end: float, waited_for: str) -> dict[str, Any]:
        while b"\0" not in self._held:
            left = end - time.monotonic()
            ready = select.select([self._from], [], [], max(left, 0))[0] if left > 0 else []
            if not ready:
                raise BrowserError(f"{waited_for}: no answer in {PATIENCE_S} s")
            piece = os.read(self._from, 1 << 20)
            if not piece:
                raise BrowserError(f"{waited_for}: the browser ended")
            self._held += piece
        raw, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        return message

    def page(self, url: str = "about:blank") -> Page:
        """Open a tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        if url != "about:blank":
            page.go(url)
        return page

    def close(self) -> None:
        """End the browser."""
        with suppress(BrowserError, OSError):
            self.call("Browser.close")
        end = time.monotonic() + 15
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                break
            time.sleep(0.05)
        os.close(self._to)
        os.close(self._from)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the tab."""
        return self.browser.call(method, self.session, **parameters)

    def go(self, url: str) -> None:
        """Open an address and wait until its scripts have run."""
        found = self.call("Page.navigate", url=url)
        if "errorText" in found:
            raise BrowserError(f"{url}: {found['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, program: str) -> Any:
        """Return the value of an expression, awaited, as JSON."""
        found = self.call(
            "Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            # While a page is replaced there is nothing to ask.
            with suppress(BrowserError):
                if self.evaluate(f"!!({condition})"):
                    return
            if time.monotonic() > end:
                text = self.evaluate("document.body ? document.body.innerText.slice(0, 600) : ''")
                raise BrowserError(f"{condition} did not come true; the page says: {text}")
            time.sleep(0.03)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and the colours that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key of the keyboard."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                modifiers=modifiers, **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Close the tab, whatever it does."""
        self.browser.call("Target.closeTarget", targetId=self.target)


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Browser]:
    """Run a browser and end it."""
    browser = Browser(profile, flags)
    try:
        yield browser
    finally:
        browser.close()
