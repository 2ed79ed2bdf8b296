"""The quality gate (B4): how much quality integers may cost, by the recipe and by a ceiling for all
recipes.
"""

from __future__ import annotations

from collections.abc import Mapping

from sevenfold.core.errors import QualityError
from sevenfold.core.hashing import Json
from sevenfold.recipe.schema import MAX_BPB_INCREASE, QuantizeSpec

MET, ACCEPTED = "met", "not met, accepted with --accept-quality"


def gate_rows(quality: Mapping[str, Json]) -> list[list[str]]:
    """Return the table of a measurement: figure, FP32, INT8, change, gate, outcome. Cells are text."""
    limits, met = quality["gate"], outcomes(quality)
    return [
        [
            "held-out bits per byte",
            f"{quality['bpb_fp32']:.5f}",
            f"{quality['bpb_int']:.5f}",
            f"{quality['bpb_increase']:+.3%}",
            f"at most {limits['max_bpb_increase']:+.3%}",
            "pass" if met[0] else "fail",
        ],
        [
            "top-1 agreement",
            "",
            f"{quality['top1_agreement']:.2%}",
            "",
            f"at least {limits['min_top1_agreement']:.2%}",
            "pass" if met[1] else "fail",
        ],
    ]


def outcomes(quality: Mapping[str, Json]) -> tuple[bool, bool]:
    """Return whether the loss and the agreement meet their gates. A value that is not a number
    meets none.
    """
    limits = quality["gate"]
    return (
        quality["bpb_increase"] <= limits["max_bpb_increase"],
        quality["top1_agreement"] >= limits["min_top1_agreement"],
    )


def limits_of(spec: QuantizeSpec) -> dict[str, Json]:
    """Return the limits of the gate in the form of the figures."""
    return {"max_bpb_increase": spec.max_bpb_increase, "min_top1_agreement": spec.min_top1_agreement}


def pass_gate(quality: Mapping[str, Json], *, accept: bool) -> str:
    """Return the outcome that the manifest and the seal record: MET or ACCEPTED.

    Args:
        quality: figures, with the limits under `gate`.
        accept: accept a model that misses the gate of its recipe; the ceiling still applies.

    Raises:
        QualityError: the gate is not met and `accept` is not given, or the ceiling is not met.
    """
    limits, (cheap, agrees) = quality["gate"], outcomes(quality)
    if cheap and agrees:
        return MET
    increase, agreement = quality["bpb_increase"], quality["top1_agreement"]
    if not increase <= MAX_BPB_INCREASE:
        raise QualityError(
            f"integer inference costs {increase:.2%} bits per byte; no recipe may cost more than"
            f" {MAX_BPB_INCREASE:.0%}",
            where="quantize",
            remedy="train longer, or look for outliers in the weights",
        )
    if accept:
        return ACCEPTED
    if not cheap:
        what = (
            f"integer inference costs {increase:.2%} bits per byte, the recipe allows"
            f" {limits['max_bpb_increase']:.2%}"
        )
        where = "quantize.max_bpb_increase"
    else:
        what = (
            f"integers choose the token of FP32 in {agreement:.2%}, the recipe asks for"
            f" {limits['min_top1_agreement']:.2%}"
        )
        where = "quantize.min_top1_agreement"
    raise QualityError(
        what, where=where, remedy="train longer, or accept it with --accept-quality, which the seal records"
    )
