# SPDX-License-Identifier: Apache-2.0
"""Which processors can have TDX, by vendor, family and model (intel-family.h)."""

from __future__ import annotations

# Intel's family 6 before Sapphire Rapids, and clients since.
_INTEL_WITHOUT = frozenset(range(0x0F, 0x80)) | frozenset(
    bytes.fromhex("8c8d8e979a9c9d9ea5a6a7a8aaacb5b7babdbebfc5c6cc")
)
# Sapphire, Emerald and Granite Rapids, Granite Rapids D, Sierra and Clearwater Forest.
_INTEL_WITH = frozenset(bytes.fromhex("8fcfadaeafdd"))


def cpu_can_tdx(vendor: str, family: int, number: int) -> bool | None:
    """Whether a processor is of a model that can have TDX; None for a model that is not known.

    Args:
        vendor: its vendor as CPUID names it, or its own name: ``GenuineIntel``, ``AMD EPYC 9754``.
        family: as the kernel prints it.
        number: of the model.
    """
    if "intel" not in vendor.lower():
        return False if vendor.startswith(("AMD ", "Hygon ", "AuthenticAMD", "HygonGenuine")) else None
    if family == 0xF or (family == 0x6 and number in _INTEL_WITHOUT):
        return False
    return True if family == 0x6 and number in _INTEL_WITH else None
