# SPDX-License-Identifier: Apache-2.0
"""``python -m tdx_headroom`` is the command ``tdx-headroom``."""

import sys

from tdx_headroom.cli import main

if __name__ == "__main__":
    sys.exit(main())
