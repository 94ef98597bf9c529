# SPDX-License-Identifier: Apache-2.0
"""Which kernel GRUB boots next, and how, on hosts of many kinds."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.emulator import emulated

from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.facts.boots import Loader
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from tdx_headroom.boots.menu import Menu, MenuEntry

LAYOUTS = Path(__file__).parents[2] / "boots"
NEXT = """if [ "${next_entry}" ] ; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
  set boot_once=true
else
  set default="${saved_entry}"
fi
"""
HEAD = (
    """
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${initrdfail}" = 2 ]; then
  set initrdfail=
elif [ "${initrdfail}" = 1 ]; then
  set next_entry="${prev_entry}"
  set prev_entry=
  save_env prev_entry
  if [ "${next_entry}" ]; then
    set initrdfail=2
  fi
fi
"""
    + NEXT
    + """if [ "${prev_saved_entry}" ]; then
  set saved_entry="${prev_saved_entry}"
  save_env saved_entry
  set prev_saved_entry=
  save_env prev_saved_entry
  set boot_once=true
fi
"""
)
TAIL = """
if [ -f ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
"""


def entry(name: str, line: str = "ro") -> str:
    # An id that began with a digit would be taken for a number.
    return f"menuentry '{name}' --id k{name} {{\n  linux /boot/vmlinuz-{name} {line}\n}}\n"


def block(**variables: str) -> str:
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    return f"# GRUB Environment Block\n{lines}".ljust(1024, "#")


def host(
    config: str, *kernels: str, env: str | None = None, more: dict[str, str] | None = None
) -> MemoryRoot:
    files = {"boot/grub/grub.cfg": config, **{f"boot/vmlinuz-{kernel}": "kernel" for kernel in kernels}}
    if env is not None:
        files["boot/grub/grubenv"] = env
    return MemoryRoot("host", files | (more or {}))


def menu(files: MemoryRoot | Root) -> Menu:
    found = read_grub(files)
    assert found is not None
    assert found.loader is Loader.GRUB
    return found


def booted(files: MemoryRoot | Root) -> MenuEntry:
    found = menu(files)
    assert found.unknown is None
    assert found.next is not None
    return found.entries[found.next]


THREE = entry("6.1.0") + entry("6.2.0") + entry("6.3.0")
KERNELS = ("6.1.0", "6.2.0", "6.3.0")


@pytest.mark.parametrize(
    ("layout", "release", "line", "count", "recovery"),
    [
        ("debian-one", "6.12.0-1-amd64", "root=/dev/vda ro kvm_intel.tdx=1 quiet", 3, 1),
        ("debian-two-saved", "6.1.0-28-amd64", "root=/dev/vda ro quiet nohibernate", 5, 2),
        ("debian-six-xen", "7.0.1+deb13-cloud-amd64", "root=/dev/vda ro memmap=4K$0x64158000 quiet", 26, 12),
    ],
)
def test_what_grub_mkconfig_writes(layout: str, release: str, line: str, count: int, recovery: int) -> None:
    """One, two and six kernels in a real grub.cfg: the right one boots, with its whole line and its files."""
    found = menu(Root(LAYOUTS / layout))
    assert len(found.entries) == count
    assert found.once is None
    assert found.next is not None
    chosen = found.entries[found.next]
    assert (chosen.release, chosen.line, chosen.unknown) == (release, line, None)
    assert chosen.image == f"boot/vmlinuz-{release}"
    assert chosen.initrds == (f"boot/initrd.img-{release}",)
    assert sum(each.recovery for each in found.entries) == recovery
    assert found.known_from == ("boot/grub/grub.cfg", "boot/grub/grubenv")


def test_xen_entries() -> None:
    """Below Xen the kernel and its line are those of the first module."""
    found = [e for e in menu(Root(LAYOUTS / "debian-six-xen")).entries if "Xen" in e.title]
    assert len(found) == 13
    assert found[1].id.split(">")[1:] == [
        "xen-hypervisor-4.17-amd64-/dev/vda",
        "xen-gnulinux-7.0.1+deb13-cloud-amd64-advanced-/dev/vda",
    ]
    assert found[1].line == "placeholder root=/dev/vda ro memmap=4K$0x64158000 quiet"
    assert found[-1].release == "6.1.0-28-amd64"
    assert found[-1].initrds == ("boot/initrd.img-6.1.0-28-amd64",)


def loaded_by_emulator(folder: Path, config: str) -> str:
    """The kernel that a real GRUB says it loads; it cannot load any, and ends there."""
    text = re.sub(r"(?m)^\s*(?:linux|multiboot|module|initrd|terminal_output)\b.*", "", config)
    text = re.sub(r"echo\t'Loading (?:initial|Xen).*", "true", text).replace(" ...'", " ...'; exit")
    shown = emulated(folder, text)
    found = re.search(r"Loading Linux (\S+)", shown)
    assert found is not None, shown
    return found[1]


@pytest.mark.program("grub-editenv")
@pytest.mark.program("grub-emu")
@pytest.mark.parametrize("variable", ["next_entry", "saved_entry"])
def test_every_entry_of_a_real_menu(tmp_path: Path, variable: str) -> None:
    """A real grub.cfg with each of its entries in grubenv: the emulator loads the kernel that is told."""
    shutil.copytree(LAYOUTS / "debian-six-xen", tmp_path, dirs_exist_ok=True)
    grub = tmp_path / "boot/grub"
    emulator = tmp_path / "emulated"
    emulator.mkdir()
    config = (grub / "grub.cfg").read_text()
    numbers = ("0", "1>1", "1>4", "2", "3>0>2", "9", "1>99", "gone", "1>gone", "1>0>1", ">", "4>1")
    for value in (*(each.id for each in menu(Root(tmp_path)).entries[::3]), *numbers):
        subprocess.run(["grub-editenv", grub / "grubenv", "set", f"{variable}={value}"], check=True)
        shutil.copy(grub / "grubenv", emulator)
        found = menu(Root(tmp_path))
        assert found.next is not None
        assert (found.once is not None) is (variable == "next_entry")
        assert loaded_by_emulator(emulator, config) == found.entries[found.next].release, value


@pytest.mark.parametrize(
    ("env", "once", "default"),
    [
        (block(), None, "k6.1.0"),
        (block(saved_entry="k6.2.0"), None, "k6.2.0"),
        (block(saved_entry="k6.2.0", next_entry="k6.3.0"), "k6.3.0", "k6.2.0"),
        (block(saved_entry="k6.2.0", next_entry="k6.2.0"), "k6.2.0", "k6.2.0"),
        (block(saved_entry="k6.2.0", next_entry="gone"), "k6.1.0", "k6.2.0"),
        (block(saved_entry="k6.3.0", prev_saved_entry="k6.2.0"), "k6.3.0", "k6.2.0"),
        (block(saved_entry="k6.2.0", prev_saved_entry="k6.2.0"), None, "k6.2.0"),
        (block(saved_entry="k6.2.0", initrdfail="1", prev_entry="k6.3.0"), "k6.3.0", "k6.2.0"),
        (block(saved_entry="k6.2.0", initrdfail="2", prev_entry="k6.3.0"), None, "k6.2.0"),
        (block(saved_entry="k6.2.0", initrdfail="1"), None, "k6.2.0"),
        (block(saved_entry="1", recordfail="1"), None, "k6.2.0"),
        ("no block\nsaved_entry=2\n", None, "k6.1.0"),
        ("", None, "k6.1.0"),
        (None, None, "k6.1.0"),
    ],
)
def test_what_boots_once(env: str | None, once: str | None, default: str) -> None:
    """next_entry, prev_saved_entry and a failed initrd are for one boot; the default is known too."""
    found = menu(host(HEAD + THREE + TAIL, *KERNELS, env=env))
    assert found.unknown is None
    assert (None if found.once is None else found.entries[found.once].id) == once
    assert found.default is not None
    assert found.entries[found.default].id == default


def test_a_one_shot_that_is_not_read() -> None:
    """A next_entry that grub.cfg does not look at counts for nothing."""
    found = menu(host("load_env\nset default=1\n" + THREE, *KERNELS, env=block(next_entry="2")))
    assert (found.once, found.default) == (None, 1)


def test_custom_cfg_has_the_last_word() -> None:
    """The last `set default` wins, and entries of custom.cfg come last."""
    more = {"boot/grub/custom.cfg": "set default=kmine\n" + entry("mine", "mem=4G")}
    files = host(HEAD + THREE + TAIL, *KERNELS, "mine", env=block(next_entry="1"), more=more)
    found = menu(files)
    assert (found.once, found.default) == (None, 3)
    assert found.entries[3].line == "mem=4G"
    assert "boot/grub/custom.cfg" in found.known_from


def test_an_entry_with_two_lines() -> None:
    """An entry that chooses between two kernel lines is read with the variables of this boot."""
    body = (
        "menuentry 'U' --id u {\nif [ \"${initrdfail}\" = 1 ]; then\n"
        "linux /boot/vmlinuz-6.1.0 root=A panic=-1\n"
        "else\nlinux /boot/vmlinuz-6.1.0 root=B\ninitrd /boot/i\nfi\n}\n"
    )
    assert booted(host(HEAD + body, "6.1.0", env=block())).line == "root=B"
    assert booted(host("initrdfail=1\n" + body, "6.1.0")).line == "root=A panic=-1"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("memmap=4K$0x64158000 x", "memmap=4Kx64158000 x"),
        (r"memmap=4K\$0x64158000", "memmap=4K$0x64158000"),
        ("'memmap=4K$0x64158000'", "memmap=4K$0x64158000"),
        (r'"memmap=4K\$0x1000"', "memmap=4K$0x1000"),
        ('"memmap=4K$0x1000"', "memmap=4Kx1000"),
        ("memmap=4K${dollar}0x1000", "memmap=4K$0x1000"),
        ("dyndbg='file a.c +p'", '"dyndbg=file a.c +p"'),
        ("a $unset b", "a b"),
        ('a "$unset" b', "a  b"),
        ("$several", "one two"),
        ("it\\'s", "it\\'s"),
        ("a \\\n b # c", "a b"),
        ("x=1 # y", "x=1"),
        ("x=1#y", "x=1#y"),
        ("\xe9", "\xe9"),
    ],
)
def test_quoting(written: str, line: str) -> None:
    """The line is what the kernel gets, not what stands in the file."""
    config = f"dollar='$'\nseveral='one two'\nmenuentry x {{\nlinux /boot/vmlinuz-6.1.0 {written}\n}}\n"
    assert booted(host(config, "6.1.0")).line == line


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/boot/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("($root)/boot/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("(hd0,gpt2)/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/@/boot/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/root/boot/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/BOOT/ubuntu_x1@/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/ROOT/debian@/boot/vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/boot/../boot/./vmlinuz-6.1.0", "boot/vmlinuz-6.1.0"),
        ("/EFI/x/vmlinuz-6.2.0", "boot/efi/EFI/x/vmlinuz-6.2.0"),
        ("/boot/vmlinuz-9", None),
        ("/../../etc/shadow", None),
    ],
)
def test_where_the_image_is(path: str, image: str | None) -> None:
    """A path begins at the root of some file system: it is found on the host, or said to be missing."""
    config = f"search --fs-uuid --set=root 1-2\nmenuentry x {{\nlinux {path} ro\n}}\n"
    found = booted(host(config, "6.1.0", more={"boot/efi/EFI/x/vmlinuz-6.2.0": "k"}))
    assert found.image == image
    assert (found.unknown is None) is (image is not None)
    assert image is not None or str(found.unknown).endswith("is missing")


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("vmlinuz-6.1.0-13-amd64", "6.1.0-13-amd64"),
        ("vmlinuz-6.1.0.efi.signed", "6.1.0"),
        ("linux-6.4.0-150600.21-default", "6.4.0-150600.21-default"),
        ("kernel-6.6.13-gentoo", "6.6.13-gentoo"),
        ("vmlinuz", None),
        ("vmlinuz-linux", None),
        ("vmlinuz-6.1.0.old", None),
        ("vmlinuz-0-rescue-cd52a9b8", None),
        ("linux-3c3c3c3c3c3c3c3c", None),
        ("0123456789abcdfghijklmnpqrsvwxyz-linux-6.12.41-bzImage", "6.12.41"),
    ],
)
def test_the_release_in_a_name(name: str, release: str | None) -> None:
    """The image's name tells the release, unless it is a link's, a rescue kernel's or an old one's."""
    files = MemoryRoot(
        "host", {"boot/grub/grub.cfg": f"menuentry x {{\nlinux /boot/{name} ro\n}}\n", f"boot/{name}": "k"}
    )
    assert booted(files).release == release


@pytest.mark.parametrize(
    ("title", "line", "recovery"),
    [
        ("Debian", "ro quiet", False),
        ("Debian (recovery mode)", "ro", True),
        ("Debian (rescue mode)", "ro", True),
        ("Debian", "ro single", True),
        ("Debian", "systemd.unit=rescue.target", True),
        ("Debian", "emergency", True),
        ("Debian", "root=single", False),
    ],
)
def test_recovery(title: str, line: str, recovery: bool) -> None:  # noqa: FBT001
    """Recovery is told by the title or by the line."""
    config = f"menuentry '{title}' {{\nlinux /boot/vmlinuz-6.1.0 {line}\n}}\n"
    assert booted(host(config, "6.1.0")).recovery is recovery


def test_exported_variables_only() -> None:
    """A submenu begins with the exported variables: others are not set in it."""
    config = (
        "lost=a\nkept=b\nexport kept\ndefault='0>1'\nsubmenu s {\n" + entry("6.1.0") + "menuentry second {\n"
        "linux /boot/vmlinuz-6.1.0 x=$lost,$kept $1\n}\n}\n"
    )
    found = booted(host(config, "6.1.0"))
    assert (found.id, found.line) == ("s>second", "x=,b second")


def test_entries_that_share_a_file() -> None:
    """However many entries run a file that starts its kernel, each is read like the first."""
    config = "".join(f"menuentry e{n} --id e{n} {{\nsource $prefix/entry\n}}\n" for n in range(30))
    more = {"boot/grub/entry": "linux /boot/vmlinuz-6.1.0 ro\nboot\n"}
    found = booted(host("export prefix\ndefault=e29\n" + config, "6.1.0", more=more))
    assert (found.id, found.line, found.unknown) == ("e29", "ro", None)


def test_what_is_not_linux() -> None:
    """Firmware settings, another system's kernel and a loader that is chained to have no line."""
    config = (
        "menuentry 'Firmware' {\nfwsetup\n}\nmenuentry 'Windows' {\nchainloader /EFI/m/boot.efi\n}\n"
        "menuentry 'Other' --id osprober-gnulinux-x {\nlinux /boot/vmlinuz-6.1.0 ro\n}\n"
        "menuentry 'ISO' {\nloopback loop /x.iso\nlinux (loop)/boot/vmlinuz-6.1.0\n}\n"
    )
    found = menu(host(config, "6.1.0")).entries
    assert [each.line for each in found] == [None, None, "ro", ""]
    assert [each.image for each in found] == [None] * 4
    assert [each.unknown for each in found] == [
        None,
        "it starts /EFI/m/boot.efi",
        "/boot/vmlinuz-6.1.0 is another system's",
        "/boot/vmlinuz-6.1.0 is inside of another file",
    ]


@pytest.mark.parametrize(
    ("config", "unknown"),
    [
        ("if fwsetup --is-supported; then true; fi\n" + THREE, None),
        ("if cmostest 1:2; then set default=1; fi\n" + THREE, "asks for cmostest"),
        (
            "smbios --type 1 --get-string 5 --set model\nif [ $model = x ]; then set default=1; fi\n" + THREE,
            None,
        ),
        (
            "probe --set=u --fs-uuid $root\nmenuentry x {\nlinux /boot/vmlinuz-6.1.0 root=$u\n}\n",
            "asks for probe",
        ),
        ("if [ $grub_platform = efi ]; then\n" + entry("6.2.0") + "fi\n" + THREE, "asks for grub_platform"),
        (
            "if [ $grub_platform = efi ]; then\n menuentry f {\n fwsetup\n }\nfi\ndefault=k6.3.0\n" + THREE,
            None,
        ),
        (
            "if hwmatch x 3; then set v=vt.handoff=7; fi\nmenuentry x {\nlinux /boot/vmlinuz-6.1.0 $v\n}\n",
            None,
        ),
        (
            "if hwmatch x 3; then set v=mem=2G; fi\nmenuentry x {\nlinux /boot/vmlinuz-6.1.0 $v\n}\n",
            "asks for hwmatch",
        ),
        ("legacy_source /boot/menu.lst\n" + THREE, "what legacy_source adds is not known"),
        ("for k in /boot/vmlinuz-*; do\nmenuentry $k {\nlinux $k\n}\ndone\n", "the pattern /boot/vmlinuz-*"),
        ("linux /boot/vmlinuz-6.1.0\nboot\n", "boots without a menu"),
        ("exit\n" + THREE, "ends with exit"),
        ("", "makes no menu entries"),
        ("submenu x {\ntrue\n}\n", "the submenu that boots is empty"),
        (
            "submenu x {\nsubmenu y {\nlegacy_source /boot/menu.lst\n" + THREE + "}\n}\n",
            "what legacy_source adds is not known",
        ),
    ],
)
def test_what_only_the_running_grub_knows(config: str, unknown: str | None) -> None:
    """A question that cannot be answered is an unknown only where the answer matters for what boots."""
    found = menu(host(config, *KERNELS))
    if unknown is None:
        assert found.unknown is None
    else:
        assert unknown in str(found.unknown)
        assert found.next is None


def test_no_grub() -> None:
    """Without a grub.cfg there is no answer, boot loader entries or not."""
    assert read_grub(MemoryRoot("host", {"boot/loader/entries/a.conf": "linux /x\n"})) is None
    assert read_grub(MemoryRoot("host", {"boot/efi/EFI/x/grubx64.efi": ""})) is None


@pytest.mark.parametrize("path", ["boot/grub/grub.cfg", "boot/grub/grubenv", "boot/grub/custom.cfg"])
def test_a_file_that_may_not_be_read(path: str) -> None:
    """It is named, whatever the tree is called, and what boots next is unknown."""
    files = dict(host(HEAD + THREE + TAIL, *KERNELS).files)
    files.pop(path, None)
    found = menu(MemoryRoot("boot", files, refused={path: "may not be read"}))
    assert found.unknown == f"{path} may not be read"
    assert found.next is None


@pytest.mark.parametrize("own", [True, False])
def test_an_esp_that_may_not_be_looked_into(own: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """It hides what boots next only where /boot has no configuration."""
    (tmp_path / "boot/efi").mkdir(parents=True)
    (tmp_path / "boot/efi/EFI").symlink_to("EFI")
    if own:
        (tmp_path / "boot/grub").mkdir()
        (tmp_path / "boot/grub/grub.cfg").write_text(THREE)
    found = menu(Root(tmp_path))
    assert found.unknown == (None if own else "boot/efi/EFI: Too many levels of symbolic links")


ESP_STUB = "search.fs_uuid 1-2 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"


@pytest.mark.parametrize(
    ("files", "vendor", "expected"),
    [
        ({"boot/grub/grub.cfg": "a", "boot/efi/EFI/debian/grub.cfg": ESP_STUB}, None, "a"),
        ({"boot/efi/EFI/redhat/grub.cfg": "a"}, None, "a"),
        ({"boot/efi/EFI/redhat/grub.cfg": "a", "boot/grub2/grub.cfg": "b"}, None, "a"),
        ({"boot/efi/EFI/redhat/grub.cfg": "a", "boot/grub2/grub.cfg": "b", "sys/firmware/x": ""}, None, "b"),
        (
            {"boot/efi/EFI/x/grub.cfg": "a", "boot/grub/grub.cfg": "b", "etc/os-release": "ID=debian\n"},
            None,
            "b",
        ),
        ({"efi/EFI/a/grub.cfg": "a", "efi/EFI/b/grub.cfg": "b", "etc/os-release": 'ID="b"\n'}, None, "b"),
        ({"efi/EFI/a/grub.cfg": "a", "efi/EFI/b/grub.cfg": "b"}, "A", "a"),
        ({"efi/EFI/a/grub.cfg": "a", "efi/EFI/BOOT/grub.cfg": "b"}, None, "a"),
        (
            {"boot/grub/grub.cfg": "a", "boot/grub2/grub.cfg": "b", "efi/EFI/debian/grub.cfg": ESP_STUB},
            None,
            "a",
        ),
        ({"efi/EFI/a/grub.cfg": "a", "efi/EFI/b/grub.cfg": "b"}, None, None),
        ({"boot/grub/grub.cfg": "a", "boot/grub2/grub.cfg": "b"}, None, None),
        ({"boot/efi/EFI/debian/grub.cfg": ESP_STUB}, None, None),
    ],
)
def test_which_configuration_counts(files: dict[str, str], vendor: str | None, expected: str | None) -> None:
    """GRUB's directory in /boot, or one on the ESP, where a stub leads on; two are an unknown."""
    texts = {path: entry(text) if text in ("a", "b") else text for path, text in files.items()}
    found = read_grub(MemoryRoot("host", texts, ["boot/vmlinuz-a", "boot/vmlinuz-b"]), vendor=vendor)
    assert found is not None
    if expected is None:
        assert found.unknown is not None
    else:
        assert found.unknown is None
        assert found.next is not None
        assert found.entries[found.next].title == expected
