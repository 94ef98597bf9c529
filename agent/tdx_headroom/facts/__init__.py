# SPDX-License-Identifier: Apache-2.0
"""Values only: what is known of a host."""
