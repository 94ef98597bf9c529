# SPDX-License-Identifier: Apache-2.0
"""What is told of boots over the network: no fine address, no id of the machine, no title."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tdx_headroom.address import GIB, MIB
from tdx_headroom.facts.boot_inventory import redacted, write_inventory
from tdx_headroom.facts.boots import BootEntry, BootInventory, KernelTraits, Role, Starts, TraitsFrom
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion
from tdx_headroom.facts.kernel_report import KernelReport, ModuleState
from tdx_headroom.facts.observations import FirmwareRange, Platform
from tdx_headroom.output.page import render_page
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.verdict.assessment import assess

MACHINE = "0123456789abcdef0123456789abcdef"
UUID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
START = 5 * GIB + 3 * MIB
NOTATIONS = (f"0x{START:x}", f"0X{START:X}", str(START), f"0{START:o}", f"{START >> 10}K", f"{START >> 20}m")
IDS = f"boot/{MACHINE}/6.1/linux: Permission denied, {UUID}, and 'a line of 0x140301000'"
HOLES = tuple(f"memmap=4K$0x{START + i * 32 * MIB:x}" for i in range(20))
SECRETS = (MACHINE, UUID, "topsecret", *NOTATIONS, "140301000", *(hole[10:] for hole in HOLES))


def entries() -> tuple[BootEntry, ...]:
    """Entries with something private wherever there may be any."""
    common = BootEntry(
        entry=f"{MACHINE}-6.1",
        title=f"topsecret {UUID}",
        release="7.3.0",
        known_from=f"boot/loader/entries/{MACHINE}-6.1.conf",
        traits=KernelTraits(Starts.BOOT, TraitsFrom.IMAGE, unread=(IDS,)),
        unknown=IDS,
    )
    lines = [
        *((f"memmap=4K{sign}{start}", ASKED) for start in NOTATIONS for sign in "$#!@"),
        *((f"memmap=4K%{start}-1+2", f"memmap=1G$1G,4K${start}") for start in NOTATIONS),
        *((f'"memmap=4K${start}"', f'memmap="4K${start}"') for start in NOTATIONS),
        *((f"mem={start}",) for start in NOTATIONS),
        *((f"crashkernel=256M@{start}", f"efi_fake_mem=4K@{start}:0x10000") for start in NOTATIONS),
        (*HOLES, ASKED),
    ]
    found = tuple(replace(common, arguments=line) for line in lines)
    running = replace(common, arguments=(ASKED,), roles=(Role.RUNNING,))
    return (
        running,
        *found,
        replace(common, arguments=None),
        replace(common, release=None, roles=(Role.NEXT,)),
    )


ASKED = "kvm_intel.tdx=1"
HOST = HostFacts(
    kernel_release="7.3.0",
    memory_regions=(MemoryRegion(MIB, 2 * GIB, 0), MemoryRegion(4 * GIB, 64 * GIB, 0)),
    firmware_map=(
        FirmwareRange(0, 0x9FC00, "System RAM"),
        FirmwareRange(MIB, 2 * GIB, "System RAM"),
        FirmwareRange(4 * GIB, 64 * GIB, "System RAM"),
    ),
    firmware_map_certain=True,
    command_line=(ASKED,),
    kernel_log=KernelReport(state=ModuleState.INITIALIZED, keyids=(32, 64), verified=True),
    platform=Platform(tdx_host_platform=True, kvm_intel_tdx=True, hibernation=False, cpus=64),
)


@pytest.mark.parametrize("unknown", [None, IDS])
def test_nothing_private_leaves_the_host(unknown: str | None) -> None:
    """Neither in JSON nor on the page; on the host itself both have it."""
    found = entries()
    update = f"a capsule of {UUID}"
    boots = BootInventory(found, unknown=unknown, configured=True, firmware_update=update, notes=(IDS,))
    assessment = assess(replace(HOST, boots=boots))
    text = json.dumps(to_json(assessment, full_addresses=False))
    page = render_page(assessment)
    assert [(secret, secret in text, secret in page) for secret in SECRETS if secret in text + page] == []
    whole = json.dumps(to_json(assessment)) + render_page(assessment, full_addresses=True)
    assert [secret for secret in SECRETS[:3] if secret not in whole] == []
    assert HOLES[-1] in whole


def test_the_next_one() -> None:
    """The boot that comes next is told of in several places."""
    coming = replace(entries()[-3], roles=(Role.NEXT,))
    assessment = assess(replace(HOST, boots=BootInventory((coming,), configured=True)))
    shown = json.dumps(to_json(assessment, full_addresses=False)) + render_page(assessment)
    assert [secret for secret in SECRETS if secret in shown] == []


def test_captures_hold_no_ids() -> None:
    """Nor what could not be read of a kernel, nor which firmware is staged."""
    boots = BootInventory(entries(), unknown=IDS, firmware_update=f"capsule {UUID}", notes=(IDS,))
    text = write_inventory(redacted(boots))
    assert [secret for secret in (MACHINE, UUID, "topsecret") if secret in text] == []
