# SPDX-License-Identifier: Apache-2.0
"""Whether what grub-reboot and grub-set-default write is followed."""

from __future__ import annotations

import pytest
from tests.tools.staged import block, entry_id, menu
from tests.unit.boots.test_grub import HEAD

from tdx_headroom.boots.grub.reader import read_grub
from tdx_headroom.hostfs.memory import MemoryRoot

NEW, OLD = "6.12.0-1-amd64", "6.1.0-28-amd64"
ENTRY = "menuentry '{0}' --id {0} {{\nlinux /vmlinuz-6.1.0\n}}\n"
MENU = "".join(map(ENTRY.format, ("one", "two", "three")))


def counts(config: str, **files: str) -> tuple[bool, bool]:
    """Of both commands, on a host with this configuration."""
    found = read_grub(MemoryRoot("host", {"boot/grub/grub.cfg": config, **files}))
    assert found is not None
    return found.takes_once, found.takes_default


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (True, True)),
        ({"saved_entry": entry_id(OLD)}, (True, True)),
        ({"next_entry": entry_id(OLD), "saved_entry": "0"}, (True, True)),
        ({"prev_saved_entry": "0", "saved_entry": "1"}, (True, True)),
    ],
)
def test_what_debian_writes(variables: dict[str, str], expected: tuple[bool, bool]) -> None:
    """With GRUB_DEFAULT=saved both count, whatever is chosen now."""
    grubenv = {"boot/grub/grubenv": block(**variables)}
    assert counts(menu(NEW, OLD), **grubenv) == expected
    fixed = menu(NEW, OLD).replace('set default="${saved_entry}"', 'set default="0"')
    assert counts(fixed, **grubenv) == (True, False)


@pytest.mark.parametrize(
    ("config", "grubenv", "expected"),
    [
        pytest.param(HEAD + MENU, block(), (True, True), id="read"),
        pytest.param(HEAD + MENU, None, (False, False), id="no block: nobody knows where it will be"),
        pytest.param(HEAD + MENU, "", (False, False), id="no block, but a file"),
        pytest.param(MENU, block(), (False, False), id="not read"),
        pytest.param(HEAD + MENU + ENTRY.format("7four"), block(), (False, False), id="taken for a number"),
        pytest.param(f"blscfg\n{HEAD}{MENU}{ENTRY.format('7four')}", block(), (True, True), id="Red Hat's"),
        pytest.param(HEAD + MENU + ENTRY.format("one") * 9, block(), (True, True), id="one name for many"),
        pytest.param(
            HEAD + MENU + "".join(ENTRY.format(f"{n}x") for n in range(20, 30)),
            block(),
            (False, False),
            id="too many",
        ),
        pytest.param(
            f"load_env next_entry\n{HEAD}set default=0\n{MENU}", block(), (False, False), id="set later"
        ),
        pytest.param(
            HEAD + MENU.partition("menuentry 'two'")[0], block(), (False, False), id="one entry only"
        ),
        pytest.param(
            f"{HEAD}if cmostest 1:2; then set default=0; fi\n{MENU}",
            block(),
            (False, False),
            id="the machine decides",
        ),
        pytest.param(
            f"{HEAD}if cmostest 1:2; then set color=1; fi\n{MENU}",
            block(),
            (True, True),
            id="it is asked for nothing",
        ),
    ],
)
def test_what_scripts_follow(config: str, grubenv: str | None, expected: tuple[bool, bool]) -> None:
    """Only what is read and comes to the entry that is named, whatever cannot be known."""
    files = {} if grubenv is None else {"boot/grub/grubenv": grubenv}
    assert counts(config, **files) == expected
