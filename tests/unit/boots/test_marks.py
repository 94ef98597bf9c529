# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.kernel_images import INITIALIZED_AT_BOOT, KEYIDS, TEXT, elf, strings, vmlinux

from tdx_headroom.boots.kernels.marks import MESSAGES, NAMES, SECOND_NAME, ImageMarks, Mark, marks_in
from tdx_headroom.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY_FORMAT = (
    KEYIDS,
    "\x016virt/tdx: module initialized\n",
    INITIALIZED_AT_BOOT,
    "kvm_intel.tdx",
    "CMR[%d]: [0x%llx, 0x%llx)\n",
    "[mem %#llx] is not TDX convertible memory.\n",
    "Enable Dynamic PAMT\n",
)
EXPORTS = ("tdx_enable",)
TYPES = ("cmr_base", "cmr_size", "pamt_page_bitmap_entry_bits")
EVERYTHING = vmlinux(EVERY_FORMAT, exports=EXPORTS, types=TYPES)


def found(kernel: bytes, size: int = 1 << 16) -> ImageMarks:
    def read() -> Iterator[bytes]:
        return (kernel[i : i + size] for i in range(0, len(kernel), size))

    return marks_in(read, len(kernel))


def test_every_mark() -> None:
    """Every mark is found where it counts."""
    assert found(EVERYTHING) == ImageMarks(frozenset(Mark), exports=True, types=True)


def test_nothing() -> None:
    """A kernel without TDX has only what every kernel has."""
    assert found(vmlinux()).found == {Mark.MESSAGES}
    assert not found(vmlinux(messages=False)).found


def test_across_borders() -> None:
    """A mark is found wherever a chunk ends in it: all places of all marks are tried."""
    for size in (1, 2, 3, 61, 97):
        small = vmlinux(EVERY_FORMAT, exports=EXPORTS, types=TYPES, text=b"\xcc" * 200)
        assert found(small, size).found == set(Mark), size
    longest = max(len(needle.data) for needle in (*MESSAGES, *NAMES, SECOND_NAME))
    for shift in range(longest + 3):
        kernel = vmlinux(EVERY_FORMAT, exports=EXPORTS, types=TYPES, text=bytes(500 + shift))
        assert found(kernel, 512).found == set(Mark), shift


@pytest.mark.parametrize("name", [*EXPORTS, *TYPES])
@pytest.mark.parametrize("around", ["x{}", "{}x", "_{}", "{}_v2"])
def test_part_of_a_longer_name(name: str, around: str) -> None:
    """A longer name that has the name in it is another one."""
    other = around.format(name)
    kernel = vmlinux(EVERY_FORMAT, exports=(other, "a"), types=(other, "b"))
    assert name not in found(kernel).found


@pytest.mark.parametrize("name", EXPORTS)
def test_function_that_is_not_exported(name: str) -> None:
    """BTF has the names of all functions, and kernels have texts: neither is an export."""
    kernel = vmlinux((KEYIDS, name), types=(name, "b"))
    assert name not in found(kernel).found
    assert found(kernel).found == {Mark.MESSAGES, Mark.KEYIDS}


@pytest.mark.parametrize("name", TYPES)
def test_export_that_is_no_type(name: str) -> None:
    """The name of a member counts in BTF only."""
    assert name not in found(vmlinux((KEYIDS, name), exports=(name, "b"))).found


def test_first_in_its_section() -> None:
    """A name at the very start of its section counts, if what is before ends with a zero."""
    parts = {
        ".rodata": strings([KEYIDS, "BIOS-provided physical RAM map:"]),
        "__ksymtab_strings": b"tdx_enable\0",
    }
    assert Mark.ENABLE in found(elf(parts)).found


def test_names_before_messages() -> None:
    """A linker script that puts names before messages changes nothing."""
    parts = {
        "__ksymtab_strings": strings(EXPORTS),
        ".BTF": strings(TYPES),
        ".text": TEXT,
        ".rodata": strings(["BIOS-provided physical RAM map:", KEYIDS]),
    }
    assert set(EXPORTS) | set(TYPES) <= found(elf(parts), 4096).found


def test_members_in_another_order() -> None:
    """That another struct has the second member, too, changes nothing."""
    kernel = vmlinux(
        [KEYIDS], types=["cmr_size", *(f"x{i}" for i in range(9000)), "cmr_base"], text=b"x" * 90000
    )
    assert {Mark.CMR_BASE, Mark.CMR_SIZE} <= found(kernel, 4096).found
    assert Mark.CMR_SIZE not in found(vmlinux([KEYIDS], types=["cmr_base", "b"]), 4096).found
    assert found(EVERYTHING, len(EVERYTHING)).found == set(Mark)


def test_kernel_without_modules_or_types() -> None:
    """That a kernel exports nothing, or has no BTF, is told."""
    marks = found(vmlinux(exports=None, types=None))
    assert (marks.exports, marks.types) == (False, False)


@pytest.mark.parametrize("machine", [3, 183])
def test_other_machine(machine: int) -> None:
    """A kernel for another machine is none."""
    with pytest.raises(SourceError, match="no ELF file for x86-64"):
        found(elf({".rodata": strings([KEYIDS])}, machine=machine))


def test_no_elf() -> None:
    """What is no ELF file, or ends in its header, is no kernel."""
    for data in (b"", b"\x7fELF", EVERYTHING[:63], b"x" * 5000):
        with pytest.raises(SourceError):
            found(data)


def test_cut_short_anywhere() -> None:
    """A kernel that is cut short before the end of its table of sections has no class."""
    for cut in range(0, len(EVERYTHING) - 1001, 4001):
        with pytest.raises(SourceError):
            found(EVERYTHING[:cut])


def test_other_size() -> None:
    """A kernel of another size than the image says is damaged."""
    with pytest.raises(SourceError, match="it unpacks to"):
        marks_in(lambda: [EVERYTHING], len(EVERYTHING) + 1)


def test_damaged_anywhere() -> None:
    """Whatever is damaged, there are marks or a reason."""
    random = Random(1)
    table = len(EVERYTHING) - 1000 - 7 * 64
    places = [*range(64), *range(table, len(EVERYTHING) - 1000), *random.sample(range(len(EVERYTHING)), 100)]
    for place in places:
        damaged = bytearray(EVERYTHING)
        damaged[place] ^= random.choice((0xFF, 0x80, 1))
        try:
            assert found(bytes(damaged)).found <= set(Mark)
        except SourceError as error:
            assert error.reason  # noqa: PT017


def test_marks_stand_in_many_places() -> None:
    """A name that stands in many places elsewhere is still found where it counts."""
    kernel = vmlinux((KEYIDS, *["tdx_enable"] * 30), exports=EXPORTS, types=["tdx_enable"] * 500)
    assert Mark.ENABLE in found(kernel).found
