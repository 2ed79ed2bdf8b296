"""A program of a user, built by Vite and by webpack as they come, and by none: it runs in Chromium
with two threads, under the policy of the page.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import browser as driver
import pytest
from browser import Browser, chromium
from site_server import Site

from sevenfold.engine.session import Model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(driver.PROGRAM is None, reason="chromium is not here: `make web-tools` installs it"),
]
ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "bundlers"
DEMO = ROOT / "models" / "sevenfold_models" / "demo-1m.s7l"
MODULE_PAGE = '<!doctype html><title>waits</title><script type="module" src="{}"></script>'
COMMANDS = {
    "vite": ["vite", "build", "--outDir", "out"],
    "webpack": ["webpack"],
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def project(built: Path) -> Path:
    """The program of a user in a folder with the package and both bundlers."""
    path = built / "bundlers"
    path.mkdir(exist_ok=True)
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, path)
    done = subprocess.run(
        [
            "npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund",
            "--loglevel", "error",
        ],
        cwd=path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        assert not os.environ.get("CI"), done.stderr
        pytest.skip("the bundlers cannot be installed here")
    package = path / "node_modules" / "sevenfold"
    # It is no package of a registry, so the installer may have left it.
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "web" / "dist", package / "dist")
    shutil.copy(ROOT / "web" / "package.json", package)
    return path


def runs(folder: Path, browser: Browser) -> None:
    """The page of a folder answers with two threads as the reference does."""
    shutil.copy(DEMO, folder)
    site = Site(folder)
    site.faults.isolated = True
    page = browser.page(site.url)
    try:
        page.until("document.title !== 'waits'")
        found = json.loads(page.evaluate("document.title"))
    finally:
        page.close()
        site.stop()
    with Model.open(DEMO, backend="reference").session("def add(a, b):\n    ") as session:
        text = "".join(session.generate(24))
    assert found == [text, "wasm", 2]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundler(name: str, project: Path, browser: Browser) -> None:
    (project / "index.html").write_text(MODULE_PAGE.format("/main.js"))
    shutil.rmtree(project / "out", ignore_errors=True)
    program, *arguments = COMMANDS[name]
    done = subprocess.run(
        [project / "node_modules" / ".bin" / program, *arguments],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if name == "webpack":
        (project / "out" / "index.html").write_text(MODULE_PAGE.format("/main.js"))
    runs(project / "out", browser)


def test_no_bundler(built: Path, browser: Browser, tmp_path: Path) -> None:
    assert built.is_dir()
    shutil.copytree(ROOT / "web" / "dist", tmp_path / "sevenfold")
    text = (SOURCES / "main.js").read_text()
    text = text.replace('"sevenfold"', '"./sevenfold/index.js"').replace(
        '"sevenfold/worker"', '"./sevenfold/worker.js"'
    )
    (tmp_path / "main.js").write_text(text)
    (tmp_path / "index.html").write_text(MODULE_PAGE.format("./main.js"))
    runs(tmp_path, browser)
