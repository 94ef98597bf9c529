# SPDX-License-Identifier: Apache-2.0
"""Which source is used for each fact."""
