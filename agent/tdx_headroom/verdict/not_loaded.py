# SPDX-License-Identifier: Apache-2.0
"""What to do where the BIOS has not loaded the TDX module, in the order in which it has helped others."""

from __future__ import annotations

from tdx_headroom.verdict.findings import Remedy, RemedyKind

_LOADER = (
    "In the BIOS, enable TME, TME-MT, TDX and the SEAM loader. The loader must be in the BIOS image: update"
    " the BIOS, or put it on the EFI system partition where the board's manual wants it there."
)
_SGX = (
    "In the BIOS, enable SGX, without which no SEAM loader runs: while it is off, the host has no"
    " /dev/sgx_enclave."
)
_SGX_IS_OFF = (
    "SGX is off, without which no SEAM loader runs: enable it in the BIOS, and take nosgx off the kernel's"
    " command line."
)
_DIMMS = (
    "Populate the DIMM slots alike on every memory controller of every socket, as the board's manual asks for"
    " SGX and TDX."
)
_KEYIDS = "In the BIOS, give TDX more than one of the KeyIDs (the TME-MT/TDX key split)."
_REGISTERS = (
    "See what the CPU says, as root with msr-tools: `rdmsr 0x1401 -f 11:11` prints 1 where the BIOS has set"
    " memory aside for the module (SEAMRR), `rdmsr 0xa0` prints 0 unless the CPU's check of what the BIOS has"
    " set up (MCHECK) has failed."
)
_VENDOR = (
    "Should all of that be in order, send the board's vendor a capture:"
    " `sudo tdx-headroom capture -o host.tar.gz`."
)


def steps(keyids: tuple[int, int] | None, *, sgx: bool | None) -> tuple[Remedy, ...]:
    """What to look at, one after the other.

    Args:
        keyids: private KeyIDs ``[first, end)`` as the kernel names them; None where it does not.
        sgx: whether SGX is on; None where that is unknown. What is seen to be wrong comes first.
    """
    enough = keyids is not None and keyids[1] - keyids[0] > 1
    seen = {True: (_LOADER,), False: (_SGX_IS_OFF, _LOADER), None: (_LOADER, _SGX)}[sgx]
    settings = (*seen, _DIMMS, *(() if enough else (_KEYIDS,)))
    return (
        *(Remedy(RemedyKind.FIRMWARE_SETTING, text) for text in settings),
        *(Remedy(RemedyKind.LOOK_FURTHER, text) for text in (_REGISTERS, _VENDOR)),
    )
