# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tools.efi import (
    BOOTS,
    Tree,
    entry,
    kernel,
    merged,
    program,
    systemd_boot_host,
    text_variable,
    unified,
    variable,
)

from tdx_headroom.boots.systemd_boot.reader import read_systemd_boot
from tdx_headroom.boots.systemd_boot.uki import read_uki_entry
from tdx_headroom.facts.boots import Loader
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tdx_headroom.boots.menu import Menu, MenuEntry

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

CONF = "efi/loader/loader.conf"
ENTRIES = "efi/loader/entries"


def next_of(menu: Menu | None) -> MenuEntry:
    assert menu is not None
    assert menu.unknown is None
    assert menu.next is not None
    return menu.entries[menu.next]


def plain(*names: str, **more: str) -> Tree:
    """Entries that share a kernel; each names itself in its options."""
    tree: Tree = {"efi/linux": kernel("6.12.0")}
    for name in names:
        tree[f"{ENTRIES}/{name}"] = entry(title="T", linux="/linux", options=f"by={name}", **more)
    return tree


def host(*trees: Mapping[str, str | bytes], conf: str = "", version: str = "257.9", **texts: str) -> Tree:
    return merged(systemd_boot_host(version, **texts), {CONF: conf}, *trees)


@pytest.mark.parametrize(
    ("layout", "entry_id", "release", "words", "once"),
    [
        ("sdboot-sortkey", "debian-6.12.57.conf", "6.12.57+deb13-amd64", "mem=48G", False),
        ("sdboot-no-tries-left", "a.conf", None, "kvm_intel.tdx=1", False),
        (
            "sdboot-snapshots",
            "opensuse-tumbleweed-6.16.3-1-default-12.conf",
            "6.16.3-1-default",
            ".snapshots/12/snapshot nohibernate",
            False,
        ),
        ("sdboot-one-shot", "debian-7.3.4.conf", "7.3.4+deb14-amd64", "nohibernate", True),
        ("sdboot-counting", "debian-6.12.117.conf", "6.12.117+deb12-amd64", "", False),
        ("sdboot-saved-xbootldr", "debian-7.2.12.conf", "7.2.12+deb14-amd64", "", False),
        (
            "bls-kernel-install",
            "debian-6.12.117+deb12-amd64+3.conf",
            "6.12.117+deb12-amd64",
            "kvm_intel.tdx=1 hugepages=512",
            False,
        ),
        ("uki-menu", "debian-b+1-2.efi", "6.12.63+deb13-amd64", "kvm_intel.tdx=0", False),
    ],
)
def test_layouts_give_what_boots_next(
    layout: str, entry_id: str, release: str | None, words: str, *, once: bool
) -> None:
    """Of each host of tests/boots the entry, its release and its line are told."""
    menu = read_systemd_boot(Root(BOOTS / layout))
    following = next_of(menu)
    assert (following.id, following.release) == (entry_id, release)
    assert words in (following.line or "")
    assert menu is not None
    assert menu.loader is Loader.SYSTEMD_BOOT
    assert (menu.once is not None) is once


def test_the_one_shot_leaves_the_standing_default() -> None:
    """What boots after the one-shot is told, too."""
    menu = read_systemd_boot(Root(BOOTS / "sdboot-one-shot"))
    assert menu is not None
    assert menu.default is not None
    assert menu.entries[menu.default].id == "debian-6.12.57.conf"


def test_a_line_is_whole_as_the_kernel_gets_it() -> None:
    """systemd-boot puts the initrd before the options."""
    line = next_of(read_systemd_boot(Root(BOOTS / "bls-kernel-install"))).line
    assert line is not None
    assert line.startswith(r"initrd=\debian\6.12.117+deb12-amd64\initrd root=UUID=")


def test_a_real_unified_image_is_read() -> None:
    """Release, line and kernel of what ukify made."""
    content = (BOOTS / "uki-direct/efi/EFI/Linux/debian-6.12.57.efi").read_bytes()
    found = read_uki_entry(Root(BOOTS / "uki-direct"), "efi/EFI/Linux/debian-6.12.57.efi")
    assert content[found.offset :].startswith(kernel("6.12.57+deb13-amd64"))
    assert found.release == "6.12.57+deb13-amd64"
    assert found.line is not None
    assert found.line.endswith("ro kvm_intel.tdx=1")
    assert found.title == "Debian GNU/Linux 13.2"
    assert found.unknown is None


@pytest.mark.parametrize(
    ("names", "conf", "texts", "expected"),
    [
        (("a.conf", "b.conf"), "", {}, "b.conf"),
        (("a.conf", "b.conf"), "default a.conf\n", {}, "a.conf"),
        (("a.conf", "b.conf"), "default A.CONF\n", {}, "a.conf"),
        (("A.conf", "b.conf"), "default a*\n", {}, "A.conf"),
        (("a.conf", "b.conf"), "default a\n", {}, "b.conf"),
        (("a.conf", "b.conf"), "default a.conf\ndefault @other\n", {}, "a.conf"),
        (("a1.conf", "a2.conf", "b.conf"), "default a*\n", {}, "a2.conf"),
        (("a+0-3.conf", "b.conf"), "default a+*\n", {}, "a+0-3.conf"),
        (("a+0-3.conf", "b+0-1.conf"), "", {}, "b+0-1.conf"),
        (("a.conf", "b.conf"), "default b.conf\n", {"LoaderEntryDefault": "a.conf"}, "a.conf"),
        (("a.conf", "b.conf"), "default a.conf\n", {"LoaderEntryDefault": "gone.conf"}, "a.conf"),
        (("a.conf", "b.conf"), "", {"LoaderEntryOneShot": "gone.conf"}, "b.conf"),
        (("a.conf", "b.conf"), "", {"LoaderEntryOneShot": "A.conf"}, "a.conf"),
        (("a.conf", "b.conf"), "", {"LoaderEntrySelected": "a.conf"}, "b.conf"),
        (("a.conf", "b.conf"), "default @saved\n", {"LoaderEntryLastBooted": "a.conf"}, "a.conf"),
        (("a.conf", "b.conf"), "default @saved\n", {"LoaderEntrySelected": "a.conf"}, "b.conf"),
        (("a.conf", "b.conf"), "default a.conf\n", {"LoaderEntryDefault": "@saved"}, "a.conf"),
        (
            ("a.conf", "b.conf", "c.conf"),
            "default a.conf\n",
            {"LoaderEntryDefault": "@saved", "LoaderEntryLastBooted": "b.conf"},
            "b.conf",
        ),
        (("a.conf", "b.conf"), "", {"LoaderEntrySysFail": "a.conf"}, "b.conf"),
        (("a.conf", "b.conf"), "", {"LoaderEntryPreferred": "a.conf"}, "b.conf"),
        (("auto-a.conf", "a.conf"), "default auto-a.conf", {}, "a.conf"),
        ((".z.conf", "a.conf", "z.txt"), "", {}, "a.conf"),
    ],
)
def test_values_choose_in_their_order(
    host_tree: HostTree, names: tuple[str, ...], conf: str, texts: dict[str, str], expected: str
) -> None:
    """One-shot, EFI default, loader.conf, order: each falls through where it matches nothing."""
    menu = read_systemd_boot(host_tree(host(plain(*names), conf=conf, **texts)))
    assert next_of(menu).line == f"by={expected}"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("252.39-1~deb12u2", "b.conf"),
        ("257.9-1", "b.conf"),
        ("257.13-1", "a+2-1.conf"),
        ("259", "a+2-1.conf"),
    ],
)
def test_what_an_entry_is_called_depends_on_the_version(
    host_tree: HostTree, version: str, expected: str
) -> None:
    """A default without the counter matches only where the version strips it from ids."""
    tree = host(plain("a+2-1.conf", "b.conf"), conf="default a.conf\n", version=version)
    assert next_of(read_systemd_boot(host_tree(tree))).line == f"by={expected}"


@pytest.mark.parametrize(("version", "expected"), [("252", "by=U"), ("257.13", "by=z.conf"), ("261", None)])
def test_an_image_with_a_counter_keeps_its_case(
    host_tree: HostTree, version: str, expected: str | None
) -> None:
    """257.13 leaves the id of such an image as it is: no pattern matches it; of 261 that is not known."""
    images: Tree = {"efi/EFI/Linux/U+3.efi": unified("by=U")}
    tree = host(plain("z.conf", sort_key="a"), images, conf="default U*\n", version=version)
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert (None if menu.next is None else menu.entries[menu.next].line) == expected


def test_an_unknown_version_is_no_guess(host_tree: HostTree) -> None:
    """Where versions differ, and it is not known which boots, nothing is claimed; its ids tell it."""
    tree = host(plain("a+2-1.conf", "b.conf"), conf="default a.conf\n", version="258.1")
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert menu.next is None
    assert menu.unknown is not None
    assert "version of systemd-boot" in menu.unknown
    listed = "b.conf\0a.conf"
    menu = read_systemd_boot(host_tree(merged(tree, text_variable("LoaderEntries", listed))))
    assert next_of(menu).line == "by=a+2-1.conf"


def test_the_version_is_that_of_the_program_that_will_run(host_tree: HostTree) -> None:
    """After bootctl update, the program on the ESP counts, not LoaderInfo of the one that ran."""
    magic = b"#### LoaderInfo: systemd-boot 259-1 ####"
    tree = host(plain("a+2-1.conf", "b.conf"), conf="default a.conf\n", version="252.1")
    tree["efi/EFI/systemd/systemd-bootx64.efi"] = program([(".sdmagic", magic)])
    assert next_of(read_systemd_boot(host_tree(tree))).line == "by=a+2-1.conf"


def test_preferred_skips_what_has_no_tries_left(host_tree: HostTree) -> None:
    """Since 260 a preferred entry boots before the default, unless it is bad."""
    good = host(
        plain("a+1-2.conf", "b.conf"), conf="default b.conf\n", version="260.1", LoaderEntryPreferred="a.conf"
    )
    assert next_of(read_systemd_boot(host_tree(good))).line == "by=a+1-2.conf"


def test_preferred_falls_through_to_the_default(host_tree: HostTree) -> None:
    """A bad entry that is preferred leaves the choice to default."""
    bad = host(
        plain("a+0-3.conf", "b.conf", "c.conf"), conf="preferred a*\ndefault b.conf\n", version="260.1"
    )
    assert next_of(read_systemd_boot(host_tree(bad))).line == "by=b.conf"


def test_entries_that_systemd_boot_drops_are_not_there(host_tree: HostTree) -> None:
    """Missing images, other architectures, and entries of two kinds are not shown."""
    tree = host(
        plain("a.conf"),
        plain("b.conf", architecture="aa64"),
        {
            f"{ENTRIES}/c.conf": entry(title="gone", linux="/gone"),
            f"{ENTRIES}/d.conf": entry(title="two", linux="/linux", efi="/linux"),
            f"{ENTRIES}/e.conf": entry(title="none"),
        },
    )
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert [one.id for one in menu.entries] == ["a.conf"]
    assert any("c.conf" in note and "/gone" in note for note in menu.notes)


def test_paths_are_found_in_any_case(host_tree: HostTree) -> None:
    """FAT knows no case: what an entry names, and the folders, may be written otherwise."""
    tree = host(
        {"efi/LOADER/Entries/a.conf": entry(linux="/VMLINUZ", options="x"), "efi/vmlinuz": kernel("1.0")}
    )
    del tree[CONF]
    tree["efi/LOADER/Loader.conf"] = ""
    following = next_of(read_systemd_boot(host_tree(tree)))
    assert (following.image, following.line) == ("efi/vmlinuz", "x")


def test_the_release_of_a_nixos_kernel(host_tree: HostTree) -> None:
    """Its name has a hash in front, its entry's version is prose."""
    name = "EFI/nixos/0123456789abcdfghijklmnpqrsvwxyz-linux-6.12.41-bzImage.efi"
    text = entry(linux=f"/{name}", version="Generation 7 NixOS 25.05, Linux Kernel 6.12.41")
    tree = host({f"{ENTRIES}/nixos-generation-7.conf": text, f"efi/{name}": ""})
    assert next_of(read_systemd_boot(host_tree(tree))).release == "6.12.41"


def test_options_lines_are_joined_and_variables_are_plain_text(host_tree: HostTree) -> None:
    """systemd-boot joins options by a blank and expands nothing."""
    text = "linux /linux\noptions a $b\noptions c\n"
    tree = host({f"{ENTRIES}/a.conf": text, "efi/linux": kernel("6.1.0")})
    assert next_of(read_systemd_boot(host_tree(tree))).line == "a $b c"


def test_a_windows_default_boots_no_kernel(host_tree: HostTree) -> None:
    """An entry that systemd-boot adds by itself may be the default."""
    tree = host(plain("a.conf"), conf="default auto-windows\n")
    tree["efi/EFI/Microsoft/Boot/bootmgfw.efi"] = b"MZ"
    following = next_of(read_systemd_boot(host_tree(tree)))
    assert following.id == "auto-windows"
    assert following.unknown is not None


def test_a_program_that_is_no_kernel_is_said_to_be_none(host_tree: HostTree) -> None:
    """An efi entry may start anything; one that starts a kernel is a kernel's."""
    tree = host(
        {
            f"{ENTRIES}/a.conf": entry(efi="/memtest.efi"),
            f"{ENTRIES}/b.conf": entry(efi="/linux", options="x"),
            "efi/memtest.efi": program([(".text", b"x")]),
            "efi/linux": kernel("6.12.1"),
        }
    )
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert [(one.image, one.line, one.unknown) for one in menu.entries] == [
        ("efi/linux", "x", None),
        (None, None, "efi/memtest.efi: this program is no kernel"),
    ]


@pytest.mark.parametrize(("secure", "expected"), [(b"\0", "mem=8G"), (b"\1", "own"), (None, None)])
def test_options_replace_an_image_s_line_unless_secure_boot_is_on(
    host_tree: HostTree, secure: bytes | None, expected: str | None
) -> None:
    """The stub takes the entry's options only without Secure Boot; where that is not known, no line is."""
    tree = host({f"{ENTRIES}/a.conf": entry(uki="/a.efi", options="mem=8G"), "efi/a.efi": unified("own\n")})
    if secure is not None:
        tree |= variable("SecureBoot", secure)
    following = next_of(read_systemd_boot(host_tree(tree)))
    assert following.line == expected
    assert (following.unknown is None) is (expected is not None)


def test_addons_make_a_line_uncertain(host_tree: HostTree) -> None:
    """An addon with a command line adds to that of an image; one with a device tree does not."""
    tree = host({"efi/EFI/Linux/a.efi": unified("own")})
    tree["efi/loader/addons/d.addon.efi"] = program([(".dtb", b"x")])
    assert next_of(read_systemd_boot(host_tree(tree))).line == "own"
    tree["efi/EFI/Linux/a.efi.extra.d/c.addon.efi"] = program([(".cmdline", b"mem=4G")])
    following = next_of(read_systemd_boot(host_tree(tree)))
    assert following.line is None
    assert following.unknown is not None
    assert "c.addon.efi" in following.unknown


def test_profiles_of_an_image_are_entries(host_tree: HostTree) -> None:
    """Each profile has its id, its title and its line; the first boots."""
    sections = [
        (".osrel", b"ID=x\nPRETTY_NAME=X\n"),
        (".linux", kernel("6.12.1")),
        (".cmdline", b"base"),
        (".uname", b"6.12.1"),
        (".profile", b"ID=main\n"),
        (".profile", b"ID=rescue\nTITLE=Rescue\n"),
        (".cmdline", b"single"),
    ]
    menu = read_systemd_boot(host_tree(host({"efi/EFI/Linux/x.efi": program(sections)})))
    assert menu is not None
    assert [(one.id, one.title, one.line, one.recovery) for one in menu.entries] == [
        ("x.efi", "X", "base", False),
        ("x.efi@rescue", "X (Rescue)", "single", True),
    ]
    assert menu.next == 0


def test_images_without_a_name_or_for_others_are_dropped(host_tree: HostTree) -> None:
    """No os-release, another machine, no program: systemd-boot shows none of them."""
    tree = host(
        plain("a.conf"),
        {
            "efi/EFI/Linux/b.efi": program([(".linux", b"x")]),
            "efi/EFI/Linux/c.efi": program([(".osrel", b"ID=c\n"), (".linux", b"x")], machine=0xAA64),
            "efi/EFI/Linux/d.efi": unified("x")[:100],
            "efi/EFI/Linux/auto-e.efi": unified("x"),
        },
    )
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert [one.id for one in menu.entries] == ["a.conf"]
    assert len(menu.notes) == 3


def test_without_a_sign_of_systemd_boot_there_is_no_menu(host_tree: HostTree) -> None:
    """Entries of Fedora and EL are GRUB's; where the firmware starts systemd-boot the reason is told."""
    tree: Tree = {"boot/loader/entries/a.conf": entry(linux="/linux"), "boot/linux": kernel("6.1.0")}
    root = host_tree(merged(tree, text_variable("LoaderInfo", "GRUB 2.12")))
    assert read_systemd_boot(root) is None
    menu = read_systemd_boot(root, expected=True)
    assert menu is not None
    assert menu.unknown is not None


def test_a_partition_that_is_not_mounted_is_told(host_tree: HostTree) -> None:
    """systemd-boot ran, and nothing of it is here."""
    menu = read_systemd_boot(host_tree(systemd_boot_host()))
    assert menu is not None
    assert menu.unknown is not None
    assert "not here" in menu.unknown


def test_a_folder_that_is_no_partition_is_not_xbootldr(host_tree: HostTree) -> None:
    """What lies in /boot of the root file system systemd-boot cannot see."""
    tree = host(
        plain("a.conf"),
        {
            "boot/loader/entries/z.conf": entry(linux="/linux", options="z"),
            "boot/linux": kernel("7.0.0"),
            "proc/self/mountinfo": "30 25 8:1 / /efi rw,relatime shared:1 - vfat /dev/sda1 rw\n"
            "25 1 8:2 / / rw,relatime shared:2 - ext4 /dev/sda2 rw\n",
        },
    )
    assert next_of(read_systemd_boot(host_tree(tree))).line == "by=a.conf"


def test_the_same_partition_mounted_twice_counts_once(host_tree: HostTree) -> None:
    """An ESP at /efi and at /boot has its entries once."""
    entries = plain("a.conf", "b.conf")
    again: Tree = {path.replace("efi/", "boot/", 1): content for path, content in entries.items()}
    menu = read_systemd_boot(host_tree(host(entries, again)))
    assert menu is not None
    assert len(menu.entries) == 2


def hostile(name: str) -> Tree:
    texts: dict[str, str | bytes] = {
        "large": "title x\n" * (10 << 20 >> 3),
        "sort-key": b"linux /linux\nsort-key \xff\xfe\n",
    }
    return host(plain("a.conf"), {f"{ENTRIES}/z.conf": texts[name]})


@pytest.mark.parametrize("name", ["large", "sort-key"])
def test_an_entry_that_cannot_be_read_hides_what_is_first(host_tree: HostTree, name: str) -> None:
    """Its place in the order is not known, so neither is the first; one clause names it."""
    menu = read_systemd_boot(host_tree(hostile(name)))
    assert menu is not None
    assert menu.next is None
    assert menu.unknown is not None
    assert menu.unknown.startswith(f"{ENTRIES}/z.conf")


def test_an_entry_that_cannot_be_read_hides_no_default_that_is_named(host_tree: HostTree) -> None:
    """Ids are names of files: a default is found without reading the others."""
    tree = merged(hostile("large"), {CONF: "default a.conf\n"})
    assert next_of(read_systemd_boot(host_tree(tree))).line == "by=a.conf"


def test_a_one_shot_is_known_though_the_order_is_not(host_tree: HostTree) -> None:
    """What boots next is known; what boots after it is not."""
    tree = merged(hostile("large"), text_variable("LoaderEntryOneShot", "a.conf"))
    menu = read_systemd_boot(host_tree(tree))
    assert next_of(menu).line == "by=a.conf"
    assert menu is not None
    assert menu.default is None


def test_a_title_that_is_no_utf8_does_no_harm(host_tree: HostTree) -> None:
    """Only what counts must be readable: options that are no UTF-8 leave the line unknown."""
    tree = host(
        {f"{ENTRIES}/a.conf": b"title Syst\xe8me\nlinux /linux\noptions x\n", "efi/linux": kernel("6.1.0")}
    )
    assert next_of(read_systemd_boot(host_tree(tree))).line == "x"
    tree[f"{ENTRIES}/a.conf"] = b"linux /linux\noptions x\xe8\n"
    following = next_of(read_systemd_boot(host_tree(tree)))
    assert following.line is None
    assert following.unknown == f"{ENTRIES}/a.conf: its options are not UTF-8"


def test_links_out_of_the_tree_are_not_followed(host_tree: HostTree, tmp_path: Path) -> None:
    """An entry, or an image, that leads out is named in one clause."""
    root = host_tree(host(plain("a.conf", "b.conf"), conf="default a.conf\n"))
    outside = tmp_path / "outside"
    outside.write_bytes(kernel("9.9.9"))
    image = tmp_path / "host" / "efi" / "linux"
    image.unlink()
    image.symlink_to(outside)
    following = next_of(read_systemd_boot(root))
    assert following.unknown is not None
    assert following.unknown == "efi/linux is a link that leads out of the tree"
    link = tmp_path / "host" / ENTRIES / "z.conf"
    link.symlink_to(outside)
    (tmp_path / "host" / CONF).write_text("")
    menu = read_systemd_boot(root)
    assert menu is not None
    assert menu.unknown is not None
    assert menu.unknown.startswith(f"{ENTRIES}/z.conf")


def test_too_many_entries_are_not_read(host_tree: HostTree, tmp_path: Path) -> None:
    """A hundred thousand entries end in one clause, quickly."""
    root = host_tree(host(plain("a.conf")))
    folder = tmp_path / "host" / ENTRIES
    for number in range(3000):
        (folder / f"{number}.conf").touch()
    menu = read_systemd_boot(root)
    assert menu is not None
    assert menu.unknown == f"{ENTRIES}: 3001 entries are more than 1024"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "cut off"),
        (b"MZ" + bytes(62), "no EFI program"),
        (unified("x")[:200], "cut off"),
        (unified("x")[:72] + bytes(100), "no EFI program"),
        (unified("x")[:70] + b"\xff\xff" + unified("x")[72:], "65535 sections"),
        (unified("x").replace(b".cmdline" + bytes([1, 0]), b".cmdline" + bytes([1, 1])), None),
        (unified("x")[:-512], "cut off"),
        (program([(".text", b"")]), "no unified kernel image"),
    ],
)
def test_damaged_images_end_in_one_clause(host_tree: HostTree, image: bytes, words: str | None) -> None:
    """Truncated programs and impossible tables are told."""
    found = read_uki_entry(host_tree({"efi/a.efi": image}), "efi/a.efi")
    assert (found.unknown is None) is (words is None)
    assert words is None or words in (found.unknown or "")


def test_damaged_variables_are_reasons(host_tree: HostTree) -> None:
    """A one-shot that is there and cannot be read leaves the next boot unknown."""
    tree = host(plain("a.conf"))
    tree["sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"] = b"\7\0\0\0odd"
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert menu.next is None
    assert menu.unknown is not None
    assert "LoaderEntryOneShot" in menu.unknown


def test_without_variables_nothing_is_claimed(host_tree: HostTree) -> None:
    """Whether one is set cannot be known where efivarfs is not mounted."""
    tree = {path: content for path, content in host(plain("a.conf")).items() if not path.startswith("sys/")}
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert menu.unknown == "sys/firmware/efi/efivars: No such file or directory"


def test_two_files_of_one_id_are_told(host_tree: HostTree) -> None:
    """Where only the directory's own order decides, nothing is claimed."""
    tree = host(plain("a.conf", "a+3.conf"), version="259")
    menu = read_systemd_boot(host_tree(tree))
    assert menu is not None
    assert menu.unknown is not None
    assert "nothing puts it before" in menu.unknown
