# SPDX-License-Identifier: Apache-2.0
"""systemd in a root file system, booted by systemd-nspawn on this machine's kernel."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, last_line, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NSPAWN = (
    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"),
    *("--capability=CAP_SYSLOG,CAP_SYS_ADMIN", "--bind=/dev/kmsg"),
)


class BootError(KernelTestError):
    """The system did not come up."""


@contextmanager
def booted(tree: Path, unit: str) -> Iterator[Callable[..., str]]:
    """Boot systemd in the tree until a unit is active; gives a way to run commands in it.

    Raises:
        BootError: the unit does not become active.
    """
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    log = tree.with_name(f"{tree.name}.log")
    with log.open("wb") as out:
        nspawn = subprocess.Popen(
            [*NSPAWN, "--directory", tree], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
        )
    leader = ""

    def enter(*command: str) -> str:
        return run(["nsenter", "--target", leader, "--all", "--", *command])

    try:
        end = time.monotonic() + 300
        while True:
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
            leader = children[0] if children else ""
            if leader:
                state = ["nsenter", "--target", leader, "--all", "systemctl", "is-active", unit]
                said = subprocess.run(state, capture_output=True, text=True, check=False).stdout.strip()
                if said == "active":
                    break
            if nspawn.poll() is not None or time.monotonic() > end:
                said = last_line(log.read_text(errors="replace"))
                raise BootError(f"{unit} does not come up in a container: {said}")
            time.sleep(0.1)
        yield enter
        enter("systemctl", "--no-block", "poweroff")
        nspawn.wait(300)
    finally:
        nspawn.kill()
        nspawn.wait()
