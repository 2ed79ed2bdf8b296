"""A program of a user, built by Vite, webpack, esbuild and Next (app router) as they come, and by
none: it runs in Chromium with two threads, under the policy of the page. Deno runs the package, too.
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
from site_server import CSP, Site

from sevenfold.engine.session import Model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(driver.PROGRAM is None, reason="chromium is not here: `make web-tools` installs it"),
]
ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "bundlers"
DEMO = ROOT / "models" / "sevenfold_models" / "demo-1m.s7l"
PROMPT = "def add(a, b):\n    "
MODULE_PAGE = '<!doctype html><title>waits</title><script type="module" src="{}"></script>'
COMMANDS = {
    "vite": ["vite", "build", "--outDir", "out"],
    "webpack": ["webpack"],
    # It follows no address of a worker, so the entries of the package are entries of the program.
    "esbuild": [
        "esbuild", "main=main.js", "worker=sevenfold/worker", "thread=sevenfold/thread", "--bundle",
        "--format=esm", "--outdir=out",
    ],
    "next": ["next", "build"],
}  # fmt: skip
PATHS_OF_ESBUILD = [('"sevenfold/worker"', '"./worker.js"')]
PATHS_OF_NONE = [('"sevenfold"', '"./sevenfold/index.js"'), ('"sevenfold/worker"', '"./sevenfold/worker.js"')]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def project(built: Path) -> Path:
    """The program of a user in a folder with the package and the bundlers."""
    path = built / "bundlers"
    path.mkdir(exist_ok=True)
    shutil.copytree(SOURCES, path, dirs_exist_ok=True)
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


def program(*changes: tuple[str, str]) -> str:
    """The text of the program, with other paths of its modules."""
    text = (SOURCES / "main.js").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def runs(folder: Path, browser: Browser, policy: str = CSP) -> None:
    """The page of a folder answers with two threads as the reference does."""
    shutil.copy(DEMO, folder)
    site = Site(folder)
    site.faults.isolated = True
    site.faults.policy = policy
    page = browser.page(site.url)
    try:
        page.until("document.title !== 'waits'")
        found = json.loads(page.evaluate("document.title"))
    finally:
        page.close()
        site.stop()
    assert found == [expected(), "wasm", 2]


def expected() -> str:
    """What the reference answers."""
    with Model.open(DEMO, backend="reference").session(PROMPT) as session:
        return "".join(session.generate(24))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundler(name: str, project: Path, browser: Browser) -> None:
    (project / "index.html").write_text(MODULE_PAGE.format("/main.js"))
    (project / "main.js").write_text(program(*(PATHS_OF_ESBUILD if name == "esbuild" else [])))
    shutil.rmtree(project / "out", ignore_errors=True)
    folder = ROOT / "web" if name == "esbuild" else project
    command, *arguments = COMMANDS[name]
    done = subprocess.run(
        [folder / "node_modules" / ".bin" / command, *arguments],
        cwd=project, capture_output=True, text=True, check=False,
        env=os.environ | {"NEXT_TELEMETRY_DISABLED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if name in ("webpack", "esbuild"):
        (project / "out" / "index.html").write_text(MODULE_PAGE.format("/main.js"))
    # The pages of Next have scripts of its own in them.
    policy = CSP.replace("'self' 'wasm", "'self' 'unsafe-inline' 'wasm") if name == "next" else CSP
    runs(project / "out", browser, policy)


def test_no_bundler(built: Path, browser: Browser, tmp_path: Path) -> None:
    assert built.is_dir()
    shutil.copytree(ROOT / "web" / "dist", tmp_path / "sevenfold")
    (tmp_path / "main.js").write_text(program(*PATHS_OF_NONE))
    (tmp_path / "index.html").write_text(MODULE_PAGE.format("./main.js"))
    runs(tmp_path, browser)
