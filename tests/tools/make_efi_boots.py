# SPDX-License-Identifier: Apache-2.0
"""Writes hosts of tests/boots that start from EFI: ``python3 -m tests.tools.make_efi_boots [UKIFY STUB]``.

Some hold what real programs wrote: ``bls-kernel-install`` needs root and kernel-install (package systemd),
``uki-*`` ukify (systemd-ukify of Debian 13) and its stub (systemd-boot-efi). They are left alone without.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tools.efi import (
    BOOTS,
    SYSTEMD_BOOT,
    Tree,
    boot_option,
    entry,
    kernel,
    load_option,
    merged,
    network_path,
    numbers,
    systemd_boot_host,
    text_variable,
    variable,
)

ROOT = "root=UUID=5f0e1a2b-3c4d-45e6-8f90-123456789abc ro"


def bls(place: str, name: str, release: str, *, options: str = "", image: bytes = b"", **more: str) -> Tree:
    """An entry with its kernel, in the folders that kernel-install makes."""
    path = f"/debian/{release}/linux"
    text = entry(
        title="Debian GNU/Linux", version=release, **more, options=f"{ROOT} {options}".strip(), linux=path
    )
    return {f"{place}/loader/entries/{name}": text, f"{place}{path}": image or kernel(release)}


def sortkey() -> Tree:
    """Entries with a sort-key come first, though those without have the higher version."""
    return merged(
        systemd_boot_host(),
        {"boot/efi/loader/loader.conf": "timeout 5\n"},
        bls("boot/efi", "debian-6.12.41.conf", "6.12.41+deb13-amd64", sort_key="debian"),
        bls("boot/efi", "debian-6.12.57.conf", "6.12.57+deb13-amd64", sort_key="debian", options="mem=48G"),
        bls("boot/efi", "debian-7.1.13.conf", "7.1.13+deb13-amd64"),
    )


def tries_out() -> Tree:
    """An entry without tries left comes last; releases stand in the images only."""
    files: Tree = {"boot/loader/loader.conf": "timeout 3\n#default b*\n"}
    for name, image, release in (
        ("b+0-3", "vmlinuz-b", "7.0.7-arch1-1"),
        ("a", "vmlinuz-a", "6.12.8-arch1-1"),
    ):
        files[f"boot/loader/entries/{name}.conf"] = entry(
            title="Arch Linux", linux=f"/{image}", options=f"{ROOT} kvm_intel.tdx=1"
        )
        files[f"boot/{image}"] = kernel(release)
    return merged(systemd_boot_host(), files)


def snapshots() -> Tree:
    """All share a kernel; LoaderEntryDefault names an older snapshot."""
    files: Tree = {"boot/efi/loader/loader.conf": "timeout 8\n"}
    release = "6.16.3-1-default"
    image = f"/opensuse-tumbleweed/{release}/linux-0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
    for number, counter in ((11, ""), (12, ""), (13, "+3")):
        name = f"opensuse-tumbleweed-{release}-{number}{counter}.conf"
        files[f"boot/efi/loader/entries/{name}"] = entry(
            title="openSUSE Tumbleweed",
            version=f"{number}@{release}",
            sort_key="opensuse-tumbleweed",
            options=f"{ROOT} rootflags=subvol=@/.snapshots/{number}/snapshot nohibernate",
            linux=image,
        )
    files[f"boot/efi{image}"] = kernel(release)
    return merged(systemd_boot_host(LoaderEntryDefault=f"opensuse-tumbleweed-{release}-12.conf"), files)


def one_shot() -> Tree:
    """bootctl set-oneshot, with a default of loader.conf behind it."""
    return merged(
        systemd_boot_host(LoaderEntryOneShot="debian-7.3.4.conf"),
        {"efi/loader/loader.conf": "default debian-6.12*\n"},
        bls("efi", "debian-6.12.41.conf", "6.12.41+deb13-amd64", sort_key="debian"),
        bls("efi", "debian-6.12.57.conf", "6.12.57+deb13-amd64", sort_key="debian"),
        bls("efi", "debian-7.3.4.conf", "7.3.4+deb14-amd64", sort_key="debian", options="nohibernate"),
    )


def counting() -> Tree:
    """A default without the counter does not match while the counter is there; then the order decides."""
    return merged(
        systemd_boot_host("252.39-1~deb12u2"),
        {"efi/loader/loader.conf": "default debian-6.1.0.conf\n"},
        bls("efi", "debian-6.1.0+2-1.conf", "6.1.0-57-amd64", sort_key="debian"),
        bls("efi", "debian-6.12.117.conf", "6.12.117+deb12-amd64", sort_key="debian"),
    )


def saved() -> Tree:
    """@saved is the entry that was booted last, on XBOOTLDR here."""
    return merged(
        systemd_boot_host("258.4", LoaderEntryLastBooted="debian-7.2.12.conf"),
        {"efi/loader/loader.conf": "default @saved\ntimeout 3\n"},
        bls("boot", "debian-7.2.12.conf", "7.2.12+deb14-amd64", sort_key="debian"),
        bls("boot", "debian-7.3.4.conf", "7.3.4+deb14-amd64", sort_key="debian"),
    )


def boot_next() -> Tree:
    """systemd-boot runs, and BootNext starts GRUB once."""
    return merged(
        systemd_boot_host(),
        boot_option(2, "debian", r"\EFI\debian\shimx64.efi"),
        variable("BootOrder", numbers(1, 2)),
        variable("BootNext", numbers(2)),
        {"efi/loader/loader.conf": "timeout 3\n"},
        bls("efi", "debian-6.12.41.conf", "6.12.41+deb13-amd64"),
    )


def network() -> Tree:
    """The network is first of BootOrder, behind an option that is not active."""
    option = load_option("UEFI PXEv4 (MAC:525400123456)", network_path())
    return merged(
        boot_option(1, "debian", r"\EFI\debian\shimx64.efi"),
        boot_option(3, "Old disk", r"\EFI\old\grubx64.efi", active=False),
        variable("Boot0004", option),
        variable("BootOrder", numbers(3, 4, 1)),
        variable("BootCurrent", numbers(4)),
        text_variable("LoaderInfo", "GRUB 2.12"),
    )


def uki_direct(image: bytes) -> Tree:
    """The firmware starts a unified image by itself."""
    return merged(
        boot_option(5, "Debian UKI", r"\EFI\Linux\debian-6.12.57.efi"),
        boot_option(1, "Linux Boot Manager", SYSTEMD_BOOT),
        variable("BootOrder", numbers(5, 1)),
        variable("BootCurrent", numbers(1)),
        text_variable("LoaderInfo", "systemd-boot 257.9-1"),
        {"efi/EFI/Linux/debian-6.12.57.efi": image},
    )


def uki_menu(*images: bytes) -> Tree:
    """Unified images and an entry, sorted among each other by os-release and sort-key."""
    return merged(
        systemd_boot_host(),
        {
            "efi/loader/loader.conf": "timeout 3\n",
            "efi/EFI/Linux/debian-a.efi": images[0],
            "efi/EFI/Linux/debian-b+1-2.efi": images[1],
        },
        bls("efi", "zdebian-7.3.4.conf", "7.3.4+deb14-amd64", sort_key="zdebian"),
    )


def ukify(program: str, stub: str, release: str, version: str, line: str) -> bytes:
    """A unified image by the real ukify."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "linux")
        image.write_bytes(kernel(release))
        system = f'ID=debian\nVERSION_ID={version}\nPRETTY_NAME="Debian GNU/Linux {version}"\n'
        command = [
            "/usr/bin/python3",
            program,
            "build",
            f"--linux={image}",
            f"--stub={stub}",
            f"--uname={release}",
        ]
        command += [f"--cmdline={line}", f"--os-release={system}", f"--output={folder}/uki.efi"]
        subprocess.run(command, check=True)
        return Path(folder, "uki.efi").read_bytes()


_INSTALL = """
mount -t tmpfs none /mnt && mkdir -p /mnt/conf /efi && mount -t tmpfs none /efi && mkdir /efi/debian
printf 'layout=bls\\nBOOT_ROOT=/efi\\nMACHINE_ID=5f0e1a2b3c4d45e68f90123456789abc\\n' >/mnt/conf/install.conf
printf '%s kvm_intel.tdx=1 hugepages=512\\n' "$LINE" >/mnt/conf/cmdline
echo 3 >/mnt/conf/tries; echo debian >/mnt/conf/entry-token
export KERNEL_INSTALL_CONF_ROOT=/mnt/conf
export KERNEL_INSTALL_PLUGINS=/usr/lib/kernel/install.d/90-loaderentry.install
for image in "$IMAGES"/*; do
  echo initrd >/mnt/initrd
  kernel-install add "${image##*/}" "$image" /mnt/initrd
done
cp -r /efi/. "$OUT"
"""


def kernel_install() -> Tree:
    """Entries by the real kernel-install, with boot counting."""
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder, "images"), Path(folder, "out")
        images.mkdir()
        out.mkdir()
        for release in ("6.1.0-57-amd64", "6.12.117+deb12-amd64"):
            (images / release).write_bytes(kernel(release))
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LINE": ROOT}
        environment |= {"IMAGES": str(images), "OUT": str(out)}
        subprocess.run(["unshare", "-m", "sh", "-euc", _INSTALL], check=True, env=environment)
        files = [path for path in out.rglob("*") if path.is_file()]
        tree: Tree = {f"efi/{path.relative_to(out)}": path.read_bytes() for path in files}
    return merged(systemd_boot_host("252.39-1~deb12u2"), tree, {"efi/loader/loader.conf": "timeout 3\n"})


def write(name: str, tree: Tree) -> None:
    shutil.rmtree(BOOTS / name, ignore_errors=True)
    for relative, content in tree.items():
        path = BOOTS / name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def main(arguments: list[str]) -> None:
    write("sdboot-sortkey", sortkey())
    write("sdboot-no-tries-left", tries_out())
    write("sdboot-snapshots", snapshots())
    write("sdboot-one-shot", one_shot())
    write("sdboot-counting", counting())
    write("sdboot-saved-xbootldr", saved())
    write("efi-boot-next", boot_next())
    write("efi-network", network())
    if shutil.which("kernel-install") is not None:
        write("bls-kernel-install", kernel_install())
    if arguments:
        program, stub = arguments
        first = ukify(program, stub, "6.12.57+deb13-amd64", "13.2", f"{ROOT} kvm_intel.tdx=1")
        newer = ukify(program, stub, "6.12.63+deb13-amd64", "13.3", f"{ROOT} kvm_intel.tdx=0")
        write("uki-direct", uki_direct(first))
        write("uki-menu", uki_menu(first, newer))


if __name__ == "__main__":
    main(sys.argv[1:])
