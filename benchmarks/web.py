"""Models in a page: Sevenfold, wllama (llama.cpp) and transformers.js (ONNX Runtime), all in INT8.

One headless Chromium, one server, the same shapes with random weights, one thread and two. Every
engine has a tab for each shape and thread count. A round asks every one of them for every line, and
the next round begins with another one, so that a slow moment of the machine hits all. Medians over
the rounds; we are divided by the best peer.

    prefill 512    a prompt of 512 ids, until its last logits are there
    decode 16+64   64 greedy tokens behind a prompt of 16; the prompt's time is not in it
    first token    from the start of a cold page, its files in the browser's storage, until an
                   answer of one token is there; median over pages, each a tab of its own
    memory         what the processes of pages hold (PSS) when a page has answered, less an empty
                   page; beside the bytes of the file
    gpu            dispatches, submissions and bytes of a token on WebGPU; no speed, because the
                   adapter here is software

Our engine is asked token by token; wllama and transformers.js say their own times, without what
their messages cost. Node.js is ours alone: the peers run native code there. WebLLM runs models
alone that its compiler was given, and a published one needs `shader-f16`; the result says whether
the adapter has it.

    PEERS is a folder with node_modules of benchmarks/web_peers/package.json:
        npm install --ignore-scripts --prefix PEERS
    ONNX is a Python with onnx and onnxruntime, which makes what transformers.js reads
        python benchmarks/web.py --peers PEERS --onnx PYTHON [--rounds 5] [--shapes 1M 8M 34M] \
            [--parts speed node]
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "web"))
import site_server
from browser import SOFTWARE_GPU, Browser, Page, chromium
from site_server import Site

from serving_models import gguf, make
from sevenfold.artifact import read_artifact
from sevenfold.engine.session import Model, prompt_ids
from shapes import SHAPES, SMALLEST

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks"
US, PEERS = "sevenfold", ("wllama", "transformers")
THREADS = (1, 2)
PREFILL, PROMPT, STEPS = 512, 16, 64
COLD_PAGES = 7
# Two submissions; a GPU in software is slow.
GPU_STEPS = 16
PARTS = ("speed", "first_token_ms", "memory_bytes", "node", "gpu")
# Tabs that nobody looks at are not slowed down.
FLAGS = (
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)  # fmt: skip
Samples = dict[tuple[str, int, str, str], list[float]]


def prompts(model: Path) -> dict[str, str]:
    """Prompts as {text, ids} in JSON, by their lengths: code of the standard library."""
    tokenizer = Model.open(model).tokenizer
    ids = [int(i) for i in tokenizer.encode(Path(json.__file__).with_name("decoder.py").read_text())]
    # Random weights write bytes that are no text, and wllama fails on those.
    banned = [i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i).isascii()]
    found = {}
    for length in (PROMPT, PREFILL):
        text = next(
            text
            for n in range(length - 1, len(ids))
            # With the id that a text begins with, which llama.cpp adds by itself.
            if len(prompt_ids(tokenizer, text := tokenizer.decode(ids[n - length + 1 : n]), "")) == length
        )
        ids_of_text = [int(i) for i in prompt_ids(tokenizer, text, "")]
        found[str(length)] = json.dumps({"text": text, "ids": ids_of_text, "banned": banned})
    return found


def prepared(args: argparse.Namespace, site: Path) -> None:
    """Put models, peers and pages into the folder that is served."""
    for name in args.shapes:
        path = make(name, args.models)
        gguf(path)
        path.with_suffix(".json").write_text(json.dumps({"root": read_artifact(path).root}))
        onnx = args.models / f"{name}-onnx"
        if not (onnx / "config.json").exists():
            subprocess.run([args.onnx, HERE / "onnx_llama.py", onnx, name], check=True)
    folders = {
        "models": args.models, "peers": args.peers / "node_modules", "sevenfold": ROOT / "web" / "dist",
        "tests": ROOT / "build" / "web" / "tests" / "browser",
    }  # fmt: skip
    for name, folder in folders.items():
        (site / name).symlink_to(folder.resolve())
    for path in (HERE / "web_peers").iterdir():
        (site / path.name).symlink_to(path)


def opened(browser: Browser, site: Site, engine: str) -> Page:
    """A tab with the functions of an engine."""
    page = browser.page(f"{site.url}bench.html?engine={engine}")
    page.until("globalThis.engine")
    return page


def speeds(
    browser: Browser, site: Site, args: argparse.Namespace, shape: str
) -> tuple[Samples, dict[str, str]]:
    """Tokens per second of every engine, and what each says of itself."""
    asked = prompts(args.models / f"{shape}.s7l")
    found: Samples = defaultdict(list)
    about: dict[str, str] = {}
    for threads in THREADS:
        tabs = {}
        for engine in (US, *PEERS):
            page = opened(browser, site, engine)
            about[f"{engine}, {threads}"] = page.evaluate(f"engine.open({json.dumps(shape)}, {threads})")
            tabs[engine] = page
        # The first round warms up.
        for n in range(args.rounds + 1):
            order = list(tabs)[n % len(tabs) :] + list(tabs)[: n % len(tabs)]
            for engine in order:
                prefill = tabs[engine].evaluate(f"engine.prefill({asked[str(PREFILL)]})")
                decode = tabs[engine].evaluate(f"engine.decode({asked[str(PROMPT)]}, {STEPS})")
                if n > 0:
                    found[shape, threads, "prefill 512", engine].append(1000 * PREFILL / prefill)
                    found[shape, threads, "decode 16+64", engine].append(1000 * STEPS / decode)
        for page in tabs.values():
            page.close()
    return found, about


def cold(browser: Browser, site: Site, shape: str) -> dict[str, float]:
    """Milliseconds to the first token of every engine and thread count."""
    samples: dict[str, list[float]] = defaultdict(list)
    # The first pages fetch the files.
    for n in range(COLD_PAGES + 1):
        for engine in (US, *PEERS):
            for threads in THREADS:
                page = browser.page(f"{site.url}bench.html?engine={engine}&cold={shape}&threads={threads}")
                page.until("globalThis.first")
                if n > 0:
                    samples[f"{engine}, {threads}"].append(page.evaluate("first"))
                page.close()
    return {name: statistics.median(values) for name, values in samples.items()}


def renderers(browser: Browser) -> int:
    """Bytes that the processes of pages hold alone, or their share of what they hold together."""
    processes = browser.call("SystemInfo.getProcessInfo")["processInfo"]
    total = 0
    for process in processes:
        if process["type"] == "renderer":
            found = re.search(
                r"^Pss:\s+(\d+) kB", Path(f"/proc/{process['id']}/smaps_rollup").read_text(), re.M
            )
            total += 1024 * int(found[1])
    return total


def memory(profile: Path, site: Site, shape: str) -> dict[str, int]:
    """Bytes of a page of every engine that has answered, with one thread: a browser for each."""
    found = {}
    for engine in (US, *PEERS):
        with chromium(profile / f"{shape}-{engine}", *FLAGS) as browser:
            # Files are stored by one page, and used by another.
            page = opened(browser, site, engine)
            page.evaluate(f"engine.first({json.dumps(shape)}, 1)")
            page.close()
            page = browser.page(f"{site.url}empty.html")
            before = renderers(browser)
            page.go(f"{site.url}bench.html?engine={engine}")
            page.until("globalThis.engine")
            page.evaluate(f"engine.first({json.dumps(shape)}, 1)")
            page.call("HeapProfiler.collectGarbage")
            found[engine] = renderers(browser) - before
    return found


def in_node(args: argparse.Namespace, shape: str) -> dict[str, dict[str, float]]:
    """Tokens per second of ours in Node.js."""
    asked = json.loads(prompts(args.models / f"{shape}.s7l")[str(PREFILL)])["ids"]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(args.rounds):
        for threads in THREADS:
            done = subprocess.run(
                ["node", HERE / "web_peers" / "node.mjs", ROOT / "web" / "dist" / "index.js",
                 args.models / f"{shape}.s7l", str(threads), json.dumps(asked), str(STEPS), "3"],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            prefill, decode = json.loads(done.stdout)[-1]
            found[str(threads)]["prefill 512"].append(1000 * PREFILL / prefill)
            found[str(threads)]["decode 16+64"].append(1000 * STEPS / decode)
    return {n: {line: statistics.median(v) for line, v in lines.items()} for n, lines in found.items()}


def gpu(browser: Browser, site: Site, args: argparse.Namespace) -> dict[str, Any]:
    """What a token of each shape costs in calls and bytes."""
    page = browser.page(f"{site.url}gpu.html")
    page.until("globalThis.harness")
    features = page.evaluate("navigator.gpu.requestAdapter().then((adapter) => [...adapter.features])")
    found: dict[str, Any] = {"has_shader_f16": "shader-f16" in features}
    for shape in args.shapes:
        counts = page.evaluate(f"harness.counts('models/{shape}.s7l', {GPU_STEPS})")
        found[shape] = {name: value / GPU_STEPS for name, value in counts.items()}
    page.close()
    return found


def table(samples: Samples, about: dict[str, str]) -> dict[str, Any]:
    """Medians, and our ratio to the best peer."""
    rows: list[dict[str, Any]] = []
    for shape, threads, line in dict.fromkeys(key[:3] for key in samples):
        rates = {name: statistics.median(samples[shape, threads, line, name]) for name in (US, *PEERS)}
        ratio = rates[US] / max(rates[name] for name in PEERS)
        rows.append({"shape": shape, "threads": threads, "line": line, **rates, "ratio": ratio})
        print(
            f"{shape:>4} {threads} {line:<13}", *(f"{n} {v:9.1f}" for n, v in rates.items()), f"{ratio:.2f}x"
        )
    return {"rows": rows, "engines": about}


def measured(args: argparse.Namespace, site: Site, profile: Path, result: dict[str, Any]) -> None:
    """Put every part that was asked for into the result."""
    with chromium(profile / "one", *FLAGS) as browser:
        result["browser"] = browser.call("Browser.getVersion")["product"]
        parts: dict[str, Callable[[str], Any]] = {
            "speed": lambda shape: table(*speeds(browser, site, args, shape)),
            "first_token_ms": lambda shape: cold(browser, site, shape),
            "memory_bytes": lambda shape: {
                **memory(profile, site, shape),
                "file": (args.models / f"{shape}.s7l").stat().st_size,
            },
            "node": lambda shape: in_node(args, shape),
        }
        for name, shape in itertools.product(parts, args.shapes):
            if name in args.parts:
                found = result.setdefault(name, {})[shape] = parts[name](shape)
                print(f"{shape:>4} {name}", json.dumps(found), flush=True)
    if "gpu" in args.parts:
        with chromium(profile / "two", *FLAGS, *SOFTWARE_GPU) as browser:
            result["gpu"] = gpu(browser, site, args)
        print("gpu", json.dumps(result["gpu"]))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=ROOT / "build" / "bench" / "web")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=[SMALLEST.name, *SHAPES], default=["1M", "8M", "34M"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "web.json")
    args = parser.parse_args()
    site_server.TYPES |= {".mjs": "text/javascript", ".wasm": "application/wasm"}
    # What is not asked for stays as it was.
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "site"
        pages.mkdir()
        prepared(args, pages)
        site = Site(pages)
        site.faults.isolated = True
        # The peers' workers are blobs.
        site.faults.policy = "script-src * blob: 'unsafe-eval' 'unsafe-inline'; worker-src * blob:"
        try:
            measured(args, site, Path(folder), result)
        finally:
            site.stop()
    dist = (ROOT / "web" / "dist").glob("*.js")
    result["package_gzip"] = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in dist}
    result["machine"] = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load": [before, os.getloadavg()], "day": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
