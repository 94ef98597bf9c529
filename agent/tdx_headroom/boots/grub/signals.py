# SPDX-License-Identifier: Apache-2.0
"""How GRUB's script leaves what it is in."""

from __future__ import annotations


class Break(Exception):  # noqa: N818  # no error
    """``break`` or ``continue``.

    Args:
        levels: how many loops are left.
        again: whether the last of them goes on with its next turn.
    """

    def __init__(self, levels: int, *, again: bool) -> None:
        super().__init__()
        self.levels = levels
        self.again = again


class Return(Exception):  # noqa: N818  # no error
    """``return``, from a function or a menu entry."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Shown(Exception):  # noqa: N818  # no error
    """Another configuration file's menu is shown, and this one is over."""


class Started(Exception):  # noqa: N818  # no error
    """``boot``: what is loaded is started."""


class Left(Exception):  # noqa: N818  # no error
    """GRUB is left, or the host turned off.

    Args:
        command: by which.
    """

    def __init__(self, command: str) -> None:
        super().__init__()
        self.command = command
