# SPDX-License-Identifier: Apache-2.0
"""Whatever private thing is put anywhere into a host, it is not in its capture."""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx_headroom.capture.build import make_capture
from tdx_headroom.hostfs.root import Root
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg
from tdx_headroom.sources.kernel_log.redact import as_journal, as_kmsg, as_text, redacted
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_log_text

if TYPE_CHECKING:
    from tdx_headroom.sources.kernel_log.records import KernelLog

HOSTS = Path(__file__).parents[1] / "hosts"
SMALL = HOSTS / "small-vm"

hexadecimal = st.text("0123456789abcdef", min_size=12, max_size=12)
SECRETS = st.one_of(
    st.from_regex(r"[a-z]{6}-zq[0-9]{3}\.corp\.example", fullmatch=True),
    hexadecimal.map(lambda h: ":".join(h[i : i + 2] for i in range(0, 12, 2))),
    hexadecimal.map(lambda h: f"{h[:8]}-{h[8:]}-4abc-9def-{h}"),
    st.from_regex(r"SN[A-Z0-9]{10}", fullmatch=True),
    st.ip_addresses().map(str).filter(lambda text: len(text) > 8),
    st.from_regex(r"user_[a-z]{8}", fullmatch=True),
)

MESSAGES = (
    "Linux version 6.8.0-1006-intel ({0}@{0}) (gcc {0}) #1 SMP {0}",
    "Command line: BOOT_IMAGE=/{0}/vmlinuz-6.8.0-1006-intel root=UUID={0} user={0} memmap=4K$0x1000 {0}",
    "Kernel command line: ip={0} kvm_intel.tdx=1 password={0}",
    "DMI: {0} Inc. {0}, BIOS {0}",
    "igb 0000:01:00.0 eth0: (PCIe:5.0Gb/s) {0}",
    "usb 1-1: SerialNumber: {0}",
    "systemd[1]: Hostname set to <{0}>.",
    "virt/tdx: {0}",
    "virt/tdx: module initialized {0}",
    "virt/tdx: CMR: {0}",
    "virt/tdx: initialization failed: {0}",
    "tdx: {0}[271]: segfault at 0 ip 0000000000000000 sp 00007ffe error 14",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] {0}",
    "BIOS-e820: {0}",
    "  node   0: {0}",
    "  {0} [mem 0x0000000000001000-0x0000000000ffffff]",
    "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff] {0}",
    "Early memory node ranges {0}",
    "EXT4-fs ({0}): mounted filesystem {0}",
    "{0}",
)
BROKEN = {
    "proc/iomem": "fee00000 : {0}\n",
    "proc/zoneinfo": "Node 0, zone {0}\n",
    "sys/kernel/debug/memblock/memory": "0: {0}\n",
    "sys/kernel/debug/memblock/reserved": "0: {0}\n",
    "sys/firmware/memmap/0/start": "{0}",
    "sys/firmware/memmap/0/type": "{0}",
    "sys/devices/system/memory/block_size_bytes": "{0}",
    "dev/kmsg": "{0}\n",
    "dmesg": "{0}\n",
}
"""What no parser reads: an error that quotes it must not get into a capture either."""

IN_FILES = {
    "proc/cpuinfo": "\nserial\t\t: {0}\nHardware\t: {0}\nbugs\t\t: {0}\n",
    "proc/cmdline": " root=UUID={0} ip={0} user={0} {0}",
    "proc/iomem": "fee00000-fee00fff : {0}\n",
    "proc/meminfo": "{0}: 1 kB\n",
    "proc/stat": "{0}\n",
    "proc/zoneinfo": "  {0}\n",
    "proc/sys/kernel/hostname": "{0}",
    "proc/sys/kernel/random/boot_id": "{0}",
    "sys/class/dmi/id/product_serial": "{0}",
    "sys/class/dmi/id/bios_version": "x\n{0}\x01",
    "sys/class/dmi/id/product_name": "x\n{0}\x01",
    "etc/hostname": "{0}",
    "sys/devices/system/node/{0}": "x",
}


def uncompressed(data: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        parts = [f"{m.name}\n" + (((f := tar.extractfile(m)) and f.read().decode()) or "") for m in tar]
    return "\n".join(parts)


@pytest.mark.parametrize("where", BROKEN)
def test_no_secret_of_a_broken_file_gets_into_a_capture(where: str, tmp_path: Path) -> None:
    """A file that cannot be read is left out, and what is said about it does not quote it."""
    secret = "rack7-zq123.corp.example"
    shutil.copytree(SMALL, tmp_path / "host")
    if where == "dmesg":
        (tmp_path / "host/dev/kmsg").unlink()
    path = tmp_path / "host" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BROKEN[where].format(secret))
    text = uncompressed(make_capture(Root(tmp_path / "host"), 0, keep_host_name=False).data)
    assert "rack7" not in text
    assert str(tmp_path) not in text


@settings(max_examples=40)
@given(secret=SECRETS, where=st.sampled_from(sorted(IN_FILES)))
def test_no_secret_of_a_file_gets_into_a_capture(secret: str, where: str) -> None:
    """A host's files may hold anything: what the agent does not need is not in a capture."""
    with tempfile.TemporaryDirectory() as folder:
        host = Path(folder) / "host"
        shutil.copytree(SMALL, host)
        path = host / where.format(secret)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(IN_FILES[where].format(secret))
        assert secret not in uncompressed(make_capture(Root(host), 0, keep_host_name=False).data)


@given(
    secret=SECRETS,
    planted=st.lists(st.tuples(st.integers(0, 200), st.sampled_from(MESSAGES)), min_size=1, max_size=6),
    form=st.sampled_from(["kmsg", "dmesg", "dmesg -x", "journal"]),
    host=st.sampled_from(["small-vm", "emerald-rapids", "good-2-node"]),
)
def test_no_secret_of_the_log_is_kept(
    secret: str, planted: list[tuple[int, str]], form: str, host: str
) -> None:
    """A message may hold anything: in whatever form the log is, none of it is left, nor a part of it."""
    texts = [record.text for record in parse_kmsg((HOSTS / host / "dev/kmsg").read_text()).records]
    own = "\n".join(texts)
    for at, message in planted:
        texts.insert(min(at, len(texts)), message.format(secret))
    # A message of the kernel's own that says why is kept, where it is surely the kernel's.
    if form in ("kmsg", "dmesg -x"):
        texts = [text for text in texts if not text.startswith("virt/tdx: initialization failed: ")]
    log = parse(form, texts)
    kept = redacted(log)
    written = as_kmsg(kept) if form == "kmsg" else as_text(kept) + as_journal(kept)
    for part in {secret, *secret.split(".")[:1], *secret.split("-")[:1]}:
        # Half a UUID of zeros is in many an address.
        assert len(part) < 6 or part in own or part not in written


def parse(form: str, texts: list[str]) -> KernelLog:
    if form == "kmsg":
        return parse_kmsg("".join(f"6,{i},{i},-;{text}\n" for i, text in enumerate(texts)))
    prefix = {"dmesg": "[    1.000000] ", "dmesg -x": "kern  :info  : [    1.000000] "}.get(
        form, "Jul 10 20:50:19 h kernel: "
    )
    return parse_log_text("".join(f"{prefix}{text}\n" for text in texts))


@pytest.mark.parametrize("host", ["emerald-rapids", "good-2-node", "no-tdx", "small-vm"])
@given(data=st.data())
def test_a_part_of_a_log_is_as_whole_as_before(host: str, data: st.DataObject) -> None:
    """Any part of a log tells the same before and after: lists are as whole as they were."""
    lines = [ln for ln in (HOSTS / host / "dev/kmsg").read_text().splitlines() if not ln.startswith(" ")]
    first, last, lost_from, lost_to = sorted(data.draw(st.integers(0, len(lines))) for _ in range(4))
    log = parse_kmsg("".join(f"{ln}\n" for ln in [*lines[first:last], *lines[lost_from:lost_to]]))
    again = parse_kmsg(as_kmsg(redacted(log)))
    assert read_report(again) == read_report(log)
    before, after = read_boot_map(log, ""), read_boot_map(again, "")
    for name in ("node_ranges", "e820", "firmware", "srat", "zones"):
        assert getattr(after, name).value == getattr(before, name).value
    assert after.kernel_release == before.kernel_release
    assert (again.lost, len(again.gaps)) == (log.lost, len(log.gaps))
