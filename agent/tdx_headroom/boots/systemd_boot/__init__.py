# SPDX-License-Identifier: Apache-2.0
"""systemd-boot and the stub of unified kernel images: their entries, and which of them boots."""
