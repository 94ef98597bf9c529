# SPDX-License-Identifier: Apache-2.0
"""What this host says: each source is a reader and a pure parser."""
