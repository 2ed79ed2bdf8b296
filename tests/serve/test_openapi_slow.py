"""schemathesis, unmodified, against our own OpenAPI document: no crash, no lie of the document.

One check of it is left out: a body that the schema allows may still be refused, because no schema
states the vocabulary, the context or what a grammar compiles to.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest
from serving_client import Client

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
VERSION = "4.32.5"


@pytest.fixture(scope="module")
def schemathesis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in an environment of its own (S7_SCHEMATHESIS: one that is there)."""
    place = Path(os.environ.get("S7_SCHEMATHESIS") or tmp_path_factory.mktemp("schemathesis"))
    program = place / "bin" / "schemathesis"
    if not program.exists():
        venv.create(place, with_pip=True)
        command = [place / "bin" / "python", "-m", "pip", "install", "-q", f"schemathesis=={VERSION}"]
        if subprocess.run(command, check=False).returncode:
            pytest.skip("schemathesis cannot be installed")
    return program


@pytest.mark.parametrize("seed", [1, 2])
def test_requests_made_from_our_document_find_nothing(client: Client, schemathesis: Path, seed: int) -> None:
    command = [
        schemathesis, "run", f"http://127.0.0.1:{client.port}/openapi.json",
        "--max-examples", "60", "--seed", str(seed), "--workers", "1", "--no-color",
        "--generation-database", "none",
        # Embeddings answer 501 by design.
        "--exclude-path", "/v1/embeddings",
        # Without the admin key these say 401 alone.
        "--exclude-path-regex", "^/admin/",
        "--exclude-checks", "positive_data_acceptance",
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert found.returncode == 0, found.stdout[-20000:]
    # The run tested our routes, and not an empty document.
    assert "Tested: 26" in found.stdout
