# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes manifests, checked as far as that goes without a cluster."""
