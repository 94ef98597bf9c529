# SPDX-License-Identifier: Apache-2.0
"""A notebook without TDX, read by somebody without privileges."""

from __future__ import annotations

from tests.tools.synthetic.common import NO_UUID, tdx_lines
from tests.tools.synthetic.model import Cpu, Host, Span, e820, resources

NO_TDX = Host(
    name="no-tdx",
    release="7.1.4",
    version="(build@host) (gcc (GCC) 15.2.0, GNU ld (GNU Binutils) 2.46) #1 SMP PREEMPT_DYNAMIC",
    command_line=f"BOOT_IMAGE=/boot/vmlinuz-7.1.4 root=UUID={NO_UUID} ro quiet",
    machine="Example Computers Notebook",
    bios_version="1.17",
    bios_date="01/20/2026",
    boot_time=1783708000,
    boot_id="00000000-0000-4000-8000-000000000071",
    cpu=Cpu(
        vendor="AuthenticAMD",
        family=25,
        model=80,
        stepping=0,
        name="AMD Ryzen 7 5800U with Radeon Graphics",
        mhz=1900,
        cache_kib=512,
        flags="fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse"
        " sse2 ht syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc rep_good nopl xtopology"
        " nonstop_tsc cpuid extd_apicid aperfmperf rapl pni pclmulqdq monitor ssse3 fma cx16 sse4_1"
        " sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm cmp_legacy svm extapic cr8_legacy abm"
        " sse4a misalignsse 3dnowprefetch osvw ibs skinit wdt tce topoext ssbd mba ibrs ibpb stibp"
        " vmmcall fsgsbase bmi1 avx2 smep bmi2 erms invpcid cqm rdt_a rdseed adx smap clflushopt clwb"
        " sha_ni xsaveopt xsavec xgetbv1 xsaves clzero irperf npt lbrv svm_lock nrip_save umip pku"
        " ospke vaes vpclmulqdq rdpid",
        bugs="sysret_ss_attrs spectre_v1 spectre_v2 spec_store_bypass srso ibpb_no_ret",
        sizes="48 bits physical, 48 bits virtual",
    ),
    cpus=2,
    e820=e820("""
        0-9ffff usable
        a0000-fffff reserved
        100000-9bfefff usable
        9bff000-9ffffff reserved
        a000000-a1fffff usable
        a200000-a23bfff ACPI NVS
        a23c000-93f06fff usable
        93f07000-9690efff reserved
        9690f000-96989fff ACPI data
        9698a000-97404fff ACPI NVS
        97405000-9affefff reserved
        9afff000-9bff8fff usable
        9bff9000-9bffcfff reserved
        9bffd000-9bffefff usable
        9bfff000-9cffffff reserved
        9d790000-9d7effff reserved
        9d7f5000-9fffffff reserved
        e0000000-efffffff reserved
        fd000000-ffffffff reserved
        100000000-55e2fffff usable
        55f340000-6801fffff reserved
    """),
    spans=(Span(0, 0x55E300000, 0),),
    resources=resources("""
        000a0000-000bffff PCI Bus 0000:00
        000f0000-000fffff System ROM
        a0000000-dfffffff PCI Bus 0000:00
        d0000000-d01fffff PCI Bus 0000:01
        d0000000-d0003fff nvme
        e0000000-efffffff PCI ECAM 0000 [bus 00-ff]
        fec00000-fec003ff IOAPIC 0
        fed00000-fed003ff HPET 0
        55e300000-55f33ffff RAM buffer
        680200000-7fffffffff PCI Bus 0000:00
    """),
    tdx=tdx_lines("412907 3 TDX not supported by the host platform"),
    command_line_time=301_552,
    start_time=1_904_000,
    end_time=9_771_340,
    power_disk="[platform] shutdown reboot suspend test_resume",
    devices=(
        "pci 0000:00:00.0: [1022:1630] type 00 class 0x060000 conventional PCI endpoint",
        "pci 0000:01:00.0: [144d:a80a] type 00 class 0x010802 PCIe Endpoint",
        "nvme nvme0: pci function 0000:01:00.0",
        "kvm_amd: TSC scaling supported",
    ),
    new_e820_print=True,
    srat=False,
    memblock=False,
    privileged=False,
    block_size=128 << 20,
)
