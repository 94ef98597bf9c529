# SPDX-License-Identifier: Apache-2.0
"""Fedora's and Red Hat's GRUB: entries of the boot loader specification, their order and their variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.test_grub import NEXT, block, booted, menu

from tdx_headroom.boots.grub.blscfg import compare_versions, expand_value, newest_first, parse_fields
from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from pathlib import Path

ID = "0123456789abcdef0123456789abcdef"
CONFIG = (
    """
set pager=1
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
"""
    + NEXT
    + """set tuned_params="isolcpus=1"
set tuned_initrd=""
insmod increment
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if  [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    decrement boot_counter
  fi
  save_env boot_counter
fi
search --no-floppy --fs-uuid --set=root 1c0ffee0
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=A ro crashkernel=auto"
fi
insmod blscfg
blscfg
if [ "${menu_auto_hide}" -a "${boot_success}" = 1 ]; then
  if keystatus --shift; then
    set default=1
  fi
fi
set boot_success=0
save_env boot_success
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
  fwsetup
}
"""
)


def conf(release: str, options: str | None = "root=B ro", title: str | None = None) -> str:
    lines = [f"title {title or f'Red Hat ({release})'}", f"version {release}", f"linux /vmlinuz-{release}"]
    lines += [f"initrd /initramfs-{release}.img $tuned_initrd"]
    lines += [f"options {options}"] if options is not None else []
    return "\n".join([*lines, "grub_users $grub_users", "grub_arg --unrestricted", ""])


def host(entries: dict[str, str], env: str | None = None, config: str = CONFIG) -> MemoryRoot:
    files = {"boot/grub2/grub.cfg": config, **({"boot/grub2/grubenv": env} if env is not None else {})}
    for name, text in entries.items():
        files[f"boot/loader/entries/{name}.conf"] = text
        for line in text.splitlines():
            if line.startswith(("linux ", "initrd ")):
                files[f"boot{line.split()[1]}"] = "file"
    return MemoryRoot("host", files)


TWO = {f"{ID}-5.14.0-70.el9": conf("5.14.0-70.el9"), f"{ID}-5.14.0-503.el9": conf("5.14.0-503.el9", "mem=4G")}


@pytest.mark.parametrize(
    ("env", "release"),
    [
        (None, "5.14.0-503.el9"),
        (block(saved_entry=f"{ID}-5.14.0-70.el9"), "5.14.0-70.el9"),
        (block(saved_entry=f"{ID}-5.14.0-70.el9.conf"), "5.14.0-503.el9"),
        (block(saved_entry="Red Hat (5.14.0-70.el9)"), "5.14.0-70.el9"),
        (block(saved_entry="1"), "5.14.0-70.el9"),
        (block(saved_entry="0x1"), "5.14.0-70.el9"),
        (block(saved_entry="1abc"), "5.14.0-503.el9"),
        (block(saved_entry="1>0"), "5.14.0-503.el9"),
        (block(saved_entry="7"), "5.14.0-503.el9"),
        (block(saved_entry="0", next_entry=f"{ID}-5.14.0-70.el9"), "5.14.0-70.el9"),
        (block(saved_entry="0", boot_counter="0", boot_success="0"), "5.14.0-70.el9"),
        (block(saved_entry="0", boot_counter="-1", boot_success="0"), "5.14.0-70.el9"),
        (block(saved_entry="0", boot_counter="2", boot_success="0"), "5.14.0-503.el9"),
        (block(saved_entry="0", boot_counter="0", boot_success="1"), "5.14.0-503.el9"),
        (block(saved_entry="0", menu_auto_hide="1", boot_success="1"), "5.14.0-503.el9"),
    ],
)
def test_which_entry_boots(env: str | None, release: str) -> None:
    """An id, a title or a whole number names one; boot_counter falls back to the second."""
    found = booted(host(TWO, env))
    assert found.release == release
    assert found.id == f"{ID}-{release}"
    assert found.image == f"boot/vmlinuz-{release}"
    assert found.initrds == (f"boot/initramfs-{release}.img",)
    assert found.line == ("mem=4G" if release.endswith("503.el9") else "root=B ro")


def test_boot_counter_is_the_default() -> None:
    """The fallback of boot_counter is no one-shot, and next_entry is: the standing default is known."""
    found = menu(host(TWO, block(saved_entry="0", boot_counter="0", boot_success="0")))
    assert (found.once, found.default) == (None, 1)
    found = menu(host(TWO, block(saved_entry="0", next_entry="1")))
    assert (found.once, found.default) == (1, 0)


@pytest.mark.parametrize(
    ("options", "env", "line"),
    [
        ("$kernelopts $tuned_params", None, "root=A ro crashkernel=auto isolcpus=1"),
        ("$kernelopts $tuned_params", block(kernelopts="root=C"), "root=C isolcpus=1"),
        ("root=B $unset quiet", None, "root=B quiet"),
        ("root=B memmap=4K$0x1000 quiet", None, "root=B memmap=4Kquiet"),
        (r"root=B memmap=4K\$0x1000 quiet", None, "root=B memmap=4Kquiet"),
        ('root=B dyndbg="file a +p"', None, 'root=B "dyndbg=file a +p"'),
        ("root=B 'a b'", None, 'root=B "a b"'),
        (r"root=/dev/disk/by-label/a\x20b", None, r"root=/dev/disk/by-label/a\x20b"),
        (None, None, ""),
        (None, block(default_kernelopts="root=D"), "root=D"),
        ("root=B\noptions other=1", None, "root=B"),
    ],
)
def test_the_line(options: str | None, env: str | None, line: str) -> None:
    """Variables of grubenv and grub.cfg are put in, an unset one goes, and GRUB reads the result again."""
    found = booted(host({f"{ID}-6.1": conf("6.1", options)}, env))
    assert (found.line, found.unknown) == (line, None)


def test_a_line_that_grub_cannot_read() -> None:
    """Quotes that are not closed make the line unknown, not the menu."""
    found = menu(host({**TWO, f"{ID}-6.1": conf("6.1", "root=B it's")}))
    assert found.unknown is None
    assert (found.entries[0].line, found.default) == (None, 0)
    assert found.entries[0].unknown == f"boot/loader/entries/{ID}-6.1.conf: line 4 is no GRUB script"


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("104b-5.14.0-1", "cd52-5.14.0-9"),
        ("m-5.14.0-503.el9", "m-5.14.0-70.el9"),
        ("m-5.14.0-70.el9", "m-0-rescue"),
        ("m-6.10.0-1", "m-6.9.0-1"),
        ("ostree-2", "ostree-1"),
        ("ostree-10", "ostree-9"),
        ("m-6.1.0-1", "m-6.1.0~rc1-1"),
        ("m-6.1-1.fc40", "m-6.1-1"),
        ("m-6.1-10", "m-6.1-009"),
        ("m-6.1-1", "m-6.1-a"),
        ("b-1-1", "a-2-1"),
    ],
)
def test_the_order(newer: str, older: str) -> None:
    """File names are sorted as name, version and release: digits before letters, ~ below the end."""
    assert newest_first([older, newer]) == newest_first([newer, older]) == [newer, older]


def test_names_that_count_as_the_same() -> None:
    """Of two names that compare equal one is dropped, as in GRUB."""
    assert newest_first(["m-6.1-1", "m-6_1-01"]) == ["m-6.1-1"]
    assert compare_versions("6.1.", "6.1") == 0


def test_two_machine_ids() -> None:
    """The entries of an image's old machine id may come first, whatever their version."""
    entries = {"cd52-5.14.0-284.el9": conf("5.14.0-284.el9"), "104b-5.14.0-162.el9": conf("5.14.0-162.el9")}
    assert booted(host(entries)).release == "5.14.0-162.el9"


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("a $var b c", "a VALUE b c"),
        ("$var", "VALUE "),
        ("$var$var", "VALUE VALUE "),
        ("$none", None),
        ("x$var", "VALUE "),
        ("ab$var", "abVALUE "),
        ("$v", None),
        ("a", None),
        ("", None),
        ("a=$var,b", "a=VALUE ,b"),
        ("$none $var", "VALUE "),
        ("$none$var", None),
        ("cost $", "cost "),
        (None, None),
    ],
)
def test_expansion(value: str | None, expanded: str | None) -> None:
    """Variables as blscfg expands them, its slips with single characters included."""
    assert expand_value(value, {"var": "VALUE", "v": "lost"}.get) == expanded


def test_fields() -> None:
    """A blank parts key and value, a tab where there is no blank; a line without a value ends the file."""
    text = "# c\n\ttitle\tA\nlinux  /x\r\noptions a b\n\nversion 1\n"
    assert parse_fields(text) == {"title": ["A"], "linux": ["/x"], "options": ["a b"]}
    assert parse_fields("options\troot=x ro\n") == {"options\troot=x": ["ro"]}


def test_ostree(tmp_path: Path) -> None:
    """/boot/loader is a link, and the release stands in the name of the image only."""
    folder = tmp_path / "boot/loader.1/entries"
    folder.mkdir(parents=True)
    (tmp_path / "boot/loader").symlink_to("loader.1")
    for number, release in ((1, "6.8.9-300.fc40.x86_64"), (2, "6.8.11-300.fc40.x86_64")):
        image = tmp_path / f"boot/ostree/fedora-{number}/vmlinuz-{release}"
        image.parent.mkdir(parents=True)
        image.write_text("kernel")
        text = f"title Fedora (ostree:{2 - number})\nversion {number}\n"
        text += f"options rw ostree=/ostree/boot.1/{number}\n"
        (folder / f"ostree-{number}.conf").write_text(
            f"{text}linux /ostree/fedora-{number}/vmlinuz-{release}\n"
        )
    (tmp_path / "boot/grub2").mkdir()
    (tmp_path / "boot/grub2/grub.cfg").write_text(CONFIG)
    (tmp_path / "boot/grub2/grubenv").write_text(block(saved_entry="0", boot_counter="0", boot_success="0"))
    found = booted(Root(tmp_path))
    assert (found.id, found.release) == ("ostree-1", "6.8.9-300.fc40.x86_64")
    assert found.line == "rw ostree=/ostree/boot.1/1"
    (tmp_path / "boot/grub2/grubenv").unlink()
    assert booted(Root(tmp_path)).release == "6.8.11-300.fc40.x86_64"


def test_entries_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of entries that only root may list is named."""
    files = host(TWO)
    monkeypatch.setattr(files, "entries", Root(tmp_path / "gone").entries)
    found = read_grub(files)
    assert found is not None
    assert found.unknown is not None
    assert "boot/loader/entries" in found.unknown


def test_an_entry_that_may_not_be_read() -> None:
    """It keeps its place, and only its own line is unknown."""
    files = dict(host(TWO).files)
    path = f"boot/loader/entries/{ID}-5.14.0-70.el9.conf"
    files.pop(path)
    found = menu(MemoryRoot("host", files, refused={path: "may not be read"}))
    assert found.unknown is None
    assert (found.default, found.entries[1].line) == (0, None)
    assert found.entries[1].unknown == f"{path} may not be read"


def test_arguments_of_blscfg() -> None:
    """The default entry and the others may be added apart, and a directory may be named."""
    config = "default=1\nblscfg default\nmenuentry x {\ntrue\n}\nblscfg non-default\n"
    ids = [each.id for each in menu(host(TWO, config=config)).entries]
    assert ids == [f"{ID}-5.14.0-70.el9", "x", f"{ID}-5.14.0-503.el9"]
    assert len(menu(host(TWO, config="blscfg (hd0)/loader/entries\n")).entries) == 2
    assert len(menu(host(TWO, config=f"blscfg {ID}-5.14.0-70.el9\n")).entries) == 1


def test_rescue() -> None:
    """The rescue entry is for recovery, and its release is in its image only."""
    found = booted(host({f"{ID}-0-rescue": conf(f"0-rescue-{ID}", title="Red Hat (0-rescue) 9")}))
    assert (found.recovery, found.release) == (True, None)
