# SPDX-License-Identifier: Apache-2.0
"""HTTP: pages, listening sockets, and who may ask."""
