# SPDX-License-Identifier: Apache-2.0
"""Whether hibernation will be in the way of TDX, under another kernel or command line.

``tdx_init()`` looks at it when the boot processor is identified (``identify_boot_cpu()``), in every version.
Up to then ``nohibernate``, the build and lockdown rule hibernation out. CXL memory and secret memory, which
do so as well (``hibernation_available()``), come later: that it is off in this boot may be their doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tdx_headroom.facts.boot_arguments import bars_hibernation, forbids_hibernation, locks_down
from tdx_headroom.facts.boots import KernelTraits, Lockdown
from tdx_headroom.facts.kernel_report import FailureReason
from tdx_headroom.facts.observations import Platform
from tdx_headroom.verdict.kernels import of_one_vendor

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

_UNKNOWN = KernelTraits()
_NOT_BY_SECURE_BOOT = (Lockdown.NEVER, Lockdown.ASKED)


class PastHibernation(NamedTuple):
    """Who has come past where kernels look at hibernation, in the running boot.

    Args:
        running: whether the running kernel has.
        kernel: whether the kernel in question has, or one of its vendor's.
    """

    running: bool
    kernel: bool


def failed_by_hibernation(facts: HostFacts) -> bool:
    """Whether the running kernel's log says so."""
    return facts.kernel_log is not None and facts.kernel_log.reason is FailureReason.HIBERNATION


def hibernation_under(
    facts: HostFacts,
    release: str | None,
    arguments: tuple[str, ...],
    traits: KernelTraits | None,
    past: PastHibernation,
) -> bool | None:
    """Whether a kernel can hibernate under a command line when it looks for TDX; None: it cannot be told.

    Args:
        facts: of the host as it runs.
        release: of the kernel in question.
        arguments: of the command line in question.
        traits: of the kernel in question.
        past: who has come past hibernation in this boot.
    """
    its = traits or _UNKNOWN
    if its.hibernation is False or forbids_hibernation(arguments) or its.lockdown is Lockdown.ALWAYS:
        return False
    if locks_down(arguments) and its.lockdown is not Lockdown.NEVER:
        return False
    barred = bars_hibernation(facts.command_line or ())
    if past.kernel and not barred and facts.command_line is not None:
        # Locked down by Secure Boot, or a vendor's kernel that does not look at it.
        return False
    can = None if facts.platform is None else facts.platform.hibernation
    if failed_by_hibernation(facts):
        can = True
    if can is not False:
        return its.hibernation if can is None else can
    locked = _locked(facts, past)
    if locked and its.lockdown not in _NOT_BY_SECURE_BOOT and _stays_locked(facts, release, its):
        return False
    if barred or its.lockdown in _NOT_BY_SECURE_BOOT:
        return True if its.hibernation else None
    if release == facts.kernel_release:
        return _again(facts, locked=locked)
    return _without_secure_boot(facts, its, locked=locked)


def _locked(facts: HostFacts, past: PastHibernation) -> bool | None:
    """Whether this boot is locked down by something that is not on its command line; None: unknown.

    Args:
        facts: of the host as it runs.
        past: who has come past hibernation in it; lockdown alone can have let a kernel that was not told.
    """
    platform, arguments = facts.platform or Platform(), facts.command_line
    if platform.lockdown is False:
        return False
    if arguments is None or locks_down(arguments):
        return None
    by_build = facts.traits is not None and facts.traits.hibernation is False
    by_success = past.running and not (by_build or forbids_hibernation(arguments))
    return True if platform.lockdown or by_success else None


def _stays_locked(facts: HostFacts, release: str | None, its: KernelTraits) -> bool:
    """Whether what locks this boot down does so with another kernel.

    Args:
        facts: of the host as it runs.
        release: of that kernel.
        its: what it does, by its own files.
    """
    if release == facts.kernel_release:
        return True
    if facts.traits is not None and facts.traits.lockdown not in (None, Lockdown.SECURE_BOOT):
        # By its build, or by a program that has written to securityfs.
        return False
    # By Secure Boot then, to which not every vendor's kernel reacts.
    known = its.lockdown is Lockdown.SECURE_BOOT
    return known or (its.lockdown is None and of_one_vendor(release, facts.kernel_release))


def _again(facts: HostFacts, *, locked: bool | None) -> bool | None:
    """Whether the running kernel can, in a boot of which nothing else tells it.

    Args:
        facts: of the host as it runs.
        locked: whether this boot is locked down.
    """
    if locked is None:
        # Off for whatever reason, that reason is there in the next boot.
        return None if facts.command_line is None else False
    # Not locked down, it was off when the kernel looked, which then sets the flag, or is by CXL memory since.
    return None if locked else not (facts.platform is not None and facts.platform.tdx_host_platform)


def _without_secure_boot(facts: HostFacts, its: KernelTraits, *, locked: bool | None) -> bool | None:
    """Whether that kernel can hibernate: where this boot shows that there is no Secure Boot it can.

    Args:
        facts: of the host as it runs.
        its: what that kernel does, by its own files.
        locked: whether this boot is locked down.
    """
    own = None if facts.traits is None else facts.traits.lockdown
    both = own is its.lockdown is Lockdown.SECURE_BOOT
    return True if both and locked is False and its.hibernation else None
