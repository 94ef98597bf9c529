# SPDX-License-Identifier: Apache-2.0
"""What boots next, told by root to an agent that is not root; tests/reboots then reboots for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.facts.boot_inventory import INVENTORY_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.guests import Guest

ONE_SHOT = "tdx-headroom-boots.service"
WATCH = "tdx-headroom-boots.path"
INVENTORY = f"/{INVENTORY_PATH}"
PLAIN = "6.1.0-1-amd64"
"""A kernel without TDX, by its configuration."""
SECONDS = 30


def staged(guest: Guest, verdict: str) -> bool:
    return guest.value("tdx_staged_boot", verdict=verdict) == 1


def next_kernel(guest: Guest) -> str | None:
    """The kernel that the agent says boots next."""
    for name, labels in guest.samples():
        if name == "tdx_next_boot_info":
            return dict(labels)["kernel_release"]
    return None


def test_it_is_there_when_the_agent_starts(guest: Guest) -> None:
    """Root's file is written before the agent looks, and the watch runs; nothing is staged in this guest."""
    assert guest.prop("ActiveState", WATCH) == "active"
    assert guest.prop("Result", ONE_SHOT) == "success"
    assert guest.run(f"stat -c '%U %a' {INVENTORY}") == "root 644"
    assert guest.value("tdx_next_boot_pending") == 0
    assert next_kernel(guest) == guest.run("uname -r")


def test_a_kernel_that_is_staged(guest: Guest, note: Callable[[str], None]) -> None:
    """A menu that only root may read, with a kernel without TDX: the agent knows it without being asked."""
    running = guest.run("uname -r")
    menu = "".join(
        f"menuentry {name} --id {name} {{\n  linux /boot/vmlinuz-{release} {line}\n}}\n"
        for name, release, line in (
            ("plain", PLAIN, "root=/dev/vda secretword"),
            ("same", running, guest.run("cat /proc/cmdline")),
        )
    )
    head = 'load_env\nif [ "${next_entry}" ]; then set default="${next_entry}"; fi\n'
    guest.run(f"mkdir -p /boot/grub && : > /boot/vmlinuz-{PLAIN} && : > /boot/vmlinuz-{running}")
    guest.run(f"echo '# CONFIG_INTEL_TDX_HOST is not set' > /boot/config-{PLAIN}")
    guest.machine.write("/boot/grub/.new", (head + menu).encode())
    guest.run("chmod 600 /boot/grub/.new && mv /boot/grub/.new /boot/grub/grub.cfg")
    took = guest.wait(lambda: staged(guest, "will-fail"), SECONDS, "the staged kernel in the metrics")
    note(f"{took:.1f} s after the change")
    assert next_kernel(guest) == PLAIN
    assert guest.machine.status(f"grep -q secretword {INVENTORY}") == 1
    assert guest.run("setpriv --reuid 65534 --clear-groups tdx-headroom boots --format json").count(PLAIN) > 0


def test_another_choice_by_grubenv(guest: Guest) -> None:
    """The block that grub-reboot writes in place is seen, too: the running kernel comes again."""
    block = "# GRUB Environment Block\nnext_entry=same\n".ljust(1024, "#")
    guest.machine.write("/boot/grub/grubenv", block.encode())
    guest.wait(lambda: guest.value("tdx_next_boot_pending") == 0, SECONDS, "the running kernel comes again")
    guest.run("rm /boot/grub/grubenv")
    guest.wait(lambda: staged(guest, "will-fail"), SECONDS, "the first of the menu again")


def test_a_forged_file_is_not_believed(guest: Guest) -> None:
    """Another user's file says nothing, and root's comes back with the next change."""
    guest.run(f"cp {INVENTORY} {INVENTORY}.x && chown nobody {INVENTORY}.x && mv {INVENTORY}.x {INVENTORY}")
    guest.wait(lambda: staged(guest, "cannot-tell"), SECONDS, "the forged file is refused")
    assert "so that it cannot be believed" in guest.log(5)
    guest.run(f"rm {INVENTORY}")
    guest.wait(lambda: "it is not there" in guest.log(5), SECONDS, "the missing file is named")
    guest.run(f"touch /boot/vmlinuz-{PLAIN}")
    guest.wait(lambda: staged(guest, "will-fail"), SECONDS, "root's file is back")


def test_many_changes_in_a_row(guest: Guest, note: Callable[[str], None]) -> None:
    """Neither unit is stopped by them, and what was true last is what counts."""
    before = guest.run(f"journalctl --unit {ONE_SHOT} --output cat | grep -c Starting")
    guest.run("for i in $(seq 300); do touch /boot/file$i; done; rm /boot/file*; rm -r /boot/grub")
    guest.wait(lambda: guest.value("tdx_next_boot_pending") == 0, SECONDS, "nothing is staged any more")
    after = guest.run(f"journalctl --unit {ONE_SHOT} --output cat | grep -c Starting")
    note(f"600 changes, {int(after) - int(before)} looks")
    assert guest.prop("ActiveState", WATCH) == "active"
    assert guest.prop("Result", ONE_SHOT) == "success"
