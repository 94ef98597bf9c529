# SPDX-License-Identifier: Apache-2.0
"""Tests an installed command: `python -m tests.wheel /path/to/tdx-headroom`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def main(command: str) -> int:
    """Plan a bundled host with the command, from a directory that is not the checkout."""
    version = subprocess.run([command, "--version"], cwd="/", check=True, capture_output=True, text=True)
    host = Path(__file__).parent / "hosts" / "emerald-rapids"
    plan = subprocess.run(
        [command, "plan", "--root", str(host), "--format", "json"],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    needed = [t["needed_holes"] for t in json.loads(plan.stdout)["strategies"]["memory-regions"]["tdmrs"]]
    bundled = subprocess.run(
        [
            Path(command).with_name("python"),
            "-c",
            "import tdx_headroom, pathlib; print(tdx_headroom.__file__)",
        ],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    shipped = Path(bundled.stdout.strip()).parent / "hosts" / "emerald-rapids" / "proc" / "iomem"
    ok = needed == [17, 1, 1, 1, 1] and shipped.is_file() and ".venv" not in str(shipped)
    print(f"{version.stdout.strip()}: bundled host needs {needed}: {'ok' if ok else 'WRONG'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
