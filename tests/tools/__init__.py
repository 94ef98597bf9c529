# SPDX-License-Identifier: Apache-2.0
"""Programs that write what the tests read."""
