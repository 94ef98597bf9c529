# SPDX-License-Identifier: Apache-2.0
"""GRUB as it reads its own configuration: its language, its menu, and which entry it boots."""
