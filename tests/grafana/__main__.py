# SPDX-License-Identifier: Apache-2.0
"""Writes packaging/grafana: ``make docs``."""

from __future__ import annotations

from tests.grafana.files import FOLDER, text_of

if __name__ == "__main__":
    for name, text in text_of().items():
        (FOLDER / name).write_text(text, "utf-8")
