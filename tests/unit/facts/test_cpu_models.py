# SPDX-License-Identifier: Apache-2.0
"""Which processors can have TDX."""

from __future__ import annotations

import pytest

from tdx_headroom.facts.cpu_models import cpu_can_tdx


@pytest.mark.parametrize(
    ("vendor", "family", "model", "can"),
    [
        ("GenuineIntel", 6, 0x8F, True),  # Sapphire Rapids
        ("GenuineIntel", 6, 0xCF, True),  # Emerald Rapids
        ("GenuineIntel", 6, 0xAD, True),  # Granite Rapids
        ("Intel(R) Xeon(R) 6780E", 6, 0xAF, True),  # Sierra Forest
        ("GenuineIntel", 6, 0x6A, False),  # Ice Lake server
        ("GenuineIntel", 6, 0x97, False),  # Alder Lake
        ("GenuineIntel", 15, 4, False),  # Pentium 4
        ("GenuineIntel", 6, 0xFE, None),
        ("GenuineIntel", 19, 1, None),
        ("AuthenticAMD", 25, 17, False),
        ("AMD EPYC 9754 128-Core Processor", 0, 0, False),
        ("HygonGenuine", 24, 1, False),
        ("GenuineNobody", 6, 0x8F, None),
        ("", 0, 0, None),
    ],
)
def test_a_processor(vendor: str, family: int, model: int, *, can: bool | None) -> None:
    """Surely without, of a model that can, or not known."""
    assert cpu_can_tdx(vendor, family, model) is can
