"""The page from end to end in Debian's Chromium: it opens a model, and no failure of a network, a
disk or a person leaves it with wrong bytes or without an answer.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser as driver
import pytest
from browser import Browser, Page, chromium
from site_server import Site

from sevenfold.engine.session import Model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(driver.PROGRAM is None, reason="chromium is not here: `make web-tools` installs it"),
]
MODELS = Path(__file__).resolve().parents[2] / "models" / "sevenfold_models"
MODEL = MODELS / "demo-1m.s7l"
ENTRY = next(
    entry for entry in json.loads((MODELS / "index.json").read_text())["models"] if entry["name"] == "demo-1m"
)
CHUNK_BYTES = 65536
PROMPT = "def add(a, b):\n    "
IS_OPEN = "!document.getElementById('opened').hidden"
FAILURE = "document.getElementById('failure').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Iterator[Site]:
    """A server of its own for each test: another port is another origin, with storage of its own."""
    # Files may be changed by a test.
    shutil.copytree(built / "site", tmp_path / "site")
    server = Site(tmp_path / "site")
    yield server
    server.stop()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """tab(URL) -> a tab, closed at the end."""
    pages: list[Page] = []

    def make(url: str) -> Page:
        page = browser.page(url)
        pages.append(page)
        page.until("document.querySelector('#models button')")
        return page

    browser.events.clear()
    yield make
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def expected() -> str:
    with Model.open(MODEL, backend="reference").session(PROMPT) as session:
        return "".join(session.generate(24))


def press_open(page: Page) -> None:
    page.evaluate("document.querySelector('#models button').click()")


def open_model(page: Page) -> None:
    press_open(page)
    page.until(f"{IS_OPEN} || {FAILURE}")
    assert page.evaluate(FAILURE) == ""


def ask(page: Page) -> str:
    """Return the answer to the prompt, without the prompt."""
    page.evaluate(
        f"document.getElementById('prompt').value = {json.dumps(PROMPT)};"
        "document.getElementById('tokens').value = 24; document.getElementById('run').click()"
    )
    page.until("document.getElementById('run').disabled === false")
    text: str = page.evaluate("document.getElementById('answer').textContent")
    assert text.startswith(PROMPT)
    return text[len(PROMPT) :]


def kept_sha256(page: Page) -> str:
    """Return the digest of the file that the page keeps."""
    program = """(async () => {
      const top = await navigator.storage.getDirectory();
      const folder = await top.getDirectoryHandle("sevenfold");
      const file = await (await folder.getFileHandle("ROOT")).getFile();
      const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
      return [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, "0")).join("");
    })()"""
    found: str = page.evaluate(program.replace("ROOT", ENTRY["root"]))
    return found


def complaints(browser: Browser) -> list[Any]:
    """Return the errors of pages of the browser. That it has no GPU is a warning."""
    kinds = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}
    found = [event["params"] for event in browser.events if event.get("method") in kinds]
    return [event for event in found if event.get("entry", {}).get("level") != "warning"]


MODEL_SHA256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()


def test_it_opens_proves_and_answers(
    tab: Callable[[str], Page], site: Site, browser: Browser, expected: str
) -> None:
    page = tab(site.url)
    open_model(page)
    rules = page.evaluate(
        "[...document.querySelectorAll('#rules tr')].map((tr) => [...tr.children].slice(0, 2)"
        ".map((td) => td.textContent))"
    )
    assert rules == [[f"V{i}", "passes"] for i in range(8)]
    assert ENTRY["root"] in page.evaluate("document.getElementById('root').innerText")
    sources = page.evaluate("document.getElementById('sources').innerText")
    assert "pypi:werkzeug" in sources
    assert "BSD-3-Clause" in sources
    assert ask(page) == expected
    figures = page.evaluate("document.getElementById('figures').innerText")
    assert "tokens/s" in figures
    assert ENTRY["root"][:12] in figures
    assert kept_sha256(page) == MODEL_SHA256
    assert not complaints(browser)


def test_chat_and_what_the_model_cannot(tab: Callable[[str], Page], site: Site) -> None:
    page = tab(site.url)
    open_model(page)
    assert page.evaluate("document.querySelector('input[value=infill]').disabled") is True
    page.evaluate(
        "document.querySelector('input[value=chat]').click(); document.getElementById('run').click()"
    )
    page.until("document.querySelectorAll('.turn').length === 2 && !document.getElementById('run').disabled")
    assert page.evaluate("document.querySelectorAll('.turn')[1].textContent").startswith("Model")


def test_the_keyboard_is_enough(tab: Callable[[str], Page], site: Site) -> None:
    page = tab(site.url)
    focus = "document.activeElement.textContent.trim() || document.activeElement.id"
    page.press("Tab", 9)
    assert page.evaluate(focus) == "Skip to the playground"
    page.press("Tab", 9)
    assert page.evaluate(focus) == "Open"
    page.press("Enter", 13)
    page.until(IS_OPEN)
    assert page.evaluate("document.activeElement.id") == "playground"
    page.evaluate("document.getElementById('prompt').focus()")
    page.press("Enter", 13, modifiers=2)
    page.until("document.querySelectorAll('#figures dd').length >= 5")


def test_a_file_that_a_person_chose(
    tab: Callable[[str], Page], site: Site, expected: str, tmp_path: Path
) -> None:
    page = tab(site.url)

    def choose(path: Path) -> None:
        document = page.call("DOM.getDocument")["root"]["nodeId"]
        node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        page.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    wrong = bytearray(MODEL.read_bytes())
    wrong[900_000] ^= 1
    (tmp_path / "wrong.s7l").write_bytes(wrong)
    choose(tmp_path / "wrong.s7l")
    page.until(f"{FAILURE} || {IS_OPEN}")
    assert "was wrong 3 times" in page.evaluate(FAILURE)
    # What was right in it is kept, and the rest comes from the right file.
    choose(MODEL)
    page.until(IS_OPEN)
    assert page.evaluate(FAILURE) == ""
    assert ask(page) == expected
    assert site.faults.asked == []


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_download_that_is_cut_at_20_points_goes_on(
    tab: Callable[[str], Page], site: Site, expected: str, has_ranges: bool
) -> None:
    rng = random.Random(7)
    size = MODEL.stat().st_size
    left = sorted(rng.sample(range(CHUNK_BYTES, size), 20))
    n_cuts = 0

    def cut(number: int, begin: int) -> int | None:
        nonlocal n_cuts
        # The first answer has the seal: without it there is nothing to keep.
        if number == 1 or not left:
            return None
        n_cuts += 1
        return max(left.pop(0) - begin, 0)

    site.faults.has_ranges, site.faults.cut = has_ranges, cut
    page = tab(site.url)
    open_model(page)
    assert n_cuts == 20
    if has_ranges:
        # What came before a cut is not asked for again; how much came depends on the connection.
        starts = [begin for begin, _ in site.faults.asked[1:]]
        assert starts == sorted(starts)
        assert len(set(starts)) > 1
    assert kept_sha256(page) == MODEL_SHA256
    assert ask(page) == expected


def test_a_page_that_is_closed_in_the_middle_goes_on_later(
    tab: Callable[[str], Page], site: Site, browser: Browser, expected: str
) -> None:
    site.faults.pause = 0.05
    first = browser.page(site.url)
    first.until("document.querySelector('#models button')")
    press_open(first)
    first.until("document.getElementById('progress').value > 0.3")
    first.close()
    site.faults.asked.clear()
    page = tab(site.url)
    open_model(page)
    assert site.faults.asked, "a part was missing"
    # Header and seal are kept, too: the first range is the first chunk that is missing.
    assert site.faults.asked[0][0] > MODEL.stat().st_size * 0.2
    assert kept_sha256(page) == MODEL_SHA256
    assert ask(page) == expected


def test_two_tabs_share_one_download(tab: Callable[[str], Page], site: Site, expected: str) -> None:
    site.faults.pause = 0.01
    first, second = tab(site.url), tab(site.url)
    press_open(first)
    press_open(second)
    for page in (first, second):
        page.until(f"{IS_OPEN} || {FAILURE}")
        assert page.evaluate(FAILURE) == ""
    # One asks for the seal and then for the rest; the other finds both.
    assert len(site.faults.asked) == 2
    assert ask(first) == ask(second) == expected


def test_a_wrong_chunk_is_fetched_again_alone(tab: Callable[[str], Page], site: Site) -> None:
    victim = 1_000_000
    left = [1]

    def damage(begin: int, sent: bytearray) -> None:
        if left and begin <= victim < begin + len(sent):
            left.pop()
            sent[victim - begin] ^= 1

    site.faults.damage = damage
    page = tab(site.url)
    open_model(page)
    begin, end = site.faults.asked[-1]
    assert len(site.faults.asked) == 3
    assert begin <= victim < end
    assert end - begin <= CHUNK_BYTES
    assert kept_sha256(page) == MODEL_SHA256


def test_a_file_that_stays_wrong_is_refused(tab: Callable[[str], Page], site: Site) -> None:
    def damage(begin: int, sent: bytearray) -> None:
        if begin <= 1_000_000 < begin + len(sent):
            sent[1_000_000 - begin] ^= 1

    site.faults.damage = damage
    page = tab(site.url)
    press_open(page)
    page.until(f"{FAILURE} || {IS_OPEN}")
    assert "was wrong 3 times" in page.evaluate(FAILURE)


def test_it_works_offline(tab: Callable[[str], Page], site: Site, expected: str) -> None:
    page = tab(site.url)
    open_model(page)
    page.until("document.getElementById('offline').textContent.includes('offline')")
    site.stop()
    page.go(site.url)
    page.until("document.querySelector('#models button')")
    open_model(page)
    assert ask(page) == expected


def test_a_full_device_names_the_bytes(tab: Callable[[str], Page], site: Site) -> None:
    page = tab(site.url)
    page.call("Storage.overrideQuotaForOrigin", origin=site.url.rstrip("/"), quotaSize=600_000)
    press_open(page)
    page.until(f"{FAILURE} || {IS_OPEN}")
    message = page.evaluate(FAILURE)
    assert f"no room for {MODEL.stat().st_size} bytes" in message
    assert "free space" in message


def test_the_policy_holds(tab: Callable[[str], Page], site: Site, browser: Browser) -> None:
    page = tab(site.url)
    open_model(page)
    assert not [entry for entry in complaints(browser) if "Content Security" in json.dumps(entry)]
    # What a page must not do is refused: the policy is there.
    other = "fetch('https://example.org/').then(() => 'reached', (error) => error.name)"
    assert page.evaluate(other) == "TypeError"
    blob = "new Worker(URL.createObjectURL(new Blob(['1'])))"
    failed = (
        f"new Promise((r) => {{ try {{ {blob}.onerror = () => r('refused'); }} catch {{ r('refused'); }} }})"
    )
    assert page.evaluate(failed) == "refused"
    assert [entry for entry in complaints(browser) if "Content Security" in json.dumps(entry)]


@pytest.mark.parametrize("size", [(1280, 800), (820, 1100), (360, 740)])
def test_nothing_is_wider_than_the_window(
    tab: Callable[[str], Page], site: Site, size: tuple[int, int]
) -> None:
    page = tab(site.url)
    page.size(*size, dark=size[0] == 820)
    open_model(page)
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    # A finger needs 40 pixels.
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40)"
        ".map((b) => b.textContent)"
    )
    assert small == []


def test_a_model_is_removed(tab: Callable[[str], Page], site: Site) -> None:
    page = tab(site.url)
    open_model(page)
    page.go(site.url)
    page.until("document.querySelector('#models .quiet')")
    page.evaluate("document.querySelector('#models .quiet').click()")
    page.until("!document.querySelector('#models .quiet')")
    open_model(page)
    assert len(site.faults.asked) == 4
