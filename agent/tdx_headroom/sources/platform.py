# SPDX-License-Identifier: Apache-2.0
"""What kind of machine this is, and what the kernel was told: /proc and /sys files of one value each."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from tdx_headroom.errors import SourceError
from tdx_headroom.facts.boot_arguments import is_modprobes
from tdx_headroom.facts.command_line import DASHES, name_and_value, split_at_dashes
from tdx_headroom.facts.cpu_models import cpu_can_tdx
from tdx_headroom.facts.observations import Platform
from tdx_headroom.sources.reading import Reading
from tdx_headroom.textlines import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tdx_headroom.hostfs.files import HostFiles

SOURCE = "platform"
BOOT_ID_PATH = "proc/sys/kernel/random/boot_id"
HOST_NAME_PATH = "proc/sys/kernel/hostname"
RELEASE_PATH = "proc/sys/kernel/osrelease"

_SWITCH = {"Y": True, "N": False}
_WITHOUT_CPUINFO = ("proc/cmdline", "sys/power/disk", "sys/module/kvm_intel/parameters/tdx")

_RELEVANT = re.compile(
    r"(?:mem|memmap|kernelcore|movablecore|hugepages|hugepagesz|default_hugepagesz|crashkernel|reserve_mem"
    r"|cma|numa_cma|hugetlb_cma|numa|acpi|efi|efi_fake_mem"
    r"|nr_cpus|maxcpus|possible_cpus|lockdown|memhp_default_state|memory_hotplug\.[a-z_]+"
    r"|(?:kvm|kvm_intel)\.[a-z_]+|intel_iommu|module_blacklist|modprobe\.blacklist|clearcpuid)=[!-~]*"
    # However it is spelt: an argument that means nothing is worth telling.
    r"|[A-Za-z_.-]{0,20}[tT][dD][xX][a-z_.]{0,20}(?:=[!-~]*)?"
    r"|(?:kvm|kvm_intel)\.[a-z_]+|noxsave"
    # An early_param() without a value is the same with any; a __setup() takes whatever begins like it.
    r"|(?:nosmp|nosmt|add_efi_memmap|cma_pernuma|kho|liveupdate|disable_mtrr_trim|movable_node|noresume|nomodule)"
    r"(?:=[!-~]*)?"
    r"|(?:hibernate=no|nohibernate)[ -~]*|hibernate=[!-~]*"
)
"""By names as ``parameq()`` compares them, with _ for -."""

FLAG_WORDS = re.compile(r"[a-z0-9_]+(?: +[a-z0-9_]+)*", re.ASCII)
CAPTURED_FLAGS = ("fpu", "sse2", "vmx", "svm", "hypervisor", "tme", "sgx", "tdx_host_platform", "tdx_guest")
"""What a capture keeps of the flags."""
_CAPTURED = frozenset({*CAPTURED_FLAGS, "other"})
_FEW_FLAGS = 16
_LATE_FLAGS = frozenset(
    {"xsaves", "arat", "dtherm", "umip", "pku", "rdpid", "succor", "smca", "flush_l1d", "arch_capabilities"}
)

_UNAME = re.compile(r"Linux \S{1,255} ([0-9][A-Za-z0-9._+~-]{1,80}) ")


def relevant_arguments(command_line: str) -> tuple[str, ...]:
    """The kernel arguments about memory, TDX, KVM and hibernation; all others may name private things.

    Behind a ``--`` of their own come those for KVM that stand behind one on the line: modprobe takes them.
    """
    own, behind = split_at_dashes(command_line)
    found = tuple(filter(_is_relevant, own))
    of_kvm = tuple(arg for arg in behind if is_modprobes(arg) and _is_relevant(arg))
    return (*found, DASHES, *of_kvm) if of_kvm else found


def _is_relevant(argument: str) -> bool:
    name, value = name_and_value(argument)
    return _RELEVANT.fullmatch(name if value is None else f"{name}={value}") is not None


def parse_cpuinfo(text: str) -> tuple[str | None, int, frozenset[str], frozenset[str]]:
    """CPU model, number of CPUs, flags and bugs, from ``/proc/cpuinfo`` (arch/x86/kernel/cpu/proc.c).

    A terminal or a mailer may have folded the flags, between words or inside one: both readings count.
    """
    model: str | None = None
    cpus = 0
    words: dict[str, list[str]] = {}
    folded: list[str] | None = None
    for line in lines_of(text):
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon:
            if folded is not None and FLAG_WORDS.fullmatch(key):
                folded.append(line)
            else:
                folded = None
            continue
        folded = None
        if key == "processor":
            cpus += 1
        elif key == "model name" and model is None:
            model = " ".join(value.split())
        elif key in ("flags", "bugs") and key not in words:
            folded = words[key] = [value]
    flags, bugs = (
        frozenset(" ".join(lines).split()).union("".join(lines).split() if len(lines) > 1 else ())
        for lines in (words.get("flags", []), words.get("bugs", []))
    )
    return model, cpus, flags, bugs


def flags_are_whole(text: str, flags: frozenset[str]) -> bool:
    """Whether a flag that is not among those of ``/proc/cpuinfo`` is none of the processor's.

    A list that a terminal or a selection has cut lacks flags, too.

    Args:
        text: of the file.
        flags: of its first processor.
    """
    *_, last = processor(text) or ("flags",)
    if last == "flags" or not flags:
        return False
    # Captures keep some flags, those of earlier versions not even sse2. The kernel prints flags in the order
    # of their numbers: every processor of this century has more than these, and one of the later ones.
    return flags <= _CAPTURED or (
        "sse2" in flags and (len(flags) <= _FEW_FLAGS or not flags.isdisjoint(_LATE_FLAGS))
    )


def parse_cpu_can_tdx(text: str) -> bool | None:
    """Whether the first processor of ``/proc/cpuinfo`` is of a model that can have TDX."""
    found = processor(text)
    vendor = found.get("vendor_id") or found.get("model name", "")
    family, number = (found.get(key, "") for key in ("cpu family", "model"))
    known = all(re.fullmatch("[0-9]{1,5}", value, re.ASCII) for value in (family, number))
    return cpu_can_tdx(vendor, int(family), int(number)) if known else cpu_can_tdx(vendor, 0, 0)


def parse_address_bits(text: str) -> int | None:
    """Physical address bits of the first processor in ``/proc/cpuinfo``."""
    match = re.match(r"([0-9]{1,3}) bits physical,", processor(text).get("address sizes", ""), re.ASCII)
    return int(match[1]) if match else None


def processor(text: str) -> dict[str, str]:
    """The rows of the first processor in ``/proc/cpuinfo``."""
    found: dict[str, str] = {}
    for line in lines_of(text):
        key, colon, value = line.partition(":")
        key = key.strip()
        if not (colon or key) or (key == "processor" and found.keys() - {key}):
            break  # captures begin with these rows of all processors
        if colon:
            found.setdefault(key, value.strip())
    return found


def parse_misc_capacity(text: str) -> int | None:
    """Guest KeyIDs: the row ``tdx N`` of the cgroup file ``misc.capacity``."""
    for line in lines_of(text):
        if match := re.fullmatch(r"tdx ([0-9]{1,9})", line.strip()):
            return int(match[1])
    return None


def parse_power_disk(text: str) -> bool:
    """Whether the kernel can hibernate (``hibernation_available()``): ``[disabled]`` when it cannot."""
    return text.strip() not in ("", "[disabled]")


def parse_lockdown(text: str) -> bool | None:
    """Whether the kernel is locked down: the level in brackets holds (``lockdown_read()``)."""
    level = re.search(r"\[([a-z]+)\]", text)
    return None if level is None else level[1] != "none"


def parse_meminfo_total(text: str) -> int | None:
    """``MemTotal`` of ``/proc/meminfo`` in bytes."""
    return _meminfo(text, "MemTotal")


def parse_hugetlb(text: str) -> int | None:
    """``Hugetlb`` of ``/proc/meminfo`` in bytes: huge pages of all sizes, used or not."""
    return _meminfo(text, "Hugetlb")


def _meminfo(text: str, name: str) -> int | None:
    match = re.search(rf"^{name}: +([0-9]{{1,15}}) kB$", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def parse_boot_time(text: str) -> float | None:
    """``btime`` of ``/proc/stat``: seconds since the epoch."""
    match = re.search(r"^btime ([0-9]{1,15})$", text, re.MULTILINE)
    return float(match[1]) if match else None


def read_platform(root: HostFiles) -> Reading[Platform]:
    """All that can be learnt; what cannot stays None. Without /proc/cpuinfo, something else must be there."""
    try:
        cpuinfo = root.read(SOURCE, "proc/cpuinfo")
    except SourceError as error:
        if not (error.absent and any(map(root.exists, _WITHOUT_CPUINFO))):
            return Reading(SOURCE, root.locate("proc/cpuinfo"), error=error)
        cpuinfo = ""
    model, cpus, flags, bugs = parse_cpuinfo(cpuinfo)
    whole = flags_are_whole(cpuinfo, flags)

    def flag(name: str) -> bool | None:
        return True if name in flags else False if whole else None

    def text(path: str) -> str | None:
        return _optional(lambda: root.read(SOURCE, path).strip() or None)

    command_line = _optional(lambda: root.read(SOURCE, "proc/cmdline"))
    misc = text("sys/fs/cgroup/misc.capacity")
    disk = text("sys/power/disk")
    lockdown = text("sys/kernel/security/lockdown")
    tdx = text("sys/module/kvm_intel/parameters/tdx")
    memory_total, boot_time = _totals(root)
    return Reading(
        SOURCE,
        root.locate("proc/cpuinfo"),
        value=Platform(
            tdx_host_platform=flag("tdx_host_platform"),
            tdx_guest=flag("tdx_guest"),
            virtual_machine=flag("hypervisor"),
            # The flag goes where the BIOS has not enabled SGX (init_ia32_feat_ctl()). Captures of earlier
            # versions keep neither it nor sse2.
            sgx=flag("sgx") if "sse2" in flags else None,
            tdx_pw_mce="tdx_pw_mce" in bugs if flags else None,
            kvm_intel_tdx=_SWITCH.get(tdx or ""),
            enable_virt_at_load=_SWITCH.get(text("sys/module/kvm/parameters/enable_virt_at_load") or ""),
            tdx_module_version=text("sys/devices/faux/tdx_host/version"),
            guest_keyids=parse_misc_capacity(misc) if misc else None,
            hibernation=parse_power_disk(disk) if disk else None,
            lockdown=parse_lockdown(lockdown) if lockdown else None,
            command_line=relevant_arguments(command_line) if command_line is not None else None,
            cpu_model=model,
            cpu_can_tdx=parse_cpu_can_tdx(cpuinfo),
            physical_address_bits=parse_address_bits(cpuinfo),
            cpus=cpus or None,
            memory_total=memory_total,
            boot_time=boot_time,
            boot_id=read_boot_id(root),
            bios_version=text("sys/class/dmi/id/bios_version"),
            product=text("sys/class/dmi/id/product_name"),
        ),
    )


def read_release(root: HostFiles) -> str | None:
    """``uname -r`` of the host; a sosreport has it in what ``uname -a`` printed."""
    if release := _optional(lambda: root.read(SOURCE, RELEASE_PATH, limit=4096).strip()):
        return release
    collected = (
        None if root.live else _first(root, "sos_commands/kernel/uname_-a", "sos_commands/host/uname_-a")
    )
    return release_in_uname(collected or "")


def release_in_uname(text: str) -> str | None:
    """The release in what ``uname -a`` prints."""
    match = _UNAME.match(text)
    return match[1] if match else None


def read_hugetlb(root: HostFiles) -> int | None:
    """Bytes in huge pages."""
    return parse_hugetlb(_optional(lambda: root.read(SOURCE, "proc/meminfo")) or "")


def read_hostname(root: HostFiles) -> str | None:
    """The host's name."""
    if name := _optional(lambda: root.read(SOURCE, HOST_NAME_PATH, limit=4096).strip()):
        return name
    return None if root.live else _first(root, "sos_commands/host/hostname")


def read_boot_id(root: HostFiles) -> str | None:
    """The random id of the running boot: the same in all its containers, and in no other boot (random(4))."""
    return _optional(lambda: root.read(SOURCE, BOOT_ID_PATH, limit=4096).strip() or None)


def _totals(root: HostFiles) -> tuple[int | None, float | None]:
    """Memory in bytes and boot time in seconds since the epoch."""
    if root.live:
        import psutil  # noqa: PLC0415  offline commands need not load it

        try:
            return psutil.virtual_memory().total, psutil.boot_time()
        except (OSError, RuntimeError, KeyError):
            return None, None
    meminfo = _optional(lambda: root.read(SOURCE, "proc/meminfo"))
    stat = _optional(lambda: root.read(SOURCE, "proc/stat"))
    return parse_meminfo_total(meminfo or ""), parse_boot_time(stat or "")


def _first(root: HostFiles, *paths: str) -> str | None:
    """The text of the first of these files that is there and not empty."""
    for path in paths:
        if text := _optional(functools.partial(root.read, SOURCE, path, limit=4096)):
            return text.strip() or None
    return None


def _optional(read: Callable[[], str | None]) -> str | None:
    try:
        return read()
    except SourceError:
        return None
