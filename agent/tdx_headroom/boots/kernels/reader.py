# SPDX-License-Identifier: Apache-2.0
"""Reads what each kernel of a host does about TDX, from no more of its files than is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.kernels.config import ConfigReading, read_config
from tdx_headroom.boots.kernels.module import read_module
from tdx_headroom.boots.kernels.traits import MarksReading, traits_of

if TYPE_CHECKING:
    from tdx_headroom.boots.kernels.scanner import Scanner
    from tdx_headroom.facts.boots import KernelTraits
    from tdx_headroom.hostfs.files import HostFiles


class KernelReader:
    """Reads kernels.

    Args:
        scanner: looks through images; None: nobody does, as in an agent without privileges.
        running: release of the kernel that runs: it shows its configuration itself.
    """

    def __init__(self, scanner: Scanner | None = None, running: str | None = None) -> None:
        self._scanner = scanner
        self._running = running

    def traits(
        self, files: HostFiles, release: str | None, image_path: str | None, *, offset: int = 0
    ) -> KernelTraits:
        """What a kernel does.

        Args:
            files: of the host.
            release: of the kernel; None: unknown, and only its image is looked at.
            image_path: of its image, relative to the host's root; None: unknown.
            offset: where the image begins in that file: a unified kernel image has it in a section.
        """
        if release is None:
            config = ConfigReading(unread=("the kernel's release is not known",))
            return traits_of(config, None, self._marks(files, image_path, offset))
        config = read_config(files, release, running=release == self._running)
        if config.config is not None and not config.config.tdx_host:
            return traits_of(config, None, None)
        module = read_module(files, release)
        return traits_of(config, module, self._marks(files, image_path, offset))

    def _marks(self, files: HostFiles, path: str | None, offset: int) -> MarksReading:
        if path is None:
            return MarksReading(unread=("the kernel's image is not known",))
        if self._scanner is None:
            return MarksReading(path, unread=(f"{path}: it was not looked through",))
        return self._scanner.marks(files, path, offset)
