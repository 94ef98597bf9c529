# SPDX-License-Identifier: Apache-2.0
"""Two sockets, and TDX comes up."""

from __future__ import annotations

from tests.tools.synthetic.common import (
    MODULE,
    SERVER_DEVICES,
    SERVER_LATE,
    SERVER_RESOURCES,
    UBUNTU_24_04,
    XEON_FLAGS,
    XEON_SIZES,
    tdx_lines,
)
from tests.tools.synthetic.model import Cpu, Host, e820, spans

GOOD_2_NODE = Host(
    name="good-2-node",
    release="6.8.0-1007-intel",
    version=f"{UBUNTU_24_04} #14-Ubuntu SMP PREEMPT_DYNAMIC Mon Jun 24 13:51:09 UTC 2024 "
    "(Ubuntu 6.8.0-1007.14-intel 6.8.4)",
    command_line="BOOT_IMAGE=/vmlinuz-6.8.0-1007-intel root=/dev/sda2 ro kvm_intel.tdx=1 nohibernate"
    " quiet splash vt.handoff=7",
    machine="Example Computers Two-Socket Server",
    bios_version="2.1.0",
    bios_date="03/05/2024",
    boot_time=1721300000,
    boot_id="00000000-0000-4000-8000-000000000206",
    cpu=Cpu(
        vendor="GenuineIntel",
        family=6,
        model=207,
        stepping=2,
        name="INTEL(R) XEON(R) GOLD 6530",
        mhz=2100,
        cache_kib=163840,
        flags=XEON_FLAGS,
        bugs="spectre_v1 spectre_v2 spec_store_bypass swapgs eibrs_pbrsb bhi tdx_pw_mce",
        sizes=XEON_SIZES,
    ),
    cpus=4,
    e820=e820("""
        0-9dfff usable
        9e000-9efff reserved
        9f000-9ffff usable
        a0000-fffff reserved
        100000-5a2c4fff usable
        5a2c5000-5a2fbfff ACPI data
        5a2fc000-63b2bfff usable
        63b2c000-65d3bfff reserved
        65d3c000-66f2afff usable
        66f2b000-66f2ffff reserved
        66f30000-6a6fefff usable
        6a6ff000-6d6fefff reserved
        6d6ff000-6eefefff ACPI NVS
        6eeff000-6effefff ACPI data
        6efff000-777fffff usable
        77800000-8fffffff reserved
        fe010000-fe010fff reserved
        100000000-406dffffff usable
        406e000000-407fffffff reserved
        4080000000-806fffffff usable
        8070000000-807fffffff reserved
    """),
    spans=spans("""
        0-7fffffff 0
        100000000-407fffffff 0
        4080000000-807fffffff 1
    """),
    resources=SERVER_RESOURCES,
    boot_reserved=((0x4F5F4000, 0x553F4000), (0x66F30000, 0x66F9C000)),
    setup_data=((0x5218B018, 0x521BC058), (0x521BD018, 0x521CD658)),
    pamt=(0x40202000, 0x40201000),
    tdx=tdx_lines(f"""
        2605559 6 BIOS enabled: private KeyID range [32, 64)
        2605561 6 Disable ACPI S3. Turn off TDX in the BIOS to use ACPI S3.
        10456520 6 {MODULE} build_date 20240129, build_num 698
        10456524 6 CMR: [0x100000, 0x77800000)
        10456527 6 CMR: [0x100000000, 0x406e000000)
        10456528 6 CMR: [0x4080000000, 0x8070000000)
        11746184 6 2101260 KB allocated for PAMT
        11746190 6 module initialized
    """),
    command_line_time=1_299_325,
    start_time=7_802_000,
    end_time=24_118_907,
    power_disk="[disabled]",
    devices=SERVER_DEVICES,
    late=SERVER_LATE,
    plain_memblock=True,
    kvm_intel_tdx="Y",
    misc_capacity="tdx 31\n",
)
