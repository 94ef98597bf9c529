# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for kernel images, which a boot loader would take by their heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def image_head() -> bytes:
    """The setup code of a bzImage that tells neither its release nor where its packed kernel is."""
    head = bytearray(5 * 512)
    head[0x1F1] = 4
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = (0x20F).to_bytes(2, "little")
    return bytes(head)


def put_image(folder: Path, *releases: str) -> None:
    """Put the images of kernels into a tree's /boot.

    Args:
        folder: that stands for ``/``.
        releases: of the kernels.
    """
    (folder / "boot").mkdir(parents=True, exist_ok=True)
    for release in releases:
        (folder / f"boot/vmlinuz-{release}").write_bytes(image_head())
