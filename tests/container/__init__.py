# SPDX-License-Identifier: Apache-2.0
"""The image as docs/container.md says: built and run by podman."""
