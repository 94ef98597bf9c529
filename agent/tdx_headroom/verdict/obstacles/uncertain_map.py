# SPDX-License-Identifier: Apache-2.0
"""What is open about the memory map of a boot that is staged."""

from __future__ import annotations

from tdx_headroom.boots.map_risks import MapRisk
from tdx_headroom.verdict.findings import (
    FAILS,
    NOTE,
    RISK,
    Certainty,
    Finding,
    Findings,
    Remedy,
    RemedyKind,
    Signs,
)
from tdx_headroom.verdict.remedies import for_set_aside
from tdx_headroom.verdict.staged import MapFrom

MAP = "map-uncertain"
PLACES = "pamt-places-uncertain"
NO_BOOT = "map-does-not-boot"
KINDS = (MAP, PLACES, NO_BOOT)
UNKNOWN = "map-not-simulated"
FIRMWARE = "firmware-update"
_AFTERWARDS = Remedy(
    RemedyKind.LOOK_FURTHER,
    "After that boot run `tdx-headroom plan` again: the new firmware's memory map is seen only then.",
)

_SET_ASIDE = (MapRisk.HUGE_PAGES, MapRisk.GIGANTIC_PAGES, MapRisk.CMA)
_MOVED = "PAMTs may find no room, or land in another TDMR, and take an area there"
_SAYS = {
    MapRisk.EFI_IMPORT: "The kernel takes in the EFI memory map after its arguments, and nothing shows that:"
    " memory that mem= or memmap= take away may come back.",
    MapRisk.SOFT_RESERVE: "Specific-purpose memory (CXL, HBM) changes between RAM and reserved with efi=.",
    MapRisk.EFI_FAKE_MEM: "efi_fake_mem= changes the firmware's map before anything shows it.",
    MapRisk.NUMA_FAKE: "numa=fake= makes nodes whose borders are not computed, and with them TDMRs.",
    MapRisk.NODES: "The node of some memory is unknown, and so is where regions are split.",
    MapRisk.MIRROR: "kernelcore=mirror splits memory regions where mirrored memory ends.",
    MapRisk.KERNEL_IMAGE: "Memory is taken away where the kernel may lie, which makes it RAM again.",
    MapRisk.UNKNOWN_TYPE: "memmap= changes memory of a type that the firmware's map does not name.",
    MapRisk.NO_BOOT: "The kernel does not boot with the memory map that its arguments make.",
    MapRisk.HOT_ADDED: "The firmware's map may hold memory that was added since the boot.",
    MapRisk.HUGE_PAGES: f"hugepages= take memory before TDX does under many kernels: {_MOVED}.",
    MapRisk.GIGANTIC_PAGES: f"Gigantic pages are set aside before TDX starts: {_MOVED}.",
    MapRisk.CMA: f"CMA areas never hold a PAMT: {_MOVED}.",
    MapRisk.CRASH_KERNEL: f"crashkernel= sets memory aside that was in use or free before: {_MOVED}.",
    MapRisk.RESERVED_MEMORY: f"reserve_mem= sets memory aside: {_MOVED}.",
    MapRisk.KERNEL_CORE: f"kernelcore= leaves less memory in which PAMTs can lie: {_MOVED}.",
    MapRisk.MOVABLE_CORE: f"movablecore= leaves less memory in which PAMTs can lie: {_MOVED}.",
    MapRisk.MOVABLE_NODE: f"movable_node keeps PAMTs off nodes that can be removed: {_MOVED}.",
    MapRisk.HANDOVER: f"A hand-over between kernels sets memory aside: {_MOVED}.",
}


def not_simulated(signs: Signs) -> Findings:
    """Its arguments change the map, and the firmware's map, from which they start, is not known."""
    staged = signs.staged
    if staged is not None and staged.map_from is MapFrom.UNKNOWN:
        text = (
            "Its mem=, memmap= or numa= are others than this boot's, and the firmware's memory map, to which"
            " they are applied, is unknown: give /sys/firmware/memmap, or the log from its beginning."
        )
        yield Finding(UNKNOWN, NOTE, text)


def look(signs: Signs) -> Findings:
    """What cannot be simulated of the map, or of where PAMTs land in it."""
    staged = signs.staged
    if staged is None or staged.map_from is MapFrom.UNKNOWN:
        return
    less = () if signs.plan is None else for_set_aside(signs, signs.plan)
    for risk in staged.risks:
        if risk is MapRisk.NO_BOOT:
            yield Finding(NO_BOOT, FAILS, _SAYS[risk], certainty=Certainty.ANY_MAP)
        elif risk.of_regions:
            yield Finding(MAP, RISK, _SAYS[risk])
        else:
            # Where PAMTs still find room, the plan's worst case has all places where they can land.
            found: tuple[Remedy, ...] = ()
            if risk in _SET_ASIDE:
                # For all that is set aside, whichever of these risks it is: once.
                found, less = less, ()
            yield Finding(PLACES, RISK if risk.may_leave_no_room else NOTE, _SAYS[risk], remedies=found)
    if not staged.reproduced:
        text = (
            "The firmware's memory map under this boot's arguments is not the memory that this boot has: the"
            " map that is simulated for the next one may be as far off."
        )
        yield Finding(MAP, RISK, text)


def firmware_update(signs: Signs) -> Findings:
    """Firmware that is staged brings another memory map."""
    staged = signs.staged
    if staged is not None and staged.firmware_update is not None:
        text = f"A firmware update is staged ({staged.firmware_update}): the memory map may be another one."
        yield Finding(FIRMWARE, RISK, text, remedies=(_AFTERWARDS,))
