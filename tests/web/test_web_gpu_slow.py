"""The engine on WebGPU, twice: in Chromium (Dawn on SwiftShader) and in Deno (wgpu on lavapipe), which
share no code. Logits and cache are those of the reference bit for bit, for every shape, wherever a
prompt is cut, with packed products and without; a wrong constant in any program is seen, and a
device that is lost in the middle of an answer changes no byte of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser as driver
import deno as second
import numpy as np
import pytest
from browser import SOFTWARE_GPU, Page, chromium
from deno import deno
from embed_models import seal_input
from site_server import Site
from test_web_engine import EVERY_CUT, expected, runs_of, seal
from tiny_models import EXTREMES, SHAPES, tiny

from sevenfold.artifact import build_contents, write_artifact
from sevenfold.engine.session import Model

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parents[2] / "models" / "sevenfold_models" / "demo-1m.s7l"
ONLY_PAGE = "<!doctype html><title>tests</title><script type=module src=harness.js></script>"


@pytest.fixture(scope="module")
def folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page loads: the harness and files that tests seal."""
    path = tmp_path_factory.mktemp("gpu")
    shutil.copy(built / "tests" / "browser" / "harness.js", path)
    shutil.copy(built / "tests" / "thread.js", path)
    (path / "index.html").write_text(ONLY_PAGE)
    shutil.copy(DEMO, path)
    write_artifact(path / "plain.s7l", build_contents(seal_input("plain")))
    return path


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if driver.PROGRAM is None:
        pytest.skip("chromium is not here: `make web-tools` installs it")
    site = Site(folder)
    with chromium(tmp_path_factory.mktemp("profile"), *SOFTWARE_GPU) as running:
        tab = running.page(site.url)
        tab.until("globalThis.harness")
        if tab.evaluate("navigator.gpu?.requestAdapter().then(Boolean) ?? false") is not True:
            pytest.skip("this Chromium gives no adapter for WebGPU")
        yield tab
    site.stop()


@pytest.fixture(scope="module", params=["swiftshader", "lavapipe"])
def harness(folder: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """harness(NAME, *arguments) -> what the function of web/test/browser/harness.ts returns."""
    if request.param == "lavapipe":
        if second.PROGRAM is None or second.DRIVER is None:
            pytest.skip("deno or lavapipe is not here: `make web-tools` installs them")
        with deno(folder / "harness.js", folder) as process:
            yield process.call
        return
    page: Page = request.getfixturevalue("page")

    def call(name: str, *arguments: object) -> Any:
        return page.evaluate(f"harness.{name}({', '.join(map(json.dumps, arguments))})")

    yield call


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_wherever_a_prompt_is_cut(shape: str, folder: Path, harness: Callable[..., Any]) -> None:
    small = tiny(shape)
    path = seal(folder / f"{shape}.s7l", small, padded=shape != "dense")
    runs = runs_of(small, [[], *EVERY_CUT, list(range(1, 24))])
    assert harness("digests", path.name, runs) == expected(small, runs[:1]) * len(runs)


@pytest.mark.parametrize("shape", ["gqa", "mqa", "moe", "stacks"])
def test_products_that_are_not_packed(shape: str, folder: Path, harness: Callable[..., Any]) -> None:
    small = tiny(shape)
    path = seal(folder / f"plain-{shape}.s7l", small, padded=True)
    runs = runs_of(small, [[], [5]])
    found = harness("digests", path.name, runs, {"isPacked": False})
    assert found == expected(small, runs[:1]) * 2


@pytest.mark.parametrize("shape", ["gqa", "moe", "stacks"])
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str, shape: str, folder: Path, harness: Callable[..., Any]) -> None:
    small = tiny(shape, EXTREMES[name])
    path = seal(folder / f"{shape}-{list(EXTREMES).index(name)}.s7l", small, padded=True)
    runs = runs_of(small, [[], [11]])
    assert harness("digests", path.name, runs) == expected(small, runs[:1]) * 2


@pytest.mark.parametrize("shape", ["gqa", "moe", "stacks"])
def test_greedy_blocks_stops_and_forks(shape: str, folder: Path, harness: Callable[..., Any]) -> None:
    path = seal(folder / f"blocks-{shape}.s7l", tiny(shape), padded=True)
    assert harness("blocks", path.name, [[1], [3, 1, 4], [2] * 9], 11) == ""


def test_greedy_blocks_of_a_real_model(harness: Callable[..., Any]) -> None:
    # Prompts of one block and of two; 20 tokens are three submissions.
    prompts = [[0, 317, 221], list(range(1, 71))]
    assert harness("blocks", DEMO.name, prompts, 20) == ""


# One constant of each program, and what it is made.
SPOILED = {
    "embed": ("rows[id] >> 16u", "rows[id] >> 15u"),
    "route": ("router[ids[at.x]]", "router[ids[at.x] + 1u]"),
    "norm": ("max(bits(peak) - 14, 0)", "max(bits(peak) - 13, 0)"),
    "row": ("var i = 0u; i < SHARE", "var i = 1u; i < SHARE"),
    "tile": ("at += DEPTH", "at += DEPTH + 1u"),
    "heads": ("a * cos - b * sin", "a * cos + b * sin"),
    "score": ("i32(lift) - 32", "i32(lift) - 31"),
    "weigh": ("16 + v_scales[at + 1u] - low", "17 + v_scales[at + 1u] - low"),
    "sum": ("length - 1)", "length)"),
    "join": ("q.scale.e + low", "q.scale.e + low + 1"),
    "residual": ("- sizes[1]", "- sizes[1] + 1"),
    "swiglu": ("t.e - 11", "t.e - 12"),
    "head": ("sizes[1] - 16", "sizes[1] - 15"),
}


@pytest.mark.parametrize("operation", SPOILED)
def test_a_wrong_constant_is_seen(operation: str, folder: Path, harness: Callable[..., Any]) -> None:
    # Wide enough that a tile has a second step, and routed where the router is meant.
    small = tiny("moe" if operation in ("route", "row") else "wide_ffn" if operation == "tile" else "gqa")
    path = seal(folder / f"spoiled-{operation}.s7l", small, padded=True)
    runs = runs_of(small, [[]])
    old, new = SPOILED[operation]
    spoiled = {"spoiled": {"operation": operation, "from": old, "to": new}}
    assert harness("digests", path.name, runs) == expected(small, runs)
    assert harness("digests", path.name, runs, spoiled) != expected(small, runs)


def test_an_engine_with_a_wrong_constant_does_not_run(harness: Callable[..., Any]) -> None:
    old, new = SPOILED["head"]
    engine, notes = harness("opened", DEMO.name, {"spoiled": {"operation": "head", "from": old, "to": new}})
    assert engine == "wasm"
    assert "other" in notes[0]
    assert harness("opened", DEMO.name, {}) == ["webgpu", []]


def test_a_small_adapter_is_not_asked_for_more(harness: Callable[..., Any]) -> None:
    limits = {
        "maxBufferSize": 1000, "maxStorageBufferBindingSize": 1000, "maxComputeWorkgroupsPerDimension": 65535,
    }  # fmt: skip
    engine, notes = harness("opened", DEMO.name, {}, limits)
    assert engine == "wasm"
    assert "the adapter has 1000" in notes[0]


@pytest.mark.parametrize("n_pieces", [1, 3])
def test_a_lost_device_changes_no_byte_of_an_answer(n_pieces: int, harness: Callable[..., Any]) -> None:
    prompt = "def add(a, b):\n    "
    with Model.open(DEMO, backend="reference").session(prompt) as session:
        whole = "".join(session.generate(48))
    body = {"prompt": prompt, "max_tokens": 48}
    assert harness("lost", DEMO.name, body, n_pieces) == [whole, ["webgpu wasm"], "wasm"]
    assert harness("lost", DEMO.name, body, 1000) == [whole, [], "webgpu"]


def test_a_lost_device_changes_no_sampled_answer(harness: Callable[..., Any]) -> None:
    body = {"prompt": "def f(", "max_tokens": 20, "temperature": 1, "seed": 5, "ignore_eos": True}
    whole, told, engine = harness("lost", "plain.s7l", body, 1000)
    assert [told, engine] == [[], "webgpu"]
    assert harness("lost", "plain.s7l", body, 4) == [whole, ["webgpu wasm"], "wasm"]


def test_calls_of_the_device(harness: Callable[..., Any]) -> None:
    counts = harness("counts", DEMO.name, 16)
    assert counts["n_submissions"] == 2, "eight tokens to a submission"
    # Of four layers 19 each, and 5 around them.
    assert counts["n_dispatches"] == 16 * (4 * 19 + 5)
    # Ids, four sizes for each layer and token in 256 bytes; and of a token nothing but its id.
    assert counts["n_bytes_read"] == 16 * 4
    assert counts["n_bytes_written"] == 4 + 16 * 4 * 4 * 256


@pytest.mark.parametrize(("packed", "plain"), [(5, 9), (9, 5)])
def test_packed_products_are_taken_where_they_are_faster(
    packed: int, plain: int, harness: Callable[..., Any]
) -> None:
    assert harness("packed", packed, plain) == (packed < plain)


def test_twenty_thousand_tokens_of_real_code(harness: Callable[..., Any]) -> None:
    """Every logit of 20,000 tokens is that of WebAssembly, which is compared with the reference."""
    tokenizer = Model.open(DEMO, backend="reference").tokenizer
    text = "".join(path.read_text() for path in sorted(Path(json.__file__).parent.glob("*.py")))
    text += Path(np.__file__).with_name("_core").joinpath("numeric.py").read_text()
    tokens = [int(token) for token in tokenizer.encode(text)][:20_000]
    assert len(tokens) > 15_000
    # A call has the patience of the driver: the windows are asked for in parts.
    for at in range(0, len(tokens), 512):
        part = tokens[at : at + 512]
        assert harness("windows", DEMO.name, "webgpu", part, 512) == harness(
            "windows", DEMO.name, "wasm", part, 512
        )


def test_the_page_measures_and_takes_what_is_faster(built: Path, page: Page) -> None:
    site = Site(built / "site")
    tab = page.browser.page(site.url)
    try:
        tab.until("document.querySelector('#models button')")
        tab.evaluate("document.querySelector('#models button').click()")
        tab.until("!document.getElementById('opened').hidden")
        facts = tab.evaluate("document.getElementById('root').innerText")
    finally:
        tab.close()
        site.stop()
    assert "WebAssembly here" in facts
    assert "WebGPU here" in facts
    # Both were had, whichever is the faster one of this machine.
    assert facts.count("tokens/s") == 2
