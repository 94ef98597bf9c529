# SPDX-License-Identifier: Apache-2.0
"""Many boots at a time, as many as processors and memory allow; the options that all such commands have."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.kernel.guestmap import MEMORY_REGIONS, STRATEGIES
from tests.kernel.source import SUITES
from tests.kernel.tools import progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Done = TypeVar("Done")


class Budget:
    """Memory that guests may take together, bytes; a guest that is larger than all of it runs alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._changed = threading.Condition()

    @classmethod
    def of_this_machine(cls) -> Budget:
        """Two thirds of the memory that is free now."""
        return cls(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 2 // 3)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until there is room for ``size``."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Which kernel, which of the seeded things, how many at a time.

    Args:
        parser: of the command.
        what: the things, in words: ``maps``.
    """
    parser.add_argument(
        "--kernel", default="6.12", choices=sorted(SUITES), help="kernel series (default: 6.12)"
    )
    parser.add_argument("--seed", type=int, default=1, help=f"which {what} (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="guests at a time")
    parser.add_argument(
        "--extra",
        type=lambda name: Path(name).resolve(),
        metavar="DIR",
        help="a kernel with this folder's configuration and modules too",
    )
    parser.add_argument("--no-install", action="store_true", help="install no packages: say what is missing")


def add_strategy(parser: argparse.ArgumentParser) -> None:
    """How the kernel looks for holes."""
    parser.add_argument(
        "--strategy",
        default=MEMORY_REGIONS,
        choices=STRATEGIES,
        help="how the kernel looks for holes: mainline's way, or another, on maps with CMRs",
    )


def run_name(series: str, options: argparse.Namespace) -> str:
    """What a run is called: its kernel's series, its strategy if it is not mainline's, and its seed."""
    under = "" if options.strategy == MEMORY_REGIONS else f"{options.strategy}-"
    return f"{series}-{under}seed{options.seed}"


def boot_each(
    one: Callable[[Item], Done], items: Sequence[Item], jobs: int, series: str, unit: str
) -> Iterator[Done]:
    """What comes of each item, in the order in which they are done, with a progress bar.

    Args:
        one: boots one item's guests.
        items: all of them.
        jobs: how many at a time.
        series: of the kernel, for the bar.
        unit: what an item is, for the bar.
    """
    with (
        ThreadPoolExecutor(jobs) as pool,
        progress(len(items), f"kernel {series}: booting", unit) as bar,
    ):
        for done in as_completed([pool.submit(one, item) for item in items]):
            yield done.result()
            bar.update()
