# SPDX-License-Identifier: Apache-2.0
"""What tells of a host's boot entries, whoever may read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tdx_headroom.facts.boots import BootInventory
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.reading import Reading


class BootSource(Protocol):
    """A reader of boot configurations, or of what root wrote of them."""

    def read(
        self, files: HostFiles, release: str | None = None, line: str | None = None
    ) -> Reading[BootInventory]:
        """The inventory; None where there is nothing to boot.

        Args:
            files: of the host.
            release: of the running kernel, by the log; ``/proc`` comes first.
            line: the running command line, by the log.
        """
