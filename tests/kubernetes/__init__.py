# SPDX-License-Identifier: Apache-2.0
"""The manifests on a real node of Kubernetes."""
