# SPDX-License-Identifier: Apache-2.0
"""sos report plugin: what tells whether Intel TDX comes up on a host, and after the next reboot.

Installed as sos/report/plugins/tdx_headroom.py. It runs on every Python that sos runs on, so it uses nothing
newer than 3.6.
"""

from sos.report.plugins import DebianPlugin, Plugin, RedHatPlugin, SuSEPlugin, UbuntuPlugin


class TdxHeadroom(Plugin, RedHatPlugin, DebianPlugin, UbuntuPlugin, SuSEPlugin):
    """Copies the sources of the plan, and has the agent capture and explain them where it is installed."""

    short_desc = "Intel TDX memory layout and headroom"

    plugin_name = "tdx_headroom"
    profiles = ("virt", "hardware", "kernel", "memory")
    packages = ("tdx-headroom",)
    files = (
        "/usr/bin/tdx-headroom",
        "/sys/module/kvm_intel/parameters/tdx",
        "/sys/devices/faux/tdx_host",
    )

    def setup(self):
        """Name what is to be collected."""
        self.add_copy_spec(
            [
                "/proc/cmdline",
                "/proc/cpuinfo",
                "/proc/iomem",
                "/proc/meminfo",
                "/proc/zoneinfo",
                "/proc/sys/kernel/osrelease",
                "/sys/class/dmi/id/bios_version",
                "/sys/class/dmi/id/product_name",
                "/sys/devices/faux/tdx_host/version",
                "/sys/devices/system/memory/block_size_bytes",
                "/sys/devices/system/node/node*/meminfo",
                "/sys/firmware/memmap",
                "/sys/fs/cgroup/misc.capacity",
                "/sys/kernel/debug/memblock/memory",
                "/sys/kernel/debug/memblock/reserved",
                "/sys/kernel/security/lockdown",
                "/sys/module/kvm/parameters/enable_virt_at_load",
                "/sys/module/kvm_intel/parameters/tdx",
                "/sys/power/disk",
            ]
        )
        # sos limits the journal's size from its front, where the boot messages are.
        self.add_cmd_output("journalctl --dmesg --boot --no-pager", sizelimit=0)
        self.add_cmd_output(
            [
                "tdx-headroom plan --no-color",
                "tdx-headroom plan --format json",
                "tdx-headroom check --no-color",
            ]
        )
        self.add_cmd_output(
            "tdx-headroom capture --output -", suggest_filename="capture.tar.gz", binary=True, stderr=False
        )
