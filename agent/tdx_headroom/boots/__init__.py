# SPDX-License-Identifier: Apache-2.0
"""Which kernels are installed, which boots next, what each does, and its memory map under its arguments."""
