# SPDX-License-Identifier: Apache-2.0
"""Facts about boots, however absurd: they survive JSON, and every answer about them can be given."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.verdict.test_staged_boots import HOST

from tdx_headroom.facts.boots import (
    BootEntry,
    BootInventory,
    Change,
    KernelTraits,
    KvmLoading,
    Loader,
    Lockdown,
    Role,
    Starts,
    TraitsFrom,
)
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.output.boots_report import boots_text
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.output.terminal import Style
from tdx_headroom.output.text import render
from tdx_headroom.verdict.assessment import assess
from tdx_headroom.verdict.checks import run_checks
from tdx_headroom.verdict.fleet import audit_host, targets_of

texts = st.one_of(
    st.text(max_size=20), st.sampled_from(["\x1b[31m\n<b>", "0x140301000", "7.3.0", "6.17.0-1-generic"])
)
OPTIONS = ("kvm_intel.ept=0", "kvm.tdp_mmu=1", "kvm.enable_virt_at_load=0", "kvm.mmio_caching=")
switches = st.sampled_from([None, True, False])
arguments = st.lists(
    st.one_of(
        texts,
        st.sampled_from(
            [
                *("memmap=exactmap", "memmap=4K$5G", "memmap=16E@16E", "memmap=4K%0-1+1", "mem=0", "mem=1"),
                *("mem=62G", "hugepages=99999999999999999999", "kernelcore=100%", "movablecore=200%"),
                *("numa=off", "numa=fake=4", "nr_cpus=99999999999999999999", "nosmt", "nohibernate"),
                *(
                    "kvm_intel.tdx",
                    "kvm_intel.tdx=1",
                    "kvm.enable_virt_at_load=0",
                    "kvm_intel.ept=0",
                    "kvm.tdp_mmu",
                    "module_blacklist=,kvm",
                    "modprobe.blacklist=",
                    "nomodule",
                    "clearcpuid=27,27,ss",
                    "memmap=",
                    "crashkernel=,",
                ),
            ]
        ),
    ),
    max_size=6,
).map(tuple)
traits = st.builds(
    KernelTraits,
    starts=st.sampled_from(Starts),
    known_from=st.sampled_from([None, *TraitsFrom]),
    walks_cmrs=switches,
    reads_cmrs=switches,
    dynamic_pamt=switches,
    hibernation=switches,
    lockdown=st.sampled_from([None, *Lockdown]),
    tdx_host=switches,
    kvm_built_in=switches,
    built_in=arguments,
    overrides=st.booleans(),
    unread=st.lists(texts, max_size=2).map(tuple),
)
entries = st.builds(
    BootEntry,
    entry=st.none() | texts,
    title=st.none() | texts,
    release=st.none() | texts | st.just(HOST.kernel_release),
    arguments=st.none() | arguments,
    loader=st.sampled_from([None, *Loader]),
    roles=st.lists(st.sampled_from(Role), max_size=4).map(tuple),
    known_from=texts,
    recovery=st.booleans(),
    differs=st.none() | st.lists(st.sampled_from(Change), max_size=3).map(tuple),
    traits=st.none() | traits,
    unknown=st.none() | texts,
)
inventories = st.builds(
    BootInventory,
    entries=st.lists(entries, max_size=4).map(tuple),
    unknown=st.none() | texts,
    configured=st.booleans(),
    kexec_loaded=st.booleans(),
    firmware_update=st.none() | texts,
    kvm_intel_tdx=switches,
    kvm_loading=st.builds(
        KvmLoading,
        options=st.lists(st.sampled_from(OPTIONS), max_size=3).map(tuple),
        passed_over=st.sampled_from(((), ("kvm_intel",))),
        never=st.sampled_from(((), ("kvm",), ("kvm_intel", "kvm"))),
    ),
    modprobe_read=st.booleans(),
    notes=st.lists(texts, max_size=2).map(tuple),
)


def by_json(facts: HostFacts) -> HostFacts:
    return HostFacts.from_json(json.loads(json.dumps(facts.to_json())))


@given(boots=inventories)
@settings(deadline=None)
def test_json(boots: BootInventory) -> None:
    """Facts are the same after JSON and back."""
    facts = replace(HOST, boots=boots)
    assert by_json(facts) == facts


@given(boots=inventories)
@settings(deadline=None, max_examples=150)
def test_every_answer_can_be_given(boots: BootInventory) -> None:
    """Nobody's facts end in an error; what comes out is the same each time, and from JSON."""
    facts = replace(HOST, boots=boots)
    assessment = assess(facts)
    assert not assessment.verdict.failures
    judged = [boot.verdict for boot in assessment.boots or () if boot.verdict is not None]
    assert not [verdict.failures for verdict in judged if verdict.failures]
    whole = json.dumps(to_json(assessment))
    assert whole == json.dumps(to_json(assess(by_json(facts))))
    text = boots_text(assessment, Style()) + render(assessment, Style())
    assert "\x1b" not in text
    assert "<b>" not in render_page(assessment, full_addresses=True)
    run_checks(assessment)
    audit_host(facts, "x", None, targets_of(()))
