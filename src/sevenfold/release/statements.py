"""Write and read statements about a sealed file, which are stored beside it (specs/statements.md).

A root follows from recipe, data, laws and formats. Who computed it, on which machine and with which
libraries, decides none of its bytes. So these facts are in separate statements, of which one root
may have many: the provenance that `s7 seal` writes, and the reproduction that `s7 reproduce`
writes. Each is an in-toto statement in a DSSE envelope, signed or not. The file binds none of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevenfold import __version__
from sevenfold.core.errors import ArtifactError, SevenfoldError, StorageError, storage
from sevenfold.core.files import read_bytes, unique_keys, write_json
from sevenfold.core.hashing import Json, canonical_json, sha256, sha256_file
from sevenfold.release import dsse

SUFFIX = ".intoto.json"
PROVENANCE, REPRODUCTION = "https://slsa.dev/provenance/v1", "urn:sevenfold:reproduction:1"
BUILD_TYPE, BUILDER = "urn:sevenfold:make:1", "urn:sevenfold:builder:local"
# The digest name for a subject that is the root of a sealed file.
ROOT = "sevenfoldRoot"
MOST_BYTES, MOST_STATEMENTS = 1 << 20, 256
_HEX = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{8})?")
KINDS = {PROVENANCE: "provenance", REPRODUCTION: "reproduction"}


class StatementError(ArtifactError):
    """A statement that is refused: malformed, about other bytes, or with a wrong signature."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement that was read and concerns the file beside it.

    `signed_by` holds the keys that it names as its signers. `checked` holds those of them whose
    public key was given and whose signature is right.
    """

    path: Path
    predicate_type: str
    predicate: Mapping[str, Json]
    signed_by: tuple[str, ...]
    checked: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Return `provenance`, `reproduction`, or the type of a foreign statement."""
        return KINDS.get(self.predicate_type, self.predicate_type)

    @property
    def signature(self) -> str:
        """Return the state of the signature: `none`, `holds` or `not checked`."""
        return "holds" if self.checked else "not checked" if self.signed_by else "none"


@dataclass(frozen=True, kw_only=True)
class RefusedStatement:
    """A statement that does not count for the file, and the reason."""

    path: Path
    why: str


def _refused(path: Path, what: str) -> StatementError:
    return StatementError(
        f"a statement that is refused: {what}", where=str(path), remedy="move it away, or get it again"
    )


def provenance(
    recipe: Mapping[str, Json],
    stages: Mapping[str, str],
    tools: Mapping[str, Mapping[str, str]],
    machine: Mapping[str, str],
    law: str,
) -> dict[str, Json]:
    """Return the SLSA predicate of a build.

    Args:
        recipe: `name` and `digest`, and the flags of the build that decide bytes.
        stages: root of each stage.  tools: names and versions that each stage used.
        machine: processor, kernel, Python (`runs.machine.inventory`).
        law: what defines the floating-point results.
    """
    named = {stage: dict(used) for stage, used in tools.items()}
    inputs = [{"name": s, "digest": {ROOT: root}} for s, root in stages.items() if s == "corpus"]
    others = [{"name": s, "digest": {ROOT: root}} for s, root in stages.items() if s != "corpus"]
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": dict(recipe),
            "internalParameters": {"arithmetic": law, "machine": dict(machine), "tools": named},
            "resolvedDependencies": inputs,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"sevenfold": __version__}},
            "byproducts": others,
        },
    }


def reproduction(
    recipe: Mapping[str, Json],
    root: str,
    stages: Mapping[str, str],
    given: list[str],
    tools: Mapping[str, Mapping[str, str]],
    machine: Mapping[str, str],
    law: str,
) -> dict[str, Json]:
    """Return the predicate of a reproduction: the recipe was run again and gave this root.

    The arguments are those of `provenance`. `given` lists the stages whose files were taken
    unchanged.
    """
    return {
        "root": root,
        "recipe": dict(recipe),
        "arithmetic": law,
        "stages": dict(stages),
        "given": given,
        "tools": {stage: dict(used) for stage, used in tools.items()},
        "machine": dict(machine),
        "reproducer": {"id": BUILDER, "version": {"sevenfold": __version__}},
    }


def write_statement(
    file: Path, root: str, predicate_type: str, predicate: Mapping[str, Json], key: Any = None
) -> Path:
    """Write a statement about a sealed file beside it, signed when a private key is given.

    The file name follows from the statement and its signer, so writing it again changes nothing.

    Raises:
        StorageError: it cannot be written.
    """
    statement = dsse.statement(file.name, sha256_file(file), predicate_type, predicate)
    statement["subject"][0]["digest"][ROOT] = root
    name = sha256(canonical_json(statement)).hex()[:16]
    if key is not None:
        name += f"-{dsse.key_id(key.public_key())[:8]}"
    path = file.with_name(f"{file.name}.{name}{SUFFIX}")
    if path.exists() and not _says(path, statement):
        raise StorageError("something else is there", where=str(path), remedy="move it away")
    write_json(path, dsse.envelope(statement, key))
    return path


def _says(path: Path, statement: Json) -> bool:
    """Return whether a file is an envelope of this statement."""
    try:
        return bool(dsse.read_envelope(_envelope(path)) == statement)
    except SevenfoldError:
        return False


def statement_paths(file: Path) -> list[Path]:
    """Return the statements beside a file, by name. Raises StorageError."""
    prefix = f"{file.name}."
    with storage(file.parent):
        return sorted(
            path
            for path in file.parent.iterdir()
            if path.name.startswith(prefix)
            and path.name.endswith(SUFFIX)
            and _NAME.fullmatch(path.name.removeprefix(prefix).removesuffix(SUFFIX))
        )


def _envelope(path: Path) -> dict[str, Json]:
    """Return the envelope in a file. Raises StatementError."""
    if not path.is_file():
        raise _refused(path, "it is no file")
    with storage(path):
        size = path.stat().st_size
    if size > MOST_BYTES:
        raise _refused(path, f"it has {size} bytes, a statement at most {MOST_BYTES}")
    try:
        value = json.loads(read_bytes(path), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _refused(path, "it is no envelope")
    return value


def read_statement(
    path: Path, sha256_hex: str | None, root: str, keys: Mapping[str, Any] | None = None
) -> Statement:
    """Read a statement about the file with this SHA-256 and root.

    Args:
        keys: public keys by their name (`dsse.key_id`).

    Raises:
        StatementError: it is malformed, about something else, or the signature of a given key does
            not hold.
        StorageError: it cannot be read.
    """
    value = _envelope(path)
    try:
        statement = dsse.read_envelope(value)
        signed_by = tuple(str(entry["keyid"]) for entry in value["signatures"])
        checked = tuple(name for name, key in (keys or {}).items() if dsse.signers(value, key))
    except StatementError:
        raise
    except SevenfoldError as error:
        raise _refused(path, error.what) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"its signatures have another form ({type(error).__name__})") from error
    if not all(_HEX.fullmatch(name) for name in signed_by):
        raise _refused(path, "a signature names no key")
    _check_subject(path, statement["subject"], sha256_hex, root)
    kind = statement["predicateType"]
    if not isinstance(kind, str) or not kind:
        raise _refused(path, "it does not say what kind of statement it is")
    _check_predicate(path, kind, statement["predicate"], root)
    return Statement(
        path=path,
        predicate_type=kind,
        predicate=statement["predicate"],
        signed_by=signed_by,
        checked=checked,
    )


def _check_subject(path: Path, subject: Json, sha256_hex: str | None, root: str) -> None:
    if not (isinstance(subject, list) and len(subject) == 1 and isinstance(subject[0], dict)):
        raise _refused(path, "it is not about one file")
    digests = subject[0].get("digest")
    digests = digests if isinstance(digests, dict) else {}
    if digests.get(ROOT) != root:
        raise _refused(path, f"it is about the root {str(digests.get(ROOT))[:64]}, this file has {root}")
    if sha256_hex is not None and digests.get("sha256") != sha256_hex:
        raise _refused(
            path, f"it is about the bytes {str(digests.get('sha256'))[:64]}, these are {sha256_hex}"
        )


def _at(value: Json, *keys: str) -> Json:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check_predicate(path: Path, kind: str, predicate: Mapping[str, Json], root: str) -> None:
    """Refuse a predicate of ours that lacks a required field."""
    if kind == PROVENANCE:
        if _at(predicate, "buildDefinition", "buildType") is None or not isinstance(
            _at(predicate, "runDetails", "builder", "id"), str
        ):
            raise _refused(path, "a provenance names buildType and builder")
        return
    if kind == REPRODUCTION and predicate.get("root") != root:
        raise _refused(
            path, f"it reproduced the root {str(predicate.get('root'))[:64]}, this file has {root}"
        )


def find_statements(
    file: Path, root: str, keys: Mapping[str, Any] | None = None
) -> tuple[list[Statement], list[RefusedStatement]]:
    """Return the statements beside a sealed file that concern it, and those that are refused.

    Cost: a pass over the file, if there is a statement. Raises StorageError.
    """
    paths = statement_paths(file)
    if not paths:
        return [], []
    if len(paths) > MOST_STATEMENTS:
        why = f"{len(paths)} statements lie beside the file, at most {MOST_STATEMENTS} are read"
        return [], [RefusedStatement(path=file.parent, why=why)]
    found, refused, sha256_hex = [], [], sha256_file(file)
    for path in paths:
        try:
            found.append(read_statement(path, sha256_hex, root, keys))
        except (StatementError, StorageError) as error:
            refused.append(RefusedStatement(path=path, why=error.what))
    return found, refused


def sign_statements(file: Path, root: str, key: Any) -> list[Path]:
    """Sign each unsigned statement beside a file, into a file of its own. Return their paths.

    Raises:
        StatementError: one of the statements beside the file is refused.
        StorageError: one cannot be written.
    """
    found, refused = find_statements(file, root)
    if refused:
        raise _refused(refused[0].path, refused[0].why)
    return [
        write_statement(file, root, statement.predicate_type, statement.predicate, key)
        for statement in found
        if not statement.signed_by
    ]


def recorded_tools(file: Path, root: str) -> dict[str, dict[str, str]]:
    """Return the tools that made a file, by stage, from the first provenance of this root beside
    it; nothing without one. Refused statements are skipped, because `s7 verify` names them.
    """
    for path in statement_paths(file)[:MOST_STATEMENTS] if file.is_file() else []:
        try:
            statement = read_statement(path, None, root)
        except (StatementError, StorageError):
            continue
        tools = _at(statement.predicate, "buildDefinition", "internalParameters", "tools")
        if statement.kind == "provenance" and isinstance(tools, dict):
            return {
                stage: {name: version for name, version in named.items() if isinstance(version, str)}
                for stage, named in tools.items()
                if isinstance(named, dict)
            }
    return {}


def remove_outdated(file: Path, root: str) -> list[Path]:
    """Remove the unsigned statements of this program about an earlier file at this place. Return
    their paths.

    Otherwise a file that replaced another root would be beside statements that are refused. Signed
    statements stay.
    """
    removed = []
    for path in statement_paths(file):
        try:
            value = _envelope(path)
            digests = dsse.read_envelope(value)["subject"][0]["digest"]
            if value["signatures"] == [] and digests[ROOT] != root:
                path.unlink()
                removed.append(path)
        except (SevenfoldError, KeyError, IndexError, TypeError):
            continue
    return removed


def shown(found: list[Statement], refused: list[RefusedStatement]) -> dict[str, Json]:
    """Return the statements found beside a file as JSON values."""
    return {
        "statements": [
            {
                "path": str(statement.path),
                "kind": statement.kind,
                "signed_by": list(statement.signed_by),
                "checked": list(statement.checked),
                "signature": statement.signature,
                "subject": "this file",
                "says": dict(statement.predicate),
            }
            for statement in found
        ],
        "refused_statements": [{"path": str(row.path), "why": row.why} for row in refused],
    }
