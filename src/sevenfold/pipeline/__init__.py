"""The pipeline: the table of stages, the decision what has to run again, and the end of a run.

`stages` holds the table and the protocol of a stage, `make` runs stages, and `finish` verifies the
sealed file and writes reports. Other packages use the names below.
"""

from sevenfold.core.run_files import LOCK
from sevenfold.pipeline.make import make, run_phase, run_stage, take_over, train_to
from sevenfold.pipeline.promise import KEPT, Promise, read_promise, stand_in, write_promise
from sevenfold.pipeline.stages import STAGE_NAMES, STAGES, Stage, find_stage, stage_module
from sevenfold.runs.lock import exclusive

__all__ = [
    "KEPT",
    "LOCK",
    "Promise",
    "STAGES",
    "STAGE_NAMES",
    "Stage",
    "exclusive",
    "find_stage",
    "make",
    "read_promise",
    "run_phase",
    "run_stage",
    "stage_module",
    "stand_in",
    "take_over",
    "train_to",
    "write_promise",
]
