# SPDX-License-Identifier: Apache-2.0
"""What the EFI firmware starts next: its variables, the partitions that it reads, and its programs."""
