# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kernel.build import Kernel
from tests.kernel.own_image import check_image
from tests.unit.boots.kernel_images import INITIALIZED, INITIALIZED_AT_BOOT, KEYIDS, image, vmlinux

if TYPE_CHECKING:
    from pathlib import Path

ASKED = image(vmlinux([KEYIDS, INITIALIZED], exports=["tdx_enable"]))
AT_BOOT = image(vmlinux([KEYIDS, INITIALIZED_AT_BOOT]))
CONFIG = "CONFIG_INTEL_TDX_HOST=y\n# CONFIG_KVM_INTEL is not set\nCONFIG_KVM_INTEL=n\n"


def built(folder: Path, series: str, content: bytes, config: str) -> Kernel:
    (folder / "bzImage").write_bytes(content)
    (folder / "config").write_text(config)
    return Kernel(series, "1", "0", folder / "bzImage", folder / "initramfs", {})


@pytest.mark.parametrize(("series", "content"), [("6.12", ASKED), ("7.3", AT_BOOT)])
def test_right_class(tmp_path: Path, series: str, content: bytes) -> None:
    """A kernel of which the agent tells what is known of its series has no problems."""
    found = check_image(built(tmp_path, series, content, CONFIG), 1, copies=2)
    assert not any(found.values())
    assert len(found) == 6


@pytest.mark.parametrize(
    ("series", "content", "config", "wrong"),
    [
        ("7.3", ASKED, CONFIG, ["with its configuration", "without it"]),
        ("7.3", AT_BOOT, "# CONFIG_INTEL_TDX_HOST is not set\n", ["with its configuration"]),
        ("6.12", AT_BOOT[:-5000], CONFIG, ["with its configuration", "without it"]),
    ],
)
def test_other_class(tmp_path: Path, series: str, content: bytes, config: str, wrong: list[str]) -> None:
    """Another class, or none, is a problem: with the configuration, without it, or both."""
    found = check_image(built(tmp_path, series, content, config), 1, copies=1)
    assert [name for name in list(found)[:2] if found[name]] == wrong
