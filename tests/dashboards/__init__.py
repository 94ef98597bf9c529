# SPDX-License-Identifier: Apache-2.0
"""The shipped dashboards, drawn by Grafana's own components from a real Prometheus; docs/prometheus.md."""
