# SPDX-License-Identifier: Apache-2.0
"""Pages of docs/ that are made from the code's own tables: `make docs`."""

from __future__ import annotations

from pathlib import Path

from tdx_headroom.facts.boots import Starts
from tdx_headroom.output.metric_families import DEFAULT, FAMILIES, ONE_EACH
from tdx_headroom.verdict.kernels import KERNELS

_STARTS = {
    Starts.BOOT: "at boot",
    Starts.KVM_LOAD: "when kvm_intel is loaded with tdx=1",
    Starts.NEVER: "never",
    Starts.NOT_BUILT: "not built",
    Starts.UNKNOWN: "unknown",
}
DOCS = Path(__file__).resolve().parents[2] / "docs"


def kernels_page() -> str:
    """docs/kernels.md."""
    rows = [
        f"| {k.name} | {k.strategy or 'unknown'} |"
        f" {'inferred' if k.inferred else 'read' if k.strategy else ''} | {_STARTS[k.starts]} |"
        f" {'yes' if k.prints_cmrs else 'no'} | {k.source} |"
        for k in KERNELS
    ]
    return "\n".join(
        [
            "# Which kernel looks for holes in which way",
            "",
            "Made from `agent/tdx_headroom/verdict/kernels.py` by `make docs`. What a host",
            "did and [the kernel's own files](boots.md#what-each-kernel-does) come before this table:",
            "see [the verdict](verdict.md). A kernel in no row, or with an unknown strategy, is taken for",
            "mainline. One with a suffix that no vendor here uses, such as `6.9.0-rc5+`, is somebody's own",
            "build: as mainline, unless it was built with TDX patches. Whether it was built with",
            "`INTEL_TDX_HOST` at all only its configuration, its image or its own log tells: without one of",
            "them it is a risk (`kernel-may-lack-tdx`). The rows of mainline have the kernels of Ubuntu,",
            "Proxmox and Fedora in them, which build it in; not Ubuntu's mainline archive, nor what others",
            "name like them.",
            "",
            "| kernel | strategy | evidence | initializes TDX | CMRs in the log | source |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def metrics_page() -> str:
    """docs/metrics.md."""
    rows = [
        f"| `{f.name}` | {f.kind} | {', '.join(f'`{label}`' for label in f.labels)} |"
        f" {'' if f.collector is DEFAULT else f.collector} | {f.help} |"
        for f in FAMILIES.values()
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "Made from `agent/tdx_headroom/output/metric_families.py` by `make docs`.",
            "A value that is unknown is absent, never 0; of a verdict, a concern or a staged boot the true",
            "one is 1, the others 0.",
            "`strategy` is `memory-regions`, `cmr-subregion` or `cmr-walk`; `tdmr` is a TDMR's bounds, such",
            "as `0x0-0x80000000`.",
            "",
            "Where a collector is named the series are exported [on demand](prometheus.md#on-demand). So are",
            "all with the label `strategy` for other strategies than the running kernel's (`strategies`),",
            f"but for {' and '.join(f'`{name}`' for name in ONE_EACH)}; and of `tdx_headroom_source_success`",
            "the lists in the log, `log-*` (`sources`). A host without TDX has no own strategy.",
            "",
            "| name | type | labels | collector | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "Besides these, `process_*` and on demand `python_*` (collector `python`) describe the agent",
            "itself, unless `--web.disable-exporter-metrics`.",
            "",
        ]
    )


PAGES = {"kernels.md": kernels_page, "metrics.md": metrics_page}


def main() -> None:
    """Write all pages anew."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
