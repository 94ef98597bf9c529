# SPDX-License-Identifier: Apache-2.0
"""Loads all that an agent may need, which takes most of its start: for what forked.py starts."""

from __future__ import annotations

from importlib import resources

from tdx_headroom.hostfs.memory import load_tree
from tdx_headroom.service.privileges import preload

with resources.as_file(resources.files("tdx_headroom") / "hosts" / "emerald-rapids") as folder:
    preload(load_tree(folder))
