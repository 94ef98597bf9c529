# SPDX-License-Identifier: Apache-2.0
"""What hooks print about the next boot, to the letter."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools.images import image_head
from tests.tools.staged import RUNNING, TESTS, block, entry_id, menu, staged_host

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.cli import main
from tdx_headroom.facts.boot_inventory import redacted
from tdx_headroom.facts.boots import Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.boots_brief import WIDTH, brief
from tdx_headroom.verdict.assessment import Assessment, assess

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "6.14.0-1009-intel"
BAD = "7.0.10-amd64"
NOT_BUILT = """\
tdx-headroom: TDX will NOT come up under 7.0.10-amd64, which boots next: Kernel
7.0.10-amd64 is built without TDX for hosts: no confidential guest starts under
"""
ONCE = f"  grub-reboot '{entry_id(RUNNING)}'  # for one boot\n"
FOR_GOOD = f"  grub-set-default '{entry_id(RUNNING)}'  # for good\n"
NEXT_IS_GOOD = (
    "tdx-headroom: TDX will come up under 6.8.0-1007-intel, which boots next"
    " (boot/grub/grub.cfg, boot/grub/grubenv): 13 reserved areas are left.\n"
)


def assessed(folder: Path) -> Assessment:
    return assess(read_facts(Root(folder), boots=BootReader(Scanner(None))))


def change_menu(folder: Path, old: str, new: str) -> None:
    config = folder / "boot/grub/grub.cfg"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_all_is_well(tmp_path: Path) -> None:
    """One line, which says what was looked at."""
    assert brief(assessed(staged_host(tmp_path / "host", GOOD))) == (
        "tdx-headroom: TDX will come up under 6.14.0-1009-intel, which boots next"
        " (boot/grub/grub.cfg, boot/grub/grubenv): 10 reserved areas are left.\n"
    )


@pytest.mark.parametrize("base", ["no-tdx", "small-vm"])
def test_nothing_about_a_host_without_tdx(base: str, tmp_path: Path) -> None:
    """Whatever is staged there."""
    assert brief(assessed(staged_host(tmp_path / "host", BAD, base=base)), installed=BAD) == ""


@pytest.mark.parametrize("meant", [True, False])
def test_nothing_where_nothing_speaks_for_tdx(meant: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """A server without a line about TDX in its log, unless its command line asks for it."""
    facts = read_facts(Root(staged_host(tmp_path / "host", BAD)), boots=BootReader(Scanner(None)))
    assert facts.platform is not None
    silent = replace(facts.platform, tdx_host_platform=None, guest_keyids=None, tdx_module_version=None)
    line = ("kvm_intel.tdx=1", "nohibernate") if meant else ("nohibernate",)
    said = brief(assess(replace(facts, kernel_log=None, platform=silent, command_line=line)))
    assert said.startswith("tdx-headroom: TDX will NOT come up under 7.0.10-amd64") if meant else said == ""


def test_nothing_where_nobody_has_looked() -> None:
    """Of a log nobody knows what is staged."""
    facts = replace(read_facts(Root(TESTS / "hosts/good-2-node")), boots=None)
    assert brief(assess(facts)) == ""


@pytest.mark.parametrize(
    ("old", "new", "way"),
    [
        ("set timeout", "set timeout", f"it. Stay on 6.8.0-1007-intel:\n{ONCE}{FOR_GOOD}"),
        ('set default="${saved_entry}"', 'set default="0"', f"it. Stay on 6.8.0-1007-intel:\n{ONCE}"),
        (
            "load_env\n",
            "true\n",
            """\
it. Stay on 6.8.0-1007-intel: choose 'Debian GNU/Linux, with Linux
6.8.0-1007-intel' in the boot loader's menu, for no command is known to do so.
""",
        ),
    ],
)
def test_it_will_fail(old: str, new: str, way: str, tmp_path: Path) -> None:
    """Why, and the commands that choose the running kernel, as far as the configuration follows them."""
    folder = staged_host(tmp_path / "host", BAD)
    change_menu(folder, old, new)
    assert brief(assessed(folder)) == NOT_BUILT + way


def test_the_commands_work(tmp_path: Path) -> None:
    """What grub-reboot and grub-set-default would write makes the entry that is told the next one."""
    folder = staged_host(tmp_path / "host", BAD)
    commands = [shlex.split(line, comments=True) for line in brief(assessed(folder)).splitlines()[-2:]]
    for variable, (_, name) in zip(("next_entry", "saved_entry"), commands, strict=True):
        (folder / "boot/grub/grubenv").write_text(block(**{variable: name}))
        coming = assessed(folder).coming
        assert coming is not None
        assert (coming.entry.release, Role.RUNNING in coming.entry.roles) == (RUNNING, True)


def test_only_this_once(tmp_path: Path) -> None:
    """It is said, and only the command that comes before a one-shot is given."""
    folder = staged_host(tmp_path / "host", BAD)
    (folder / "boot/grub/grubenv").write_text(block(next_entry=entry_id(BAD), saved_entry=entry_id(RUNNING)))
    assert brief(assessed(folder)) == (
        "tdx-headroom: TDX will NOT come up under 7.0.10-amd64, which boots next, only\n"
        "this once: Kernel 7.0.10-amd64 is built without TDX for hosts: no confidential\n"
        f"guest starts under it. Stay on 6.8.0-1007-intel:\n{ONCE}"
    )


def test_another_command_line(tmp_path: Path) -> None:
    """With the running release it is the command line that is named."""
    folder = staged_host(tmp_path / "host", RUNNING, "6.1.0-28-amd64")
    line = "root=/dev/vda ro quiet kvm_intel.tdx=1 nohibernate\n"
    (folder / "proc/cmdline").write_text(line)
    (folder / "boot/grub/grub.cfg").write_text(menu(RUNNING, "6.1.0-28-amd64", line="kvm_intel.tdx=0"))
    assert brief(assessed(folder)) == (
        "tdx-headroom: TDX will NOT come up under 6.8.0-1007-intel with the command line\n"
        "that is staged, which boots next: kvm_intel.tdx is turned off on its command\n"
        "line. It would under 6.8.0-1007-intel as it runs now, which no entry boots. No\n"
        "boot entry is known to bring TDX up: see `tdx-headroom remedy`.\n"
    )


def test_the_same_release_twice(tmp_path: Path) -> None:
    """Another entry of the kernel that boots next is named by its title, and found by its line."""
    folder = staged_host(tmp_path / "host", RUNNING, BAD)
    (folder / "proc/cmdline").write_text("root=/dev/vda ro quiet kvm_intel.tdx=1 nohibernate\n")
    first, middle, last = menu(RUNNING, BAD).partition("gnulinux-simple-/dev/vda' {")
    last = last.replace("kvm_intel.tdx=1", "kvm_intel.tdx=0", 1)
    (folder / "boot/grub/grub.cfg").write_text(first + middle + last)
    assert brief(assessed(folder)) == (
        "tdx-headroom: TDX will NOT come up under 6.8.0-1007-intel with the command line\n"
        "that is staged, which boots next: kvm_intel.tdx is turned off on its command\n"
        "line. Boot 'Debian GNU/Linux, with Linux 6.8.0-1007-intel' instead:\n"
        f"{ONCE}{FOR_GOOD}"
    )


def test_at_risk(tmp_path: Path) -> None:
    """Weaker words; a kernel that is no risk is offered."""
    folder = staged_host(tmp_path / "host", GOOD)
    text = menu(GOOD, RUNNING)
    old = f"vmlinuz-{GOOD} root=/dev/vda ro quiet"
    (folder / "boot/grub/grub.cfg").write_text(text.replace(old, f"{old} nosmt"))
    assert brief(assessed(folder)) == (
        "tdx-headroom: TDX may not come up under 6.14.0-1009-intel, which boots next:\n"
        "nosmt may leave CPUs out, and the TDX module is to refuse a host whose CPUs are\n"
        f"not all up. Stay on 6.8.0-1007-intel:\n{ONCE}{FOR_GOOD}"
    )
    (folder / "boot/grub/grub.cfg").write_text(menu(GOOD, BAD, line="nosmt kvm_intel.tdx=1 nohibernate"))
    assert brief(assessed(folder)).endswith("not all up. More: `tdx-headroom boots`.\n")


def test_only_what_is_at_risk_is_left(tmp_path: Path) -> None:
    """It is offered with that said; entries for recovery are not."""
    folder = staged_host(tmp_path / "host", BAD)
    old = f"vmlinuz-{RUNNING} root=/dev/vda ro quiet"
    (folder / "boot/grub/grub.cfg").write_text(menu(BAD, RUNNING).replace(old, f"{old} nosmt"))
    said = brief(assessed(folder))
    assert "Stay on 6.8.0-1007-intel, which is at risk (" in said.replace("\n", " ")
    assert said.endswith(ONCE + FOR_GOOD)


def test_cannot_tell(tmp_path: Path) -> None:
    """One line with the reason, where the loader's files are not understood and where kexec has a kernel."""
    folder = staged_host(tmp_path / "host", GOOD)
    loaded = folder / "sys/kernel/kexec_loaded"
    loaded.parent.mkdir(exist_ok=True)
    loaded.write_text("1\n")
    begin = "tdx-headroom: Whether TDX will come up at the next boot cannot be told: "
    assert brief(assessed(folder)) == f"{begin}a kernel is loaded by kexec; `kexec -u` unloads it.\n"
    loaded.unlink()
    (folder / "boot/grub/grub.cfg").write_text("if true; then\n")
    said = brief(assessed(folder))
    assert said.startswith(f"{begin}boot/grub/grub.cfg: ")
    assert said.count("\n") == 1


def test_from_the_network(tmp_path: Path) -> None:
    """A boot whose kernel is not known is not called by a name."""
    shutil.copytree(TESTS / "hosts/good-2-node", tmp_path / "host", symlinks=True)
    shutil.copytree(TESTS / "boots/efi-network", tmp_path / "host", symlinks=True, dirs_exist_ok=True)
    assert brief(assessed(tmp_path / "host")) == (
        "tdx-headroom: Whether TDX will come up at the next boot cannot be told: it comes from the network.\n"
    )


def test_a_kernel_that_was_installed(tmp_path: Path) -> None:
    """Where it does not boot next, there is a word about it only when it is not fine."""
    bad = staged_host(tmp_path / "bad", BAD, saved=entry_id(RUNNING))
    assert brief(assessed(bad), installed=BAD) == NEXT_IS_GOOD + (
        "tdx-headroom: TDX would not come up under 7.0.10-amd64, which was installed and\n"
        "does not boot next: Kernel 7.0.10-amd64 is built without TDX for hosts: no\n"
        "confidential guest starts under it.\n"
    )
    assert brief(assessed(bad), installed=RUNNING) == NEXT_IS_GOOD
    good = staged_host(tmp_path / "good", GOOD, saved=entry_id(RUNNING))
    assert brief(assessed(good), installed=GOOD) == NEXT_IS_GOOD
    (good / "lib/modules/7.3.0").mkdir(parents=True)
    assert brief(assessed(good), installed="7.3.0").endswith(
        "tdx-headroom: Whether TDX would come up under 7.3.0, which was installed and\n"
        "does not boot next cannot be told: no boot entry names it.\n"
    )
    assert brief(assessed(good), installed="7.9.9") == NEXT_IS_GOOD


def test_a_kernel_that_was_removed(tmp_path: Path) -> None:
    """The answer is about what boots next all the same; that it was removed is said where that is it."""
    folder = staged_host(tmp_path / "host", BAD)
    assert brief(assessed(folder), removed="6.1.0-28-amd64") == brief(assessed(folder))
    said = brief(assessed(folder), removed=BAD)
    assert "under 7.0.10-amd64, which was removed just\nnow and boots next: " in said


def test_nothing_is_promised_of_a_kernel_that_is_gone(tmp_path: Path) -> None:
    """A menu that still has a kernel whose image was removed boots nothing."""
    folder = staged_host(tmp_path / "host", GOOD)
    (folder / f"boot/vmlinuz-{GOOD}").unlink()
    assert brief(assessed(folder), removed=GOOD) == (
        "tdx-headroom: Whether TDX will come up under 6.14.0-1009-intel, which was removed just now and boots"
        " next, cannot be told: /vmlinuz-6.14.0-1009-intel is missing.\n"
    )


@pytest.fixture
def systemd_boot(tmp_path: Path) -> Path:
    """A host on which the next boot of systemd-boot would fail once, and the one after it not."""
    folder = tmp_path / "host"
    shutil.copytree(TESTS / "hosts/good-2-node", folder, symlinks=True)
    shutil.copytree(TESTS / "boots/sdboot-one-shot", folder, symlinks=True, dirs_exist_ok=True)
    old = "6.12.57+deb13-amd64"
    (folder / "efi/debian" / old).rename(folder / "efi/debian" / RUNNING)
    # Its head would tell the release.
    (folder / "efi/debian" / RUNNING / "linux").write_bytes(image_head())
    entry = folder / "efi/loader/entries/debian-6.12.57.conf"
    text = entry.read_text().replace(old, RUNNING)
    entry.write_text(text.replace("options", "options kvm_intel.tdx=1 nohibernate"))
    return folder


def test_systemd_boot(systemd_boot: Path) -> None:
    """The command is bootctl's, where there are EFI variables for it to write."""
    said = brief(assessed(systemd_boot))
    assert "which boots next,\nonly this once: " in said
    assert said.endswith("\n  bootctl set-oneshot debian-6.12.57.conf  # for one boot\n")
    shot = next((systemd_boot / "sys/firmware/efi/efivars").glob("LoaderEntryOneShot-*"))
    shot.unlink()
    conf = systemd_boot / "efi/loader/loader.conf"
    conf.write_text("default debian-7.3.4.conf\n")
    assert brief(assessed(systemd_boot)).endswith(
        "\n  bootctl set-oneshot debian-6.12.57.conf  # for one boot\n"
        "  bootctl set-default debian-6.12.57.conf  # for good\n"
    )
    conf.write_text("preferred debian-7.3.4.conf\ndefault debian-7.3.4.conf\n")
    assert brief(assessed(systemd_boot)).endswith("  # for one boot\n")


def test_a_boot_counter(systemd_boot: Path) -> None:
    """An id that has another counter after the boot is named for one boot only."""
    next((systemd_boot / "sys/firmware/efi/efivars").glob("LoaderEntryOneShot-*")).unlink()
    (systemd_boot / "efi/loader/loader.conf").write_text("default debian-7.3.4.conf\n")
    entry = systemd_boot / "efi/loader/entries/debian-6.12.57.conf"
    entry.rename(entry.with_name("debian-6.12.57+2-1.conf"))
    assert brief(assessed(systemd_boot)).endswith(
        "\n  bootctl set-oneshot debian-6.12.57+2-1.conf  # for one boot\n"
    )


@pytest.mark.parametrize("name", ["-6.12.57.conf", "debian-[6].conf"])
def test_ids_that_a_command_takes_for_something_else(systemd_boot: Path, name: str) -> None:
    """No command is given for an option, or for a pattern, which may name another entry."""
    entry = systemd_boot / "efi/loader/entries/debian-6.12.57.conf"
    entry.rename(entry.with_name(name))
    said = brief(assessed(systemd_boot))
    assert "set-oneshot" not in said
    assert "in the boot loader's menu" in " ".join(said.split())


def test_grub2(tmp_path: Path) -> None:
    """Where GRUB's files are in boot/grub2, its commands are grub2-reboot and grub2-set-default."""
    folder = staged_host(tmp_path / "host", BAD)
    (folder / "boot/grub").rename(folder / "boot/grub2")
    lines = brief(assessed(folder)).splitlines()[-2:]
    assert [line.split()[0] for line in lines] == ["grub2-reboot", "grub2-set-default"]


def test_ids_that_name_nothing(tmp_path: Path) -> None:
    """No command is given for an id that a capture has masked, or that two entries have."""
    folder = staged_host(tmp_path / "host", BAD)
    uuid = "3b1f6d0e-4f0a-4b0e-9d51-8f7c2a9b1c55"
    change_menu(folder, "advanced-/dev/vda'", f"advanced-{uuid}'")
    whole = assessed(folder)
    assert "grub-reboot 'gnulinux-advanced-" in brief(whole)
    assert whole.facts.boots is not None
    masked = assess(replace(whole.facts, boots=redacted(whole.facts.boots)))
    assert "grub-reboot" not in brief(masked)
    change_menu(folder, f"gnulinux-{RUNNING}-advanced", f"gnulinux-{BAD}-advanced")
    assert "grub-reboot" not in brief(assessed(folder))


def test_hostile_names(tmp_path: Path) -> None:
    """An id with quotes stays one word of the command, and a title commands no terminal."""
    folder = staged_host(tmp_path / "host", BAD)
    change_menu(folder, f"gnulinux-{RUNNING}-advanced-/dev/vda", 'x"; reboot $(id) `id`')
    change_menu(folder, f"with Linux {RUNNING}'", "with \x1b[31m Linux'")
    said = brief(assessed(folder))
    commands = [shlex.split(line, comments=True) for line in said.splitlines() if line.startswith("  grub")]
    assert {tuple(words[1:]) for words in commands} == {('gnulinux-advanced-/dev/vda>x"; reboot $(id) `id`',)}
    change_menu(folder, "load_env\n", "true\n")
    said = brief(assessed(folder))
    assert "\x1b" not in said
    assert "\\x1b[31m" in said


def test_lines_are_short(tmp_path: Path) -> None:
    """Whatever is said of a bad boot fits 79 columns, but for the commands."""
    said = brief(assessed(staged_host(tmp_path / "host", BAD)), installed="7.3.0")
    assert [len(line) for line in said.splitlines() if not line.startswith("  ")]
    assert max(len(line) for line in said.splitlines() if not line.startswith("  ")) <= WIDTH


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints that and nothing else, and ends with the status of the next boot."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    bad = staged_host(tmp_path / "bad", BAD)
    assert main(["boots", "--brief", "--root", str(bad), "--removed=-"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (brief(assessed(bad), removed="-"), "")
    none = staged_host(tmp_path / "none", BAD, base="no-tdx")
    assert main(["boots", "--brief", "--root", str(none)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["boots", "--brief", "--format", "json"]) == os.EX_USAGE
    assert "not allowed with argument --brief" in capsys.readouterr().err
