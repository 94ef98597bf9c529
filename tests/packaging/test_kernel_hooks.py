# SPDX-License-Identifier: Apache-2.0
"""The hooks for kernels and the login message, run by run-parts, kernel-install and shells."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.packaging.conftest import CHECKOUT
from tests.tools.staged import RUNNING, entry_id, menu, staged_host

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = CHECKOUT / "packaging/kernel-hooks"
MOTD = CHECKOUT / "packaging/motd/tdx-headroom.sh"
SCRIPTS = [
    *sorted(path for path in HOOKS.rglob("*") if path.is_file()),
    MOTD,
    CHECKOUT / "packaging/install.sh",
    CHECKOUT / "systemd/generators/tdx-headroom",
    *(CHECKOUT / f"packaging/debian/tdx-headroom.{name}" for name in ("init", "postinst", "postrm", "prerm")),
]
BAD = "7.0.10-amd64"
OLD = "6.1.0-28-amd64"
PROGRAMS = (
    "sh timeout sed sleep cp id run-parts kernel-install sort mkdir rm cat mktemp systemd-id128 mountpoint"
)
"""Those that the hooks and what runs them use."""
IMAGE = f"/boot/vmlinuz-{BAD}"
WILL_FAIL = f"tdx-headroom: TDX will NOT come up under {BAD}, which boots next: "
LOOK = "Look with: tdx-headroom boots\n"


class Machine(NamedTuple):
    """A machine with the hooks, all of it in one folder.

    Args:
        folder: with `kernel`, its /etc/kernel; `plugins` of kernel-install; `bin`, the only one in PATH.
        host: the TDX host that tdx-headroom sees.
    """

    folder: Path
    host: Path

    def put(self, relative: str, script: str) -> Path:
        """A program of the machine."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def run(self, *command: str | Path, **environment: str) -> tuple[int, str, str]:
        """Status, output and errors of a command."""
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={"PATH": str(self.folder / "bin"), "LC_ALL": "C.UTF-8", **environment},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def run_parts(self, folder: str, **environment: str) -> tuple[int, str, str]:
        """What a package of a kernel does in its postinst or postrm."""
        parts = ["run-parts", "--report", "--exit-on-error", f"--arg={BAD}"]
        parts.append(f"--arg={self.host}{IMAGE}")
        return self.run(*parts, self.folder / "kernel" / folder, **environment)

    def in_time(self) -> None:
        """The limits of the hooks count."""
        (self.folder / "bin/timeout-in-time").replace(self.folder / "bin/timeout")

    def update_grub(self) -> str:
        """A script that puts a new kernel into the menu, as update-grub does."""
        new = self.folder / "grub.cfg"
        new.write_text(menu(BAD, RUNNING))
        return f"echo 'Generating grub configuration file ...' >&2\ncp {new} {self.host}/boot/grub/grub.cfg"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One on which the running kernel is the newest, and another is about to be installed."""
    host = staged_host(tmp_path / "host", BAD)
    (host / "boot/grub/grub.cfg").write_text(menu(RUNNING, OLD))
    found = Machine(tmp_path / "machine", host)
    (found.folder / "bin").mkdir(parents=True)
    for name in PROGRAMS.split():
        program = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if program is not None:
            (found.folder / "bin" / name).symlink_to(program)
    for path in HOOKS.rglob("*"):
        if path.is_file():
            text = path.read_text()
            for place, own in (
                ("/usr/share/tdx-headroom/kernel-hooks", found.folder / "hooks"),
                ("/etc/kernel", found.folder / "kernel"),
                ("/var/cache", found.folder / "cache"),
            ):
                text = text.replace(place, str(own))
            relative = path.relative_to(HOOKS)
            where = "kernel" if len(relative.parts) > 1 else "plugins" if path.suffix else "hooks"
            found.put(f"{where}/{relative}", text)
    # The real command may take longer on a machine that is busy with other tests.
    (found.folder / "bin/timeout").rename(found.folder / "bin/timeout-in-time")
    found.put("bin/timeout", 'shift 3\nexec timeout-in-time -k 5 60 "$@"')
    found.put("bin/ischroot", "exit 1")
    found.put("bin/systemd-detect-virt", "exit 1")
    real = f"PYTHONPATH={CHECKOUT}/agent exec {sys.executable} -m tdx_headroom"
    found.put("bin/tdx-headroom", f'{real} "$@" --root {host}')
    return found


@pytest.mark.program("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    """Every script that a package brings is plain POSIX shell."""
    shell = [] if script.suffix == ".sh" and script.parent.name == "motd" else ["--shell=sh"]
    done = subprocess.run(
        ["shellcheck", "--exclude=SC1090,SC1091", *shell, script], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.program("run-parts")
class TestRunParts:
    @pytest.mark.parametrize("locale", ["C.UTF-8", "en_US.UTF-8"])
    def test_they_come_after_the_boot_loader(self, locale: str, machine: Machine) -> None:
        """What update-grub has made is what is judged, for the names of the scripts put them in order."""
        before = machine.run(machine.folder / "kernel/postinst.d/zzz-tdx-headroom", BAD)
        assert before[2].startswith(f"tdx-headroom: TDX will come up under {RUNNING}, which boots next (")
        machine.put("kernel/postinst.d/zz-update-grub", machine.update_grub())
        machine.put("kernel/postinst.d/zz-systemd-boot", "echo systemd-boot >&2")
        machine.put("kernel/postinst.d/initramfs-tools", "echo initramfs >&2")
        status, _, said = machine.run_parts("postinst.d", LC_ALL=locale)
        assert status == 0
        found = [
            said.index(word) for word in ("initramfs", "systemd-boot", "Generating grub", WILL_FAIL[:60])
        ]
        assert found == sorted(found)
        assert said.endswith(
            f"Stay on {RUNNING}:\n  grub-reboot '{entry_id(RUNNING)}'  # for one boot\n"
            f"  grub-set-default '{entry_id(RUNNING)}'  # for good\n"
        )

    def test_a_kernel_that_was_removed(self, machine: Machine) -> None:
        """The one that boots next then is judged."""
        (machine.host / "boot/grub/grub.cfg").write_text(menu(BAD, RUNNING))
        new = machine.folder / "grub.cfg"
        new.write_text(menu(RUNNING, OLD))
        machine.put("kernel/postrm.d/zz-update-grub", f"cp {new} {machine.host}/boot/grub/grub.cfg")
        status, _, said = machine.run_parts("postrm.d", DEB_MAINT_PARAMS="remove")
        assert status == 0
        assert f"tdx-headroom: TDX will come up under {RUNNING}, which boots next (" in said

    @pytest.mark.parametrize(
        ("folder", "parameters", "speaks"),
        [
            ("postinst.d", "configure", True),
            ("postinst.d", "configure 6.1.0-1", True),
            ("postinst.d", "'configure' '6.1.0-1'", True),
            ("postinst.d", "", True),
            ("postinst.d", "abort-remove", False),
            ("postrm.d", "remove", True),
            ("postrm.d", "", True),
            ("postrm.d", "purge", False),
            ("postrm.d", "upgrade 6.1.0-2", False),
        ],
    )
    def test_once_for_each_installation(
        self,
        folder: str,
        parameters: str,
        speaks: bool,  # noqa: FBT001
        machine: Machine,
    ) -> None:
        """As zz-update-grub, they run at the steps that change the menu, and tell the command the release."""
        machine.put("bin/tdx-headroom", 'echo "was told $*"')
        status, _, said = machine.run_parts(folder, DEB_MAINT_PARAMS=parameters)
        option = "--installed" if folder == "postinst.d" else "--removed"
        assert status == 0
        assert (f"was told boots --brief {option}={BAD}\n" in said) is speaks

    @pytest.mark.program("kernel-install")
    @pytest.mark.parametrize("parameters", ["configure", ""])
    def test_with_systemd_boot_it_comes_once(self, parameters: str, machine: Machine) -> None:
        """Debian's zz-systemd-boot calls kernel-install, whose plugin leaves it to the script."""
        machine.put("plugins/90-menu.install", machine.update_grub())
        machine.put("kernel/postinst.d/zz-systemd-boot", 'kernel-install add "$1" "$2"')
        environment = {**kernel_install(machine), "DEB_MAINT_PARAMS": parameters}
        status, _, said = machine.run_parts("postinst.d", **environment)
        assert status == 0, said
        assert said.count("TDX will NOT come up") == 1
        assert said.index("Generating grub") < said.index("TDX will NOT come up")


def kernel_install(machine: Machine) -> dict[str, str]:
    """The environment in which kernel-install takes this machine's plugins and nothing else."""
    configuration = machine.folder / "configuration"
    configuration.mkdir(exist_ok=True)
    (configuration / "install.conf").write_text("layout=other\n")
    plugins = sorted(map(str, (machine.folder / "plugins").iterdir()))
    boot = machine.folder / "boot"
    boot.mkdir(exist_ok=True)
    return {
        "KERNEL_INSTALL_CONF_ROOT": str(configuration),
        "KERNEL_INSTALL_PLUGINS": " ".join(plugins),
        "MACHINE_ID": "3a1f4f0a6d6b4b6c9d51f8c72a9b1c55",
        "BOOT_ROOT": str(boot),
    }


@pytest.mark.program("kernel-install")
class TestKernelInstall:
    def test_it_comes_after_grub(self, machine: Machine) -> None:
        """kernel-install runs it after 99-grub-mkconfig.install, and shows what it says."""
        machine.put("plugins/99-grub-mkconfig.install", machine.update_grub())
        image = machine.host / f"boot/vmlinuz-{BAD}"
        status, out, said = machine.run("kernel-install", "add", BAD, image, **kernel_install(machine))
        assert (status, out) == (0, "")
        assert said.index("Generating grub") < said.index("TDX will NOT come up")

    @pytest.mark.parametrize(("verb", "option"), [("add", "--installed"), ("remove", "--removed")])
    def test_what_it_asks(self, verb: str, option: str, machine: Machine) -> None:
        """The release is handed on; with --verbose there is a line about that."""
        machine.put("bin/tdx-headroom", 'echo "was told $*"')
        arguments: list[str | Path] = [
            "--verbose",
            verb,
            BAD,
            *([machine.host / f"boot/vmlinuz-{BAD}"] if verb == "add" else []),
        ]
        status, out, said = machine.run("kernel-install", *arguments, **kernel_install(machine))
        assert status == 0
        assert f"was told boots --brief {option}={BAD}\n" in said
        assert "Looking with tdx-headroom whether TDX will come up at the next boot.\n" in out

    def test_other_verbs(self, machine: Machine) -> None:
        """A verb of a later kernel-install is none of its business."""
        assert machine.run(machine.folder / "plugins/99-tdx-headroom.install", "inspect", BAD) == (0, "", "")


def hooks_of(machine: Machine) -> list[list[str | Path]]:
    """The three, as they are called."""
    return [
        [machine.folder / "kernel/postinst.d/zzz-tdx-headroom", BAD, IMAGE],
        [machine.folder / "kernel/postrm.d/zzz-tdx-headroom", BAD, IMAGE],
        [machine.folder / "plugins/99-tdx-headroom.install", "add", BAD, "/boot/entry", IMAGE],
    ]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("exit 0", ""),
        ("echo Traceback >&2; exit 1", LOOK),
        ("exit 3", LOOK),
        ("kill -SEGV $$", LOOK),
        ("echo usage >&2; exit 64", LOOK),
        ("echo half; exit 70", LOOK),
        ("echo all is well", "all is well\n"),
        ("echo bad; exit 2", "bad\n"),
    ],
)
def test_an_upgrade_never_fails(program: str, said: str, machine: Machine) -> None:
    """Whatever becomes of the command; that nothing was found out is said."""
    machine.put("bin/tdx-headroom", program)
    for command in hooks_of(machine):
        status, out, err = machine.run(*command)
        assert (status, out) == (0, "")
        assert err.endswith(said) if said else err == ""
        assert err.count("\n") == bool(said)


@pytest.mark.parametrize("missing", ["bin/tdx-headroom", "bin/timeout", "hooks/say-next-boot"])
def test_something_is_missing(missing: str, machine: Machine) -> None:
    """After the package was removed its configuration stays: nothing is said, and nothing fails."""
    (machine.folder / missing).unlink()
    for command in hooks_of(machine):
        assert machine.run(*command) == (0, "", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "| :", "2>&1 >/dev/null | :", "2>/dev/full", "<&-"])
def test_nobody_listens(closed: str, machine: Machine) -> None:
    """With its outputs closed, full or not read it does not fail either."""
    machine.put("bin/tdx-headroom", "exit 2" if closed == "<&-" else "echo bad; exit 2")
    for command in hooks_of(machine):
        script = f"{{ {' '.join(map(str, command))}; echo $? >{machine.folder}/status; }} {closed}"
        machine.run("sh", "-c", script, KERNEL_INSTALL_VERBOSE="1")
        assert (machine.folder / "status").read_text() == "0\n"


def test_it_takes_five_seconds_at_most(machine: Machine) -> None:
    """A command that does not end, nor heeds being asked to, is ended, and that is said in one line."""
    text = (HOOKS / "say-next-boot").read_text()
    limits = re.search(r"timeout -k ([0-9.]+) ([0-9.]+) ", text)
    assert limits is not None
    assert float(limits[1]) + float(limits[2]) < 5
    machine.put("bin/tdx-headroom", "trap '' TERM\nwhile :; do sleep 600; done")
    machine.in_time()
    began = time.monotonic()
    status, out, said = machine.run(*hooks_of(machine)[0])
    assert (status, out) == (0, "")
    assert said.startswith(
        "tdx-headroom: It took too long to tell whether TDX will come up at the next boot."
    )
    assert said.count("\n") == 1
    # What else it does, on a machine that is busy with other tests.
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "program", ["ischroot", "systemd-detect-virt"], ids=["a chroot", "a container, or a chroot elsewhere"]
)
def test_silent_where_nothing_boots(program: str, machine: Machine) -> None:
    """In an image that is built on a TDX host nothing is known of where it will boot."""
    machine.put(f"bin/{program}", "exit 0")
    for command in hooks_of(machine):
        assert machine.run(*command) == (0, "", "")


class TestMotd:
    def log_in(self, machine: Machine, shell: str = "sh", *, interactive: bool = True) -> str:
        """What a login shell prints, and the variables of the script that are left."""
        options = ["-i"] if interactive else []
        if shell == "bash":
            options = ["--norc", "--noprofile", *options]
        script = f". {MOTD}; set | while read -r line; do case $line in tdx_*) echo $line;; esac; done"
        program = shutil.which(shell)
        assert program is not None
        status, out, _ = machine.run(program, *options, "-c", script)
        assert status == 0
        return out

    @pytest.mark.parametrize("shell", ["sh", "bash"])
    def test_it_speaks_of_a_bad_boot(self, shell: str, machine: Machine) -> None:
        """Nothing where all is well; the paragraph where it is not; nothing to a script."""
        assert self.log_in(machine, shell) == ""
        (machine.host / "boot/grub/grub.cfg").write_text(menu(BAD, RUNNING))
        assert self.log_in(machine, shell).startswith(WILL_FAIL[:60])
        assert self.log_in(machine, shell, interactive=False) == ""

    @pytest.mark.parametrize(
        ("program", "user", "said"),
        [
            ("echo fine", "0", ""),
            ("echo risk; exit 1", "1000", "risk\n"),
            ("echo bad; exit 2", "1000", "bad\n"),
            ("echo unknown; exit 3", "0", "unknown\n"),
            ("echo unknown; exit 3", "1000", ""),
            ("exit 1", "0", ""),
            ("exit 3", "0", ""),
            ("kill -SEGV $$", "0", ""),
        ],
    )
    def test_who_is_told_what(self, program: str, user: str, said: str, machine: Machine) -> None:
        """What is known to be bad everybody, what cannot be told only root, and a crash nobody."""
        machine.put("bin/tdx-headroom", program)
        machine.put("bin/id", f"echo {user}")
        assert self.log_in(machine) == said

    def test_nothing_is_installed(self, machine: Machine) -> None:
        """Without the command, or without timeout, a login is as it was."""
        for name in ("timeout", "tdx-headroom"):
            (machine.folder / "bin" / name).unlink()
            assert self.log_in(machine) == ""

    def test_it_takes_two_seconds_at_most(self, machine: Machine) -> None:
        """A login does not wait for more."""
        limits = re.search(r"timeout -k ([0-9.]+) ([0-9.]+) ", MOTD.read_text())
        assert limits is not None
        assert float(limits[1]) + float(limits[2]) < 2
        machine.put("bin/tdx-headroom", "trap '' TERM\nwhile :; do sleep 600; done")
        machine.in_time()
        began = time.monotonic()
        assert self.log_in(machine) == ""
        assert time.monotonic() - began < 12
