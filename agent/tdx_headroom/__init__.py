# SPDX-License-Identifier: Apache-2.0
"""tdx-headroom: tells before the reboot whether Intel TDX will come up on a host."""

__version__ = "0.1.0"
