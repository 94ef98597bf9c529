# SPDX-License-Identifier: Apache-2.0
"""The boot messages about memory, one pattern each; a pattern always matches the whole message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_BOOT = 600 * 1_000_000
"""Microseconds: no kernel takes longer to print all this, however much memory it has."""

_MEM = r"\[mem 0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\]"
NODE_HEAD = re.compile(r"Early memory node ranges")
NODE_RANGE = re.compile(rf"node +([0-9]{{1,5}}): {_MEM}")
# e820__print_table(): one blank and short names; since v7.0 two blanks, long names, and gaps.
E820_HEAD = re.compile(r"(BIOS-provided|user-defined) physical RAM map:")
E820_ROW = re.compile(rf"(BIOS-e820|user): {_MEM} {{1,2}}([A-Za-z][A-Za-z0-9 ()_-]{{0,40}})")
E820_TYPES = re.compile(
    r"usable|reserved|device reserved|ACPI data|ACPI NVS|unusable|soft reserved|System RAM"
    r"|persistent(?: RAM)?(?: \(type [0-9]{1,10}\))?|type [0-9]{1,10}"
)
E820_GAP = re.compile(r"(BIOS-e820|user): \[gap 0x[0-9a-f]{1,16}-0x[0-9a-f]{1,16}\]")
SRAT = re.compile(rf"ACPI: SRAT: Node ([0-9]{{1,5}}) PXM [0-9]{{1,10}} {_MEM}((?: [a-z-]+)*)")
# announce_cpu(): which node the processors belong to, the boot processor left out.
NODE_CPUS = re.compile(r"\.{4} node +#([0-9]{1,5}), CPUs:[# 0-9]*")
FAKE_NODE = re.compile(rf"Faking a node at {_MEM}")
# A zone without memory prints `empty`; a node without a movable zone prints nothing.
ZONE_HEAD = re.compile(r"Zone ranges:")
ZONE = re.compile(rf"([A-Z][A-Za-z0-9]{{2,9}}) +{_MEM}")
ZONE_EMPTY = re.compile(r"[A-Z][A-Za-z0-9]{2,9} +empty")
MOVABLE_HEAD = re.compile(r"Movable zone start for each node")
MOVABLE = re.compile(r"Node ([0-9]{1,5}): 0x([0-9a-f]{1,16})")
CRASH_KERNEL = re.compile(
    r"crashkernel(?: low)? reserved: 0x([0-9a-f]{1,16}) - 0x([0-9a-f]{1,16}) \([0-9]+ MB\)"
)
HUGETLB = re.compile(
    r"HugeTLB: registered ([0-9]{1,4})[.]00 ([MG])iB page size, pre-allocated ([0-9]{1,12}) pages"
)
VERSION = re.compile(r"Linux version ([0-9][A-Za-z0-9._+~-]*) ?\(.*")
# What the boot loader was told to load, where the log does not reach back to the version; alone on a line
# run_init_process() prints it.
BOOT_IMAGE = re.compile(r"BOOT_IMAGE=[!-~]*/vmlinuz-([0-9]+[.][0-9]+[.][A-Za-z0-9._+~-]+)")
# native_smp_prepare_cpus() names the boot processor; detect_tme() says whether memory encryption is on.
CPU = re.compile(
    r"smpboot: CPU0: ([!-~][ -~]{0,79}) \(fam(?:ily)?: (?:0x)?([0-9a-f]{1,4}),"
    r" model: (?:0x)?([0-9a-f]{1,4})(?:, stepping: (?:0x)?[0-9a-f]{1,4})?\)"
)
TME_OFF = re.compile(r"x86/tme: not enabled by BIOS")
# amd_pmu_init() prints it on AMD alone; servers of HPE and Dell whose numbers end in 5 have such processors.
AMD = re.compile(
    r"Performance Events: [ -~]{0,80}AMD PMU driver[.]"
    r"|DMI: HPE? ProLiant (?:DL|ML|BL)[0-9]{2}5c? [ -~]{1,120}"
    r"|DMI: Dell Inc[.] PowerEdge [RC][0-9]{2,3}5/[ -~]{1,120}"
)
# dmi_setup(): vendor and product, board, and the firmware's version with its date.
BIOS = re.compile(r"DMI: [ -~]{1,200}, BIOS ([!-~](?:[ -~]{0,60}[!-~])?) ([0-9]{2}/[0-9]{2}/[0-9]{2,4})")
# smp_init(): all processors run.
RUNNING = re.compile(r"smp: Brought up [0-9]{1,5} nodes?, [0-9]{1,6} CPUs?")
COMMAND_LINE = re.compile(r"(Kernel command|Command) line: ?(.*)")

_EARLY = (
    NODE_RANGE,
    E820_ROW,
    E820_GAP,
    SRAT,
    MOVABLE,
    NODE_CPUS,
    ZONE,
    NODE_HEAD,
    E820_HEAD,
    FAKE_NODE,
    ZONE_HEAD,
    MOVABLE_HEAD,
    ZONE_EMPTY,
    CRASH_KERNEL,
    VERSION,
    COMMAND_LINE,
    CPU,
    TME_OFF,
)
_BEGINNING = re.compile(
    r"BIOS-e820: |user: \[|BIOS-provided |user-defined |Early memory node ranges|node +[0-9]|ACPI: SRAT: "
    r"|Faking a node|Zone ranges:|[A-Z][A-Za-z0-9]{2,9} +(?:\[mem |empty)|Movable zone start|Node [0-9]"
    r"|HugeTLB: registered |Linux version |(?:C|Kernel c)ommand line:|crashkernel|smp: Brought up "
    r"|smpboot: CPU0: |x86/tme: |\.{4} node "
)

# So much of a row that no name of a program is as long.
ROW = re.compile(r"(?:BIOS-e820|user): \[mem 0x|node +[0-9]{1,5}: \[mem 0x|ACPI: SRAT: Node [0-9]")


def bios_version(messages: Iterable[str]) -> str | None:
    """The firmware's version, as the first message of all that tells one has it."""
    return next((match[1] for text in messages if (match := BIOS.fullmatch(text.strip()))), None)


def begins_like_one(message: str) -> bool:
    """Whether a message begins as one of these; that proves nothing."""
    return _BEGINNING.match(message) is not None


def is_early(message: str) -> bool:
    """Whether a message is, as a whole, one that a kernel prints before any process runs."""
    return begins_like_one(message) and any(pattern.fullmatch(message) for pattern in _EARLY)


def is_one(message: str) -> bool:
    """Whether a message is one of these as a whole."""
    if not begins_like_one(message):
        return BOOT_IMAGE.fullmatch(message) is not None
    return any(pattern.fullmatch(message) for pattern in (*_EARLY, HUGETLB, RUNNING))
