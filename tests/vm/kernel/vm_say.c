// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Lets the VM test say something as the kernel: each line that is written to /sys/kernel/debug/vm_say goes into
 * the kernel's log with facility 0, at level info. User space cannot do that: what it writes to /dev/kmsg gets
 * another facility.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#define MOST 16384

static struct dentry *file;

static ssize_t say(struct file *unused, const char __user *from, size_t size, loff_t *at)
{
	char *text, *rest, *line;

	if (size > MOST)
		return -E2BIG;
	text = memdup_user_nul(from, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	rest = text;
	while ((line = strsep(&rest, "\n")))
		if (*line)
			printk(KERN_INFO "%s\n", line);
	kfree(text);
	return size;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.write = say,
};

static int __init start(void)
{
	file = debugfs_create_file("vm_say", 0200, NULL, NULL, &operations);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit end(void)
{
	debugfs_remove(file);
}

module_init(start);
module_exit(end);
/* The functions that it needs are exported to such modules only. */
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("says lines as the kernel, for the VM test of tdx-headroom");
