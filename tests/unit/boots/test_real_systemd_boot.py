# SPDX-License-Identifier: Apache-2.0
"""What the real systemd-boot 252 and 257.13 booted in a virtual machine with OVMF, for generated entries.

The answer is the line that the kernel printed. Images and kernels are replaced by small ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.tools.efi import BOOTS, Tree, kernel, merged, systemd_boot_host, unified

from tdx_headroom.boots.systemd_boot.reader import read_systemd_boot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tdx_headroom.hostfs.root import Root

    HostTree = Callable[[Mapping[str, str | bytes]], Root]

CASES = json.loads((BOOTS / "systemd_boot_in_ovmf.json").read_text())


def image(number: str) -> bytes:
    system = f'ID=debian\nVERSION_ID=12.{number}\nPRETTY_NAME="Debian 12"\n'
    return unified(f"console=ttyS0 by=uki{number}", "6.1.0-57-amd64", system)


@pytest.mark.parametrize("case", CASES, ids=[str(case["seed"]) for case in CASES])
def test_the_next_line_is_what_the_real_loader_booted(
    host_tree: HostTree,
    case: dict[str, str | dict[str, str]],
) -> None:
    """The entry that comes next has the command line with which the kernel started."""
    contents: dict[str, bytes] = {"kernel": kernel("6.1.0-57-amd64"), "uki1": image("1"), "uki2": image("2")}
    files, variables = case["files"], case["variables"]
    assert isinstance(files, dict)
    assert isinstance(variables, dict)
    tree: Tree = {path: contents.get(content, content) for path, content in files.items()}
    menu = read_systemd_boot(host_tree(merged(systemd_boot_host(str(case["version"]), **variables), tree)))
    assert menu is not None
    assert menu.unknown is None
    assert menu.next is not None
    # The kernel drops blanks at the end; 252 hands an empty initrd over, which later versions leave out.
    line = str(case["line"]).replace("initrd=\\empty ", "")
    assert (menu.entries[menu.next].line or "").rstrip() == line
