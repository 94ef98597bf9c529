# SPDX-License-Identifier: Apache-2.0
"""What modprobe's configuration says of KVM, which starts TDX on some kernels (modprobe.d(5)).

Of files of one name the first directory's counts; all that are left are read in the order of their names, and
the kernel takes the last value of a parameter.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import reason_of
from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_arguments import KVM_MODULES, KVM_NEEDS, KVM_VIRTUALIZATION
from tdx_headroom.facts.boots import KvmLoading
from tdx_headroom.facts.command_line import TDX_SWITCH, name_and_value
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
_TELLING = {TDX_SWITCH, KVM_VIRTUALIZATION, *KVM_NEEDS}
_LOADS_NOTHING = ("true", "false", ":")
_PATTERN_AND_COMMAND = 3


def read_kvm_loading(files: HostFiles) -> KvmLoading:
    """What the configuration says of KVM, ``kvm_intel.tdx`` included.

    Raises:
        SourceError: a file of it cannot be read, or has a command of its own load KVM, so that it may say
            anything; a clause says which.
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
    return parse_kvm_loading({path: _text(files, path) for _, path in sorted(paths.items())})


def parse_kvm_loading(texts: Mapping[str, str]) -> KvmLoading:
    """The same, of texts by their paths, in the order in which they are read.

    Raises:
        SourceError: a command of its own loads KVM, with any parameters.
    """
    commands = [(path, words) for path, text in texts.items() for words in _commands(text) if words]
    return KvmLoading(
        options=tuple(option for _, words in commands for option in _options(words)),
        passed_over=_distinct(_passed_over(words) for _, words in commands),
        never=_never_loaded(commands),
    )


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each line; a backslash at its end continues one."""
    return (line.split() for line in lines_of(text.replace("\\\n", " ")))


def _options(words: list[str]) -> Iterator[str]:
    """Options that a line gives KVM and TDX depends on, as they would stand on the kernel's command line."""
    match words:
        case ["options", name, *options] if (module := _module(name)) in KVM_MODULES:
            for option in options:
                if name_and_value(argument := f"{module}.{option}")[0] in _TELLING:
                    yield argument


def _passed_over(words: list[str]) -> str | None:
    match words:
        case ["blacklist", name] if (module := _module(name)) in KVM_MODULES:
            return module
    return None


def _never_loaded(commands: list[tuple[str, list[str]]]) -> tuple[str, ...]:
    """Modules whose ``install`` line loads nothing; the first line whose pattern takes a module counts.

    Raises:
        SourceError: another command loads one, with any parameters.
    """
    found = []
    for module in KVM_MODULES:
        for path, words in commands:
            if words[0] != "install" or len(words) < _PATTERN_AND_COMMAND:
                continue
            if not fnmatchcase(module, _module(words[1])):
                continue
            if words[2].rpartition("/")[2] not in _LOADS_NOTHING:
                raise SourceError(SOURCE, f"{path}: a command of its own loads {module}, with any parameters")
            found.append(module)
            break
    return tuple(found)


def _module(name: str) -> str:
    """The name as the kernel has it (``modname_normalize()`` of libkmod, brackets apart)."""
    return name.replace("-", "_")


def _distinct(modules: Iterator[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(module for module in modules if module is not None))


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
