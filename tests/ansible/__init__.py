# SPDX-License-Identifier: Apache-2.0
"""The Ansible role on a fresh Debian."""
