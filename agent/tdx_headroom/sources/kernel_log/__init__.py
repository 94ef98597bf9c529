# SPDX-License-Identifier: Apache-2.0
"""The kernel's log: records from wherever they are, and what they say."""
