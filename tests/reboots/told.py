# SPDX-License-Identifier: Apache-2.0
"""What else tells of the next boot, against the command's words: the service's metrics, the hook.

Each is looked at where the agent's package has it, and passed over where it has not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.reboots.compare import Foretold
    from tests.reboots.guest import Guest
    from tests.reboots.steps import Step

UNIT = "tdx-headroom-boots.path"
HOOK = "/etc/kernel/postinst.d/zzz-tdx-headroom"
SECONDS = 120
"""Two refresh intervals: until then a metric has the change."""

PATIENCE = 3
"""A guest is that much slower on a machine that does other things too."""

ALARM = "TDX will NOT come up"
TOO_LONG = "It took too long to tell"
"""What the hook says instead after 5 s: an emulated processor may well be so slow."""


def other_words(guest: Guest, step: Step, said: str, foretold: Foretold) -> list[str]:
    """What metrics or hook tell otherwise than the command, in words.

    Args:
        guest: in which the action was done.
        step: the action.
        said: what its tools have said; a hook's paragraph is in it. Where the hook had no time, its command
            is asked without a limit.
        foretold: by the command.
    """
    found = []
    # A host that shows nothing of TDX has no metrics about it.
    if foretold.verdict != "not-tdx" and guest.machine.status(f"systemctl cat {UNIT}") == 0:
        found += _metrics(guest, foretold)
    if step.hook and guest.machine.status(f"test -e {HOOK}") == 0:
        if TOO_LONG in said:
            said = guest.machine.run("tdx-headroom boots --brief --no-color", check=False)
        found += _hook(said, foretold)
    return found


def _metrics(guest: Guest, foretold: Foretold) -> list[str]:
    """The service's metrics, in a scrape from outside the guest."""
    end = time.monotonic() + SECONDS * PATIENCE
    while (told := _told(guest)) != (foretold.verdict, foretold.release or ""):
        if time.monotonic() > end:
            return [f"metrics: {told}, the command: {foretold.verdict}, {foretold.release}"]
        time.sleep(2)
    return []


def _told(guest: Guest) -> tuple[str, str]:
    """The verdict that ``tdx_next_boot`` has, and the release of ``tdx_next_boot_info``."""
    verdict = release = ""
    for family in text_string_to_metric_families(guest.machine.fetch("/metrics")):
        for sample in family.samples:
            if sample.name == "tdx_next_boot" and sample.value == 1:
                verdict = sample.labels["verdict"]
            elif sample.name == "tdx_next_boot_info":
                release = sample.labels["kernel_release"]
    return verdict, release


def _hook(said: str, foretold: Foretold) -> list[str]:
    """The hook's alarm, which is there only where TDX will not come up."""
    alarm = ALARM in said
    if alarm is not (foretold.verdict == "will-fail"):
        return [f"the hook {'gives' if alarm else 'gives no'} alarm, the command: {foretold.verdict}"]
    if alarm and foretold.release is not None and foretold.release not in said.partition(ALARM)[2]:
        return [f"the hook names another kernel than {foretold.release}"]
    return []
