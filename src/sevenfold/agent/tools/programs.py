"""The tools python_exec and compiler_run: programs in the sandbox, without network and files.

`timeout_ms` is processor time, as every limit of the sandbox: a busy machine does not end a program.
The kernel counts whole seconds, so a program may run on to the next one; what it printed is then not
given. A program that only waits is ended after `_IDLE_SECONDS` of the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sevenfold.agent.tools.result import OK, ToolResult, failed
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.sandbox.confined import BUILD_LIMITS, Ending, ProcessLimits
from sevenfold.sandbox.executor import SandboxError
from sevenfold.sandbox.grading import Printed, run_program
from sevenfold.sandbox.toolchains import MIB, tool_path

# As tools.json names them -> as the sandbox does.
LANGUAGE_NAMES = {"py": "python", "cpp": "cpp", "java": "java", "js": "javascript", "rust": "rust"}
_IDLE_SECONDS = 2.0
_OUTPUT_BYTES = 64 << 10
_BUILD = replace(BUILD_LIMITS, processor_seconds=20, memory_bytes=1024 * MIB)
_REASONS = {
    Ending.TIME: ("time", "it used more processor time than it may"),
    Ending.IDLE: ("time", "it waited for something that does not come"),
    Ending.OUTPUT: ("output", "it wrote more than it may"),
    Ending.MEMORY: ("memory", "it used more memory than it may"),
    Ending.NONE: ("machine", "the machine stopped it"),
}


@dataclass(frozen=True, kw_only=True)
class ProgramTool:
    """Runs programs of some languages.

    Attributes:
        languages: as tools.json names them; the first is taken where the arguments name none.
    """

    languages: tuple[str, ...]
    timeout_ms: int
    mem_mb: int
    is_repeatable: bool = True

    def run(self, arguments: dict[str, Json]) -> ToolResult:
        """Build and run a program once, and return what it printed."""
        language = LANGUAGE_NAMES[arguments.get("lang", self.languages[0])]
        limits = ProcessLimits(
            processor_seconds=-(-self.timeout_ms // 1000),
            memory_bytes=self.mem_mb * MIB,
            output_bytes=_OUTPUT_BYTES,
        )
        try:
            printed = run_program(
                language,
                arguments["source"],
                limits,
                arguments.get("stdin", "").encode(),
                build_limits=_BUILD,
                idle_seconds=_IDLE_SECONDS,
            )
        except (SandboxError, UsageError) as error:
            return failed("unavailable", f"no program can be run here: {error.what}")
        return self._told(printed)

    def _told(self, printed: Printed) -> ToolResult:
        if printed.ending in _REASONS:
            return failed(*_REASONS[printed.ending])
        if printed.seconds * 1000 > self.timeout_ms:
            return failed(*_REASONS[Ending.TIME])
        out = printed.out.decode("utf-8", "replace").removesuffix("\n")
        if printed.exit_code == 0:
            return ToolResult(outcome=OK, text=out or "(it printed nothing)")
        lines = [out] if out else []
        # The last lines say what went wrong.
        lines += printed.error.strip().splitlines()[-8:]
        reason = "build" if printed.error.startswith("build: ") else "exit"
        return failed(reason, "\n".join([*lines, f"exit code {printed.exit_code}"]))


def check_languages(languages: tuple[str, ...]) -> None:
    """Refuse languages whose tools are not installed here. Raises UsageError."""
    for name in languages:
        tool_path(LANGUAGE_NAMES[name])
