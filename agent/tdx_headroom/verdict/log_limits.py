# SPDX-License-Identifier: Apache-2.0
"""What a log cannot show: lines that could not be read, an excerpt in other text, an end too early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.observations import KVM_IS_LOADED, unread_in_words
from tdx_headroom.verdict.kernels import InitTime, look_up

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

_EXCERPT = "Only a few lines in other text say so, and nobody can tell whose they are. "


def limits_of(facts: HostFacts) -> list[str]:
    """What the log leaves open, a sentence each."""
    health = facts.log_health
    if health is None:
        return []
    found = []
    if health.unread:
        found.append(unread_in_words(health.unread, health.first_unread or ""))
    if ends_early(facts):
        found.append(
            f"The log ends {health.until:.0f} seconds after the boot, when KVM may not be loaded yet: whether"
            " TDX is tried it cannot show."
        )
    return found


def preface(facts: HostFacts) -> str:
    """What has to be said before all that a log says."""
    return _EXCERPT if facts.log_health is not None and facts.log_health.excerpt else ""


def may_hide_failure(facts: HostFacts) -> bool:
    """Whether a line that could not be read may be a failure."""
    return facts.log_health is not None and facts.log_health.hides_failure


def ends_early(facts: HostFacts) -> bool:
    """Whether a text log ends before every host has loaded KVM, and shows no try."""
    health, log = facts.log_health, facts.kernel_log
    if health is None or log is None or health.verified or health.until is None or log.message is not None:
        return False
    row = look_up(facts.kernel_release)
    by_kvm = row is None or row.init not in (InitTime.NEVER, InitTime.BOOT)
    return by_kvm and log.keyids is not None and health.until < KVM_IS_LOADED
