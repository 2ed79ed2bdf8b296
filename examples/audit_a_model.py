"""Check what somebody says about a model: the file, its lineage, and steps of its training.

python examples/audit_a_model.py out/demo
"""

from __future__ import annotations

import json
import subprocess
import sys


def s7(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of the command line and return what it printed."""
    command = [sys.executable, "-m", "sevenfold", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(run: str) -> int:
    """Print a verdict for each check; return 0 when all hold."""
    verified = s7("verify", f"{run}/model.s7l", "--replay", "--json")
    print("file and golden logits:", "hold" if verified.returncode == 0 else verified.stderr.strip())

    lineage = json.loads(s7("lineage", run, "--json").stdout)
    print("sources:", ", ".join(f"{row['source']} ({row['licence']})" for row in lineage["sources"]))
    print("root:", lineage["seal"]["root"])

    last = lineage["training"]["n_steps"]
    audited = s7("audit", run, "--steps", f"{max(1, last - 4)}..{last}")
    print("last steps trained again:", "same bytes" if audited.returncode == 0 else "different")
    return verified.returncode or audited.returncode


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} RUN")
    sys.exit(main(sys.argv[1]))
