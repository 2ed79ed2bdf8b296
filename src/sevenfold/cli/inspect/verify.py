"""The verbs verify, inspect, lineage and diff, which examine models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, RunArg, app, guarded, named_model, print_json
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.artifact import Artifact
    from sevenfold.core.hashing import Json


PublishedOption = Annotated[
    bool,
    typer.Option(
        "--published",
        help="Check a file of the published contract, which has no seal, by the contract's own rule.",
    ),
]
StatementKeysOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--statement-key", metavar="PUB", readable=False, help="Check statements signed by this public key."
    ),
]
StatementsOption = Annotated[
    bool, typer.Option("--statements/--no-statements", help="Read the statements beside the file.")
]

IdentityOption = Annotated[
    str, typer.Option("--identity", metavar="WHO", help="Check a keyless signature of this identity.")
]
IssuerOption = Annotated[
    str, typer.Option("--issuer", metavar="URL", help="With --identity: the issuer that vouches for it.")
]


@app.command()
@guarded
def verify(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            readable=False,
            allow_dash=True,
            callback=named_model,
            help="A sealed model, a bundle, or - for a stream.",
        ),
    ],
    replay: Annotated[
        bool, typer.Option("--replay", help="Run the golden prompts on every backend here.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part", metavar="NAME", help="Check only this part (trunk, expert.0, training) or tensor."
        ),
    ] = None,
    byte_range: Annotated[
        str | None, typer.Option("--range", metavar="A..B", help="Check only the bytes from A up to B.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="HEX", help="Refuse a model with another root.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PUB", readable=False, help="Check the signature by this public key."),
    ] = None,
    identity: IdentityOption = "",
    issuer: IssuerOption = "",
    signature: Annotated[
        Path | None,
        typer.Option("--signature", metavar="SIG", readable=False, help="The signature; default: FILE.sig."),
    ] = None,
    published: PublishedOption = False,
    statement_keys: StatementKeysOption = None,
    statements: StatementsOption = True,
    as_json: JsonOption = False,
) -> None:
    """Check the hashes, the root and the rules of a sealed model, its signature and its statements."""
    from sevenfold.cli.inspect import partial

    _check_flags(file, replay, part, byte_range, published, signed=bool(key or identity or signature))
    if str(file) == "-":
        partial.verify_stream(root, published, as_json)
        return
    signed = _check_signature(file, signature, key, identity, issuer)
    artifact = partial.open_rooted(file, root, published=published)
    if published:
        partial.verify_published(artifact, signed, as_json)
    elif part is not None or byte_range is not None:
        partial.verify_partly(artifact, part, byte_range, as_json)
    else:
        beside = _statements(artifact, statement_keys or []) if statements else {}
        _check_rules(artifact, signed, beside, replay=replay, as_json=as_json)


def _check_flags(
    file: Path, replay: bool, part: str | None, byte_range: str | None, published: bool, *, signed: bool
) -> None:
    """Refuse options that exclude each other. Raises UsageError."""
    stream = str(file) == "-"
    if sum((replay, part is not None, byte_range is not None, stream)) > 1:
        raise UsageError(
            "only one of --replay, --part, --range and a stream is possible at a time",
            remedy="leave out the others",
        )
    if published and (replay or part is not None or byte_range is not None):
        raise UsageError(
            "--published with --replay, --part or --range, which need a seal", remedy="leave out the others"
        )
    if stream and signed:
        raise UsageError(
            "the signature of a stream", remedy="save the file, then verify it with its signature"
        )


def _statements(artifact: Artifact, paths: list[Path]) -> dict[str, Json]:
    """Return the statements beside the file, checked against the file and these public keys; none
    for a bundle, which is a directory.
    """
    from sevenfold.release import dsse
    from sevenfold.release.statements import find_statements, shown

    keys = [dsse.load_public_key(path) for path in paths]
    if not artifact.path.is_file():
        return {}
    return shown(*find_statements(artifact.path, artifact.root, {dsse.key_id(key): key for key in keys}))


def _check_rules(
    artifact: Artifact, signed: dict[str, Json], beside: dict[str, Json], *, replay: bool, as_json: bool
) -> None:
    """Print V0 to V7 and the statements. Exit with 3 when a rule does not hold or a statement is
    refused.
    """
    from sevenfold.artifact import verify as verify_artifact
    from sevenfold.cli.inspect import partial
    from sevenfold.report.console import print_verification
    from sevenfold.report.statements import print_statements

    engines = _engines() if replay else []
    if replay:
        from sevenfold.engine.session import replay as run_golden_prompts

        result = verify_artifact(artifact, run_golden_prompts)
    else:
        result = verify_artifact(artifact)
    value = result.as_json() | ({"signature": signed} if signed else {}) | beside
    if replay:
        value["replayed_on"] = engines
    if as_json:
        print_json(value)
    else:
        print_verification(value)
        if replay:
            print(f"replayed on {', '.join(engines)}")
        if signed:
            print(partial.signature_line(signed))
        if beside:
            print_statements(beside, is_verified=result.ok)
    if not result.ok or beside.get("refused_statements"):
        raise typer.Exit(3)


def _engines() -> list[str]:
    """Return the engines that will run the golden prompts. A wrong S7_ISA is refused here as a
    usage error, not as a fault of the file.
    """
    from sevenfold.engine.backends import available, built_in_model, make_engine

    return [f"{name} ({make_engine(name, built_in_model()).detail})" for name in available()]


def _check_signature(
    file: Path, signature: Path | None, key: Path | None, identity: str, issuer: str
) -> dict[str, Json]:
    """Check the signature that the options request, before anything in the file is read. Return an
    empty text when they request none.
    """
    if (key is not None and identity) or bool(identity) != bool(issuer):
        raise UsageError(
            "verify takes one of --key and --identity with --issuer",
            remedy="allowed: --key PUB, or --identity WHO --issuer URL",
        )
    if key is None and not identity:
        if signature is not None:
            raise UsageError(
                "--signature without a signer", remedy="add --key PUB, or --identity WHO --issuer URL"
            )
        return {}
    from sevenfold.release.signature import check_signature, find_signature

    path = signature or find_signature(file)
    check_signature(file, path, key, identity, issuer)
    return {"path": str(path), "by": str(key) if key else f"{identity} ({issuer})"}


def _inspection(artifact: Artifact) -> dict[str, Json]:
    return {
        "path": str(artifact.path),
        "root": artifact.root,
        "version": artifact.version,
        "class": artifact.class_,
        "flags": artifact.flags,
        "n_bytes": artifact.n_bytes,
        "lanes": [
            {"name": x.name, "kind": x.kind, "offset": x.offset, "n_bytes": x.n_bytes, "sha256": x.sha256}
            for x in artifact.lanes
        ],
        "notes": _notes(artifact),
        "parts": dict(artifact.seal.parts) if artifact.seal else {},
        "identity": artifact.provenance.get("identity", {}),
        "model": artifact.graph.get("model", {}),
        "tensors": [
            {"name": t.name, "dims": list(t.dims), "n_bytes": t.numel} for t in artifact.records.values()
        ],
    }


def _notes(artifact: Artifact) -> list[str]:
    """Return the remarks that a user needs before using the file."""
    from sevenfold.artifact.verify import published_notes

    training = [record for record in artifact.records.values() if record.training]
    return [
        text
        for text, holds in (
            (
                "header-only: it holds no model and cannot be run; tests can load it as zeros (A11)",
                artifact.header_only,
            ),
            (
                "anonymous: it does not record its origin (D6); it runs only with --allow-anonymous",
                artifact.anonymous and not artifact.published,
            ),
            (f"{len(training)} tensors of FP32 training weights", training),
        )
        if holds
    ] + (published_notes(artifact.version, len(artifact.lanes)) if artifact.published else [])


@app.command()
@guarded
def inspect(file: FileArg, as_json: JsonOption = False) -> None:
    """Show what a sealed model holds and where it comes from."""
    from sevenfold.artifact import read_artifact

    value = _inspection(read_artifact(file))
    if as_json:
        print_json(value)
        return
    from sevenfold.report.console import print_inspection

    print_inspection(value)


@app.command()
@guarded
def lineage(
    path: RunArg,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="SVG", readable=False, help="Also write the chain as a picture."),
    ] = None,
    begins: Annotated[
        bool, typer.Option("--recipe", help="Print the lines of a recipe that continues from this model.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the chain from sources and licences to the Merkle root, from the sealed file alone."""
    from sevenfold.core.ownership import refuse_foreign
    from sevenfold.release.lineage import lineage as chain
    from sevenfold.release.target import sealed_file
    from sevenfold.report.console import print_table
    from sevenfold.report.lineage import is_lineage_picture, lineage_rows, quantisation_rows, write_picture

    if picture is not None:
        refuse_foreign(picture, is_lineage_picture, "picture")
    value = chain(sealed_file(path))
    if begins:
        from sevenfold.release.lineage import recipe_from

        print_json(recipe_from(sealed_file(path)))
        return
    if picture is not None:
        write_picture(picture, value)
    if as_json:
        print_json(value)
        return
    print_table("quantisation", ("tensor", "shape", "scale", "exponent"), quantisation_rows(value))
    print_table("lineage", ("link", "what"), lineage_rows(value))


@app.command()
@guarded
def diff(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A", readable=False, callback=named_model, help="A sealed model, or a run directory."
        ),
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B", readable=False, callback=named_model, help="Another one.")
    ],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 when the roots differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two sealed models. The last line is the verdict."""
    from sevenfold.audit.diff import diff as compare
    from sevenfold.release.target import sealed_file
    from sevenfold.report.console import print_table
    from sevenfold.report.lineage import diff_tables, diff_verdict

    value = compare(sealed_file(a), sealed_file(b))
    if as_json:
        print_json(value)
    else:
        for title, columns, rows in diff_tables(value):
            print_table(title, columns, rows)
        print(diff_verdict(value))
    if exit_code and not value["equal"]:
        raise typer.Exit(3)
