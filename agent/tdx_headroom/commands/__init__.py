# SPDX-License-Identifier: Apache-2.0
"""The commands, a module each, and what several of them share."""
