# SPDX-License-Identifier: Apache-2.0
"""Arguments that decide whether TDX is tried, as the kernel compares them."""

from __future__ import annotations

import pytest

from tdx_headroom.facts.boot_arguments import (
    arguments_of_kvm,
    bars_hibernation,
    forbids_hibernation,
    locks_down,
    matters_behind_dashes,
)
from tdx_headroom.facts.command_line import split_arguments


@pytest.mark.parametrize(
    ("line", "forbidden"),
    [
        ("quiet nohibernate", True),
        ("nohibernate=0", True),
        ("nohibernate=", True),
        ("nohibernated.x=y", True),
        ('"nohibernate and more"', True),
        ("hibernate=no", True),
        ("hibernate=nohibernate", True),
        ("hibernate=none", True),
        ("hibernate=nores", True),
        ('hibernate="no"', True),
        ('"hibernate=not today"', True),
        ("nohibernate hibernate=noresume", True),
        ("hibernate=no hibernate=protect_image", True),
        ("hibernate=noresume", False),
        ("hibernate=noresume2", False),
        ("hibernate=nocompress", False),
        ("hibernate=No", False),
        ("hibernate=0", False),
        ("hibernate=", False),
        ("hibernate", False),
        ("hibernate.compressor=no", False),
        ("Nohibernate", False),
        ("no-hibernate", False),
        ("noresume resume=nohibernate", False),
        ("foo=nohibernate", False),
        ("quiet -- nohibernate", False),
    ],
)
def test_forbidding_hibernation(line: str, *, forbidden: bool) -> None:
    """Beginnings count for the name and for the value, but for two values that are looked for first."""
    assert forbids_hibernation(split_arguments(line)) is forbidden
    assert bars_hibernation(split_arguments(line)) is forbidden


@pytest.mark.parametrize(
    ("line", "locked"),
    [
        ("lockdown=integrity", True),
        ('lockdown="confidentiality"', True),
        ("lockdown=confidentiality lockdown=none", True),
        ("lockdown=integrity2", False),
        ("lockdown=1", False),
        ("lockdown", False),
        ("lockdowns=integrity", False),
    ],
)
def test_locking_down(line: str, *, locked: bool) -> None:
    """An early parameter is compared whole, and so are its levels; a level is never taken back."""
    arguments = split_arguments(line)
    assert (locks_down(arguments), bars_hibernation(arguments)) == (locked, locked)
    assert not forbids_hibernation(arguments)


@pytest.mark.parametrize(
    ("line", "built_in", "matters"),
    [
        (("nosmt", "--", "kvm_intel.tdx=0"), ("nosmt",), True),
        (("--", "kvm-intel.tdx"), (), True),
        (("kvm_intel.tdx=1", "--", "kvm_intel.tdx=Y"), ("kvm_intel.tdx=1",), False),
        (("kvm_intel.tdx=1", "--", "kvm_intel.tdx=x"), ("kvm_intel.tdx=1",), False),
        (("kvm_intel.tdx=1", "--", "kvm.enable_virt_at_load=n"), ("kvm_intel.tdx=1",), True),
        (("kvm_intel.tdx=1", "--", "kvm_intel.ept=0"), ("kvm_intel.tdx=1",), True),
        (("kvm_intel.tdx=1", "--", "kvm_intel.ept=1"), ("kvm_intel.tdx=1",), False),
        (("kvm_intel.tdx=1", "quiet"), ("kvm_intel.tdx=1", "quiet"), False),
    ],
)
def test_arguments_of_kvm(line: tuple[str, ...], built_in: tuple[str, ...], *, matters: bool) -> None:
    """The kernel stops at `--`, modprobe does not; which it is matters where it makes a difference."""
    assert arguments_of_kvm(line, module=True) == line
    assert arguments_of_kvm(line, module=False) == built_in
    assert matters_behind_dashes(line) is matters
