# SPDX-License-Identifier: Apache-2.0
"""A host's files: live, captured, or in memory."""
