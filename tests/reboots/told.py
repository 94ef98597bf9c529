# SPDX-License-Identifier: Apache-2.0
"""What else tells of the next boot, against the command's words: the hook's output, the service's metric.

Neither is there yet; both are looked at here, in each step, once they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.reboots.compare import Foretold
    from tests.reboots.guest import Guest
    from tests.reboots.steps import Step


def other_words(guest: Guest, step: Step, said: str, foretold: Foretold) -> list[str]:
    """What hook or metric tell otherwise than the command, in words.

    Args:
        guest: in which the action was done.
        step: the action.
        said: what its tools have said; a hook's paragraph is in it.
        foretold: by the command.
    """
    del guest, step, said, foretold
    return []
