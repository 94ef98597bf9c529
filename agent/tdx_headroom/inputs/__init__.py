# SPDX-License-Identifier: Apache-2.0
"""What offline commands work on: this host, captured trees, archives, logs, streams of facts."""
