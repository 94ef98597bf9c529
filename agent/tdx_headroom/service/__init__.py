# SPDX-License-Identifier: Apache-2.0
"""What runs for long, and how it comes to its descriptors, its user and its end."""
