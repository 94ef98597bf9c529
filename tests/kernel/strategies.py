# SPDX-License-Identifier: Apache-2.0
"""Boots a map under a strategy, with CMRs and more kernel arguments, and gives what the kernel did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.kernel import store
from tests.kernel.boot import SECONDS, BootError, boot
from tests.kernel.guestmap import MEMORY_REGIONS
from tests.kernel.tools import KernelTestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.kernel.build import Kernel
    from tests.kernel.guestmap import GuestMap
    from tests.kernel.pieces import Span


def under(
    guest: GuestMap, strategy: str, cmrs: Sequence[Span] | None = None, extra: Sequence[str] = ()
) -> GuestMap:
    """The guest under a strategy.

    Args:
        guest: its map.
        strategy: one of ``guestmap.STRATEGIES``.
        cmrs: ``[start, end)`` of the CMRs, empty entries included; None: those that the guest has.
        extra: kernel arguments behind the map's own.
    """
    module = guest.module if cmrs is None else replace(guest.module, cmrs=tuple(cmrs))
    return replace(guest, strategy=strategy, arguments=(*guest.arguments, *extra), module=module)


def boot_case(
    kernel: Kernel, guest: GuestMap, folder: Path, *, seconds: int = SECONDS, may_hang: bool = False
) -> store.Case:
    """Boot the guest, and keep what it sends in ``folder``; a guest that sends nothing has no truth.

    Args:
        kernel: what to boot; ``get_kernel(series, cmrs=True)`` for a CMR strategy.
        guest: on which map, as :func:`under` makes it.
        folder: the boot becomes a folder of the guest's name in it.
        seconds, may_hang: see :func:`boot.boot`.

    Raises:
        KernelTestError: the kernel does not have the strategy.
    """
    if guest.strategy != MEMORY_REGIONS and not kernel.cmrs:
        raise KernelTestError(f"{guest.name}: kernel {kernel.key} is built without {guest.strategy}")
    try:
        dump, error = boot(kernel, guest, seconds=seconds, may_hang=may_hang), None
    except BootError as failure:
        dump, error = None, str(failure)
    folder.mkdir(parents=True, exist_ok=True)
    store.save(folder, kernel, guest, dump, error)
    return store.load(folder / guest.name)
