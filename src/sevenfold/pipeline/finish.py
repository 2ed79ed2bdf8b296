"""End a run: verify the sealed file with replay, complete the sample prompts, write the release
documents and the report, and return one summary.

Everything written here is a view of files that the stages wrote (rule V4). It can be deleted and
made again.
"""

from __future__ import annotations

from sevenfold.artifact import Artifact, Verification, read_artifact, verify, visible_text
from sevenfold.core.errors import ArtifactError
from sevenfold.core.files import write_json
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import ARTIFACT, COMPLETIONS, VERIFICATION
from sevenfold.engine.session import Model, replay
from sevenfold.release.documents import write_release_documents
from sevenfold.report.corpus import write_corpus_report
from sevenfold.report.html import write_report
from sevenfold.runs.job import Job

COMPLETION_TOKENS = 48


def verify_with_replay(artifact: Artifact) -> Verification:
    """Return V0 to V7 with golden logits replayed on every backend of this machine."""
    return verify(artifact, replay)


def complete(model: Model, prompts: tuple[str, ...], max_tokens: int = COMPLETION_TOKENS) -> list[Json]:
    """Return the greedy completions of at most `max_tokens` tokens, or fewer where the context
    ends. Raises GateError.
    """
    rows = []
    for prompt in prompts:
        with model.session(prompt, max_tokens=1) as session:
            text = "".join(session.generate(min(max_tokens, session.room)))
            rows.append({"prompt": prompt, "text": visible_text(text), "tokens": session.tokens})
    return rows


def finish(job: Job) -> dict[str, Json]:
    """Verify the sealed file of a run, complete the sample prompts, write the views, and return the
    summary.

    The file is opened once, so the verified file is the one that is completed and described.

    Raises:
        ArtifactError: a rule does not hold; the table is in verification.json.
    """
    path = job.out / ARTIFACT
    job.progress.note("verify: V0 to V7, with replay")
    artifact = read_artifact(path)
    verification = verify_with_replay(artifact)
    write_json(job.out / VERIFICATION, verification.as_json())
    if not verification.ok:
        failed = next(row for row in verification.rows if row.status == "fail")
        raise ArtifactError(
            f"rule {failed.id} does not hold: {failed.detail}",
            where=str(path),
            remedy="run `s7 make` with --force seal; if it stays, report it",
        )
    write_release_documents(artifact)
    completions = complete(Model.of(artifact), job.recipe.seal.sample_prompts)
    write_json(job.out / COMPLETIONS, completions)
    write_corpus_report(job.out)
    report = write_report(job.out)
    corpus, train = job.manifest("corpus").facts, job.manifest("train").facts
    quality, seal = job.manifest("quantize").facts, job.manifest("seal").facts
    return {
        "recipe": job.recipe.name,
        "recipe_digest": job.recipe.digest,
        "heldout_bpb": train["heldout_bpb"],
        "bpb_fp32": quality["bpb_fp32"],
        "bpb_int": quality["bpb_int"],
        "bpb_increase": quality["bpb_increase"],
        "top1_agreement": quality["top1_agreement"],
        "gzip_bpb": corpus["heldout_gzip_bpb"],
        "n_parameters": train["n_parameters"],
        "artifact": str(path),
        "n_bytes": seal["n_bytes"],
        "root": seal["root"],
        "report": str(report),
        "verification": verification.as_json(),
        "completions": completions,
    }
