# SPDX-License-Identifier: Apache-2.0
"""Puts both CMR strategies into a kernel tree that has the stand-in; each boot says which of them it uses.

No mainline kernel looks for holes in the CMRs. The code is the project's own (``standin/tdx_cmrs.c``); these
are the places of tdx.c that turn to it, and those of the stand-in that report CMRs. They are kept apart from
the stand-in itself, so that the kernels of the other runs stay what they are.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from tests.kernel.standin import TDX, Edit, _diff
from tests.kernel.tools import HERE, KernelTestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SOURCES = ("tdx_cmrs.c", "tdx_standin_cmrs.c")

_KERNEL = (
    Edit(
        "the code of the strategies, behind all that it calls",
        r"(/\*\n \* Go through @tmb_list to find holes between memory areas)",
        r'#include "tdx_cmrs.c"\n\n\1',
    ),
    Edit(
        "cmr-walk looks at no memory region",
        r"(static (?:__init )?int tdmr_populate_rsvd_holes\([^)]*\)\n\{\n(?:\t[\w ]+\*?\w+;\n)+)",
        r"\1\n\tif (cmrs_walk())\n\t\treturn cmrs_add_holes(tdmr, rsvd_idx, max_reserved_per_tdmr);\n",
    ),
    Edit(
        "cmr-subregion leaves holes out: the one before a region",
        r"\btdmr_add_rsvd_area\((tdmr, rsvd_idx, prev_end,\s+start - prev_end,)",
        r"cmrs_add_hole(\1",
    ),
    Edit(
        "and the one behind the last region",
        r"\btdmr_add_rsvd_area\((tdmr, rsvd_idx, prev_end,\s+tdmr_end\(tdmr\) - prev_end,)",
        r"cmrs_add_hole(\1",
    ),
    Edit(
        "CMRs are read once the memory is known, and before TDMRs are made",
        r"(\t/\* Allocate enough space for constructing TDMRs \*/\n\tret = alloc_tdmr_list\()",
        r"\tret = cmrs_set_up(&tdx_memlist);\n\tif (ret)\n\t\tgoto err_free_tdxmem;\n\n\1",
    ),
)
_STANDIN = (
    Edit(
        "what the stand-in does about CMRs",
        r"(/\* TDH\.SYS\.RD: the fields that some kernel reads)",
        r'#include "tdx_standin_cmrs.c"\n\n\1',
    ),
    Edit(
        "reports the CMRs",
        r"(static u64 sys_rd\(u64 field\)\n\{\n)",
        r"\1\tu64 value;\n\n\tif (read_cmr_field(field, &value))\n\t\treturn value;\n",
    ),
    Edit(
        "refuses a table of CMRs",
        r"(\tcase TDH_SYS_INIT:\n\t\tpr_info\([^;]*;\n\t\treturn) 0;",
        r"\1 check_cmr_table();",
    ),
    Edit(
        "an empty entry keeps no CMRs apart that touch",
        r"\tif \((nr_cmrs && cmr_table\[nr_cmrs - 1\]\.end == start)\)",
        r"\tif (start == end)\n\t\t\t;\n\t\telse if (\1)",
    ),
)


def apply(tree: Path) -> str:
    """Edit a kernel tree that :func:`standin.apply` has edited.

    Args:
        tree: the kernel's source tree.

    Returns:
        What was changed, as a unified diff.

    Raises:
        KernelTestError: an edit found no place, or several.
    """
    folder = tree / TDX
    for name in SOURCES:
        shutil.copyfile(HERE / "standin" / name, folder / name)
    return _edit(folder / "tdx.c", _KERNEL) + _edit(folder / "tdx_standin.c", _STANDIN)


def _edit(path: Path, edits: Sequence[Edit]) -> str:
    code = original = path.read_text()
    for edit in edits:
        code, count = re.subn(edit.pattern, edit.replacement, code)
        if count != 1:
            raise KernelTestError(
                f"{path}: {count} places match {edit.pattern!r} ({edit.why}); look at cmr_kernel.py"
            )
    path.write_text(code)
    return _diff(path.name, original, code)
