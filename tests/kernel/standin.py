# SPDX-License-Identifier: Apache-2.0
"""Puts the stand-in for the TDX module into a kernel tree; the TDX host code itself stays as it is.

Every edit of the kernel's tdx.c is listed here with its reason. An edit that no longer finds its place is an
error: the kernel has changed and the edit must be looked at again.
"""

from __future__ import annotations

import difflib
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kernel.tools import HERE, KernelTestError

if TYPE_CHECKING:
    from pathlib import Path

TDX = "arch/x86/virt/vmx/tdx"
SOURCES = ("tdx_standin.c", "tdx_standin.h")


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace a pattern of tdx.c.

    Args:
        why: what the machine lacks, that makes the edit necessary.
        pattern: regular expression.
        replacement: its replacement.
        optional: only some kernels have the place.
    """

    why: str
    pattern: str
    replacement: str
    optional: bool = False


ALTERNATIVES = (
    Edit(
        "no CPU of QEMU has TDX KeyIDs (kernels with rdmsrq_safe)",
        r"rdmsrq_safe\(MSR_IA32_MKTME_KEYID_PARTITIONING, &val\.q\)",
        "({ val.q = (63ULL << 32) | 64; 0; })",
    ),
    Edit(
        "no CPU of QEMU has TDX KeyIDs (kernels with rdmsr_safe)",
        r"rdmsr_safe\(MSR_IA32_MKTME_KEYID_PARTITIONING, &_nr_mktme_keyids,\s*&_nr_tdx_keyids\)",
        "({ _nr_mktme_keyids = 64; _nr_tdx_keyids = 63; 0; })",
    ),
)
EDITS = (
    Edit(
        "PAMTs are logged where they are allocated, for the runs that fail after it",
        r"\balloc_contig_pages\((tdmr_pamt_size >> PAGE_SHIFT)",
        r"tdx_standin_alloc_pamt(tdmr->base, tdmr->size, \1",
    ),
    Edit(
        "declares the function above",
        r'(#include "tdx\.h"\n)',
        r'\1#include "tdx_standin.h"\n',
    ),
    Edit("TCG has no VMX", r"x86_virt_get_ref\(X86_FEATURE_VMX\)", "0", optional=True),
    Edit("TCG has no VMX", r"x86_virt_put_ref\(X86_FEATURE_VMX\)", "((void)0)", optional=True),
    Edit(
        "TCG has none of these",
        r"cpu_feature_enabled\(X86_FEATURE_(MOVDIR64B|SELFSNOOP|XSAVE)\)",
        "1",
        optional=True,
    ),
    Edit(
        "TCG has no MOVDIR64B, which clears a PAMT when init fails after TDH.SYS.CONFIG",
        r"\bmovdir64b\(__va\(phys\), zero_page\)",
        "memcpy(__va(phys), zero_page, 64)",
        optional=True,
    ),
)


def apply(tree: Path) -> str:
    """Edit a freshly unpacked kernel tree.

    Args:
        tree: the kernel's source tree.

    Returns:
        What was changed in the kernel's own files, as a unified diff.

    Raises:
        KernelTestError: an edit found no place, or more than one of alternatives did.
    """
    folder = tree / TDX
    tdx, makefile = folder / "tdx.c", folder / "Makefile"
    code = original = tdx.read_text()
    if sum(bool(re.search(edit.pattern, code)) for edit in ALTERNATIVES) != 1:
        raise KernelTestError(f"{tdx}: the KeyID MSR is read in a way that standin.py does not know")
    for edit in (*ALTERNATIVES, *EDITS):
        code, count = re.subn(edit.pattern, edit.replacement, code)
        if count == 0 and not edit.optional and edit not in ALTERNATIVES:
            raise KernelTestError(f"{tdx}: nothing matches {edit.pattern!r} ({edit.why}); look at standin.py")
    rules = made = makefile.read_text()
    made = made.replace("seamcall.o", "tdx_standin.o")
    if made == rules:
        raise KernelTestError(f"{makefile}: seamcall.o is not built here any more; look at standin.py")
    if "subsys_initcall(tdx_enable)" not in code:
        made += "CFLAGS_tdx_standin.o += -DTDX_STANDIN_ENABLE\n"
    tdx.write_text(code)
    makefile.write_text(made)
    for name in SOURCES:
        shutil.copyfile(HERE / "standin" / name, folder / name)
    return _diff("tdx.c", original, code) + _diff("Makefile", rules, made)


def _diff(name: str, old: str, new: str) -> str:
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    return "".join(difflib.unified_diff(a, b, f"a/{TDX}/{name}", f"b/{TDX}/{name}"))
