# SPDX-License-Identifier: Apache-2.0
"""Captures and sosreports: from bytes to facts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from typing import TYPE_CHECKING

from tdx_headroom.errors import AgentError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.inputs.archive import read_archive
from tdx_headroom.inputs.compressed import decompressed, with_start
from tdx_headroom.sources.registry import SELECTION
from tests.fuzz.whole import check_shown

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 1 << 22
"""Bytes that an archive may unpack to."""
FILES = {
    "h/proc/iomem": "00001000-0009ffff : System RAM\n100000000-1ffffffff : System RAM\n",
    "h/sys/firmware/memmap/0/start": "0x0\n",
    "h/sos_commands/kernel/dmesg": "[    1.6] virt/tdx: BIOS enabled: private KeyID range [32, 64)\n",
}


def archive(data: bytes) -> None:
    """An archive of a host, compressed or not."""
    try:
        _, stream = with_start(decompressed(io.BytesIO(data), "x", MOST), 512)
        read_facts(read_archive(stream, "x", SELECTION))
    except AgentError as error:
        check_shown(error)


def archives() -> Iterator[bytes]:
    """A small host in every format of tar and every compression."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form, bufsize=512) as tar:
            for name, text in FILES.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
            link = tarfile.TarInfo("h/dmesg")
            link.type, link.linkname = tarfile.SYMTYPE, "sos_commands/kernel/dmesg"
            tar.addfile(link)
        yield stream.getvalue()
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        yield pack(stream.getvalue())
