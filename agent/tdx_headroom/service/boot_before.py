# SPDX-License-Identifier: Apache-2.0
"""What the boot before has shown of TDX, from the journal: for an agent that was not there yet.

Records of all boots tell it too, but come only when the whole journal is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.host_facts import HostFacts
from tdx_headroom.facts.observations import LogHealth
from tdx_headroom.service.journal import read_journal
from tdx_headroom.sources.kernel_log.book import LogBook
from tdx_headroom.sources.kernel_log.report import read_report
from tdx_headroom.verdict.signs import tdx_seen

if TYPE_CHECKING:
    from tdx_headroom.facts.observations import TdxSeen


async def tdx_of_boot_before() -> TdxSeen | None:
    """As far as the journal tells; None where it does not have that boot, or nothing of TDX in it."""
    try:
        entries = await read_journal(-1)
    except SourceError as error:
        log.get().warning("the journal of the boot before cannot be read", error=str(error))
        return None
    book = LogBook()
    for number, (priority, time, text) in enumerate(entries or ()):
        book.add(priority, number, time, text)
    return tdx_seen(HostFacts(kernel_log=read_report(book.log()), log_health=LogHealth()))
