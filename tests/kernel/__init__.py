# SPDX-License-Identifier: Apache-2.0
"""The kernel test: a real kernel, a stand-in for the TDX module, generated memory maps. See README.md."""
