# SPDX-License-Identifier: Apache-2.0
"""What several synthetic hosts have in common: servers of one make."""

from __future__ import annotations

from tests.tools.synthetic.model import Line, resources

XEON_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts acpi mmx fxsr"
    " sse sse2 ss ht tm pbe syscall nx pdpe1gb rdtscp lm constant_tsc art arch_perfmon pebs bts rep_good"
    " nopl xtopology nonstop_tsc cpuid aperfmperf tsc_known_freq pni pclmulqdq dtes64 monitor ds_cpl vmx"
    " smx est tm2 ssse3 fma cx16 xtpr pdcm pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer"
    " aes xsave avx f16c rdrand lahf_lm abm 3dnowprefetch cat_l3 cat_l2 ssbd mba ibrs ibpb stibp"
    " ibrs_enhanced tpr_shadow flexpriority ept vpid ept_ad fsgsbase bmi1 avx2 smep bmi2 erms invpcid"
    " rdt_a avx512f avx512dq rdseed adx smap clflushopt clwb intel_pt avx512cd sha_ni avx512bw avx512vl"
    " xsaveopt xsavec xgetbv1 xsaves wbnoinvd umip pku ospke waitpkg gfni vaes vpclmulqdq tme la57 rdpid"
    " bus_lock_detect cldemote movdiri movdir64b enqcmd fsrm serialize tsxldtrk pconfig arch_lbr ibt"
    " amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d arch_capabilities tdx_host_platform"
)

XEON_SIZES = "52 bits physical, 57 bits virtual"
NO_UUID = "00000000-0000-0000-0000-000000000000"
UBUNTU_24_04 = (
    "(build@host) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0,"
    " GNU ld (GNU Binutils for Ubuntu) 2.42)"
)
MODULE = "TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, minor_version 5,"

SERVER_RESOURCES = resources("""
000a0000-000bffff PCI Bus 0000:00
000f0000-000fffff System ROM
80000000-8fffffff PCI ECAM 0000 [bus 00-ff]
90000000-9effffff PCI Bus 0000:00
90000000-903fffff PCI Bus 0000:01
90000000-90003fff 0000:01:00.0
90000000-90003fff nvme
9f000000-bbffffff PCI Bus 0000:16
fec00000-fecfffff PNP0003:00
fec00000-fec003ff IOAPIC 0
fed00000-fed003ff HPET 0
fed00000-fed003ff PNP0103:00
fed20000-fed44fff Reserved
fee00000-feefffff pnp 00:01
200000000000-200fffffffff PCI Bus 0000:00
201000000000-201fffffffff PCI Bus 0000:16
""")

SERVER_DEVICES = (
    "pci 0000:00:00.0: [8086:09a2] type 00 class 0x088000 conventional PCI endpoint",
    "pci 0000:00:14.0: [8086:1bcd] type 00 class 0x0c0330 conventional PCI endpoint",
    "pci 0000:01:00.0: [144d:a80a] type 00 class 0x010802 PCIe Endpoint",
    "pci 0000:17:00.0: [8086:1563] type 00 class 0x020000 PCIe Endpoint",
    "nvme 0000:01:00.0: platform quirk: setting simple suspend",
    "nvme nvme0: pci function 0000:01:00.0",
    "nvme nvme0: 32/0/0 default/read/poll queues",
    "ixgbe 0000:17:00.0: Multiqueue Enabled: Rx Queue count = 63, Tx Queue count = 63 XDP Queue count = 0",
)

SERVER_LATE = (
    "ipmi device interface",
    "ixgbe 0000:17:00.0 eno1: NIC Link is Up 10 Gbps, Flow Control: RX/TX",
    "br0: port 1(eno1) entered blocking state",
    "br0: port 1(eno1) entered forwarding state",
)


def tdx_lines(text: str) -> tuple[Line, ...]:
    """Rows ``microseconds priority text``, without their prefix."""
    rows = (line.strip().split(" ", 2) for line in text.strip().splitlines())
    return tuple(Line(int(time), int(priority), f"virt/tdx: {what}") for time, priority, what in rows)
