# SPDX-License-Identifier: Apache-2.0
"""The synthetic hosts: what is said about each, and the files that follow from it."""

from tests.tools.synthetic.emerald_rapids import EMERALD_RAPIDS
from tests.tools.synthetic.good_2_node import GOOD_2_NODE
from tests.tools.synthetic.granite_rapids_like import GRANITE_RAPIDS_LIKE
from tests.tools.synthetic.no_tdx import NO_TDX

__all__ = ["EMERALD_RAPIDS", "HOSTS"]

HOSTS = (EMERALD_RAPIDS, GRANITE_RAPIDS_LIKE, GOOD_2_NODE, NO_TDX)
