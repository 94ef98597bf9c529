# SPDX-License-Identifier: Apache-2.0
"""The shipped rules, their tests and example configurations under several engines; docs/prometheus.md."""
