# SPDX-License-Identifier: Apache-2.0
"""Makes a capture: read once, reduce, and prove that what is left gives the same plan."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tdx_headroom import __version__
from tdx_headroom.boots.inventory import BootReader
from tdx_headroom.errors import AgentError
from tdx_headroom.facts.boot_inventory import INVENTORY_PATH, redacted, write_inventory
from tdx_headroom.facts.record_file import RECORDS_PATH, write_records
from tdx_headroom.host.choose import read_facts
from tdx_headroom.hostfs.memory import MemoryRoot
from tdx_headroom.hostfs.recording import RecordingRoot
from tdx_headroom.inputs.earlier import before_this, earlier_in_root, with_earlier
from tdx_headroom.output.plan_json import to_json
from tdx_headroom.sources import firmware_memmap, nodes
from tdx_headroom.sources.kernel_log import kmsg, redact
from tdx_headroom.sources.kernel_log.reader import read_kernel_log
from tdx_headroom.sources.platform import HOST_NAME_PATH, RELEASE_PATH
from tdx_headroom.sources.registry import SELECTION, reduce_file
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tdx_headroom.facts.boot_record import BootRecord
    from tdx_headroom.facts.host_facts import HostFacts
    from tdx_headroom.facts.sources import SourceStatus
    from tdx_headroom.hostfs.files import HostFiles
    from tdx_headroom.sources.kernel_log.records import KernelLog

SCHEMA = "tdx-headroom/capture/2"
TOP = "tdx-headroom-capture"

NOTHING_OF = (
    "host name (unless --keep-host-name), serial numbers, MAC and IP addresses, UUIDs, user and device names,"
    " addresses of the kernel's image, arguments that are not about memory, TDX or hibernation, and every"
    " message of the log that is not about these"
)


class Capture(NamedTuple):
    """A capture.

    Args:
        data: of the archive.
        files: how many of the host's files are in it.
        failed: sources that could not be read.
    """

    data: bytes
    files: int
    failed: tuple[SourceStatus, ...]


def make_capture(
    root: HostFiles, now: float, *, keep_host_name: bool, earlier: Sequence[BootRecord] = ()
) -> Capture:
    """The capture of a host.

    Args:
        root: of the host, live or captured.
        now: seconds since the epoch, for the manifest.
        keep_host_name: whether the host's name may be in it.
        earlier: records of its boots, the oldest first; that of the present one is left out.

    Raises:
        AgentError: nothing of the host can be read, or what may be shown of it gives another plan.
    """
    log = read_kernel_log(root)
    recording = RecordingRoot(root, SELECTION)
    boots = BootReader.with_images()
    facts = read_facts(recording, log, boots=boots)
    records = before_this(earlier, facts)
    facts = with_earlier(facts, records)
    if not facts.boots_told and not any(source.ok for source in facts.sources):
        raise AgentError("nothing of this host can be read", hint="run as root", status=os.EX_NOINPUT)
    texts: dict[str, str] = {}
    kept: dict[str, str] = {}
    host = facts.host if keep_host_name else None
    found, names = nodes.with_lists(recording.names)
    found |= {path: text for path, text in recording.texts.items() if not path.startswith("sos_commands/")}
    readable = any(source.ok and source.source == firmware_memmap.SOURCE for source in facts.sources)
    found = firmware_memmap.with_entries(found, readable=readable)
    # A sosreport has these two elsewhere.
    for path, value in ((RELEASE_PATH, facts.kernel_release), (HOST_NAME_PATH, host)):
        if value is not None:
            found[path] = f"{value}\n"
    if facts.boots is not None:
        found[INVENTORY_PATH] = write_inventory(facts.boots)
    if records:
        found[RECORDS_PATH] = write_records(records)
    if host is None and found.pop(HOST_NAME_PATH, None) is not None:
        kept[HOST_NAME_PATH] = "left out: the host's name"
    for path, text in sorted(found.items()):
        reduced, kept[path] = reduce_file(path, text)
        if reduced is not None:
            texts[path] = reduced
    if log.value is not None:
        path, texts[path], kept[path] = _log(log.value)
    reduced_root = MemoryRoot(TOP, texts, names)
    reduced_facts = with_earlier(read_facts(reduced_root, boots=boots), earlier_in_root(reduced_root))
    plan = to_json(assess(reduced_facts))
    _check(plan, _shown(facts), keep_host_name=keep_host_name)
    contents = {**texts, "plan.json": json.dumps(plan) + "\n"}
    kept["plan.json"] = "the plan that these files give"
    manifest = _manifest(contents, kept, facts, root, now, plan["host"])
    contents["manifest.json"] = json.dumps(manifest, indent=1) + "\n"
    failed = tuple(source for source in facts.sources if not source.ok)
    return Capture(_archive(contents, names), len(texts), failed)


def _log(log: KernelLog) -> tuple[str, str, str]:
    """Path and text of the reduced log, and what is kept of it."""
    reduced = redact.redacted(log)
    marks = sum(record.text == redact.MARK for record in reduced.records)
    kept = f"{len(reduced.records) - marks} messages about memory and TDX of {len(log.records)}"
    if log.records and log.records[0].seq is not None:
        text = redact.as_kmsg(reduced)
        # A device has whole records only: that the last one may be cut is told by its missing line break.
        return ("dmesg", text.removesuffix("\n"), kept) if reduced.cut else (kmsg.PATH, text, kept)
    return "dmesg", redact.as_saved(reduced), kept


def _shown(facts: HostFacts) -> HostFacts:
    """The facts without ids of the machine, and the words of a line that could not be read."""
    if facts.boots is not None:
        facts = replace(facts, boots=redacted(facts.boots))
    health = facts.log_health
    if health is None or health.first_unread is None:
        return facts
    mark = redact.unread_mark(health.first_unread)
    return replace(facts, log_health=replace(health, first_unread=mark))


def _check(plan: dict[str, Any], facts: HostFacts, *, keep_host_name: bool) -> None:
    expected = to_json(assess(facts))
    if not keep_host_name:
        expected["host"] = None
    if json.dumps(plan) != json.dumps(expected):
        different = [key for key in expected if plan.get(key) != expected[key]]
        raise AgentError(
            f"the capture would not give this host's plan: {', '.join(different)} would differ",
            hint="please report it; `tdx-headroom plan --format json` shows the plan",
            status=os.EX_SOFTWARE,
        )


def _manifest(
    contents: dict[str, str],
    kept: dict[str, str],
    facts: HostFacts,
    root: HostFiles,
    now: float,
    host: str | None,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "agent_version": __version__,
        "created": datetime.fromtimestamp(int(now), UTC).isoformat(),
        "host": host,
        "kernel_release": facts.kernel_release,
        "redacted": f"There is nothing in these files of: {NOTHING_OF}.",
        "files": [
            {
                "path": path,
                "size": len(data := text.encode()),
                "sha256": hashlib.sha256(data).hexdigest(),
                "kept": kept[path],
            }
            for path, text in sorted(contents.items())
        ],
        "left_out": {path: why for path, why in sorted(kept.items()) if path not in contents},
        "not_read": {
            source.source: (source.public or "").replace(f"{root.path.rstrip('/')}/", "/")
            for source in facts.sources
            if not source.ok
        },
    }


def _archive(contents: dict[str, str], names: list[str]) -> bytes:
    """The same bytes from the same contents: names in order, no times, no owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        wanted = {f"{TOP}/{path}" for path in contents} | {f"{TOP}/{name}" for name in names}
        texts = {f"{TOP}/{path}": text for path, text in contents.items()}
        for path in sorted(
            path for path in wanted if path.rstrip("/") + "/" not in wanted or path.endswith("/")
        ):
            member = tarfile.TarInfo(path.rstrip("/"))
            if path.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
                continue
            data = texts.get(path, "").encode()
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
