# SPDX-License-Identifier: Apache-2.0
"""What to ask an agent for."""

from __future__ import annotations

from tdx_headroom.output.metric_families import Collector

EVERYTHING = "/metrics?" + "&".join(f"collect[]={collector}" for collector in Collector)
"""All that can be scraped."""
