# SPDX-License-Identifier: Apache-2.0
"""What the agent tells from a kernel's own image and configuration: when it initializes TDX, and its CMRs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tdx_headroom.boots.kernels.config import ConfigReading
from tdx_headroom.boots.kernels.image import read_version
from tdx_headroom.boots.kernels.module import ModuleReading
from tdx_headroom.boots.kernels.reader import KernelReader
from tdx_headroom.boots.kernels.scanner import Scanner
from tdx_headroom.boots.kernels.traits import traits_of
from tdx_headroom.facts.boots import Starts
from tdx_headroom.hostfs.root import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tdx_headroom.facts.boots import KernelTraits
    from tests.kernel.build import Kernel

STARTS = {"6.12": Starts.NEVER, "7.3": Starts.BOOT}
"""When the test kernel of each series does: KVM of 6.12 cannot ask for it, and 7.3 does not wait for it."""

COPIES = 12
"""Damaged ones of each kind, in a run."""

_DAMAGE: Mapping[str, Callable[[bytes, int], bytes]] = {
    "cut short": lambda whole, at: whole[:at],
    "with zeros at the end": lambda whole, at: whole[:at] + bytes(len(whole) - at),
    "with a byte changed": lambda whole, at: whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :],
}
_IMAGE = "boot/vmlinuz"
_KVM = ModuleReading(parameter=False)
"""What modules of 6.12 would tell: kvm_intel does not take ``tdx``. Of 7.3 it does not matter."""


def check_image(kernel: Kernel, seed: int, copies: int = COPIES) -> dict[str, list[str]]:
    """What the agent tells wrong, in words, for each thing that it is asked.

    Args:
        kernel: that was built.
        seed: of the places that are damaged.
        copies: how many are damaged in each way.
    """
    right = STARTS[kernel.series]
    random = Random(seed)
    whole = kernel.image.read_bytes()
    with tempfile.TemporaryDirectory(prefix="own-image-") as folder:
        files = Root(folder)
        path = Path(folder, _IMAGE)
        path.parent.mkdir()
        path.write_bytes(whole)
        version = read_version(files, _IMAGE)
        release = None if version is None else version.partition(" ")[0]
        path.with_name(f"config-{release}").write_bytes(kernel.config.read_bytes())
        by_files = KernelReader(Scanner(None)).traits(files, release, _IMAGE)
        problems = {
            "with its configuration": _unlike(by_files, (right,), f"{release}"),
            "without it": _unlike(_by_image(files), (right,), "the image"),
            "whether it walks and reads CMRs": _cmrs(_by_image(files), there=kernel.cmrs),
        }
        for kind, damage in _DAMAGE.items():
            found = problems.setdefault(f"{copies} copies {kind}", [])
            for _ in range(copies):
                place = random.randrange(len(whole))
                path.write_bytes(damage(whole, place))
                found += _unlike(_by_image(files), (right, Starts.UNKNOWN), f"byte {place}")
    return problems


def _by_image(files: Root) -> KernelTraits:
    return traits_of(ConfigReading(), _KVM, Scanner(None).marks(files, _IMAGE))


def _cmrs(traits: KernelTraits, *, there: bool) -> list[str]:
    """A kernel that does not read them may leave that open: only its types (BTF) would show it."""
    told = traits.walks_cmrs, traits.reads_cmrs
    right = told == (True, True) if there else told in ((False, False), (False, None))
    return [] if right else [f"walks and reads CMRs: {told}"]


def _unlike(traits: KernelTraits, right: Sequence[Starts], what: str) -> list[str]:
    if traits.starts in right:
        return []
    return [f"{what}: {traits.starts} instead of {' or '.join(right)} {list(traits.unread)}"]
