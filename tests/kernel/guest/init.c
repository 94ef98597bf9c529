// SPDX-License-Identifier: Apache-2.0
/*
 * The only program of the guest: sends what the agent would read on this host through a virtio port, then
 * switches the machine off. Frames: "FILE <path> <bytes>\n" and the bytes, "LINK <path> <target>\n", at the
 * end "END\n"; paths have no leading slash. A path that this kernel does not have is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_MAX 65536 /* more than one record of /dev/kmsg can have */

static const char *const patterns[] = {
	"/proc/buddyinfo",
	"/proc/cmdline",
	"/proc/cpuinfo",
	"/proc/iomem",
	"/proc/meminfo",
	"/proc/pagetypeinfo",
	"/proc/stat",
	"/proc/sys/kernel/osrelease",
	"/proc/sys/kernel/random/boot_id",
	"/proc/version",
	"/proc/zoneinfo",
	"/sys/class/dmi/id/bios_version",
	"/sys/devices/faux/tdx_host/version",
	"/sys/devices/system/memory/auto_online_blocks",
	"/sys/devices/system/memory/block_size_bytes",
	"/sys/devices/system/memory/memory*/state",
	"/sys/devices/system/node/node*/hugepages/*/nr_hugepages",
	"/sys/devices/system/node/node*/memory*",
	"/sys/devices/system/node/online",
	"/sys/firmware/memmap/*/*",
	"/sys/kernel/debug/memblock/memory",
	"/sys/kernel/debug/memblock/reserved",
	"/sys/kernel/mm/hugepages/*/nr_hugepages",
	"/sys/module/kvm/parameters/enable_virt_at_load",
	"/sys/module/kvm_intel/parameters/tdx",
	"/sys/power/disk",
};

static FILE *port;

/* Everything that reading the descriptor gives; a record a read for /dev/kmsg, which ends with EAGAIN. */
static void send_file(const char *path, int flags)
{
	size_t have = 0, room = 0;
	char *data = NULL;
	ssize_t got;
	int fd = open(path, O_RDONLY | flags);

	if (fd < 0)
		return;
	do {
		if (room - have < RECORD_MAX) {
			room += 16 * RECORD_MAX;
			data = realloc(data, room);
			if (!data)
				return;
		}
		got = read(fd, data + have, RECORD_MAX);
		if (got > 0)
			have += got;
	} while (got > 0 || (got < 0 && errno == EPIPE)); /* EPIPE: records were overwritten, go on */
	close(fd);
	fprintf(port, "FILE %s %zu\n", path + 1, have);
	fwrite(data, 1, have, port);
	free(data);
}

static void send_matches(const char *pattern)
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *path = found.gl_pathv[i];
		char target[256];
		struct stat status;
		ssize_t n;

		if (lstat(path, &status))
			continue;
		if (S_ISREG(status.st_mode)) {
			send_file(path, 0);
		} else if (S_ISLNK(status.st_mode)) {
			n = readlink(path, target, sizeof(target));
			if (n > 0)
				fprintf(port, "LINK %s %.*s\n", path + 1, (int)n, target);
		}
	}
	globfree(&found);
}

int main(void)
{
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	port = fopen("/dev/vport0p1", "w");
	if (port) {
		for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
			send_matches(patterns[i]);
		send_file("/dev/kmsg", O_NONBLOCK);
		fputs("END\n", port);
		fclose(port);
	}
	reboot(RB_POWER_OFF);
	return 1;
}
