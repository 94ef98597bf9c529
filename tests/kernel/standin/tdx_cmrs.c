// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * The two ways to look for the holes of a TDMR that no mainline kernel has, for tests only. tdx.c includes
 * this file (cmr_kernel.py) in front of tdmr_populate_rsvd_holes(), which turns to it.
 *
 * Parameters, on the kernel command line as tdx_cmrs.NAME=VALUE:
 *  strategy	cmr-subregion: a hole between memory regions is left out when one CMR holds it;
 *		cmr-walk: holes are what the CMRs leave;
 *		without it CMRs are not even read, and all is as in mainline
 *  refuse	1: memory that is not inside one CMR ends the initialization
 *
 * Each strategy prints the CMRs in one of the two formats that kernels have.
 */
#include <linux/moduleparam.h>
#include <linux/string.h>

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "tdx_cmrs."

/* Global metadata fields of the TDX module: how many CMRs, and of entry 0 the first byte and the size. */
#define CMRS_FIELD_COUNT	0x9000000100000000ULL
#define CMRS_FIELD_BASE		0x9000000300000080ULL
#define CMRS_FIELD_SIZE		0x9000000300000100ULL

#define CMRS_MOST	32

static char *strategy = "memory-regions";
static bool refuse;

module_param(strategy, charp, 0444);
module_param(refuse, bool, 0444);

struct cmr_range {
	u64 start, end;
};

static struct cmr_range cmrs_known[CMRS_MOST];
static unsigned int cmrs_nr;

static bool cmrs_subregion(void)
{
	return !strcmp(strategy, "cmr-subregion");
}

static bool cmrs_walk(void)
{
	return !strcmp(strategy, "cmr-walk");
}

/* Whether a single CMR holds all of [start, end); two that touch do not count as one. */
static bool cmrs_hold(u64 start, u64 end)
{
	unsigned int i;

	for (i = 0; i < cmrs_nr; i++)
		if (cmrs_known[i].start <= start && end <= cmrs_known[i].end)
			return true;
	return false;
}

static void cmrs_print(void)
{
	unsigned int i;

	for (i = 0; i < cmrs_nr; i++) {
		struct cmr_range *cmr = &cmrs_known[i];

		if (cmrs_walk())
			pr_info("CMR[%d]: [0x%llx, 0x%llx)\n", i, cmr->start, cmr->end);
		else
			pr_info("CMR: [0x%llx, 0x%llx)\n", cmr->start, cmr->end);
	}
}

/* Get the CMRs from the module: those before the first empty entry of its table. */
static int __ref cmrs_get(void)
{
	u64 count, base, size;
	int ret;

	ret = read_sys_metadata_field(CMRS_FIELD_COUNT, &count);
	if (ret)
		return ret;
	for (cmrs_nr = 0; cmrs_nr < min_t(u64, count, CMRS_MOST); cmrs_nr++) {
		ret = read_sys_metadata_field(CMRS_FIELD_BASE + cmrs_nr, &base);
		ret = ret ?: read_sys_metadata_field(CMRS_FIELD_SIZE + cmrs_nr, &size);
		if (ret)
			return ret;
		if (!size)
			break;
		cmrs_known[cmrs_nr] = (struct cmr_range){ base, base + size };
	}
	return 0;
}

/* Before the TDMRs are made: read and print the CMRs; with "refuse", hold the memory against them. */
static int __ref cmrs_set_up(struct list_head *memory)
{
	struct tdx_memblock *region;
	int ret;

	if (!cmrs_subregion() && !cmrs_walk())
		return 0;
	ret = cmrs_get();
	if (ret)
		return ret;
	cmrs_print();
	if (!refuse)
		return 0;
	list_for_each_entry(region, memory, list) {
		u64 start = PFN_PHYS(region->start_pfn), end = PFN_PHYS(region->end_pfn);

		if (!cmrs_hold(start, end)) {
			pr_err("memory region [0x%llx, 0x%llx) is not TDX convertible memory.\n", start, end);
			return -EINVAL;
		}
	}
	return 0;
}

/* A hole between memory regions, which lies inside the TDMR already. */
static int __ref cmrs_add_hole(struct tdmr_info *tdmr, int *used, u64 start, u64 size, u16 most)
{
	if (cmrs_subregion() && cmrs_hold(start, start + size))
		return 0;
	return tdmr_add_rsvd_area(tdmr, used, start, size, most);
}

/* All holes that the CMRs leave in the TDMR. */
static int __ref cmrs_add_holes(struct tdmr_info *tdmr, int *used, u16 most)
{
	u64 covered = tdmr->base, limit = tdmr_end(tdmr);
	unsigned int i;
	int ret;

	for (i = 0; i < cmrs_nr && cmrs_known[i].start < limit; i++) {
		struct cmr_range *cmr = &cmrs_known[i];

		if (cmr->end < tdmr->base)
			continue;
		if (cmr->start > covered) {
			ret = tdmr_add_rsvd_area(tdmr, used, covered, cmr->start - covered, most);
			if (ret)
				return ret;
		}
		covered = cmr->end;
	}
	if (covered >= limit)
		return 0;
	return tdmr_add_rsvd_area(tdmr, used, covered, limit - covered, most);
}
