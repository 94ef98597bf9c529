# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes an archive holds, it is read or refused: no other error comes out."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tdx_headroom.capture.build import make_capture
from tdx_headroom.errors import AgentError
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.root import Root
from tdx_headroom.inputs.archive import read_archive
from tdx_headroom.inputs.compressed import decompressed, with_start
from tdx_headroom.sources.registry import SELECTION

HOST = Path(__file__).parents[1] / "hosts" / "small-vm"
CAPTURE = gzip.decompress(make_capture(Root(HOST), 0, keep_host_name=True).data)


def pax(headers: dict[str, str]) -> bytes:
    """An archive with an extended header."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("h/proc/iomem")
        info.pax_headers = headers
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return stream.getvalue()


def read(data: bytes) -> None:
    """Every step from bytes to facts."""
    try:
        _, stream = with_start(decompressed(io.BytesIO(data), "x", 1 << 24), 512)
        read_facts(read_archive(stream, "x", SELECTION))
    except AgentError as error:
        said = str(error)
    else:
        return
    assert "\n" not in said


def with_sum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(CAPTURE) - 1), st.binary(min_size=1, max_size=12)), max_size=6
    ),
    mended=st.booleans(),
    packed=st.booleans(),
)
def test_changed_bytes(changes: list[tuple[int, bytes]], mended: bool, packed: bool) -> None:  # noqa: FBT001
    """Bytes changed anywhere, with the headers' sums made right or not, packed or not."""
    data = bytearray(CAPTURE)
    for at, new in changes:
        data[at : at + len(new)] = new
        if mended:
            block = at // 512 * 512
            data[block : block + 512] = with_sum(data[block : block + 512])
    read(gzip.compress(bytes(data)) if packed else bytes(data))


@settings(max_examples=300)
@given(
    field=st.sampled_from([(0, 100), (124, 12), (156, 1), (157, 100), (345, 155)]),
    value=st.binary(max_size=155),
)
@example(field=(124, 12), value=b"\xff" * 12)
@example(field=(124, 12), value=b"\x80" + b"\xff" * 11)
@example(field=(156, 1), value=b"S")
@example(field=(156, 1), value=b"x")
@example(field=(156, 1), value=b"L")
def test_changed_headers(field: tuple[int, int], value: bytes) -> None:
    """Any name, size, type, link and prefix in the first member's header."""
    at, size = field
    data = bytearray(CAPTURE)
    data[at : at + size] = value[:size].ljust(size, b"\0")
    read(with_sum(data[:512]) + bytes(data[512:]))


PAX_KEYS = ["path", "size", "linkpath", "hdrcharset", "uid", "mtime", "GNU.sparse.map", "GNU.sparse.size"]
PAX_KEYS += ["GNU.sparse.realsize", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.name"]


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(PAX_KEYS),
        st.one_of(
            st.sampled_from(["1", "0", "-1", "1,2,3", "x", "9" * 30, "../../x", "/x", "BINARY"]),
            st.text(max_size=8),
        ),
        min_size=1,
    )
)
@example({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
@example({"GNU.sparse.map": "x,y"})
def test_extended_headers(headers: dict[str, str]) -> None:
    """Any extended header, sparse files of all kinds among them."""
    try:
        data = pax(headers)
    except (ValueError, UnicodeError):
        return
    read(data)


@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    """Bytes that never were an archive."""
    read(data)
    for magic in (b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"BZh9"):
        read(magic + data)


def test_a_chain_of_headers() -> None:
    """Thousands of headers that each announce another name are refused."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * 150))
    one = stream.getvalue()[:1024]
    read(one * 5000 + CAPTURE)
