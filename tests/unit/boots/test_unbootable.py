# SPDX-License-Identifier: Apache-2.0
"""Entries whose kernel a boot loader cannot start: nothing good is said of them anywhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.tools.efi import SYSTEMD_BOOT, boot_option, numbers, variable
from tests.tools.images import image_head
from tests.tools.staged import RUNNING, TESTS, block, entry_id, staged_host
from tests.unit.boots.kernel_images import bzimage

from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.cli import main
from tdx_headroom.facts.boots import Role
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.output.labels import render_labels
from tdx_headroom.output.metrics import collect
from tdx_headroom.verdict.assessment import Assessment, assess
from tdx_headroom.verdict.check_model import Result
from tdx_headroom.verdict.checks import run_checks
from tdx_headroom.verdict.fleet import Fit, audit_host, targets_of
from tdx_headroom.verdict.model import State

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "6.14.0-1009-intel"
IMAGE = f"boot/vmlinuz-{GOOD}"
INITRD = f"boot/initrd.img-{GOOD}"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))


def assessed(folder: Path) -> Assessment:
    return assess(read_facts(Root(folder), boots=BootReader(Scanner(None))))


def starts_next(folder: Path, program: str) -> None:
    """Have the firmware start a program."""
    files = boot_option(1, "x", program) | variable("BootOrder", numbers(1))
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def whole() -> bytes:
    """An image that says how long it is, with no release of its own, and packed in no known way."""
    found = bytearray(bzimage(b"x" * 5000))
    found[0x20E:0x210] = bytes(2)
    return bytes(found)


def damaged(folder: Path, how: str) -> None:
    path = folder / IMAGE
    data = whole()
    if how == "missing":
        path.unlink()
        return
    cut = {
        "empty": b"",
        "head cut": data[:300],
        "kernel cut": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "as it is": data,
        "packed": b"\x1f\x8b" + bytes(4000),
    }
    path.write_bytes(cut[how])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", f"/vmlinuz-{GOOD} is missing"),
        ("empty", f"{IMAGE}: it is empty"),
        ("head cut", f"{IMAGE}: it is cut short"),
        ("kernel cut", f"{IMAGE}: it is cut short"),
        ("zeros", f"{IMAGE}: it is no bzImage"),
        ("as it is", None),
        ("packed", None),
    ],
)
def test_one_answer_everywhere(
    how: str, why: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel that cannot be loaded is no promise in any output, and each that has words says why."""
    folder = staged_host(tmp_path / "host", GOOD)
    damaged(folder, how)
    root = str(folder)
    for brief in ([], ["--brief"]):
        status = main(["boots", "--root", root, "--no-color", *brief])
        said = " ".join(capsys.readouterr().out.split())
        assert status == (0 if why is None else 3)
        assert why is None or why in said
    assessment = assessed(folder)
    good = why is None
    assert assessment.next_boot is (State.WILL_INITIALIZE if good else None)
    assert (b"next-boot-tdx=true" in render_labels(assessment)) is good
    samples = {
        (name, labels): value
        for metric in collect(assessment, None)
        for name, labels, value in ((s.name, tuple(s.labels.values()), s.value) for s in metric.samples)
    }
    assert samples["tdx_next_boot", ("cannot-tell",)] == (not good)
    assert samples["tdx_next_boot", ("will-initialize",)] == good
    checks = {check.name: check for check in run_checks(assessment) if check.group == "next boot"}
    assert checks["tdx"].result is (Result.PASS if good else Result.WARN)
    assert why is None or why in checks["tdx"].message
    (result,) = audit_host(assessment.facts, "x", None, targets_of((), next_boot=True)).targets
    assert (result.fit is Fit.CANNOT_TELL) is not good


def test_what_fails_still_fails(tmp_path: Path) -> None:
    """Under a kernel without TDX it does not come up, be its image whole or not."""
    folder = staged_host(tmp_path / "host", "7.0.10-amd64")
    (folder / "boot/vmlinuz-7.0.10-amd64").write_bytes(b"")
    assert assessed(folder).next_boot is State.WILL_FAIL


def test_the_running_kernel_whose_image_is_gone(tmp_path: Path) -> None:
    """It runs, and cannot be booted again."""
    folder = staged_host(tmp_path / "host", GOOD, saved=entry_id(RUNNING))
    assert assessed(folder).next_boot is State.WILL_INITIALIZE
    (folder / f"boot/vmlinuz-{RUNNING}").unlink()
    assessment = assessed(folder)
    assert assessment.coming is not None
    assert Role.RUNNING in assessment.coming.entry.roles
    assert assessment.next_boot is None
    assert [c.result for c in run_checks(assessment) if (c.group, c.name) == ("next boot", "tdx")] == [
        Result.WARN
    ]


@pytest.mark.parametrize("any_left", [True, False])
def test_a_missing_initial_ram_disk(any_left: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """GRUB stops at it; a captured tree that has none of them at all was made without them."""
    folder = staged_host(tmp_path / "host", GOOD)
    for path in (folder / "boot").glob("initrd*"):
        if not any_left or path.name == f"initrd.img-{GOOD}":
            path.unlink()
    coming = assessed(folder).coming
    assert coming is not None
    assert coming.state is (State.CANNOT_TELL if any_left else State.WILL_INITIALIZE)
    assert coming.entry.unknown == (
        f"/initrd.img-{GOOD}: this initial RAM disk is missing" if any_left else None
    )


def test_a_sosreport_has_no_images(tmp_path: Path) -> None:
    """It holds GRUB's configuration and no kernel: that says nothing about the host's."""
    folder = staged_host(tmp_path / "host", GOOD)
    for path in (*(folder / "boot").glob("vmlinuz*"), *(folder / "boot").glob("initrd*")):
        path.unlink()
    (folder / "boot/grub/grubenv").write_text(block())
    (folder / "sos_commands").mkdir()
    assert assessed(folder).next_boot is State.WILL_INITIALIZE


@pytest.mark.parametrize("broken", ["linux", "initrd.img", None])
def test_systemd_boot(broken: str | None, tmp_path: Path) -> None:
    """An empty image, or one of several initial RAM disks that is not there."""
    folder = tmp_path / "host"
    shutil.copytree(TESTS / "hosts/good-2-node", folder, symlinks=True)
    entries = folder / "efi/loader/entries"
    entries.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "efi" / name).mkdir()
        (folder / "efi" / name / "linux").write_bytes(image_head())
        (folder / "efi" / name / "initrd.img").write_bytes(b"disk")
        (entries / f"{name}.conf").write_text(
            f"version {GOOD}\nlinux /{name}/linux\ninitrd /{name}/initrd.img\n"
            "options kvm_intel.tdx=1 nohibernate\n"
        )
    (folder / "efi/loader/loader.conf").write_text("default a.conf\n")
    starts_next(folder, SYSTEMD_BOOT)
    # The release is in the path, as kernel-install has it.
    (folder / "efi/a").rename(folder / f"efi/{GOOD}")
    text = (entries / "a.conf").read_text().replace("/a/", f"/{GOOD}/")
    (entries / "a.conf").write_text(text)
    if broken == "linux":
        (folder / f"efi/{GOOD}/linux").write_bytes(b"")
    elif broken is not None:
        (folder / f"efi/{GOOD}/{broken}").unlink()
    coming = assessed(folder).coming
    assert coming is not None
    assert coming.entry.release == GOOD
    assert coming.state is (State.WILL_INITIALIZE if broken is None else State.CANNOT_TELL)


def test_a_unified_image_that_is_gone(tmp_path: Path) -> None:
    """What the firmware starts by itself and is not found is no reason to take another loader's menu."""
    folder = staged_host(tmp_path / "host", GOOD)
    starts_next(folder, r"\EFI\Linux\new.efi")
    assessment = assessed(folder)
    assert (assessment.coming, assessment.next_boot) == (None, None)
    assert r"\EFI\Linux\new.efi" in str(assessment.boots_unknown)
