# SPDX-License-Identifier: Apache-2.0
"""A fleet on one machine: simulated hosts, the real Prometheus, the shipped rules. ``make scale-bench``."""
