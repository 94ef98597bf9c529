# SPDX-License-Identifier: Apache-2.0
"""Kernels installed and removed on a root file system that has the package: what the hooks say there.

The file system is no host: the command, in its chroot, looks at a captured one, whose menu a hook changes.
That this is a chroot is hidden from the hooks, but for the check that they are silent in one.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.kernel.tools import KernelTestError, run
from tests.tools.staged import RUNNING, entry_id, menu, staged_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "6.1.0-28-amd64", "7.0.10-amd64"
FAILS = f"tdx-headroom: TDX will NOT come up under {NEW}, which boots next"
FINE = f"tdx-headroom: TDX will come up under {RUNNING}, which boots next"
_PACKAGE = f"linux-image-{NEW}"
_SCRIPT = """\
#!/bin/sh -e
DEB_MAINT_PARAMS="$*" run-parts --report --exit-on-error --arg={release} --arg=/boot/vmlinuz-{release} \\
  /etc/kernel/{folder}
"""
_CHROOT = """\
set -e
mount -t proc proc {tree}/proc
exec chroot {tree} "$@"
"""


class UpgradeError(KernelTestError):
    """A hook has not said what it should."""


def _expect(what: str, said: str, *parts: str) -> None:
    """The parts are in what was said, in this order and each once."""
    places = [said.find(part) for part in parts]
    if -1 in places or places != sorted(places) or any(said.count(part) != 1 for part in parts):
        raise UpgradeError(f"{what}: {' | '.join(said.split(chr(10)))}")


def _chroot(tree: Path, *command: str) -> str:
    """What a command in the tree prints, its errors with it; /proc is there."""
    script = _CHROOT.format(tree=tree)
    return run(["unshare", "--mount", "--fork", "sh", "-c", f"exec 2>&1\n{script}", "sh", *command])


def _put(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


@contextmanager
def _host(tree: Path) -> Iterator[list[Path]]:
    """A TDX host for the command to look at; what the caller adds to the list is deleted in the end."""
    host = staged_host(tree / "srv/host", NEW)
    (tree / "srv/old.cfg").write_text(menu(RUNNING, OLD))
    (tree / "srv/new.cfg").write_text(menu(NEW, RUNNING))
    (host / "boot/grub/grub.cfg").write_text(menu(RUNNING, OLD))
    local = tree / "usr/local/bin"
    added = [_put(local / "tdx-headroom", '#!/bin/sh\nexec /usr/bin/tdx-headroom "$@" --root /srv/host\n')]
    try:
        yield added
    finally:
        for path in added:
            path.unlink(missing_ok=True)
        for path in (tree / "srv").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _hide_the_chroot(tree: Path) -> list[Path]:
    return [
        _put(tree / "usr/local/bin" / name, "#!/bin/sh\nexit 1\n")
        for name in ("ischroot", "systemd-detect-virt")
    ]


def _kernel_package(tree: Path) -> str:
    """A package that does what Debian's packages of kernels do; its path in the tree."""
    work = tree / "srv/package"
    control = f"Package: {_PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
    _put(work / "DEBIAN/control", f"{control}Description: a kernel of this test\n")
    for name, folder in (("postinst", "postinst.d"), ("postrm", "postrm.d")):
        _put(work / "DEBIAN" / name, _SCRIPT.format(release=NEW, folder=folder))
    subprocess.run(
        ["dpkg-deb", "--build", work, tree / "srv/kernel.deb"], check=True, stdout=subprocess.DEVNULL
    )
    return "/srv/kernel.deb"


def check_dpkg(tree: Path) -> str:
    """dpkg installs, removes and purges a kernel: the hooks judge what update-grub has made, once each."""
    with _host(tree) as added:
        for folder, config in (("postinst.d", "new"), ("postrm.d", "old")):
            update = f"#!/bin/sh\necho update-grub >&2\ncp /srv/{config}.cfg /srv/host/boot/grub/grub.cfg\n"
            added.append(_put(tree / f"etc/kernel/{folder}/zz-update-grub", update))
        package = _kernel_package(tree)
        said = _chroot(tree, "dpkg", "--install", package)
        _expect("dpkg --install in a chroot", said, "update-grub\n")
        if "TDX will" in said:
            raise UpgradeError(f"in a chroot the hook speaks: {said}")
        _chroot(tree, "dpkg", "--purge", _PACKAGE)
        added.extend(_hide_the_chroot(tree))
        said = _chroot(tree, "dpkg", "--install", package)
        way = f"  grub-reboot '{entry_id(RUNNING)}'  # for one boot"
        _expect("dpkg --install", said, "update-grub\n", FAILS, f"Stay on {RUNNING}:", way)
        _expect("dpkg --remove", _chroot(tree, "dpkg", "--remove", _PACKAGE), "update-grub\n", FINE)
        said = _chroot(tree, "dpkg", "--purge", _PACKAGE)
        if "TDX will" in said:
            raise UpgradeError(f"dpkg --purge: {said}")
    return "it fails, it is fine again, and nothing at a purge"


def check_kernel_install(tree: Path) -> str:
    """kernel-install finds the plugin where the package has put it, and shows what it says."""
    with _host(tree) as added:
        added.extend(_hide_the_chroot(tree))
        plugin = "#!/bin/sh\necho grub-mkconfig >&2\ncp /srv/new.cfg /srv/host/boot/grub/grub.cfg\n"
        added.append(_put(tree / "etc/kernel/install.d/99-grub-mkconfig.install", plugin))
        added.append(_put(tree / "etc/kernel/install.conf", "layout=other\n"))
        # What makes modules and initial RAM disks has none to do here.
        for name in ("50-depmod.install", "55-initrd.install", "85-initrd.install"):
            path = tree / "etc/kernel/install.d" / name
            path.symlink_to("/dev/null")
            added.append(path)
        machine_id = "MACHINE_ID=3a1f4f0a6d6b4b6c9d51f8c72a9b1c55"
        image = f"/srv/host/boot/vmlinuz-{NEW}"
        said = _chroot(tree, "env", machine_id, "BOOT_ROOT=/srv", "kernel-install", "add", NEW, image)
        _expect("kernel-install add", said, "grub-mkconfig\n", FAILS)
    # What it would remember of images, had this one any.
    cache = tree / "var/cache/tdx-headroom-boots"
    cache.mkdir(mode=0o700, exist_ok=True)
    (cache / "kernel-images.json").write_text("{}\n")
    return "after 99-grub-mkconfig.install"
