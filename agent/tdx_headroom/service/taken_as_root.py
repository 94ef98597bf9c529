# SPDX-License-Identifier: Apache-2.0
"""Started as root by hand: the inventory of boot entries, before root is given up.

A process of its own takes it: neither what it loads nor what it reads stays in the agent.
"""

from __future__ import annotations

import subprocess

from tdx_headroom import log
from tdx_headroom.child import child_command, child_environment
from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.facts.boot_inventory import parse_taken

SECONDS = 30.0
"""At most; a host with five kernels takes three, and remembered ones no time at all."""


def inventory_as_root(root: str) -> str | None:
    """The inventory as ``take-boots`` writes it; None where it could not be taken, which is logged.

    Args:
        root: path of what stands for the host's ``/``.
    """
    command = child_command("cli", ["take-boots", "--output", "-", "--path.rootfs", root])
    try:
        done = subprocess.run(  # noqa: S603  this Python, with a folder that the user has named
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            env=child_environment(),
            check=False,
            text=True,
        )
        if done.returncode == 0:
            parse_taken(done.stdout)
            return done.stdout
        why = done.stderr or f"exit status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        why = str(error)
    except SourceError as error:
        why = error.told()
    log.get().warning("the boot entries could not be read", error=one_line(why.strip()))
    return None
