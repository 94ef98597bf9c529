# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboards in packaging/grafana: written from here, checked against Grafana's own types."""
