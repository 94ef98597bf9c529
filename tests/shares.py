# SPDX-License-Identifier: Apache-2.0
"""Which tests go to one process, where several share them (pytest-xdist), and which come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

FAULTS = tuple(
    f"tests/integration/test_{name}.py"
    for name in ("as_root", "hard_to_kill", "live", "reliability", "web_load", "web_reload", "written_pages")
)
"""Modules that inject faults, and the last, which compares the outcome with its page."""

PACKAGES = ("tests/packaging/test_packages.py", "tests/packaging/test_installed_docs.py")
"""Modules that look into the packages, which are built once a process."""

TOGETHER = {module: modules[0] for modules in (FAULTS, PACKAGES) for module in modules}
"""Modules whose tests go to one process with those of another, which stands for them all."""

LONG = (
    "tests/integration/test_web_parity.py",
    *FAULTS,
    "tests/integration/test_prometheus_rules.py",
    "tests/unit/capture/test_capture.py",
    "tests/integration/test_mixin.py",
    *PACKAGES,
    "tests/field/test_cut_logs.py",
    "tests/integration/test_many_inputs.py",
    "tests/browser/test_page.py",
    "tests/kernel/test_boots.py",
    "tests/integration/test_kernel_images.py",
)
"""Modules that take a minute and more: begun last, one would keep a process when all others are done."""


class ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """Modules in the order in which they are collected."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return TOGETHER.get(module, module)


def scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """How pytest-xdist is to deal the tests out; its own ``loadgroup`` knows no groups under pytest 9.2."""
    config.option.loadscopereorder = False
    return ByModule(config, log)


def long_first(items: list[pytest.Item]) -> None:
    """Put the tests of long modules first, and leave the order else as it is."""
    order = {module: index for index, module in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(LONG)))
