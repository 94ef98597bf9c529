# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom take-history``: the boots that the journal tells of, for an agent that was not there.

The agent runs it in a process of its own: the journal may be long, and nothing of it stays in the agent.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_record import RecordFrom
from tdx_headroom.facts.codec import encode
from tdx_headroom.inputs.earlier import records_of
from tdx_headroom.inputs.journal import boots_in_journal

if TYPE_CHECKING:
    import argparse


def add(_: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(_: argparse.Namespace) -> int:
    """A record a line."""
    try:
        boots = boots_in_journal()
    except SourceError as error:
        print(f"tdx-headroom: {error}", file=sys.stderr)
        return os.EX_UNAVAILABLE
    for record in records_of(boots, RecordFrom.JOURNAL):
        print(json.dumps(encode(record)))
    return os.EX_OK
