# SPDX-License-Identifier: Apache-2.0
"""Everything that is needed to reproduce this host's plan elsewhere, and nothing private."""
