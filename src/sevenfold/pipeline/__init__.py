"""The pipeline: the stages as a table, what has to run again, and what ends a run.

`stages` holds the table and the protocol of a stage, `make` runs stages, `finish` verifies the
sealed file and writes what people read. The names below are what other rooms use.
"""

from sevenfold.pipeline.make import make, run_part, run_stage, take_over
from sevenfold.pipeline.stages import STAGE_NAMES, STAGES, Stage, find_stage, stage_module
from sevenfold.runs.files import LOCK
from sevenfold.runs.lock import exclusive

__all__ = [
    "LOCK",
    "STAGES",
    "STAGE_NAMES",
    "Stage",
    "exclusive",
    "find_stage",
    "make",
    "run_part",
    "run_stage",
    "stage_module",
    "take_over",
]
