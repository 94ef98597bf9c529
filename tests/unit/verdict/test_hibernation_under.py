# SPDX-License-Identifier: Apache-2.0
"""Whether what keeps hibernation off in this boot does so in another one, when its kernel looks for TDX."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.verdict.test_staged_boots import ASKED, HOST, KVM_TRAITS, kinds, staged

from tdx_headroom.facts.boots import KernelTraits, Lockdown
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.facts.observations import Platform
from tdx_headroom.verdict import State

if TYPE_CHECKING:
    from tdx_headroom.facts.host_facts import HostFacts

SAME = "6.17.0-20-generic"
NEXT = "6.17.0-23-generic"
"""Of the same vendor."""
OWN = "6.18.3-lab"
GOOD, RISK, FAILS = State.WILL_INITIALIZE, State.AT_RISK, State.WILL_FAIL
AWAIT = KernelReport(state=ModuleState.NOT_ATTEMPTED, keyids=(32, 64), verified=True)


def host(*line: str, locked: bool | None, own: Lockdown | None = None, flag: bool | None = None) -> HostFacts:
    """A host whose kernel cannot hibernate, and has not tried TDX."""
    platform = Platform(tdx_host_platform=flag, cpu_can_tdx=True, hibernation=False, lockdown=locked, cpus=64)
    traits = replace(KVM_TRAITS, lockdown=own)
    return replace(
        HOST,
        kernel_release=SAME,
        command_line=(*line, ASKED),
        platform=platform,
        kernel_log=AWAIT,
        traits=traits,
    )


def traits(lockdown: Lockdown | None = None, *, hibernation: bool | None = True) -> KernelTraits:
    return replace(KVM_TRAITS, hibernation=hibernation, lockdown=lockdown, tdx_host=True)


def judged(facts: HostFacts, release: str, its: KernelTraits, *line: str) -> State:
    """What becomes of TDX, for no other reason than hibernation."""
    boot = staged(*line, ASKED, "intel_iommu=on", release=release, host=facts, traits=its)
    assert kinds(boot) <= {"hibernation"}
    assert boot.state is not None
    return boot.state


@pytest.mark.parametrize(
    ("locked", "own", "release", "lockdown", "expected"),
    [
        # Nothing shows why it is off: Secure Boot, to which mainline's kernel does not react, or CXL memory.
        (None, None, OWN, None, RISK),
        (None, None, NEXT, None, RISK),
        (None, None, OWN, Lockdown.SECURE_BOOT, RISK),
        (None, None, OWN, Lockdown.ASKED, FAILS),
        (None, None, OWN, Lockdown.NEVER, FAILS),
        (None, None, OWN, Lockdown.ALWAYS, GOOD),
        # This boot is locked down, and not by its command line.
        (True, None, NEXT, None, GOOD),
        (True, Lockdown.SECURE_BOOT, NEXT, None, GOOD),
        (True, None, OWN, None, RISK),
        (True, None, "7.3.4+deb13-amd64", Lockdown.SECURE_BOOT, GOOD),
        (True, None, OWN, Lockdown.SECURE_BOOT, GOOD),
        (True, None, OWN, Lockdown.ASKED, FAILS),
        (True, None, NEXT, Lockdown.NEVER, FAILS),
        (True, Lockdown.ALWAYS, NEXT, None, RISK),
        (True, Lockdown.ALWAYS, OWN, Lockdown.SECURE_BOOT, RISK),
        # A program has locked it down.
        (True, Lockdown.ASKED, OWN, Lockdown.SECURE_BOOT, RISK),
        # It is not: CXL memory or secret memory, which come later than the look at hibernation.
        (False, None, OWN, None, RISK),
        (False, None, NEXT, None, RISK),
        (False, Lockdown.SECURE_BOOT, NEXT, Lockdown.SECURE_BOOT, FAILS),
        (False, Lockdown.ASKED, NEXT, Lockdown.SECURE_BOOT, RISK),
    ],
)
def test_another_kernel(
    locked: bool | None,  # noqa: FBT001
    own: Lockdown | None,
    release: str,
    lockdown: Lockdown | None,
    expected: State,
) -> None:
    """What holds for this kernel holds for another where the same thing bars it there, in time."""
    facts = host(locked=locked, own=own)
    assert judged(facts, release, traits(lockdown)) is expected
    assert judged(facts, release, traits(lockdown, hibernation=False)) is GOOD
    assert judged(facts, release, traits(lockdown), "nohibernate") is GOOD


@pytest.mark.parametrize(
    ("locked", "own", "flag", "expected"),
    [
        (None, None, None, GOOD),
        (True, None, None, GOOD),
        (True, Lockdown.SECURE_BOOT, None, GOOD),
        (True, Lockdown.ASKED, None, FAILS),
        (False, None, None, FAILS),
        (False, None, True, GOOD),
        (False, Lockdown.SECURE_BOOT, None, FAILS),
        (None, Lockdown.NEVER, None, FAILS),
    ],
)
def test_the_same_kernel(
    locked: bool | None,  # noqa: FBT001
    own: Lockdown | None,
    flag: bool | None,  # noqa: FBT001
    expected: State,
) -> None:
    """It does as in this boot, but for what came after its look at hibernation."""
    facts = host(locked=locked, own=own, flag=flag)
    assert facts.traits is not None
    assert judged(facts, SAME, replace(facts.traits, tdx_host=True)) is expected


@pytest.mark.parametrize(
    ("now", "locked", "release", "its", "expected"),
    [
        (("nohibernate",), None, SAME, traits(), FAILS),
        (("nohibernate",), False, SAME, traits(), FAILS),
        (("nohibernate",), True, SAME, traits(), GOOD),
        (("nohibernate",), True, OWN, traits(), FAILS),
        (("nohibernate",), True, OWN, traits(hibernation=None), RISK),
        (("lockdown=integrity",), True, SAME, traits(), FAILS),
        (("lockdown=integrity",), True, OWN, traits(Lockdown.SECURE_BOOT), FAILS),
    ],
)
def test_an_argument_that_goes(
    now: tuple[str, ...],
    locked: bool | None,  # noqa: FBT001
    release: str,
    its: KernelTraits,
    expected: State,
) -> None:
    """What only this line bars comes back without it; what Secure Boot locks down besides does not."""
    assert judged(host(*now, locked=locked), release, its) is expected


@pytest.mark.parametrize(
    ("lockdown", "expected"),
    [(None, GOOD), (Lockdown.ASKED, GOOD), (Lockdown.SECURE_BOOT, GOOD), (Lockdown.NEVER, FAILS)],
)
def test_lockdown_on_the_line(lockdown: Lockdown | None, expected: State) -> None:
    """It bars hibernation where the kernel has lockdown, and has it early enough."""
    facts = host("nohibernate", locked=False)
    assert judged(facts, OWN, traits(lockdown), "lockdown=integrity") is expected
