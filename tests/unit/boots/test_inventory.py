# SPDX-License-Identifier: Apache-2.0
"""Whole hosts with what is staged on them: which boot comes next, and what becomes of TDX with it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.efi import boot_option, numbers, variable

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.capture.build import make_capture
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, mask
from tdx_headroom.facts.boots import Change, Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs.archive import read_archive
from tdx_headroom.inputs.archived_host import MAX_LINKED
from tdx_headroom.inputs.compressed import decompressed
from tdx_headroom.inputs.read import facts_of_root
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.sources.registry import SELECTION
from tdx_headroom.verdict.assessment import Assessment, assess

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.hostfs.memory import MemoryRoot

TESTS = Path(__file__).resolve().parents[2]
EXPECTED: dict[str, Any] = json.loads((TESTS / "boots/expected.json").read_text("utf-8"))
HOST = TESTS / "hosts/good-2-node"
READER = BootReader(Scanner(None))


def merged(layout: str, folder: Path) -> Root:
    """A TDX host with what a layout has staged on it."""
    shutil.copytree(HOST, folder, symlinks=True)
    shutil.copytree(TESTS / "boots" / layout, folder, symlinks=True, dirs_exist_ok=True)
    return Root(folder)


def assessed(files: HostFiles) -> Assessment:
    return assess(read_facts(files, boots=READER))


def told(assessment: Assessment) -> dict[str, Any]:
    """What is said of the boot that comes next, in the form of tests/boots/expected.json."""
    plan = to_json(assessment)
    coming = [boot for boot in plan["boots"] if "next" in boot["roles"]]
    assert len(coming) <= 1
    if not coming:
        assert (plan["verdict"]["next_boot"], plan["verdict"]["boots_next"]) == (None, None)
        return {"unknown": plan["verdict"]["boots_unknown"]}
    (boot,) = coming
    assert plan["verdict"]["boots_next"] == boot["kernel_release"]
    assert plan["verdict"]["entry_next"] == boot["entry"]
    assert plan["verdict"]["next_boot"] in (boot["verdict"], None)
    found = {key: boot[key] for key in ("kernel_release", "command_line", "roles", "verdict", "starts_tdx")}
    return found | {"findings": [f["kind"] for f in boot["findings"] if f["severity"] != "note"]}


def test_every_layout_has_an_answer() -> None:
    """Nothing lies in tests/boots that nobody looks at."""
    assert {path.name for path in (TESTS / "boots").iterdir() if path.is_dir()} == set(EXPECTED)


@pytest.mark.parametrize("layout", EXPECTED)
def test_layout(layout: str, tmp_path: Path) -> None:
    """Release, command line, roles and verdict of the next boot are right, from the tree and its capture."""
    root = merged(layout, tmp_path / "host")
    whole = assessed(root)
    assert told(whole) == EXPECTED[layout]
    data = make_capture(root, 0, keep_host_name=False).data
    again = assessed(read_archive(decompressed(io.BytesIO(data), "x", 1 << 30), "x", SELECTION))
    assert told(again) == {
        key: mask(value) if isinstance(value, str) else value for key, value in EXPECTED[layout].items()
    }


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("options kvm-intel ept=0\n", "kvm-option-off"),
        ("install kvm_intel /bin/true\n", "kvm-not-loaded"),
        ("blacklist kvm_intel\n", "kvm-may-not-be-loaded"),
    ],
)
def test_how_kvm_is_loaded(text: str, kind: str, tmp_path: Path) -> None:
    """Modprobe's configuration on the disk tells of the next boot, from the tree and from its capture."""
    root = merged("debian-two-saved", tmp_path / "host")
    (tmp_path / "host/etc/modprobe.d").mkdir(parents=True)
    (tmp_path / "host/etc/modprobe.d/kvm.conf").write_text(text)
    data = make_capture(root, 0, keep_host_name=False).data
    again = read_archive(decompressed(io.BytesIO(data), "x", 1 << 30), "x", SELECTION)
    for files in (root, again):
        boots = assessed(files).boots or ()
        running = next(boot for boot in boots if Role.RUNNING in boot.entry.roles)
        assert running.verdict is not None
        assert kind in {finding.kind for finding in running.verdict.findings}


def test_a_capture_holds_no_secrets(tmp_path: Path) -> None:
    """Passwords, ids of file systems, and arguments that are not about memory stay on the host."""
    root = merged("debian-two-saved", tmp_path / "host")
    config = tmp_path / "host/boot/grub/grub.cfg"
    config.chmod(0o600)
    secret = "password_pbkdf2 root grub.pbkdf2.sha512.10000.DEADBEEF\n"
    config.write_text(f"{secret}{config.read_text()}".replace("nohibernate", "nohibernate ip=10.1.2.3"))
    files = read_archive(
        decompressed(io.BytesIO(make_capture(root, 0, keep_host_name=False).data), "x", 1 << 30),
        "x",
        SELECTION,
    )
    assert files.exists(INVENTORY_PATH)
    assert not [path for path in files.files if path.startswith(("boot/", "efi/", "etc/"))]
    everything = "".join(files.files.values())
    assert not [word for word in ("pbkdf2", "DEADBEEF", "10.1.2.3", "root=") if word in everything]


@pytest.mark.parametrize(
    ("config", "unknown"),
    [
        ("menuentry x {\nlinux /boot/vmlinuz-6.1.0 nohibernate\n}\n", None),
        ("menuentry {", "boot/grub/grub.cfg: line 1 is no GRUB script"),
    ],
)
def test_a_tree_with_nothing_but_boot(config: str, unknown: str | None, tmp_path: Path) -> None:
    """Its next boot, or why that is not known, is told from the tree and from its capture."""
    (tmp_path / "boot/grub").mkdir(parents=True)
    (tmp_path / "boot/grub/grub.cfg").write_text(config)
    (tmp_path / "boot/vmlinuz-6.1.0").touch()
    data = make_capture(Root(tmp_path), 0, keep_host_name=False).data
    capture = read_archive(decompressed(io.BytesIO(data), "x", 1 << 30), "x", SELECTION)
    for files in (Root(tmp_path), capture):
        plan = to_json(assess(facts_of_root(files, "x")))
        assert plan["verdict"]["boots_unknown"] == unknown
        assert plan["verdict"]["boots_next"] == (None if unknown else "6.1.0")


@pytest.mark.parametrize("efi", [True, False])
def test_a_bios_starts_no_efi_program(efi: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Beside GRUB systemd-boot is a leftover where the firmware is none of EFI, and else a question."""
    root = merged("debian-one", tmp_path / "host")
    (tmp_path / "host/boot/efi/loader").mkdir(parents=True)
    (tmp_path / "host/boot/efi/loader/loader.conf").write_text("timeout 3\n")
    if efi:
        shutil.rmtree(tmp_path / "host/sys/firmware")
    found = inventory(root)
    assert (found.unknown is None) is not efi
    assert any(Role.NEXT in entry.roles for entry in found.entries) is not efi


def inventory(root: Root) -> BootInventory:
    found = READER.read(root).value
    assert found is not None
    return found


def test_nothing_on_disk(tmp_path: Path) -> None:
    """Where no boot configuration is found, the running kernel is taken to come again, and that is said."""
    shutil.copytree(HOST, tmp_path / "host")
    found = inventory(Root(tmp_path / "host"))
    (entry,) = found.entries
    assert entry.roles == (Role.RUNNING, Role.NEXT)
    assert (entry.known_from, found.configured, found.unknown) == ("the running kernel", False, None)


@pytest.mark.parametrize(
    ("line", "differs"),
    [
        ("BOOT_IMAGE=/vmlinuz root=/dev/vda ro kvm_intel.tdx=1", ()),
        ("BOOT_IMAGE=/vmlinuz root=/dev/vda ro", (Change.COMMAND_LINE,)),
        ("root=/dev/vda  ro kvm_intel.tdx=1 quiet", (Change.COMMAND_LINE,)),
    ],
)
def test_the_running_entry(line: str, differs: tuple[Change, ...], tmp_path: Path) -> None:
    """The entry whose kernel and line run is the running one; the same release on another line is pending."""
    root = merged("debian-one", tmp_path / "host")
    proc = tmp_path / "host/proc"
    (proc / "sys/kernel/osrelease").write_text("6.12.0-1-amd64\n")
    (proc / "cmdline").write_text(f"{line}\n")
    (proc / "stat").write_text("btime 4000000000\n")
    config = tmp_path / "host/boot/grub/grub.cfg"
    config.chmod(0o600)
    text = config.read_text()
    first = next(row for row in text.splitlines() if row.strip().startswith("linux"))
    image = first.split()[1]
    config.write_text(text.replace(first, f"linux {image} root=/dev/vda ro kvm_intel.tdx=1", 1))
    found = inventory(root)
    coming = next(entry for entry in found.entries if Role.NEXT in entry.roles)
    assert coming.differs == differs
    assert (Role.RUNNING in coming.roles) is not bool(differs)
    assert Role.RUNNING in found.entries[0].roles


def test_a_rebuilt_initial_ram_disk_is_pending(tmp_path: Path) -> None:
    """The same kernel and line with a younger initial RAM disk is not the running boot any more."""
    root = merged("debian-one", tmp_path / "host")
    (tmp_path / "host/proc/sys/kernel/osrelease").write_text("6.12.0-1-amd64\n")
    (tmp_path / "host/proc/stat").write_text("btime 100\n")
    coming = next(entry for entry in inventory(root).entries if Role.NEXT in entry.roles)
    assert coming.differs is not None
    assert Change.INITRD in coming.differs


def test_kexec_comes_first(tmp_path: Path) -> None:
    """With a kernel loaded by kexec nothing shows which boots next: there is an entry for it, and no next."""
    root = merged("debian-one", tmp_path / "host")
    kexec = tmp_path / "host/sys/kernel/kexec_loaded"
    kexec.parent.mkdir(parents=True, exist_ok=True)
    kexec.write_text("1\n")
    assessment = assessed(root)
    plan = to_json(assessment)
    assert plan["verdict"]["boots_next"] is None
    assert [b["verdict"] for b in plan["boots"] if b["roles"] == ["kexec"]] == ["cannot-tell"]
    assert not [b for b in plan["boots"] if "next" in b["roles"]]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema": "x"}', '{"schema": "tdx-headroom/boots/1", "entries": 3}']
)
def test_damaged_inventory(text: str, tmp_path: Path) -> None:
    """An inventory file that cannot be used is an error of one line, and the rest of the host is read."""
    shutil.copytree(HOST, tmp_path / "host")
    path = tmp_path / "host" / INVENTORY_PATH
    path.parent.mkdir(parents=True)
    path.write_text(text)
    reading = READER.read(Root(tmp_path / "host"))
    assert reading.value is None
    assert "\n" not in str(reading.error)
    assert assessed(Root(tmp_path / "host")).boots is None


def packed(folder: Path) -> MemoryRoot:
    """A tree as a tar archive, links as links, read as one that a user names."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(folder, "host")
    data.seek(0)
    return read_archive(decompressed(data, "x", 1 << 30), "x", SELECTION)


def test_a_link_to_a_directory_in_an_archive(tmp_path: Path) -> None:
    """ostree's ``loader`` is a link: in an archive it leads to the entries as it does on the host."""
    folder = tmp_path / "host"
    shutil.copytree(HOST, folder)
    entries = folder / "boot/loader.1/entries"
    entries.mkdir(parents=True)
    (folder / "boot/loader").symlink_to("loader.1")
    (folder / "boot/grub2").mkdir()
    (folder / "boot/grub2/grub.cfg").write_text("load_env\nblscfg\n")
    (folder / "boot/grub2/grubenv").write_text("# GRUB Environment Block\n".ljust(1024, "#"))
    (folder / "boot/vmlinuz-6.8.9").touch()
    (entries / "ostree-1.conf").write_text("title A\nversion 1\nlinux /vmlinuz-6.8.9\noptions hugepages=4\n")
    for files in (Root(folder), packed(folder)):
        coming = assessed(files).coming
        assert coming is not None
        assert (coming.entry.release, coming.entry.arguments) == ("6.8.9", ("hugepages=4",))


def test_many_links_to_a_directory(tmp_path: Path) -> None:
    """However many links an archive has to a directory, and they to it, what they add is bounded."""
    entries = tmp_path / "boot/loader.1/entries"
    entries.mkdir(parents=True)
    for number in range(300):
        (entries / f"{number}.conf").write_text("title A\n")
    for number in range(200):
        (tmp_path / f"boot/{number}.conf").symlink_to("loader.1")
    files = packed(tmp_path)
    assert len(files.files) == 300 + MAX_LINKED


@pytest.mark.parametrize(("file", "told"), [("fedora", "6.18.1"), ("centos", "6.12.0"), ("BOOT", None)])
def test_the_loader_of_two_that_the_firmware_starts(file: str, told: str | None, tmp_path: Path) -> None:
    """Where two systems keep their menus on the ESP, that of the loader which comes next counts."""
    files = boot_option(1, "x", rf"\EFI\{file}\grubx64.efi") | variable("BootOrder", numbers(1))
    for name, release in (("centos", "6.12.0"), ("fedora", "6.18.1")):
        files[f"boot/efi/EFI/{name}/grub.cfg"] = f"menuentry x {{\nlinux /vmlinuz-{release}\n}}\n".encode()
        files[f"boot/vmlinuz-{release}"] = b""
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = inventory(Root(tmp_path))
    assert [entry.release for entry in found.entries if Role.NEXT in entry.roles] == ([told] if told else [])
    assert (found.unknown is None) is (told is not None)
