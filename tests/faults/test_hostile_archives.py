# SPDX-License-Identifier: Apache-2.0
"""Archives that are damaged or hostile: each is refused in one line, and nothing is written to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tdx_headroom.cli import main
from tdx_headroom.errors import AgentError
from tdx_headroom.inputs import archive, compressed, read
from tdx_headroom.inputs.archived_host import MAX_LINKED
from tdx_headroom.sources.registry import SELECTION

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = Path(__file__).parents[1] / "hosts" / "small-vm"
IOMEM = b"00001000-0009ffff : System RAM\n"

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = IOMEM, kind: bytes = tarfile.REGTYPE, link: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def tar(*members: Member, form: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as packed:
        for info, data in members:
            packed.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return stream.getvalue()


def bent(data: bytes, offset: int, field: bytes) -> bytes:
    """A tar whose first header has another field, with the sum made right."""
    header = bytearray(data[:512])
    header[offset : offset + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


GOOD = tar(member("host/proc/iomem"))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "traversal": (tar(member("../proc/iomem")), "a member's name leads out of it, ../proc/iomem"),
    "traversal-inside": (tar(member("a/../../etc/passwd")), "a member's name leads out of it"),
    "absolute": (tar(member("/proc/iomem")), "a member has an absolute name, /proc/iomem"),
    "link-out": (
        tar(member("h/proc/iomem", kind=tarfile.SYMTYPE, link="../../../etc/shadow")),
        "proc/iomem is a link that leads out of it",
    ),
    "link-absolute": (
        tar(member("h/proc/iomem", kind=tarfile.SYMTYPE, link="/etc/shadow")),
        "proc/iomem is a link that leads out of it",
    ),
    "hard-link-out": (
        tar(member("h/proc/iomem", kind=tarfile.LNKTYPE, link="../../etc/shadow")),
        "proc/iomem is a link that leads out of it",
    ),
    "device": (tar(member("h/dev/kmsg", kind=tarfile.CHRTYPE)), "dev/kmsg is no regular file"),
    "fifo": (tar(member("h/proc/iomem", kind=tarfile.FIFOTYPE)), "proc/iomem is no regular file"),
    "too-deep": (tar(member("d/" * 60 + "x")), "a member lies 61 directories deep"),
    "newline-in-name": (tar(member("../a\nb")), r"leads out of it, ../a\x0ab"),
    "several-hosts": (tar(member("a/proc/iomem"), member("b/proc/iomem")), "holds 2 hosts (a, b)"),
    "no-host": (tar(member("a/etc/passwd")), "holds nothing of a host"),
    "empty": (tar(), "is no tar archive"),
    "negative-size": (bent(GOOD, 124, b"\xff" * 12), "damaged or cut short"),
    "negative-size-of-others": (
        bent(tar(member("h/etc/motd")), 124, b"\xff" * 10 + b"\xfc\0"),
        "members overlap|invalid offset",  # newer tarfiles look themselves
    ),
    "not-compressed-data": (b"\x1f\x8b" + b"x" * 600, "cannot be unpacked"),
    "compressed-twice": (gzip.compress(gzip.compress(GOOD)), "is compressed twice"),
}


def refused(tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about an archive that is refused; always in one line."""
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    assert main(["plan", "--capture", str(path)]) == os.EX_DATAERR
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"tdx-headroom: {path} ")
    assert err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.tar"]
    return err


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused, and the line says why."""
    data, reason = HOSTILE[name]
    said = refused(tmp_path, data, capsys)
    assert [words for words in reason.split("|") if words in said], said


def test_a_header_of_gigabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A long name or an extended header that claims gigabytes is refused, not read into memory."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        data = bent(bent(GOOD, 124, b"%011o\0" % (3 << 30)), 156, kind)
        data += bytes(3 << 20)
        assert "the size of a header is negative or above 1 MiB" in refused(tmp_path, data, capsys)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "tar": lambda data: data,
}


@pytest.mark.parametrize("form", PACK)
def test_archive_cut_anywhere(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive that ends too early is said to; one that lacks only padding is read."""
    whole = PACK[form](tar(member("h/proc/iomem"), member("h/proc/zoneinfo", b"x" * 700)))
    end = 512 * 5 if form == "tar" else len(whole)
    for size in {*range(600, end, 97), end - 1} if form == "tar" else {*range(20, end, 7), end - 1}:
        assert "cut short" in refused(tmp_path, whole[:size], capsys), size


@pytest.mark.parametrize("form", ["gz", "xz", "bz2"])
def test_bombs(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What unpacks to more than the bound is refused when it gets there."""
    monkeypatch.setattr(read, "MAX_UNPACKED", 8 << 20)
    bomb = PACK[form](tar(member("h/junk", bytes(32 << 20)), member("h/proc/iomem")))
    assert len(bomb) < 100_000
    assert "unpacks to more than 8 MiB" in refused(tmp_path, bomb, capsys)


def test_xz_that_wants_much_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary larger than the bound is refused."""
    monkeypatch.setattr(compressed, "MAX_XZ_MEMORY", 1 << 20)
    assert "cannot be unpacked: Memory usage limit" in refused(tmp_path, lzma.compress(GOOD), capsys)


def test_too_many_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members are counted, and so are the bytes that are kept of them."""
    data = tar(*(member(f"h/sys/firmware/memmap/{i}/start", b"0x0") for i in range(50)))
    monkeypatch.setattr(archive, "MAX_MEMBERS", 49)
    assert "more than 49 members" in refused(tmp_path, data, capsys)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 50)
    monkeypatch.setattr(archive, "MAX_KEPT", 149)
    assert "more than 149 B in the files that matter" in refused(tmp_path, data, capsys)


NOTHING = 5000
OF_NOTHING: dict[str, Callable[[int], Member]] = {
    "empty-files": lambda i: member(f"h/sys/firmware/memmap/{i}/start", b""),
    "names": lambda i: member(f"h/lib/modules/{i}"),
    "directories": lambda i: member(f"h/lib/modules/{i}", kind=tarfile.DIRTYPE),
    "deep-names": lambda i: member(f"h/lib/modules/{i}/" + "/".join("abcdefghijklmnopqrstuvwxyz")),
    "links": lambda i: member(f"h/boot/{i}.conf", kind=tarfile.SYMTYPE, link=f"of/{i}"),
    "long-targets": lambda i: member(f"h/boot/{i}.cfg", kind=tarfile.SYMTYPE, link="of" * 2000),
    "links-out": lambda i: member(f"sosreport-h/boot/{i}.conf", kind=tarfile.SYMTYPE, link=f"/of/{i}"),
    "escaped-bytes": lambda i: member(f"h/boot/{i}.conf", b"\xff" * 1000),
    "wide-characters": lambda i: member(f"h/boot/{i}.conf", ("\U0001f600" + "a" * 1000).encode()),
}


def peak_of(data: bytes, path: Path) -> tuple[int, str]:
    """The most bytes that reading an archive took, and what was said about it."""
    said = ""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            with path.open("rb") as stream:
                archive.read_archive(stream, "x.tar", SELECTION)
        except AgentError as error:
            said = str(error)
        return tracemalloc.get_traced_memory()[1] - before, said
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("of", OF_NOTHING)
def test_very_many_members_of_nothing(of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of members is bounded in memory, not in bytes of the archive, whatever they are."""
    monkeypatch.setattr(archive, "MAX_KEPT", 1 << 20)
    peak, said = peak_of(tar(*(OF_NOTHING[of](i) for i in range(NOTHING))), tmp_path / "x.tar")
    assert "more than 1 MiB in the files that matter" in said
    assert peak < 2 << 20


def test_many_links_to_a_directory_of_many_files(tmp_path: Path) -> None:
    """What lies below links is cut before it is put together, not after."""
    files = [member(f"h/boot/a/{i}.conf", b"x") for i in range(NOTHING)]
    links = [member(f"h/boot/{i}.conf", kind=tarfile.SYMTYPE, link="a") for i in range(16)]
    alone, linked = (peak_of(tar(*members), tmp_path / "x.tar") for members in (files, [*files, *links]))
    assert (alone[1], linked[1]) == ("", "")
    assert linked[0] - alone[0] < MAX_LINKED * 1000


def test_very_many_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive of more hosts than anybody looks at is refused while it is read."""
    data = tar(*(member(f"host-{i}/proc/iomem") for i in range(1000)))
    assert "holds more than 64 hosts" in refused(tmp_path, data, capsys)
    assert "holds 64 hosts (host-0, host-1," in refused(
        tmp_path, tar(*(member(f"host-{i}/proc/iomem") for i in range(64))), capsys
    )


@pytest.mark.parametrize("long", ["name", "target"])
def test_names_longer_than_any_path(long: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no file can have is refused: it would be part of the name of each file below it."""
    text = "a" * 4097
    name, target = (f"h/boot/{text}.conf", "a") if long == "name" else ("h/boot/a.conf", text)
    data = tar(member("h/proc/iomem"), member(name, kind=tarfile.SYMTYPE, link=target))
    assert "a member's name or target has 4" in refused(tmp_path, data, capsys)


def test_zstd_without_python_3_14(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says how to unpack it."""
    monkeypatch.setattr(compressed, "zstd", None)
    said = refused(tmp_path, b"\x28\xb5\x2f\xfd" + bytes(700), capsys)
    assert "is compressed with zstd, which needs Python 3.14; unpack it with `zstd -d`" in said


def test_one_file_that_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file over its bound is missing like one that cannot be read; the others serve."""
    selection = SELECTION._replace(limit=lambda path: 20 if "iomem" in path else 1 << 20)
    monkeypatch.setattr(read, "SELECTION", selection)
    (tmp_path / "x.tar").write_bytes(
        tar(member("proc/iomem"), member("dmesg", (HOST / "dev/kmsg").read_bytes().replace(b";", b"\n")))
    )
    assert main(["plan", "--capture", str(tmp_path / "x.tar")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "iomem: " in out
    assert "proc/iomem is larger than 20 B" in out


def test_odd_members_that_nobody_wants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sosreport holds links to anywhere and devices: they are passed over where nothing is read."""
    links = [
        member("sosreport-h/etc/localtime", kind=tarfile.SYMTYPE, link="/usr/share/zoneinfo/UTC"),
        member("sosreport-h/dev/null", kind=tarfile.CHRTYPE),
        member("sosreport-h/dev/log", kind=tarfile.FIFOTYPE),
        member("sosreport-h/sos_commands/kernel/dmesg", b"[    0.0] Linux version 6.9.0 (a@b)\n"),
        member("sosreport-h/var/log/dmesg", kind=tarfile.SYMTYPE, link="../../sos_commands/kernel/dmesg"),
    ]
    (tmp_path / "x.tar").write_bytes(tar(member("./sosreport-h/proc/iomem"), *links))
    assert main(["plan", "--capture", str(tmp_path / "x.tar")]) == 0
    assert "kernel 6.9.0" in capsys.readouterr().out


@pytest.mark.parametrize("odd", [1, 2, 3, 4], ids=["device", "fifo", "link", "hard-link"])
def test_odd_members_of_what_is_no_sosreport(
    odd: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A capture has neither devices nor links that lead out: one that has is not looked at any further."""
    members = {
        1: member("h/null", kind=tarfile.CHRTYPE),
        2: member("h/pipe", kind=tarfile.FIFOTYPE),
        3: member("h/passwd", kind=tarfile.SYMTYPE, link="../../etc/passwd"),
        4: member("h/passwd", kind=tarfile.LNKTYPE, link="/etc/passwd"),
    }
    said = refused(tmp_path, tar(member("h/proc/iomem"), members[odd]), capsys)
    assert ("is no regular file" if odd < 3 else "leads out of it") in said


def test_links_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links inside of an archive, soft and hard, are followed where a file is wanted."""
    data = tar(
        member("h/sos_commands/kernel/dmesg", b"[    0.0] Linux version 6.9.0 (a@b)\n"),
        member("h/dmesg", kind=tarfile.LNKTYPE, link="h/sos_commands/kernel/dmesg"),
        member("h/var/log/dmesg", kind=tarfile.SYMTYPE, link="../../sos_commands/kernel/dmesg"),
    )
    (tmp_path / "x.tar").write_bytes(data)
    assert main(["plan", "--capture", str(tmp_path / "x.tar")]) == 0
    assert "kernel 6.9.0" in capsys.readouterr().out
