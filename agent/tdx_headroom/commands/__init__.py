# SPDX-License-Identifier: Apache-2.0
"""Commands that look once and end: plan, check, capture, fleet."""
