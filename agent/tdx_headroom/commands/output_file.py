# SPDX-License-Identifier: Apache-2.0
"""What one shots write: a file that everybody may read, or standard output."""

from __future__ import annotations

import sys

from tdx_headroom.inputs.named import STANDARD_STREAM
from tdx_headroom.whole_file import write_whole

MODE = 0o644


def write(output: str, data: bytes) -> None:
    """Put the data in place of the file, at once, or on standard output where that is asked for.

    Raises:
        AgentError: the folder cannot be written to, or is full; an old file stays as it is.
    """
    if output == STANDARD_STREAM:
        sys.stdout.write(data.decode())
    else:
        write_whole(output, data, MODE)
