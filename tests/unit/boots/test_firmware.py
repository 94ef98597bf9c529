# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from tests.tools.efi import (
    BOOTS,
    SYSTEMD_BOOT,
    VARS,
    Tree,
    boot_option,
    disk_path,
    load_option,
    merged,
    network_path,
    node,
    numbers,
    program,
    systemd_boot_host,
    text_variable,
    unified,
    variable,
)

from tdx_headroom.boots.firmware.choice import OptionKind
from tdx_headroom.boots.firmware.reader import read_firmware
from tdx_headroom.facts.boots import Loader
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

MAGIC = program([(".sdmagic", b"#### LoaderInfo: systemd-boot 257.9-1 ####")])
GRUB = program([(".text", b"x"), ("mods", b"x")])
FWUPD = "fwupd-01234567-89ab-cdef-0123-456789abcdef-0-0abba7dc-e516-4167-bbf5-4d9d1c739416"


def boots(*options: Tree, current: int | None = None, **texts: str) -> Tree:
    """Options in their order, from number 1."""
    tree = merged(*options, variable("BootOrder", numbers(*range(1, len(options) + 1))))
    if current is not None:
        tree |= variable("BootCurrent", numbers(current))
    for name, text in texts.items():
        tree |= text_variable(name, text)
    return tree


def one(file: str | None, description: str = "x") -> Tree:
    return boot_option(1, description, file)


def test_a_host_without_efi_is_none(host_tree: HostTree) -> None:
    """There is nothing to read on a BIOS host."""
    choice = read_firmware(host_tree({"proc/x": ""}))
    assert not choice.efi
    assert choice.unknown is None
    assert choice.loader is None


@pytest.mark.parametrize(
    ("file", "starts", "loader"),
    [
        (r"\EFI\debian\shimx64.efi", OptionKind.GRUB, Loader.GRUB),
        (r"\EFI\ubuntu\grubx64.efi", OptionKind.GRUB, Loader.GRUB),
        (r"\efi\redhat\SHIMX64.EFI", OptionKind.GRUB, Loader.GRUB),
        (SYSTEMD_BOOT, OptionKind.SYSTEMD_BOOT, Loader.SYSTEMD_BOOT),
        (r"\EFI\systemd\shim.efi", OptionKind.SYSTEMD_BOOT, Loader.SYSTEMD_BOOT),
        (r"\EFI\Linux\debian.efi", OptionKind.UKI, None),
        (r"\EFI\Microsoft\Boot\bootmgfw.efi", OptionKind.OTHER, None),
        (r"\EFI\BOOT\BOOTX64.EFI", OptionKind.OTHER, None),
        (None, OptionKind.OTHER, None),
        (r"\memtest86+x64.efi", OptionKind.OTHER, None),
    ],
)
def test_a_boot_option_is_told_by_its_file(
    host_tree: HostTree, file: str | None, starts: OptionKind, loader: Loader | None
) -> None:
    """The names that distributions use tell what a file is; others are not known."""
    choice = read_firmware(host_tree(boots(one(file))))
    assert choice.option is not None
    assert (choice.option.starts, choice.loader) == (starts, loader)
    assert (choice.unknown is None) is (starts is not OptionKind.OTHER)


@pytest.mark.parametrize(
    ("info", "loader"),
    [("systemd-boot 257.9-1", Loader.SYSTEMD_BOOT), ("GRUB 2.12", Loader.GRUB), ("x", None)],
)
def test_the_loader_that_ran_tells_what_the_default_file_is(
    host_tree: HostTree, info: str, loader: Loader | None
) -> None:
    """LoaderInfo counts for the option that started the running system."""
    tree = boots(one(r"\EFI\BOOT\BOOTX64.EFI"), current=1, LoaderInfo=info)
    choice = read_firmware(host_tree(tree))
    assert choice.loader is loader


def test_the_loader_that_ran_tells_nothing_of_another_option(host_tree: HostTree) -> None:
    """LoaderInfo of the running loader does not count for an option that did not run."""
    options = one(r"\EFI\BOOT\BOOTX64.EFI"), boot_option(2, "debian", SYSTEMD_BOOT)
    choice = read_firmware(host_tree(boots(*options, current=2, LoaderInfo="systemd-boot 257")))
    assert choice.loader is None
    assert choice.unknown is not None


@pytest.mark.parametrize(
    ("path", "content", "starts"),
    [
        ("EFI/BOOT/BOOTX64.EFI", MAGIC, OptionKind.SYSTEMD_BOOT),
        ("EFI/BOOT/BOOTX64.EFI", GRUB, OptionKind.GRUB),
        ("EFI/BOOT/BOOTX64.EFI", unified("x"), OptionKind.UKI),
        ("EFI/BOOT/grubx64.efi", MAGIC, OptionKind.SYSTEMD_BOOT),
        ("EFI/BOOT/grubx64.efi", b"what", OptionKind.GRUB),
    ],
)
def test_a_program_tells_what_it_is(
    host_tree: HostTree, path: str, content: bytes, starts: OptionKind
) -> None:
    """What lies in the file, or behind shim, is surer than its name."""
    choice = read_firmware(host_tree({**boots(one(r"\EFI\BOOT\BOOTX64.EFI")), f"boot/efi/{path}": content}))
    assert choice.option is not None
    assert choice.option.starts is starts
    assert choice.option.image is None or choice.option.image.startswith("boot/efi/EFI/BOOT/")


def test_the_fallback_of_shim_starts_the_one_vendor_s_grub(host_tree: HostTree) -> None:
    """A disk without a file is its default loader: shim, whose fallback starts what a vendor installed."""
    tree = {**boots(one(None)), "boot/efi/EFI/BOOT/BOOTX64.EFI": b"shim", "boot/efi/EFI/BOOT/fbx64.efi": b"x"}
    assert read_firmware(host_tree(tree)).loader is None
    tree |= {"boot/efi/EFI/fedora/shimx64.efi": b"shim", "boot/efi/EFI/fedora/grubx64.efi": b"x"}
    assert read_firmware(host_tree(tree)).loader is Loader.GRUB


def test_shim_may_be_told_what_to_start(host_tree: HostTree) -> None:
    """Its load options name a unified image."""
    data = "\\EFI\\Linux\\a.efi\0".encode("utf-16-le")
    option = load_option("Fedora UKI", disk_path(r"\EFI\fedora\shimx64.efi"), data=data)
    choice = read_firmware(
        host_tree({**boots(variable("Boot0001", option)), "boot/efi/EFI/Linux/a.efi": b"x"})
    )
    assert choice.option is not None
    assert choice.option.starts is OptionKind.UKI
    assert choice.option.image == "boot/efi/EFI/Linux/a.efi"


def test_shim_takes_a_name_beside_itself(host_tree: HostTree) -> None:
    """A bare name lies in its own folder; a command line is none."""
    for data, file in (("mmx64.efi", r"\EFI\fedora\mmx64.efi"), ("root=x", r"\EFI\fedora\shimx64.efi")):
        option = load_option("x", disk_path(r"\EFI\fedora\shimx64.efi"), data=f"{data}\0".encode("utf-16-le"))
        choice = read_firmware(host_tree(boots(variable("Boot0001", option))))
        assert choice.option is not None
        assert choice.option.file == file


def test_boot_next_comes_first_and_once() -> None:
    """BootNext comes before BootOrder, and is a one-shot."""
    choice = read_firmware(Root(BOOTS / "efi-boot-next"))
    assert choice.loader is Loader.GRUB
    assert choice.one_shot


def test_the_network_boots() -> None:
    """An inactive option is passed by; the network's says why nothing is known."""
    choice = read_firmware(Root(BOOTS / "efi-network"))
    assert choice.network
    assert choice.unknown == "Boot0004: UEFI PXEv4 (MAC:525400123456) boots from the network"


def test_a_unified_image_boots_by_itself() -> None:
    """The image is found where its partition is mounted."""
    choice = read_firmware(Root(BOOTS / "uki-direct"))
    assert choice.option is not None
    assert choice.option.starts is OptionKind.UKI
    assert choice.option.image == "efi/EFI/Linux/debian-6.12.57.efi"
    assert choice.loader is None


def test_options_that_are_gone_or_off_are_passed_by(host_tree: HostTree) -> None:
    """The first active one of those that are there boots."""
    tree = merged(
        boot_option(2, "off", SYSTEMD_BOOT, active=False),
        boot_option(3, "debian", r"\EFI\debian\grubx64.efi"),
        variable("BootOrder", numbers(1, 2, 3)),
    )
    choice = read_firmware(host_tree(tree))
    assert choice.option is not None
    assert choice.option.number == 3


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({f"{VARS}/x": b""}, "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c: it is not set"),
        (variable("BootOrder", b"\1"), "no whole numbers"),
        (variable("BootOrder", numbers(9)), "no active boot option"),
        (boots(variable("Boot0001", b"\1\0")), "cut off"),
        (boots(variable("Boot0001", b"\1\0\0\0\xff\xffx\0\0\0")), "device path of a boot option is cut off"),
        (merged(systemd_boot_host(), variable("BootNext", numbers(9))), "Boot0009, which is not there"),
        (merged(systemd_boot_host(), variable("BootNext", b"")), "not the number"),
        ({"sys/firmware/efi/runtime": ""}, "efivars: No such file"),
        (boots(variable("Boot0001", load_option("BIOS", node(5, 1)))), "what a BIOS would boot"),
        (
            boots(variable("Boot0001", load_option("Setup", node(4, 6, bytes(16))))),
            "a program of the firmware",
        ),
    ],
)
def test_what_cannot_be_told_has_a_clause(host_tree: HostTree, tree: Tree, words: str) -> None:
    """Missing, damaged and foreign variables leave the choice unknown, with the reason."""
    choice = read_firmware(host_tree(tree))
    assert choice.efi
    assert choice.unknown is not None
    assert words in choice.unknown
    assert "\n" not in choice.unknown


def test_a_damaged_current_option_is_only_noted(host_tree: HostTree) -> None:
    """What ran is not what comes next."""
    choice = read_firmware(host_tree({**boots(one(SYSTEMD_BOOT)), **variable("BootCurrent", b"\1")}))
    assert choice.loader is Loader.SYSTEMD_BOOT
    assert len(choice.notes) == 1


def fwupd(status: int) -> Tree:
    value = struct.pack("<I", 7) + bytes(16 + 4 + 8 + 16) + struct.pack("<I", status) + disk_path(r"\x.cap")
    return {f"{VARS}/{FWUPD}": struct.pack("<I", 7) + value}


def test_fwupd_boots_first_and_the_kernel_after_it(host_tree: HostTree) -> None:
    """With fwupd in BootNext the kernel that follows is that of BootOrder, and firmware is staged."""
    tree = merged(
        systemd_boot_host(),
        boot_option(7, "Linux Firmware Updater", r"\EFI\debian\fwupdx64.efi"),
        variable("BootNext", numbers(7)),
    )
    choice = read_firmware(host_tree(tree))
    assert choice.loader is Loader.SYSTEMD_BOOT
    assert not choice.one_shot
    assert choice.unknown is None
    assert choice.firmware_update == "BootNext starts Linux Firmware Updater"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (fwupd(1), FWUPD),
        (fwupd(2), None),
        ({f"{VARS}/{FWUPD}": b"\7"}, FWUPD),
        ({"boot/efi/EFI/debian/fw/fwupd-0123.cap": b"x"}, "boot/efi/EFI/debian/fw/fwupd-0123.cap"),
        (merged(fwupd(2), {"boot/efi/EFI/debian/fw/fwupd-0123.cap": b"x"}), None),
        (merged(fwupd(1), {"boot/efi/EFI/debian/fw/fwupd-0123.cap": b"x"}), "fwupd-0123.cap"),
        ({"efi/EFI/UpdateCapsule/bios.cap": b"x"}, "efi/EFI/UpdateCapsule/bios.cap"),
        (variable("OsIndications", struct.pack("<Q", 4)), "OsIndications"),
        (variable("OsIndications", struct.pack("<Q", 1)), None),
        ({"sys/firmware/efi/esrt/entries/entry0/fw_class": "x"}, None),
        ({f"{VARS}/FWUPDATE_VERBOSE-0abba7dc-e516-4167-bbf5-4d9d1c739416": b"\7\0\0\0\1"}, None),
        ({"boot/efi/EFI/debian/fw/readme.txt": b"x"}, None),
    ],
)
def test_staged_firmware_is_named(host_tree: HostTree, tree: Tree, words: str | None) -> None:
    """Variables and capsules that wait are named; what was attempted, or only lists firmware, is not."""
    choice = read_firmware(host_tree(merged(systemd_boot_host(), tree)))
    assert (choice.firmware_update is None) is (words is None)
    assert words is None or words in (choice.firmware_update or "")


def test_a_stop_in_the_setup_is_noted(host_tree: HostTree) -> None:
    """systemctl reboot --firmware-setup."""
    tree = merged(systemd_boot_host(), variable("OsIndications", struct.pack("<Q", 1)))
    assert read_firmware(host_tree(tree)).notes == (
        "OsIndications: the next boot stops in the firmware's setup",
    )


def test_a_network_path_over_ipv6_or_http_is_one(host_tree: HostTree) -> None:
    """URI and IPv6 nodes are the network too."""
    for path in (network_path(), node(3, 13, bytes(56)), node(3, 24, b"http://example/boot.efi")):
        choice = read_firmware(host_tree(boots(variable("Boot0001", load_option("UEFI HTTPv6", path)))))
        assert choice.network
