# SPDX-License-Identifier: Apache-2.0
"""Rewrites the synthetic hosts: ``python -m tests.tools.make_hosts`` from the checkout's root."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.tools.synthetic import EMERALD_RAPIDS, HOSTS
from tests.tools.synthetic.files import files_of

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests" / "hosts"
SHIPPED = CHECKOUT / "agent" / "tdx_headroom" / "hosts"
"""Where the hosts lie that the package brings along; a link in tests/hosts leads there."""


def main() -> None:
    """Write every file of every host anew, so that none is left over from an earlier description."""
    TESTS.mkdir(exist_ok=True)
    for host in HOSTS:
        folder = TESTS / host.name
        if host is EMERALD_RAPIDS:
            if not folder.is_symlink():
                folder.symlink_to(Path("../..", SHIPPED.relative_to(CHECKOUT), host.name))
            folder = SHIPPED / host.name
        if folder.exists():
            shutil.rmtree(folder)
        for path, text in files_of(host).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())


if __name__ == "__main__":
    main()
