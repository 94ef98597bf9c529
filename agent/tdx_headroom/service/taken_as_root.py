# SPDX-License-Identifier: Apache-2.0
"""Started as root by hand: the inventory of boot entries, before root is given up.

A process of its own takes it: neither what it loads nor what it reads stays in the agent.
"""

from __future__ import annotations

import asyncio

from tdx_headroom import log
from tdx_headroom.child import child_command
from tdx_headroom.errors import SourceError, one_line
from tdx_headroom.facts.boot_inventory import MAX_INVENTORY, parse_taken
from tdx_headroom.service.bounded_child import TooMuchOutput, run_child

SECONDS = 30.0
"""At most; a host with five kernels takes three, and remembered ones no time at all."""


def inventory_as_root(root: str) -> str | None:
    """The inventory as ``take-boots`` writes it; None where it could not be taken, which is logged.

    Args:
        root: path of what stands for the host's ``/``.
    """
    command = child_command("cli", ["take-boots", "--output", "-", "--path.rootfs", root])
    output = bytearray()
    try:
        ended = asyncio.run(run_child(command, output.extend, seconds=SECONDS, most=MAX_INVENTORY))
        if ended.status == 0:
            text = output.decode()
            parse_taken(text)
            return text
        why = ended.said or f"exit status {ended.status}"
    except TooMuchOutput:
        why = f"they are more than {MAX_INVENTORY >> 20} MiB"
    except TimeoutError:
        why = f"they took longer than {SECONDS:g} s"
    except (OSError, ValueError) as error:
        why = str(error)
    except SourceError as error:
        why = error.told()
    log.get().warning("the boot entries could not be read", error=one_line(why.strip()))
    return None
