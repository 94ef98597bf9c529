# SPDX-License-Identifier: Apache-2.0
"""Pages of hosts that no captured host shows."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from tdx_headroom.address import GIB, MIB, PAGE
from tdx_headroom.facts.boot_record import Areas, BootRecord, RecordFrom, StrategyAreas
from tdx_headroom.facts.host_facts import HostFacts, MemoryRegion, Placement
from tdx_headroom.facts.kernel_report import ModuleState
from tdx_headroom.facts.observations import FirmwareRange
from tdx_headroom.facts.sources import SourceStatus
from tdx_headroom.output.page import render_page, stylesheet
from tdx_headroom.verdict.assessment import assess

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("Reserved", "ACPI Tables", "Soft Reserved", "ACPI Non-volatile Storage", "System RAM")


def host(tdmrs: int, holes: int, *, cmrs: bool = True, firmware: bool = True) -> HostFacts:
    """A host with as many TDMRs of 1 GiB, one a node, and as many holes in each."""
    regions = []
    ranges = []
    for node in range(tdmrs):
        base = 4 * GIB * (node + 1)
        piece = GIB // holes // PAGE * PAGE
        for i in range(holes):
            start = base + i * piece
            regions.append(MemoryRegion(start + PAGE, base + GIB if i == holes - 1 else start + piece, node))
            ranges.append(FirmwareRange(start, start + PAGE, KINDS[i % len(KINDS)]))
    return HostFacts(
        host="<made & up>",
        kernel_release="6.16.0",
        memory_regions=tuple(regions),
        cmrs=tuple((4 * GIB * (n + 1), GIB - MIB) for n in range(tdmrs)) if cmrs else None,
        firmware_map=tuple(ranges) if firmware else None,
        sources=(SourceStatus("iomem", "/proc/iomem", ok=True),),
        pamt_placement=Placement.NONE,
    )


def records(count: int) -> list[BootRecord]:
    """As many boots: of every outcome, some over the limit, of some nothing is known, and all changes."""
    outcomes = (ModuleState.INITIALIZED, ModuleState.FAILED, ModuleState.UNKNOWN)
    return [
        BootRecord(
            RecordFrom.AGENT,
            began=1_700_000_000.0 + 86_400 * number,
            kernel_release=f"6.16.{number // 20}<script>",
            bios_version=f"2.{number // 15} & up",
            arguments=(f"mem={number // 25}G",),
            regions=(MemoryRegion(MIB, (2 + number // 30) * GIB, 0),),
            strategy="memory-regions",
            areas=()
            if number % 11 == 5
            else (StrategyAreas("memory-regions", (Areas(0, GIB, 9 + number % 10, 16, 9),)),),
            outcome=outcomes[number % 3],
        )
        for number in range(count)
    ]


def pages() -> dict[str, str]:
    """Each page by its name."""
    good = assess(host(2, 3))
    return {
        "not-assessed": render_page(None),
        "stale": render_page(good, stale=True, assessed_at=1_700_000_000),
        "at-risk": render_page(assess(host(2, 15, cmrs=False, firmware=False))),
        "cannot-tell": render_page(assess(HostFacts())),
        "crowded": render_page(assess(host(16, 20))),
        "too-many-tdmrs": render_page(assess(host(65, 1))),
        "history": render_page(good, records=records(65)),
    }


@contextmanager
def states() -> Iterator[dict[str, str]]:
    """Serves them; the URL of each by its name."""
    answers = {f"/{name}/": (page, "text/html; charset=utf-8") for name, page in pages().items()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            style = self.path.endswith("/style.css")
            body, kind = (stylesheet(), "text/css") if style else answers[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'self'")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield {path.strip("/"): f"http://127.0.0.1:{server.server_port}{path}" for path in answers}
        server.shutdown()
        thread.join()
