# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed, one entry a target, with where its seeds are. A target raises when something is wrong."""

from __future__ import annotations

import io
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tdx_headroom.boots.kernels.config import parse_config
from tdx_headroom.errors import AgentError, SourceError
from tdx_headroom.facts.codec import encode
from tdx_headroom.inputs.printed import files_in
from tdx_headroom.inputs.texts import text_of as text_in
from tdx_headroom.service.state_file import SCHEMA, parse
from tdx_headroom.sources.firmware_memmap import firmware_ram, parse_entries, parse_firmware_entry
from tdx_headroom.sources.iomem import crash_kernel, parse_iomem, system_ram
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.boot_map import read_boot_map
from tdx_headroom.sources.kernel_log.journal_lines import JournalEntries
from tdx_headroom.sources.kernel_log.kmsg import parse_kmsg, parse_kmsg_record
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.sources.kernel_log.text import parse_log_text
from tdx_headroom.sources.memblock import parse_memblock
from tdx_headroom.sources.nodes import node_ranges, parse_block_size, parse_blocks
from tdx_headroom.sources.platform import (
    parse_boot_time,
    parse_cpuinfo,
    parse_hugetlb,
    parse_lockdown,
    parse_meminfo_total,
    parse_misc_capacity,
    parse_power_disk,
    relevant_arguments,
)
from tdx_headroom.sources.uevents import is_memory_event
from tdx_headroom.sources.zoneinfo import parse_zoneinfo
from tdx_headroom.textlines import lines_of
from tdx_headroom.web.basic_auth import read_credentials
from tdx_headroom.web.config import parse as parse_web_config
from tdx_headroom.web.http_semantics import accepts_gzip, path_of, wants_openmetrics
from tests.fuzz import boot_files
from tests.fuzz.archives import archive, archives
from tests.fuzz.whole import check_shown, facts_line, facts_lines, host, hosts
from tests.unit.inputs.test_documents import FORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tdx_headroom.sources.kernel_log.records import KernelLog

TESTS = Path(__file__).resolve().parents[1]
LONGEST = 24_000
"""Bytes of an input; a longer seed is cut."""
FOUND = Path(__file__).parent / "found"
"""Inputs that once made a target raise, a folder a target: run by the unit tests for ever."""


@dataclass(frozen=True)
class Target:
    """Something that takes any bytes.

    Args:
        run: takes them; raises when something is wrong.
        seeds: files to begin with, as patterns below tests/.
        texts: seeds as they are.
        more: seeds that have to be made.
    """

    run: Callable[[bytes], object]
    seeds: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    more: Callable[[], Iterable[bytes]] = tuple

    def inputs(self, name: str) -> Iterator[bytes]:
        """The seeds, and what was found before."""
        for pattern in self.seeds:
            for path in sorted(TESTS.glob(pattern)):
                if path.is_file():
                    data = path.read_bytes()
                    yield from data.splitlines() if path.suffix == ".jsonl" else (data,)
        yield from (text.encode() for text in self.texts)
        yield from self.more()
        if (FOUND / name).is_dir():
            yield from (path.read_bytes() for path in sorted((FOUND / name).iterdir()))


def text_of(parser: Callable[[str], object]) -> Callable[[bytes], None]:
    """A parser of text, which gives a value or says in one line why not."""

    def run(data: bytes) -> None:
        try:
            parser(data.decode("utf-8", "backslashreplace"))
        except (SourceError, AgentError) as error:
            check_shown(error)

    return run


def check_log(log: KernelLog) -> None:
    """All that is made of a log."""
    read_report(log)
    read_boot_map(log, "fuzz")


def text_file(data: bytes) -> None:
    """A file that a user names, whatever it holds."""
    try:
        text = text_in(io.BufferedReader(io.BytesIO(data)), "x")
        files_in(text, "x")
        check_log(parse_log_text(text))
    except (SourceError, AgentError) as error:
        check_shown(error)


def firmware_map(text: str) -> None:
    rows = [line.split("|") for line in text.splitlines()]
    ranges = [parse_firmware_entry(row[0], row[1], row[2], row[3]) for row in rows if len(row) == 4]
    firmware_ram(ranges)


def nodes(text: str) -> None:
    size, _, rest = text.partition("\n")
    blocks: dict[int, list[int]] = {}
    for node, block in re.findall(r"([0-9]{1,4}):([0-9]{1,9})", rest):
        blocks.setdefault(int(node), []).append(int(block))
    found = node_ranges(blocks, parse_block_size(size))
    assert all(a.end <= b.start for a, b in itertools.pairwise(found)), found


def follow(text: str) -> None:
    """The live log: record by record into the book."""
    book = LogBook()
    for line in text.splitlines():
        book.add(*parse_kmsg_record(line))
    check_log(book.log())


def journal(text: str) -> None:
    entries = JournalEntries()
    for line in lines_of(text):
        entries.add(line)
    for priority, time, message in entries.found:
        assert isinstance(priority, int)
        assert isinstance(time, int)
        assert isinstance(message, str)


def state(data: bytes) -> None:
    try:
        read = parse(data)
    except (ValueError, RecursionError):
        return  # the file is set aside, and the message goes through structlog
    assert parse(json.dumps({"schema": SCHEMA, **encode(read)}).encode()) == read


def web_config(data: bytes) -> None:
    try:
        parse_web_config(data, Path("/"))
    except AgentError as error:
        check_shown(error)


TARGETS: dict[str, Target] = {
    "iomem": Target(
        text_of(lambda text: [f(parse_iomem(text)) for f in (system_ram, crash_kernel)]),
        ("faults/iomem/*", "hosts/*/proc/iomem"),
    ),
    "memblock": Target(text_of(parse_memblock), ("faults/memblock/*", "hosts/*/sys/kernel/debug/memblock/*")),
    "firmware-memmap": Target(text_of(firmware_map), texts=("0|0x0|0xfff|System RAM\n1|0x1000|0x1fff|x\n",)),
    "firmware-memmap-entries": Target(
        text_of(lambda text: firmware_ram(parse_entries(text))),
        texts=("0 0x0 0x9ffff System RAM\n1 0x100000 0x7fffffff Reserved\n",),
    ),
    "zoneinfo": Target(text_of(parse_zoneinfo), ("faults/zoneinfo/*", "hosts/*/proc/zoneinfo")),
    "nodes": Target(text_of(nodes), texts=("8000000\n0:0 0:1 1:2 1:4\n",)),
    "node-blocks": Target(text_of(parse_blocks), texts=("0-15,32-35\n", "7\n")),
    "kmsg": Target(text_of(lambda text: check_log(parse_kmsg(text))), ("faults/kmsg/*", "hosts/*/dev/kmsg")),
    "follow": Target(text_of(follow), ("faults/kmsg/*", "hosts/*/dev/kmsg")),
    "log": Target(
        text_of(lambda text: check_log(parse_log_text(text))),
        ("faults/log*/*", "field/logs/*", "hosts/*/dmesg"),
    ),
    "text-file": Target(text_file, more=lambda: (form() for form in FORMS.values())),
    "journal": Target(text_of(journal), ("faults/log/journal-*",)),
    "cpuinfo": Target(text_of(parse_cpuinfo), ("hosts/*/proc/cpuinfo",)),
    "meminfo": Target(
        text_of(lambda text: (parse_meminfo_total(text), parse_hugetlb(text))), ("hosts/*/proc/meminfo",)
    ),
    "stat": Target(text_of(parse_boot_time), ("hosts/*/proc/stat",)),
    "cmdline": Target(text_of(relevant_arguments), ("hosts/*/proc/cmdline",)),
    "misc-capacity": Target(text_of(parse_misc_capacity), ("hosts/*/sys/fs/cgroup/misc.capacity",)),
    "lockdown": Target(text_of(parse_lockdown), texts=("none [integrity] confidentiality\n",)),
    "power-disk": Target(text_of(parse_power_disk), texts=("[disabled]\n", "platform [shutdown] reboot\n")),
    "uevents": Target(
        lambda data: is_memory_event(data, 0),
        texts=("online@/devices/system/memory/memory1\0ACTION=online\0",),
    ),
    "state": Target(
        state, texts=(json.dumps({"schema": "tdx-headroom/state/1", "current": {"boot_id": "a"}}),)
    ),
    "web-config": Target(
        web_config,
        texts=(
            (
                "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_ca_file: ca\n"
                "  client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS12\n  max_version: TLS13\n"
                "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n"
            ),
            (
                "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n"
                f"basic_auth_users:\n  prom: $2y$10${'a' * 53}\n"
            ),
        ),
    ),
    "http-headers": Target(
        text_of(
            lambda text: (read_credentials(text), accepts_gzip(text), wants_openmetrics(text), path_of(text))
        ),
        texts=("Basic cHJvbTpzZWNyZXQ=", "gzip;q=0.5, *;q=0"),
    ),
    "grub": Target(boot_files.grub, more=lambda: boot_files.configurations(TESTS / "boots")),
    "efi-variable": Target(boot_files.efi_variable, more=lambda: boot_files.variables(TESTS / "boots")),
    "kernel-image": Target(boot_files.kernel_image, more=boot_files.images),
    "kernel-module": Target(boot_files.kernel_module, more=boot_files.modules),
    "kernel-config": Target(
        text_of(parse_config),
        texts=("# Linux/x86 6.18.15 Kernel Configuration\nCONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM_INTEL=m\n",),
    ),
    "modprobe": Target(
        text_of(boot_files.modprobe),
        texts=(
            "options kvm_intel tdx=1 \\\n  nested=0\n",
            "install kvm-* /bin/true\nblacklist kvm_intel\noptions kvm tdp_mmu=0\n",
        ),
    ),
    "boot-inventory": Target(
        text_of(boot_files.inventory), more=lambda: boot_files.inventories(TESTS / "boots")
    ),
    "boots": Target(boot_files.boots, more=lambda: boot_files.layouts(TESTS)),
    "archive": Target(archive, more=archives),
    "facts": Target(
        facts_line, ("faults/facts/*", "cases/*.jsonl"), more=lambda: facts_lines(TESTS / "hosts")
    ),
    "host": Target(host, more=lambda: hosts(TESTS / "hosts")),
}
