"""The files of deploy/: each parses, and names metrics and flags that there are."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path

import yaml
from serving_client import Client

from sevenfold.cli.pages import command_pages

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
METRIC = re.compile(r"\bsevenfold_[a-z_]+")


def flags() -> set[str]:
    (page,) = [page for page in command_pages() if page.path == "s7 serve"]
    return {flag for names, _ in page.parameters for flag in re.findall(r"--[a-z-]+", names)}


def exposed(client: Client) -> set[str]:
    client.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
    text = client.get("/metrics").data.decode()
    return {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}


def test_alerts_name_metrics_that_there_are(client: Client) -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"][0]["rules"]
    names = exposed(client)
    for rule in rules:
        assert {*METRIC.findall(rule["expr"])} <= names, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}


def test_the_dashboard_names_metrics_that_there_are(client: Client) -> None:
    dashboard = json.loads((DEPLOY / "dashboard.json").read_text())
    names = exposed(client)
    asked = {name for p in dashboard["panels"] for t in p["targets"] for name in METRIC.findall(t["expr"])}
    assert asked
    assert asked <= names
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_unit_starts_the_server_with_flags_that_it_has() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names of a unit have capitals
    unit.read(DEPLOY / "s7-serve.service")
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[1] == "serve"
    assert {word for word in command if word.startswith("--")} <= flags()


def test_the_container_starts_the_server_with_flags_that_it_has() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    (start,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    command = json.loads(start)
    assert command[1] == "serve"
    assert {word for word in command if word.startswith("--")} <= flags()
