# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.unit.boots.kernel_images import (
    INITIALIZED,
    INITIALIZED_AT_BOOT,
    KEYIDS,
    KINDS,
    RELEASE,
    bzimage,
    image,
    module,
    run,
    vmlinux,
)

from tdx_headroom.boots.kernels import scanner as scanner_module
from tdx_headroom.boots.kernels.config import ConfigReading
from tdx_headroom.boots.kernels.image_marks import answer
from tdx_headroom.boots.kernels.marks import parse_marks
from tdx_headroom.boots.kernels.module import ModuleReading
from tdx_headroom.boots.kernels.reader import KernelReader
from tdx_headroom.boots.kernels.scanner import MAX_REMEMBERED, SCHEMA, Scanner, cache_path
from tdx_headroom.boots.kernels.traits import MarksReading, traits_of
from tdx_headroom.child import OF_CHILDREN, child_command
from tdx_headroom.facts.boots import KernelTraits, Starts, TraitsFrom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

IMAGE = f"boot/vmlinuz-{RELEASE}"
CONFIG = f"boot/config-{RELEASE}"
MODULE = f"usr/lib/modules/{RELEASE}/kernel/arch/x86/kvm/kvm-intel.ko"
BY_KVM = vmlinux([KEYIDS, INITIALIZED], exports=["tdx_enable"])
AT_BOOT = vmlinux([KEYIDS, INITIALIZED_AT_BOOT])
PLAIN = vmlinux()
TDX = "CONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM_INTEL=m\nCONFIG_KVM_INTEL_TDX=y\n# CONFIG_HIBERNATION is not set\n"


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "tdx-headroom" / "kernel-images.json")


@pytest.fixture
def scanner(cache: str) -> Scanner:
    return Scanner(cache)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("kernel", "starts"),
    [(PLAIN, Starts.NOT_BUILT), (BY_KVM, Starts.KVM_LOAD), (AT_BOOT, Starts.BOOT)],
    ids=["plain", "by-kvm", "at-boot"],
)
def test_every_way_to_pack(host_tree: HostTree, kind: str, kernel: bytes, starts: Starts) -> None:
    """However an image is packed, its class is found, in a process of its own."""
    tree = host_tree({IMAGE: image(kernel, kind), MODULE: module("tdx:bool")})
    own = Scanner(None)
    traits = KernelReader(own).traits(tree, RELEASE, IMAGE)
    assert (traits.starts, traits.known_from) == (starts, TraitsFrom.IMAGE)
    assert own.started == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("kernel", "asks", "starts"),
    [
        (PLAIN, False, Starts.NOT_BUILT),
        (BY_KVM, False, Starts.NEVER),
        (BY_KVM, True, Starts.KVM_LOAD),
        (AT_BOOT, False, Starts.BOOT),
    ],
    ids=["plain", "never", "by-kvm", "at-boot"],
)
def test_cut_short_or_damaged(
    tmp_path: Path,
    kind: str,
    kernel: bytes,
    asks: bool,  # noqa: FBT001
    starts: Starts,
) -> None:
    """An image that is cut short or damaged anywhere has its class or none, and never another's."""
    whole = image(kernel, kind)
    path = tmp_path / "vmlinuz"
    kvm = ModuleReading("kvm-intel.ko", asks, built_in=False)

    def found(data: bytes) -> Starts:
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        try:
            value = answer(fd, 0)
        finally:
            os.close(fd)
        assert ("error" in value) != ("found" in value)
        marks = parse_marks(value)
        return traits_of(ConfigReading(), kvm, MarksReading("vmlinuz", marks, ("why",))).starts

    assert found(whole) is starts
    for cut in [*range(0, 3000, 250), *range(3000, len(whole) - 600, max(1, len(whole) // 40))]:
        assert found(whole[:cut]) is Starts.UNKNOWN, cut
    for place in [*range(0x1F0, 0x260, 3), *range(0x260, len(whole), max(1, len(whole) // 150))]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        assert found(bytes(damaged)) in (starts, Starts.UNKNOWN), place


def test_configuration_is_enough(host_tree: HostTree, scanner: Scanner) -> None:
    """Where the configuration says that there is no TDX, no image is looked at."""
    tree = host_tree({CONFIG: "# CONFIG_INTEL_TDX_HOST is not set\n", IMAGE: image(AT_BOOT)})
    traits = KernelReader(scanner).traits(tree, RELEASE, IMAGE)
    assert (traits.starts, traits.known_from) == (Starts.NOT_BUILT, TraitsFrom.CONFIG)
    assert scanner.started == 0


def test_without_scanner(host_tree: HostTree) -> None:
    """An agent that does not look at images tells what the configuration does, and why not more."""
    tree = host_tree({CONFIG: TDX, MODULE: module("tdx:bool"), IMAGE: image(AT_BOOT)})
    traits = KernelReader().traits(tree, RELEASE, IMAGE)
    unread = (f"{IMAGE}: it was not looked through",)
    assert traits == KernelTraits(hibernation=False, tdx_host=True, kvm_built_in=False, unread=unread)


def test_without_image_or_release(host_tree: HostTree, scanner: Scanner) -> None:
    """An unknown image or release is a reason, and the other is still read."""
    tree = host_tree({CONFIG: TDX, IMAGE: image(AT_BOOT)})
    reader = KernelReader(scanner)
    assert reader.traits(tree, RELEASE, None).unread == ("the kernel's image is not known",)
    traits = reader.traits(tree, None, IMAGE)
    assert traits.starts is Starts.BOOT
    assert traits.unread == ("the kernel's release is not known",)
    assert reader.traits(tree, "../x", None).starts is Starts.UNKNOWN


def test_inside_another_file(host_tree: HostTree, scanner: Scanner) -> None:
    """An image inside a unified kernel image is looked through from where it begins."""
    tree = host_tree({"boot/x.efi": b"MZ" + bytes(3000) + image(AT_BOOT)})
    assert KernelReader(scanner).traits(tree, None, "boot/x.efi", offset=3002).starts is Starts.BOOT
    assert KernelReader(scanner).traits(tree, None, "boot/x.efi").starts is Starts.UNKNOWN


def test_remembered(host_tree: HostTree, cache: str) -> None:
    """An image is looked through once, by all runs together, until it changes."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    first, second = Scanner(cache), Scanner(cache)
    marks = first.marks(tree, IMAGE)
    assert marks == first.marks(tree, IMAGE) == second.marks(tree, IMAGE)
    assert (first.started, second.started) == (1, 0)
    assert stat.S_IMODE(Path(cache).stat().st_mode) == 0o600
    path = Path(tree.locate(IMAGE))
    path.write_bytes(image(BY_KVM))
    os.utime(path, ns=(1, 1))
    third = Scanner(cache)
    assert third.marks(tree, IMAGE) != marks
    assert third.started == 1


def test_secrets_stay_out_of_reach_of_an_image(
    host_tree: HostTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that unpacks it, and the program that helps, see no variable but those of all children."""
    for name in ("TOKEN", "SSH_AUTH_SOCK", "LD_LIBRARY_PATH", "HOME", "CACHE_DIRECTORY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = tmp_path / "variables"
    (tmp_path / "lzop").write_text(f"#!/bin/sh\nexec /usr/bin/env >{seen}.program\n")
    (tmp_path / "lzop").chmod(0o755)
    code = (
        "import os; from tdx_headroom.boots.kernels.unpack_libraries import _by_program; "
        f"open({str(seen)!r}, 'w').write(chr(10).join(f'{{n}}=' for n in os.environ)); "
        "list(_by_program(['lzop'], iter([]), 'lzo', 'lzop'))"
    )
    python = [*child_command("cli", [])[:3], f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    monkeypatch.setattr(scanner_module, "child_command", lambda *_: python)
    Scanner(None).marks(host_tree({IMAGE: image(AT_BOOT)}), IMAGE)
    for path, more in ((seen, {"GLIBC_TUNABLES"}), (Path(f"{seen}.program"), set())):
        variables = {line.partition("=")[0] for line in path.read_text().splitlines()}
        of_a_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
        assert {name for name in variables - of_a_shell if not re.fullmatch(OF_CHILDREN, name)} == more
        assert {"PATH", "LC_ALL"} <= variables


def test_failure_is_not_remembered(host_tree: HostTree, cache: str) -> None:
    """What failed is tried again by the next run only: a library may be there by then."""
    tree = host_tree({IMAGE: bzimage(b"no known way to pack")})
    own = Scanner(cache)
    for _ in range(2):
        assert own.marks(tree, IMAGE).unread == (f"{IMAGE}: it is packed in no known way",)
    assert own.started == 1
    assert not Path(cache).exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema": 0, "images": {}}',
        b"[" * 200_000,
        json.dumps({"schema": SCHEMA, "images": []}).encode(),
    ],
)
def test_damaged_memory(host_tree: HostTree, cache: str, damage: bytes) -> None:
    """A damaged or older file of results is as good as none, and replaced."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    Path(cache).parent.mkdir(parents=True)
    Path(cache).write_bytes(damage)
    own = Scanner(cache)
    assert own.marks(tree, IMAGE).marks is not None
    assert own.started == 1
    assert json.loads(Path(cache).read_bytes())["schema"] == SCHEMA


@pytest.mark.parametrize(
    "value", [None, {}, {"found": ["x"], "exports": True, "types": True}, {"found": [[]]}]
)
def test_damaged_entry(host_tree: HostTree, cache: str, value: object) -> None:
    """One entry that means nothing is left out."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    Scanner(cache).marks(tree, IMAGE)
    data = json.loads(Path(cache).read_bytes())
    (key,) = data["images"]
    Path(cache).write_text(json.dumps({**data, "images": {key: value, "other": data["images"][key]}}))
    own = Scanner(cache)
    assert own.marks(tree, IMAGE).marks is not None
    assert own.started == 1


def test_memory_of_others(host_tree: HostTree, cache: str) -> None:
    """A file of results that others may write to is not believed."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    Scanner(cache).marks(tree, IMAGE)
    Path(cache).chmod(0o666)
    own = Scanner(cache)
    own.marks(tree, IMAGE)
    assert own.started == 1


def test_memory_is_bounded(host_tree: HostTree, scanner: Scanner, cache: str) -> None:
    """Only so many images are remembered, the last ones."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    marks = scanner.marks(tree, IMAGE).marks
    assert marks is not None
    scanner_module._save(cache, {str(i): marks for i in range(2 * MAX_REMEMBERED)})
    assert list(scanner_module._load(cache)) == [str(i) for i in range(MAX_REMEMBERED, 2 * MAX_REMEMBERED)]


def test_memory_that_cannot_be_written(host_tree: HostTree, tmp_path: Path) -> None:
    """Where results cannot be kept they are still found."""
    tree = host_tree({IMAGE: image(AT_BOOT)})
    (tmp_path / "file").write_text("")
    assert Scanner(str(tmp_path / "file" / "x" / "y.json")).marks(tree, IMAGE).marks is not None


@pytest.mark.parametrize(
    ("user", "environment", "path"),
    [
        (1000, {"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/tdx-headroom/kernel-images.json"),
        (1000, {"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache/tdx-headroom/kernel-images.json"),
        (1000, {"HOME": "/h"}, "/h/.cache/tdx-headroom/kernel-images.json"),
        (1000, {"HOME": ""}, None),
        (1000, {}, None),
        (0, {"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/var/cache/tdx-headroom-boots/kernel-images.json"),
        (0, {}, "/var/cache/tdx-headroom-boots/kernel-images.json"),
        (0, {"CACHE_DIRECTORY": "/u", "HOME": "/h"}, "/u/kernel-images.json"),
    ],
)
def test_where_it_remembers(
    monkeypatch: pytest.MonkeyPatch, user: int, environment: dict[str, str], path: str | None
) -> None:
    """Results are in the user's folder for caches, if there is one; root's in one place, whatever HOME is."""
    monkeypatch.setattr("os.geteuid", lambda: user)
    for name in ("CACHE_DIRECTORY", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_path() == path


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", "looking through it takes too long"),
        ("print('x' * 100000)", "looking through it was ended: it takes too much time or memory"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "looking through it was ended: it takes too much time or memory",
        ),
        ("print('[]')", "it was not looked through"),
        ('print(\'{"error": "it is on fire"}\')', "it is on fire"),
    ],
)
def test_process_that_goes_wrong(
    host_tree: HostTree, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """A process that hangs, talks too much or dies is ended, and leaves a reason."""
    monkeypatch.setattr(scanner_module, "child_command", lambda *_: [sys.executable, "-c", code])
    tree = host_tree({IMAGE: image(AT_BOOT)})
    assert Scanner(None, seconds=1).marks(tree, IMAGE).unread == (f"{IMAGE}: {reason}",)


def test_no_process(host_tree: HostTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started, that is the reason."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    tree = host_tree({IMAGE: image(AT_BOOT)})
    (why,) = Scanner(None).marks(tree, IMAGE).unread
    assert why.startswith(f"{IMAGE}: no process to look through it: ")


def test_folder_of_the_user_does_not_count(
    host_tree: HostTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process imports nothing from the folder that it is started in."""
    (tmp_path / "json.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Scanner(None).marks(host_tree({IMAGE: image(AT_BOOT)}), IMAGE).marks is not None


def test_image_that_is_no_file(host_tree: HostTree, scanner: Scanner) -> None:
    """A missing image, a folder, and one that leads out of the tree cost no process."""
    tree = host_tree({"boot/empty": ""})
    Path(tree.locate("boot/out")).symlink_to("/etc/passwd")
    os.mkfifo(tree.locate("boot/fifo"))
    for path, reason in (
        ("boot/no", "boot/no: No such file or directory"),
        ("boot", "boot: it is not a regular file"),
        ("boot/fifo", "boot/fifo: it is not a regular file"),
        ("boot/out", "boot/out is a link that leads out of the tree"),
    ):
        assert scanner.marks(tree, path).unread == (reason,)
    assert scanner.started == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is cut short"),
        (b"MZ" + bytes(4096), "it is no bzImage: no HdrS at 0x202"),
        (bzimage(b""), "its head does not tell where the packed kernel is"),
        (bzimage(b"x" * 9, version=0x207), "its head does not tell where the packed kernel is"),
        (image(AT_BOOT)[:3500], "it is cut short"),
    ],
)
def test_head_is_enough(host_tree: HostTree, scanner: Scanner, content: bytes, reason: str) -> None:
    """Where the head of a file tells that there is no kernel to look through, no process is started."""
    assert scanner.marks(host_tree({IMAGE: content}), IMAGE).unread == (f"{IMAGE}: {reason}",)
    assert scanner.started == 0


@pytest.mark.program("zstd")
def test_bomb(host_tree: HostTree) -> None:
    """An image that unpacks to gigabytes is given up at a bound, with little memory."""
    payload = run("zstd", "-1", "-c", "-q")(AT_BOOT + bytes(513 << 20)) + bytes(4)
    tree = host_tree({IMAGE: bzimage(payload)})
    assert Scanner(None).marks(tree, IMAGE).unread == (f"{IMAGE}: it holds more than 512 MiB",)
