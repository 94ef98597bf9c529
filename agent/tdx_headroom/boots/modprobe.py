# SPDX-License-Identifier: Apache-2.0
"""What modprobe's configuration sets ``kvm_intel.tdx`` to (modprobe.d(5)).

Of files of one name the first directory's counts; all that are left are read in the order of their names, and
the kernel takes the last value of a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import reason_of
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.command_line import asks_for_tdx
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for words in _commands(text):
        if words[:1] == ["options"] and len(words) > 1 and words[1].replace("-", "_") == "kvm_intel":
            found += [f"kvm_intel.{word}" for word in words[2:]]
    return found


def has_own_command(text: str) -> bool:
    """Whether an ``install`` line says how kvm_intel is loaded: that command may give it any parameter."""
    return any(
        [word.replace("-", "_") for word in words[:2]] == ["install", "kvm_intel"]
        for words in _commands(text)
    )


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each line; a backslash at its end continues one."""
    return (line.split() for line in lines_of(text.replace("\\\n", " ")))


def read_kvm_intel_tdx(files: HostFiles) -> bool | None:
    """What the configuration asks for; None where it says nothing.

    Raises:
        SourceError: a file of it cannot be read, so that it may say anything; a clause says which.
    """
    paths: dict[str, str] = {}
    for folder in FOLDERS:
        if not files.exists(folder):
            continue
        for name in _names(files, folder):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/{name}")
    if len(paths) > MAX_FILES:
        raise SourceError(SOURCE, f"{len(paths)} files of modprobe's configuration, more than {MAX_FILES}")
    options: list[str] = []
    for _, path in sorted(paths.items()):
        text = _text(files, path)
        if has_own_command(text):
            raise SourceError(SOURCE, f"{path}: a command of its own loads kvm_intel, with any parameters")
        options += parse_options(text)
    return asks_for_tdx(options)


def _names(files: HostFiles, folder: str) -> list[str]:
    try:
        return files.entries(SOURCE, folder)
    except SourceError as error:
        raise SourceError(SOURCE, reason_of(files, folder, error)) from None


def _text(files: HostFiles, path: str) -> str:
    try:
        return files.read(SOURCE, path, limit=MAX_CONFIG)
    except SourceError as error:
        raise SourceError(SOURCE, reason_of(files, path, error)) from None
