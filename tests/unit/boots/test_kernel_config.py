# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.boots.kernels.config import MAX_CONFIG, KernelConfig, parse_config, read_config
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boots import Lockdown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

HEAD = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.18.15 Kernel Configuration\n#\n"
WHOLE = (
    HEAD
    + "CONFIG_PRINTK=y\nCONFIG_X86_64=y\nCONFIG_INTEL_TDX_HOST=y\n# CONFIG_CMDLINE_BOOL is not set\n"
    + "CONFIG_HIBERNATION=y\nCONFIG_KVM_INTEL=m\nCONFIG_KVM_INTEL_TDX=y\nCONFIG_MODULES=y\n"
)


def test_whole() -> None:
    """Every switch that matters is read."""
    assert parse_config(WHOLE) == KernelConfig(
        tdx_host=True, kvm_intel="m", kvm_intel_tdx=True, hibernation=True, lockdown=Lockdown.NEVER
    )


EARLY = "CONFIG_SECURITY_LOCKDOWN_LSM=y\nCONFIG_SECURITY_LOCKDOWN_LSM_EARLY=y\n"


@pytest.mark.parametrize(
    ("lines", "whole", "part"),
    [
        ("", Lockdown.NEVER, None),
        ("# CONFIG_SECURITY_LOCKDOWN_LSM is not set\n", Lockdown.NEVER, Lockdown.NEVER),
        # It begins only when the kernel has looked for TDX.
        (
            "CONFIG_SECURITY_LOCKDOWN_LSM=y\n# CONFIG_SECURITY_LOCKDOWN_LSM_EARLY is not set\n",
            Lockdown.NEVER,
            Lockdown.NEVER,
        ),
        (EARLY, Lockdown.ASKED, None),
        (f"{EARLY}CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT=y\n", Lockdown.SECURE_BOOT, Lockdown.SECURE_BOOT),
        (f"{EARLY}# CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT is not set\n", Lockdown.ASKED, None),
        (f"{EARLY}CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y\n", Lockdown.ALWAYS, Lockdown.ALWAYS),
        ("CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT=y\n", Lockdown.NEVER, Lockdown.SECURE_BOOT),
    ],
)
def test_lockdown(lines: str, whole: Lockdown, part: Lockdown | None) -> None:
    """What locks a kernel down in time; what some lines do not tell is unknown."""
    assert parse_config(WHOLE + lines).lockdown is whole
    assert parse_config(f"CONFIG_A=y\n{lines}").lockdown is part


def test_a_line_that_says_no_and_no_line() -> None:
    """A switch that is not set differs from one that the kernel does not know."""
    text = WHOLE.replace("CONFIG_KVM_INTEL_TDX=y", "# CONFIG_KVM_INTEL_TDX is not set")
    assert parse_config(text).kvm_intel_tdx is False
    assert parse_config(WHOLE.replace("CONFIG_KVM_INTEL_TDX=y\n", "")).kvm_intel_tdx is None


@pytest.mark.parametrize(
    "text", ["CONFIG_KVM_INTEL=m\n", "# CONFIG_INTEL_TDX_HOST is not set\n", "CONFIG_A=m"]
)
def test_without_tdx(text: str) -> None:
    """Without INTEL_TDX_HOST=y there is no TDX, and of what some lines do not tell nothing is known."""
    config = parse_config(text)
    assert not config.tdx_host
    assert config.hibernation is None


@pytest.mark.parametrize(
    "line", ["CONFIG_INTEL_TDX_HOST=m", " CONFIG_INTEL_TDX_HOST=y", "#CONFIG_INTEL_TDX_HOST=y"]
)
def test_nearly_set(line: str) -> None:
    """What kconfig does not write does not set anything."""
    assert not parse_config(f"CONFIG_A=y\n{line}\n").tdx_host


def test_last_line_counts() -> None:
    """Of several lines about a switch the last counts, as in kconfig."""
    assert not parse_config("CONFIG_INTEL_TDX_HOST=y\n# CONFIG_INTEL_TDX_HOST is not set\n").tdx_host


@pytest.mark.parametrize(
    ("lines", "built_in", "overrides"),
    [
        ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="mem=8G quiet"\n', "mem=8G quiet", False),
        ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="mem=8G"\nCONFIG_CMDLINE_OVERRIDE=y\n', "mem=8G", True),
        ('# CONFIG_CMDLINE_BOOL is not set\nCONFIG_CMDLINE="mem=8G"\n', "", False),
        ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE=""\nCONFIG_CMDLINE_OVERRIDE=y\n', "", False),
        ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="x=\\"a b\\" \\\\"\n', 'x="a b" \\', False),
    ],
)
def test_built_in_arguments(lines: str, built_in: str, overrides: bool) -> None:  # noqa: FBT001
    """Arguments that are built in come without quotes, and only where they are in force."""
    config = parse_config(lines)
    assert (config.built_in, config.overrides) == (built_in, overrides)


@pytest.mark.parametrize("text", ["", "\n", "hello\n", "\x7fELF\\x02"])
def test_no_configuration(text: str) -> None:
    """A file without switches is no configuration."""
    with pytest.raises(SourceError, match="no kernel's configuration"):
        parse_config(text)


def test_cut_short_anywhere() -> None:
    """A whole configuration that is cut before its line about modules never says that there is no TDX."""
    for size in range(len(HEAD), WHOLE.index("CONFIG_MODULES")):
        with pytest.raises(SourceError):
            parse_config(WHOLE[:size])


PLACES = [
    "boot/config-6.1-x",
    "usr/lib/modules/6.1-x/config",
    "lib/modules/6.1-x/config",
    "usr/lib/ostree-boot/config-6.1-x",
]


@pytest.mark.parametrize("path", PLACES)
def test_places(host_tree: HostTree, path: str) -> None:
    """A configuration is found wherever distributions put it."""
    reading = read_config(host_tree({path: WHOLE}), "6.1-x")
    assert reading.path == path
    assert reading.config == parse_config(WHOLE)
    assert not reading.unread


def test_damaged_one_is_passed_over(host_tree: HostTree) -> None:
    """A damaged file is named, and the next place is looked at."""
    reading = read_config(host_tree({PLACES[0]: b"\xff\xfe", PLACES[1]: WHOLE}), "6.1-x")
    assert reading.path == PLACES[1]
    assert reading.unread == ("boot/config-6.1-x: it is no kernel's configuration",)


def test_none(host_tree: HostTree) -> None:
    """Where there is none, that is what is told."""
    reading = read_config(host_tree({}), "6.1-x")
    assert reading == ("", None, ("boot/config-6.1-x: there is no configuration",))


def test_too_large(host_tree: HostTree) -> None:
    """An absurdly large file is refused."""
    reading = read_config(host_tree({PLACES[0]: bytes(MAX_CONFIG + 1)}), "6.1-x")
    assert reading.unread == ("boot/config-6.1-x is larger than 4 MiB",)


@pytest.mark.parametrize("release", ["", "..", ".", "../../etc", "a/b", "a\nb", "x" * 300])
def test_release_that_is_no_name(host_tree: HostTree, release: str) -> None:
    """A release that would lead elsewhere leads nowhere."""
    reading = read_config(host_tree({}), release)
    assert reading.unread == ("the kernel's release is no file name",)


def test_running_kernel_shows_its_own(host_tree: HostTree) -> None:
    """The running kernel's own configuration comes before files, and is no other kernel's."""
    tree = host_tree({"proc/config.gz": gzip.compress(WHOLE.encode()), PLACES[0]: "CONFIG_A=y\n"})
    assert read_config(tree, "6.1-x", running=True).path == "proc/config.gz"
    assert read_config(tree, "6.1-x").path == PLACES[0]


def test_running_kernel_shows_nonsense(host_tree: HostTree) -> None:
    """What cannot be unpacked, or is too much, is named; the file counts then."""
    packed = gzip.compress(WHOLE.encode())
    for data in (b"", b"x", packed[:40], packed[:-9], gzip.compress(bytes(MAX_CONFIG + 1))):
        reading = read_config(host_tree({"proc/config.gz": data, PLACES[0]: WHOLE}), "6.1-x", running=True)
        assert reading.path == PLACES[0]
        assert reading.unread[0].startswith("proc/config.gz: it ")
