# SPDX-License-Identifier: Apache-2.0
"""The tests under the newest Python that Debian has: ``python -m tests.python``."""
