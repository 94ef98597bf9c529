# SPDX-License-Identifier: Apache-2.0
"""What a log cannot show: what its lines that could not be read say, and what came after its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boots import Starts
from tdx_headroom.facts.observations import KVM_IS_LOADED, unread_in_words
from tdx_headroom.verdict.findings import NOTE, Finding, Findings, Signs
from tdx_headroom.verdict.this_kernel import known_start

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

MAY_HIDE = "log-may-hide-failure"


def hiding(signs: Signs) -> Findings:
    """Lines that could not be read, one of which may be a failure."""
    yield from _unread(signs, MAY_HIDE, hides=True)


def unread(signs: Signs) -> Findings:
    """Lines that could not be read, none of which looks like a failure."""
    yield from _unread(signs, "log-unread", hides=False)


def _unread(signs: Signs, kind: str, *, hides: bool) -> Findings:
    health = signs.facts.log_health
    if health is not None and health.unread and health.hides_failure is hides:
        text = unread_in_words(health.unread, health.first_unread or "")
        yield Finding(kind, NOTE, text, {"lines": health.unread})


def early_end(signs: Signs) -> Findings:
    """An end before every host has loaded KVM."""
    health = signs.facts.log_health
    if health is not None and health.until is not None and ends_early(signs.facts):
        seconds = f"{health.until:.0f} second{'' if round(health.until) == 1 else 's'}"
        text = (
            f"The log ends {seconds} after the boot, when KVM may not be loaded yet: whether TDX is tried it"
            " cannot show."
        )
        yield Finding("log-ends-early", NOTE, text)


def ends_early(facts: HostFacts) -> bool:
    """Whether a text log ends before every host has loaded KVM, and shows no try."""
    health, log = facts.log_health, facts.kernel_log
    if health is None or log is None or health.verified or health.until is None or log.message is not None:
        return False
    by_kvm = known_start(facts).starts not in (Starts.NEVER, Starts.BOOT)
    return by_kvm and log.keyids is not None and health.until < KVM_IS_LOADED
