# SPDX-License-Identifier: Apache-2.0
"""Renderings of one assessment."""
