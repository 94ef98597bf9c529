# SPDX-License-Identifier: Apache-2.0
"""A server of which only the log is known: too many areas in its second TDMR."""

from __future__ import annotations

from tests.tools.synthetic.common import (
    NO_UUID,
    SERVER_DEVICES,
    SERVER_LATE,
    SERVER_RESOURCES,
    XEON_FLAGS,
    XEON_SIZES,
    tdx_lines,
)
from tests.tools.synthetic.model import Cpu, Host, e820, spans

GRANITE_RAPIDS_LIKE = Host(
    name="granite-rapids-like",
    release="6.14.0-1009-intel",
    version="(build@host) (x86_64-linux-gnu-gcc-14 (Ubuntu 14.2.0-19ubuntu2) 14.2.0,"
    " GNU ld (GNU Binutils for Ubuntu) 2.44) #9-Ubuntu SMP PREEMPT_DYNAMIC Mon Aug 25 09:02:41 UTC 2025",
    command_line=f"BOOT_IMAGE=/boot/vmlinuz-6.14.0-1009-intel"
    f" root=UUID={NO_UUID} ro kvm_intel.tdx=1 nohibernate",
    machine="HPE ProLiant Compute DL380a Gen12/ProLiant Compute DL380a Gen12",
    bios_version="1.30",
    bios_date="06/13/2025",
    boot_time=1757400000,
    boot_id="00000000-0000-4000-8000-000000000415",
    cpu=Cpu(
        vendor="GenuineIntel",
        family=6,
        model=173,
        stepping=1,
        name="Intel(R) Xeon(R) 6747P",
        mhz=2700,
        cache_kib=294912,
        flags=XEON_FLAGS,
        bugs="spectre_v1 spectre_v2 spec_store_bypass swapgs bhi",
        sizes=XEON_SIZES,
    ),
    cpus=4,
    e820=e820("""
        0-9ffff usable
        a0000-fffff reserved
        100000-3e5b0fff usable
        3e5b1000-3e6fefff reserved
        3e6ff000-4a2d7fff usable
        4a2d8000-4a2f3fff reserved
        4a2f4000-51c06fff usable
        51c07000-51c07fff reserved
        51c08000-56d10fff usable
        56d11000-56d4afff ACPI data
        56d4b000-58e91fff usable
        58e92000-58f0cfff reserved
        58f0d000-5a77efff usable
        5a77f000-5a7b2fff reserved
        5a7b3000-5b3c5fff usable
        5b3c6000-5b40efff ACPI NVS
        5b40f000-5c0d8fff usable
        5c0d9000-5c0e0fff reserved
        5c0e1000-5d54bfff usable
        5d54c000-5d5a1fff ACPI data
        5d5a2000-5e8e6fff usable
        5e8e7000-5e8fafff reserved
        5e8fb000-5f2c3fff usable
        5f2c4000-5f34dfff reserved
        5f34e000-608b1fff usable
        608b2000-608b9fff reserved
        608ba000-6171afff usable
        6171b000-61764fff ACPI data
        61765000-62ff8fff usable
        62ff9000-6303cfff reserved
        6303d000-641e9fff usable
        641ea000-64241fff reserved
        64242000-657f0fff usable
        657f1000-65bf0fff reserved
        65bf1000-6b5fefff usable
        6b5ff000-736fefff reserved
        736ff000-773fefff ACPI NVS
        773ff000-777fefff ACPI data
        777ff000-777fffff usable
        77800000-8fffffff reserved
        fe000000-fe010fff reserved
        100000000-4075ffffff usable
        4076000000-407fffffff reserved
        4080000000-8077ffffff usable
        8078000000-807fffffff reserved
    """),
    spans=spans("""
        0-7fffffff 0
        100000000-407fffffff 0
        4080000000-807fffffff 1
    """),
    resources=SERVER_RESOURCES,
    boot_reserved=((0x4B112000, 0x50E12000), (0x6303D000, 0x6306F000)),
    tdx=tdx_lines("""
        10620111 6 BIOS enabled: private KeyID range [32, 64)
        10620114 6 Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.
        31518687 6 TDX module 2.0.08.00, build number 882, build date 0134fed5
        33250619 4 initialization failed: TDMR [0x40000000, 0x80000000): reserved areas exhausted.
        33341756 3 module initialization failed (-28)
    """),
    command_line_time=5_480_212,
    start_time=24_918_000,
    end_time=52_660_431,
    power_disk="[disabled]",
    devices=SERVER_DEVICES,
    late=SERVER_LATE,
    kmsg=False,
    kvm_intel_tdx="N",
)
