"""Statements beside a sealed file: what holds is listed, what does not is refused by name, and neither
changes what is said of the model.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import s7
from sevenfold.artifact import read_artifact
from sevenfold.core.hashing import Json, canonical_json, sha256_file
from sevenfold.release import dsse
from sevenfold.release.signature import make_key_pair
from sevenfold.release.statements import (
    MOST_BYTES,
    PROVENANCE,
    REPRODUCTION,
    ROOT,
    StatementError,
    find_statements,
    read_statement,
    reproduction,
    shown,
    statement_paths,
    write_statement,
)
from sevenfold.report.statements import statement_lines
from sevenfold.runs.job import Job


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("keys") / "key"
    public = make_key_pair(path)
    return dsse.load_private_key(path), public


@pytest.fixture
def model(dense_run: Job, tmp_path: Path) -> Path:
    """A copy of a sealed file, and nothing beside it."""
    return Path(shutil.copy(dense_run.out / "model.s7l", tmp_path))


def made_again(root: str) -> dict[str, Json]:
    return reproduction(
        recipe={"recipe": "tiny"}, root=root, stages={}, given=["corpus"], tools={},
        machine={"processor": "a cpu"}, law="training-arithmetic/1",
    )  # fmt: skip


def test_the_statement_of_a_run_is_slsa_and_holds(dense_run: Job) -> None:
    path = dense_run.out / "model.s7l"
    root = read_artifact(path).root
    (found,), refused = find_statements(path, root)
    assert refused == []
    assert (found.kind, found.signature) == ("provenance", "none")
    envelope = json.loads(found.path.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "model.s7l", "digest": {"sha256": sha256_file(path), ROOT: root}}
    ]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["recipeDigest"] == dense_run.recipe.digest
    assert build["internalParameters"]["tools"]["train"] == dense_run.manifest("train").tools
    corpus = dense_run.manifest("corpus").root
    assert build["resolvedDependencies"] == [{"name": "corpus", "digest": {ROOT: corpus}}]


def test_the_library_of_the_format_reads_it(dense_run: Job) -> None:
    pytest.importorskip("in_toto_attestation")
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    (path,) = statement_paths(dense_run.out / "model.s7l")
    payload = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    read = Statement.copy_from_pb(json_format.ParseDict(payload, statement_pb2.Statement()))
    read.validate()
    predicate = json_format.ParseDict(payload["predicate"], provenance_pb2.Provenance())
    assert predicate.build_definition.build_type == "urn:sevenfold:make:1"
    assert predicate.run_details.builder.id == "urn:sevenfold:builder:local"


def test_many_statements_for_one_root(model: Path, pair: tuple[Any, Path]) -> None:
    root, (private, public) = read_artifact(model).root, pair
    unsigned = write_statement(model, root, REPRODUCTION, made_again(root))
    assert write_statement(model, root, REPRODUCTION, made_again(root)) == unsigned, "said twice is said once"
    signed = write_statement(model, root, REPRODUCTION, made_again(root), private)
    assert signed.name.startswith(unsigned.name.removesuffix(".intoto.json"))
    write_statement(model, root, "https://example.org/other/v1", {"what": "else"})
    found, refused = find_statements(model, root)
    assert refused == []
    assert sorted(s.signature for s in found) == ["none", "none", "not checked"]
    key = dsse.load_public_key(public)
    found, _ = find_statements(model, root, {dsse.key_id(key): key})
    by_path = {s.path: s for s in found}
    assert by_path[signed].signature == "holds"
    assert by_path[signed].checked == (dsse.key_id(key),)
    lines = statement_lines(shown(found, []), is_verified=True)
    assert len(lines) == 3
    assert any("which holds" in line and "a cpu" in line for line in lines)


def _payload(change: Callable[[Any], None]) -> Callable[[Any], None]:
    def apply(envelope: Any) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(canonical_json(statement)).decode()

    return apply


def _flipped(envelope: Any) -> None:
    sig = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    sig[-1] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(sig).decode()


ATTACKS: dict[str, tuple[Callable[[Any], None], str]] = {
    "another root": (
        _payload(lambda s: s["subject"][0]["digest"].update({ROOT: "0" * 64})),
        "about the root",
    ),
    "no root": (_payload(lambda s: s["subject"][0]["digest"].pop(ROOT)), "about the root None"),
    "other bytes": (_payload(lambda s: s["subject"][0]["digest"].update(sha256="1" * 64)), "about the bytes"),
    "two subjects": (_payload(lambda s: s["subject"].append(s["subject"][0])), "not about one file"),
    "no subject": (_payload(lambda s: s.update(subject=[])), "not about one file"),
    "a subject of text": (_payload(lambda s: s.update(subject=["model.s7l"])), "not about one file"),
    "no digest": (_payload(lambda s: s["subject"][0].update(digest=None)), "about the root None"),
    "reproduced another": (
        _payload(lambda s: s["predicate"].update(root="2" * 64)),
        "it reproduced the root",
    ),
    "a predicate of text": (_payload(lambda s: s.update(predicate="yes")), "another type of statement"),
    "no kind": (_payload(lambda s: s.update(predicateType="")), "what kind"),
    "an empty build": (_payload(lambda s: s.update(predicateType=PROVENANCE)), "buildType and builder"),
    "another payload": (_payload(lambda s: s["predicate"].update(more=1)), "does not hold"),
    "a flipped signature": (_flipped, "does not hold"),
    "a signature without a key": (lambda e: e["signatures"][0].pop("keyid"), "form"),
    "a key of another form": (lambda e: e["signatures"][0].update(keyid="me"), "names no key"),
    "signatures that are none": (lambda e: e.update(signatures={}), "signatures that are no list"),
    "one more key": (lambda e: e.update(more=1), "an envelope has"),
    "another type": (lambda e: e.update(payloadType="text/plain"), "another type of payload"),
    "no base64": (lambda e: e.update(payload="%%%"), "not base64"),
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_what_does_not_hold_is_refused_by_name(name: str, model: Path, pair: tuple[Any, Path]) -> None:
    root, key = read_artifact(model).root, dsse.load_public_key(pair[1])
    path = write_statement(model, root, REPRODUCTION, made_again(root), pair[0])
    envelope = json.loads(path.read_bytes())
    change, words = ATTACKS[name]
    change(envelope)
    path.write_bytes(canonical_json(envelope))
    # Who has the signer's key sees any change of what was signed; what is said is judged without, too.
    keys = {dsse.key_id(key): key} if words == "does not hold" else {}
    with pytest.raises(StatementError) as caught:
        read_statement(path, sha256_file(model), root, keys)
    assert words in str(caught.value)
    found, (refused,) = find_statements(model, root, {dsse.key_id(key): key})
    assert found == []
    assert refused.path == path


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b"[]", "no envelope"), (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"), (b'{"payload":1,"payload":2}', "twice"),
        (b" " * (MOST_BYTES + 1), "at most"),
    ],
)  # fmt: skip
def test_files_that_are_no_envelopes(data: bytes, words: str, model: Path) -> None:
    path = model.with_name(f"{model.name}.{'0' * 16}.intoto.json")
    path.write_bytes(data)
    with pytest.raises(StatementError, match=words):
        read_statement(path, sha256_file(model), read_artifact(model).root)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(data=st.data())
def test_any_statement_is_read_or_refused(data: st.DataObject, tmp_path_factory: Any) -> None:
    root, digest = "a" * 64, "b" * 64
    statement = {
        "_type": dsse.STATEMENT_TYPE,
        "subject": [{"name": "model.s7l", "digest": {"sha256": digest, ROOT: root}}],
        "predicateType": REPRODUCTION,
        "predicate": made_again(root),
    }
    key = data.draw(st.sampled_from(["_type", "subject", "predicateType", "predicate", "none"]))
    if key in statement:
        statement[key] = data.draw(json_values)
    envelope: Any = {
        "payloadType": dsse.PAYLOAD_TYPE,
        "payload": base64.b64encode(canonical_json(statement)).decode(),
        "signatures": data.draw(st.just([]) | json_values),
    }
    path = tmp_path_factory.getbasetemp() / f"model.s7l.{'0' * 16}.intoto.json"
    path.write_bytes(canonical_json(envelope))
    try:
        found = read_statement(path, digest, root)
    except StatementError:
        return
    assert found.checked == ()
    assert statement_lines(shown([found], []), is_verified=True)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / f"model.s7l.{'1' * 16}.intoto.json"
    path.write_bytes(data)
    with pytest.raises(StatementError):
        read_statement(path, "b" * 64, "a" * 64)


@pytest.mark.subprocess
def test_verify_lists_them_and_names_a_bad_one_without_blaming_the_model(
    model: Path, pair: tuple[Any, Path]
) -> None:
    root, (private, public) = read_artifact(model).root, pair
    path = write_statement(model, root, REPRODUCTION, made_again(root), private)
    done = s7("verify", model, "--statement-key", public)
    assert done.returncode == 0, done.stderr
    assert "made again, the same root, on a cpu" in done.stdout
    assert "which holds" in done.stdout.splitlines()[-1]
    envelope = json.loads(path.read_bytes())
    _payload(lambda s: s["predicate"].update(root="2" * 64))(envelope)
    path.write_bytes(canonical_json(envelope))
    done = s7("verify", model)
    assert done.returncode == 3
    assert "it reproduced the root 2222" in done.stdout
    assert done.stdout.splitlines()[-1] == "the model is verified; statements beside it that are refused: 1"
    value = json.loads(s7("verify", model, "--json").stdout)
    assert value["ok"] is True
    assert [Path(row["path"]).name for row in value["refused_statements"]] == [path.name]
    assert s7("verify", model, "--no-statements").returncode == 0


@pytest.mark.subprocess
def test_a_good_statement_does_not_make_a_bad_model_pass(model: Path) -> None:
    root = read_artifact(model).root
    data = bytearray(model.read_bytes())
    data[-100] ^= 1
    model.chmod(0o644)
    model.write_bytes(data)
    write_statement(model, root, REPRODUCTION, made_again(root))
    done = s7("verify", model)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@pytest.mark.subprocess
def test_statements_are_signed_later(dense_run: Job, model: Path, pair: tuple[Any, Path]) -> None:
    (unsigned,) = statement_paths(dense_run.out / "model.s7l")
    shutil.copy(unsigned, model.parent)
    key = pair[1].with_suffix("")
    done = s7("sign", model, "--key", key, "--statements")
    assert done.returncode == 0, done.stderr
    assert len(statement_paths(model)) == 2
    public = dsse.load_public_key(pair[1])
    found, _ = find_statements(model, read_artifact(model).root, {dsse.key_id(public): public})
    assert sorted(statement.signature for statement in found) == ["holds", "none"]
    assert s7("sign", model, "--keyless", "--statements").returncode == 2
    (model.parent / unsigned.name).write_text("{}")
    done = s7("sign", model, "--key", key, "--statements")
    assert done.returncode == 3
    assert "an envelope has" in done.stderr
