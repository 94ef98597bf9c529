# SPDX-License-Identifier: Apache-2.0
"""What is done to a guest between two boots, and which kernel its author expects then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.reboots.places import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.reboots.guest import Guest
    from tests.reboots.packages import KernelPackage

MIB = 1 << 20
FIRST_HOLE = 256 * MIB
ANY = ("will-initialize", "at-risk", "will-fail", "cannot-tell", "not-tdx")
"""Verdicts under a kernel without TDX: in a virtual machine nothing shows then that its host has any."""

FIT = 13
"""Holes for which there is room: the firmware's map has three in the first GiB, and the limit is 16."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a step works on.

    Args:
        guest: the guest.
        kernels: that can be installed, by series.
    """

    guest: Guest
    kernels: Mapping[str, KernelPackage]

    def release(self, series: str) -> str:
        """The release of a kernel."""
        return self.kernels[series].release

    def install(self, series: str) -> str:
        """Install a kernel; what dpkg and the hooks have said."""
        return self.guest.run(f"dpkg --install {PACKAGES}/{self.kernels[series].file} </dev/null")

    def remove(self, series: str, *, purge: bool = False) -> str:
        """Remove a kernel; what dpkg and the hooks have said."""
        # The name has a question in Debian's prerm when the kernel runs.
        option = "--purge" if purge else "--remove"
        return self.guest.run(f"DEBIAN_FRONTEND=noninteractive dpkg {option} {self.kernels[series].name}")


@dataclass(frozen=True, slots=True)
class Step:
    """An action and a reboot.

    Args:
        action: in words, for the report.
        act: does it; gives what the tools said.
        comes: series of the kernel that must come, whatever is foretold: else the step is not what it says.
        up: whether TDX must come up then.
        quick: whether it is one of the few.
        hook: whether a kernel is installed or removed, of which the package's hook speaks.
        verdicts: that may be foretold; None: any but ``cannot-tell``.
        reboots: whether it ends in a reboot.
    """

    action: str
    act: Callable[[Context], str]
    comes: str
    up: bool
    quick: bool = False
    hook: bool = False
    verdicts: tuple[str, ...] | None = None
    reboots: bool = True


def nothing(_: Context) -> str:
    """No action: what was once is over, what lasts stays."""
    return ""


def sh(command: str) -> Callable[[Context], str]:
    """A shell command as root; ``{7.3}``, ``{6.12}`` and ``{debian}`` stand for releases."""

    def act(context: Context) -> str:
        text = command
        for series in context.kernels:
            text = text.replace("{" + series + "}", context.release(series))
        return context.guest.run(text)

    return act


def install(series: str) -> Callable[[Context], str]:
    """Install a kernel's package."""
    return lambda context: context.install(series)


def remove(series: str, *, purge: bool = False) -> Callable[[Context], str]:
    """Remove a kernel's package."""
    return lambda context: context.remove(series, purge=purge)


def holes(count: int) -> list[str]:
    """So many holes of a page each in the first GiB, as arguments; a ``$`` stands as it is."""
    return [f"memmap=4K${FIRST_HOLE + i * MIB:#x}" for i in range(count)]
