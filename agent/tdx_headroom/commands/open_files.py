# SPDX-License-Identifier: Apache-2.0
"""``tdx-headroom open-files``, which only a unit of systemd before 253 runs, as root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tdx_headroom import log
from tdx_headroom.hostfs.root import Root
from tdx_headroom.service.descriptor_store import store_files
from tdx_headroom.service.notify import Notifier

if TYPE_CHECKING:
    import argparse


def add(_parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def run(_options: argparse.Namespace) -> int:
    """Hand the files that only root can open to systemd; the exit status."""
    log.configure("info", "logfmt")
    names = store_files(Root("/"), Notifier())
    log.get().info("files handed to systemd", names=" ".join(names))
    return os.EX_OK
