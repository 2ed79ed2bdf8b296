"""The page: it checks a receipt by itself, and has one prefill on the server prove the steps."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from serving_client import Client

from sevenfold.serve.app import PAGE

NODE = shutil.which("node")
SCRIPT = """
const { faultsOf } = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
Promise.all(cases.map(([receipt, text, root]) => faultsOf(receipt, text, root).catch((e) => [String(e)])))
  .then((found) => console.log(JSON.stringify(found)));
"""


@pytest.fixture(scope="module")
def answer(client: Client) -> Any:
    body = {"prompt": "def f(", "max_tokens": 11, "temperature": 0, "receipt": True}
    return client.post("/v1/completions", body).json


def said(receipt: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The receipt with another statement."""
    changed = copy.deepcopy(receipt)
    statement = json.loads(base64.b64decode(changed["envelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    changed["envelope"]["payload"] = base64.b64encode(payload).decode()
    return changed


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_page_finds_what_does_not_hold_together(client: Client, answer: Any) -> None:
    receipt, text = answer["receipt"][0], answer["choices"][0]["text"]
    root = client.server.registry.find("").root
    ids = receipt["output_ids"]

    def with_(**fields: Any) -> dict[str, Any]:
        return receipt | fields

    def flip(statement: dict[str, Any]) -> None:
        statement["predicate"]["trace"]["root"] = "0" * 64

    def other_subject(statement: dict[str, Any]) -> None:
        statement["subject"][0]["digest"]["sha256"] = "0" * 64

    cases: list[tuple[Any, str, str, str]] = [
        (receipt, text, root, ""),
        (receipt, text + ".", root, "the text is another"),
        (receipt, text, "0" * 64, "it names another model"),
        (with_(output_ids=[ids[0] ^ 1, *ids[1:]]), text, root, "the ids of the answer are others"),
        (with_(prompt_ids=[*receipt["prompt_ids"], 1]), text, root, "the prompt is another"),
        (with_(salt="00"), text, root, "the prompt is another"),
        (with_(steps=receipt["steps"][:-1]), text, root, "the steps are not as many as the tokens"),
        (with_(steps=receipt["steps"][::-1]), text, root, "the root of the steps is another"),
        (said(receipt, flip), text, root, "the root of the steps is another"),
        (said(receipt, other_subject), text, root, "its subject is not the answer"),
        (with_(envelope={"payload": "!"}), text, root, "Error"),
    ]
    done = subprocess.run(
        [str(NODE), "-e", SCRIPT, str(PAGE / "receipt.js")],
        input=json.dumps([case[:3] for case in cases]),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for (_, _, _, expected), found in zip(cases, json.loads(done.stdout), strict=True):
        assert bool(found) == bool(expected)
        assert expected in "; ".join(found)


def test_the_server_proves_a_receipt(client: Client, answer: Any) -> None:
    bare = {name: value for name, value in answer["receipt"][0].items() if name != "id"}
    verdict = client.post("/v1/receipts/verify", bare).json
    assert verdict == {
        "verdict": "ACCEPT",
        "why": f"{len(bare['output_ids'])} steps, the same bits",
        "step": -1,
    }
    bare["steps"] = ["0" * 64, *bare["steps"][1:]]
    assert client.post("/v1/receipts/verify", bare).json["step"] == 0
    assert client.post("/v1/receipts/verify", {}).json["verdict"] == "MALFORMED"
    # Where the check is asked for, and the page asks for it.
    assert b"/v1/receipts/verify" in client.get("/page.js").data
    assert client.get("/receipt.js").headers["content-type"].startswith("text/javascript")
