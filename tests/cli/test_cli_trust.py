"""`s7 keygen`, `s7 sign`, `s7 verify --key` and `s7 model-card` as a user meets them: one line per
mistake, the documented code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import s7
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    for word in ("s7: ", *words):
        assert word in lines[0], lines[0]


@pytest.fixture(scope="module")
def signed(dense_run: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a sealed file, its signature, and two key pairs. Tests only read it."""
    directory = tmp_path_factory.mktemp("signed")
    (directory / "model.s7l").write_bytes((dense_run.out / "model.s7l").read_bytes())
    for key in ("key", "other"):
        assert s7("keygen", directory / key).returncode == 0
    done = s7("sign", directory / "model.s7l", "--key", directory / "key")
    assert done.returncode == 0, done.stderr
    assert dense_run.manifest("seal").facts["root"] in done.stdout
    return directory


def test_a_signed_file_verifies(signed: Path) -> None:
    done = s7("verify", signed / "model.s7l", "--key", signed / "key.pub")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1]
        == f"signature {signed / 'model.s7l.sig'}: holds, by {signed / 'key.pub'}"
    )
    value = json.loads(s7("verify", signed / "model.s7l", "--key", signed / "key.pub", "--json").stdout)
    assert value["signature"] == {"path": str(signed / "model.s7l.sig"), "by": str(signed / "key.pub")}
    assert "signature" not in json.loads(s7("verify", signed / "model.s7l", "--json").stdout)


def test_wrong_key_altered_file_missing_and_corrupted_signature(signed: Path, tmp_path: Path) -> None:
    file, key, signature = signed / "model.s7l", signed / "key.pub", signed / "model.s7l.sig"
    refused(s7("verify", file, "--key", signed / "other.pub"), 3, "another key")
    refused(s7("verify", file, "--key", key, "--signature", tmp_path / "none"), 3, "there is no signature")
    altered = tmp_path / "model.s7l"
    last = file.read_bytes()[-1]
    altered.write_bytes(file.read_bytes()[:-1] + bytes((last ^ 1,)))
    refused(s7("verify", altered, "--key", key), 3, "there is no signature")
    refused(s7("verify", altered, "--key", key, "--signature", signature), 3, "not the one that was signed")
    data = signature.read_bytes()
    (tmp_path / "bad.sig").write_bytes(data[:600] + bytes((data[600] ^ 1,)) + data[601:])
    refused(s7("verify", file, "--key", key, "--signature", tmp_path / "bad.sig"), 3, "bad.sig")
    (tmp_path / "cut.sig").write_bytes(data[:-3])
    refused(s7("verify", file, "--key", key, "--signature", tmp_path / "cut.sig"), 3, "cut.sig", "damaged")


def test_wrong_arguments_and_missing_files(signed: Path, tmp_path: Path) -> None:
    file, key = signed / "model.s7l", signed / "key"
    refused(s7("sign", file), 2, "--key", "--keyless")
    refused(s7("sign", file, "--key", key, "--keyless"), 2, "--key", "--keyless")
    refused(s7("sign", file, "--key", tmp_path / "none", "--out", tmp_path / "sig"), 4, "none")
    refused(s7("sign", file, "--key", f"{key}.pub", "--out", tmp_path / "sig"), 2, "no private key")
    refused(s7("sign", file, "--key", key), 4, "model.s7l.sig", "there already")
    refused(s7("sign", tmp_path / "none", "--key", key), 4, "none")
    refused(s7("sign", tmp_path, "--key", key), 4, "directory")
    refused(s7("keygen", key), 4, "there already")
    refused(s7("keygen", file / "key"), 4, "model.s7l")
    refused(s7("verify", file, "--key", tmp_path / "none"), 4, "none")
    refused(s7("verify", file, "--key", key), 2, "no public key")
    refused(s7("verify", file, "--signature", tmp_path / "sig"), 2, "--signature", "--key")
    refused(s7("verify", file, "--identity", "me"), 2, "--issuer")
    refused(s7("verify", file, "--key", f"{key}.pub", "--identity", "me", "--issuer", "x"), 2, "one of")
    cut = tmp_path / "cut.s7l"
    cut.write_bytes(file.read_bytes()[:5000])
    refused(s7("sign", cut, "--key", key), 3, "cut.s7l")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.s7l"]


def test_keyless_without_a_network(signed: Path, tmp_path: Path) -> None:
    # A proxy that nobody answers for, and no trust root from an earlier time.
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    nowhere |= {"NO_PROXY": "", "no_proxy": ""}
    environment = (
        os.environ | nowhere | dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(tmp_path))
    )
    done = s7("sign", signed / "model.s7l", "--keyless", "--out", tmp_path / "sig", env=environment)
    refused(done, 4, "keyless", "s7 keygen")
    assert not (tmp_path / "sig").exists()


def test_without_the_library_the_extra_is_named(signed: Path) -> None:
    code = "import sys; sys.modules['model_signing'] = None\nfrom sevenfold.cli import main; main()"
    arguments = ["sign", signed / "model.s7l", "--key", signed / "key", "--out", signed / "new.sig"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    refused(done, 2, "model_signing", "sevenfold[sign]")


def test_seal_writes_release_documents_and_the_verb_writes_them_again(dense_run: Job, tmp_path: Path) -> None:
    done = s7("model-card", dense_run.out, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    endings = ("card.md", "cdx.json", "notice.txt", "spdx.json", "training.md", "hub.json")
    names = [f"model.{ending}" for ending in endings]
    assert done.stdout.split() == [str(tmp_path / name) for name in names]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.s7l").write_bytes((dense_run.out / "model.s7l").read_bytes())
    # The earlier name of the verb is accepted.
    assert s7("papers", tmp_path / "run" / "model.s7l").returncode == 0
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / name).read_bytes()
    refused(s7("model-card", tmp_path / "none"), 4, "none")
    refused(s7("model-card", dense_run.out, "--out", tmp_path / names[0]), 4, names[0])
