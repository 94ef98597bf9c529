# SPDX-License-Identifier: Apache-2.0
"""What modprobe's configuration sets ``kvm_intel.tdx`` to (modprobe.d(5)).

Of files of one name the first directory's counts; all that are left are read in the order of their names, and
the kernel takes the last value of a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.command_line import asks_for_tdx
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "modprobe"
FOLDERS = (
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
)
MAX_CONFIG = 256 << 10
MAX_FILES = 1000


def parse_options(text: str) -> list[str]:
    """The options of kvm_intel in one file, as they would stand on the kernel's command line."""
    found: list[str] = []
    joined = text.replace("\\\n", " ")
    for line in lines_of(joined):
        words = line.split()
        if words[:1] == ["options"] and len(words) > 1 and words[1].replace("-", "_") == "kvm_intel":
            found += [f"kvm_intel.{word}" for word in words[2:]]
    return found


def has_own_command(text: str) -> bool:
    """Whether an ``install`` line says how kvm_intel is loaded: that command may give it any parameter."""
    lines = (line.split() for line in lines_of(text.replace("\\\n", " ")))
    return any([w.replace("-", "_") for w in words[:2]] == ["install", "kvm_intel"] for words in lines)


def read_kvm_intel_tdx(files: HostFiles) -> bool | None:
    """What the configuration asks for; None where it says nothing.

    Raises:
        SourceError: a file of it cannot be read, so that it may say anything.
    """
    paths: dict[str, str] = {}
    for folder in FOLDERS:
        if not files.exists(folder):
            continue
        for name in files.entries(SOURCE, folder):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/{name}")
    if len(paths) > MAX_FILES:
        raise SourceError(SOURCE, f"{len(paths)} files of modprobe's configuration, more than {MAX_FILES}")
    options: list[str] = []
    for _, path in sorted(paths.items()):
        text = files.read(SOURCE, path, limit=MAX_CONFIG)
        if has_own_command(text):
            raise SourceError(SOURCE, f"{path}: a command of its own loads kvm_intel, with any parameters")
        options += parse_options(text)
    return asks_for_tdx(options)
