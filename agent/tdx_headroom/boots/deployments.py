# SPDX-License-Identifier: Apache-2.0
"""Systems that boot another copy of themselves next, which the boot loader's files here do not tell yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tdx_headroom.boots.reasons import clause

if TYPE_CHECKING:
    from tdx_headroom.hostfs.files import HostFiles

OSTREE = "run/ostree"
_STAGED = f"{OSTREE}/staged-deployment"
_LOCKED = f"{OSTREE}/staged-deployment-locked"


def deployment_pending(files: HostFiles) -> str | None:
    """Why what boots next is written only later, a clause; None: nothing shows that.

    Args:
        files: of the host.
    """
    return _of_ostree(files)


def _of_ostree(files: HostFiles) -> str | None:
    """A staged deployment of ostree's, also of bootc's.

    ostree-finalize-staged.service writes its entry when the host shuts down, unless that is locked
    (``_ostree_sysroot_finalize_staged()`` of src/libostree/ostree-sysroot-deploy.c).
    """
    if not files.exists(_STAGED) or files.exists(_LOCKED):
        return None
    what = "a deployment is staged, whose boot entry is written only at the shutdown"
    return clause(_STAGED, f"{what}; `ostree admin status` names it")
