# SPDX-License-Identifier: Apache-2.0
"""The agent as a wheel, and its installation in a guest as a package would do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, last_line

if TYPE_CHECKING:
    from tests.vm.machine import Machine

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = CHECKOUT / "systemd"
DROP_INS = UNITS / "drop-ins"
UNIT_FOLDER = "/usr/lib/systemd/system"
"""Where a package has its units: one in /etc could not be masked."""

DROP_IN_FOLDER = "/etc/systemd/system"

COMMAND = b"""#!/usr/bin/python3
import sys
from tdx_headroom.cli import main
sys.exit(main())
"""


def build_wheel(folder: Path) -> Path:
    """Build this checkout's wheel.

    Raises:
        KernelTestError: it does not build.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--wheel-dir", folder, CHECKOUT], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise KernelTestError(f"the wheel does not build: {last_line(done.stderr or done.stdout)}")
    (wheel,) = folder.glob("tdx_headroom-*.whl")
    return wheel


def install(guest: Machine, wheel: Path) -> None:
    """The wheel for the guest's own Python and its packaged dependencies, the command, the units."""
    guest.write("/opt/vm-test/agent.whl", wheel.read_bytes())
    guest.run("python3 -m zipfile -e /opt/vm-test/agent.whl /usr/lib/python3/dist-packages")
    guest.run("python3 -m compileall -q /usr/lib/python3/dist-packages/tdx_headroom")
    guest.write("/usr/bin/tdx-headroom", COMMAND, 0o755)
    for unit in UNITS.iterdir():
        if unit.is_file():
            guest.write(f"{UNIT_FOLDER}/{unit.name}", unit.read_bytes())
    guest.run("systemctl daemon-reload")


def drop_in(guest: Machine, unit: str, name: str, content: bytes | None = None) -> None:
    """Put one of the example drop-ins, or one with this content, in its place."""
    data = (DROP_INS / name).read_bytes() if content is None else content
    guest.write(f"{DROP_IN_FOLDER}/{unit}.d/{name}", data)
    guest.run("systemctl daemon-reload")


def remove_drop_in(guest: Machine, unit: str, name: str) -> None:
    """Take a drop-in away again."""
    guest.run(f"rm -f {DROP_IN_FOLDER}/{unit}.d/{name} && systemctl daemon-reload")
