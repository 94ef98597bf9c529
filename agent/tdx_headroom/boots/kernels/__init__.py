# SPDX-License-Identifier: Apache-2.0
"""What a kernel does about TDX, by its own files: image, configuration and modules."""
