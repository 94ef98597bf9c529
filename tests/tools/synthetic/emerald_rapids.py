# SPDX-License-Identifier: Apache-2.0
"""The machine of the report that started this: one reserved area too many."""

from __future__ import annotations

from tests.tools.synthetic.common import (
    MODULE,
    NO_UUID,
    SERVER_DEVICES,
    SERVER_LATE,
    SERVER_RESOURCES,
    UBUNTU_24_04,
    XEON_FLAGS,
    XEON_SIZES,
    tdx_lines,
)
from tests.tools.synthetic.model import Cpu, Host, e820, spans

EMERALD_RAPIDS = Host(
    name="emerald-rapids",
    release="6.8.0-1004-intel",
    version=f"{UBUNTU_24_04} #11-Ubuntu SMP PREEMPT_DYNAMIC Tue Apr 30 10:24:17 UTC 2024 "
    "(Ubuntu 6.8.0-1004.11-intel 6.8.1)",
    command_line=f"BOOT_IMAGE=/boot/vmlinuz-6.8.0-1004-intel"
    f" root=UUID={NO_UUID} ro kvm_intel.tdx=1 nohibernate",
    machine="Intel Corporation Fox Creek Pass",
    bios_version="01.02.0001",
    bios_date="11/14/2023",
    boot_time=1718200000,
    boot_id="00000000-0000-4000-8000-000000000135",
    cpu=Cpu(
        vendor="GenuineIntel",
        family=6,
        model=207,
        stepping=2,
        name="INTEL(R) XEON(R) PLATINUM 8592+",
        mhz=1900,
        cache_kib=327680,
        flags=XEON_FLAGS,
        bugs="spectre_v1 spectre_v2 spec_store_bypass swapgs eibrs_pbrsb bhi tdx_pw_mce",
        sizes=XEON_SIZES,
    ),
    cpus=4,
    e820=e820("""
        0-9efff usable
        9f000-fffff reserved
        100000-5d168fff usable
        5d169000-5d22afff ACPI data
        5d22b000-5d3cefff usable
        5d3cf000-5d469fff reserved
        5d46a000-5e5b2fff usable
        5e5b3000-5e5c2fff reserved
        5e5c3000-5e5d2fff usable
        5e5d3000-5e5e4fff reserved
        5e5e5000-5eb57fff usable
        5eb58000-61357fff ACPI NVS
        61358000-6172afff usable
        6172b000-61794fff ACPI data
        61795000-617fefff usable
        617ff000-61912fff ACPI data
        61913000-61998fff usable
        61999000-619dffff ACPI data
        619e0000-619e1fff usable
        619e2000-619e9fff reserved
        619ea000-61a26fff usable
        61a27000-61baefff ACPI data
        61baf000-623c2fff usable
        623c3000-62471fff reserved
        62472000-62823fff usable
        62824000-63a24fff reserved
        63a25000-63d57fff usable
        63d58000-64157fff reserved
        64158000-64158fff usable
        64159000-64194fff reserved
        64195000-6e9cefff usable
        6e9cf000-6eccefff reserved
        6eccf000-6f6fefff ACPI NVS
        6f6ff000-6f7fefff ACPI data
        6f7ff000-6f7fffff usable
        6f800000-8fffffff reserved
        100000000-1079ffffff usable
        107a000000-107fffffff reserved
        1080000000-207bffffff usable
        207c000000-207fffffff reserved
        2080000000-307bffffff usable
        307c000000-307fffffff reserved
        3080000000-407bffffff usable
        407c000000-407fffffff reserved
    """),
    spans=spans("""
        0-7fffffff 0
        100000000-107fffffff 0
        1080000000-207fffffff 1
        2080000000-307fffffff 2
        3080000000-407fffffff 3
    """),
    resources=SERVER_RESOURCES,
    boot_reserved=((0x4F5F4000, 0x553F4000), (0x64195000, 0x641F1000)),
    # After the kernel's own lines of the report: the times are those that it printed.
    tdx=tdx_lines(f"""
        1630945 6 BIOS enabled: private KeyID range [32, 64)
        1630948 6 Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.
        10444055 6 {MODULE} build_date 20231008, build_num 595
        10444059 6 CMR: [0x100000, 0x6f800000)
        10444061 6 CMR: [0x100000000, 0x107a000000)
        10444061 6 CMR: [0x1080000000, 0x207c000000)
        10444062 6 CMR: [0x2080000000, 0x307c000000)
        10444063 6 CMR: [0x3080000000, 0x407c000000)
        10774047 4 initialization failed: TDMR [0x0, 0x80000000): reserved areas exhausted.
        10774052 3 module initialization failed (-28)
    """),
    command_line_time=957299,
    start_time=7_214_000,
    end_time=19_402_118,
    power_disk="[disabled]",
    devices=SERVER_DEVICES,
    late=SERVER_LATE,
    kvm_intel_tdx="N",
)
