// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * What the stand-in for the TDX module does more where the kernel reads CMRs: it reports them, and refuses a
 * table that no firmware may make. tdx_standin.c includes this file (cmr_kernel.py).
 *
 * The table is the parameter "cmrs" as it stands there, empty entries (LOW equal to HIGH) included, and has
 * MAX_CMRS entries always: what the parameter does not fill is empty. Without the parameter all memory is
 * convertible, and one CMR says so.
 */
#define CMR_LIST_INVALID	0x0A22

#define FIELD_NUM_CMRS		0x9000000100000000ULL
#define FIELD_CMR_BASE		0x9000000300000080ULL
#define FIELD_CMR_SIZE		0x9000000300000100ULL

static struct cmr reported_cmr(unsigned int index)
{
	struct cmr entry = { 0, 0 };
	char *p = cmrs;

	if (!cmrs && index == 0)
		return (struct cmr){ SZ_1M, BIT_ULL(46) };
	while (p && *p) {
		entry.start = simple_strtoull(p, &p, 0);
		entry.end = *p == '-' ? simple_strtoull(p + 1, &p, 0) : entry.start;
		if (index-- == 0)
			return entry;
		if (*p != ',')
			break;
		p++;
	}
	return (struct cmr){ 0, 0 };
}

/* TDH.SYS.RD of the fields with CMRs; false for every other field. */
static bool read_cmr_field(u64 field, u64 *value)
{
	struct cmr entry;

	if (field == FIELD_NUM_CMRS) {
		*value = MAX_CMRS;
	} else if (field >= FIELD_CMR_BASE && field < FIELD_CMR_BASE + MAX_CMRS) {
		*value = reported_cmr(field - FIELD_CMR_BASE).start;
	} else if (field >= FIELD_CMR_SIZE && field < FIELD_CMR_SIZE + MAX_CMRS) {
		entry = reported_cmr(field - FIELD_CMR_SIZE);
		*value = entry.end - entry.start;
	} else {
		return false;
	}
	return true;
}

/* TDH.SYS.INIT: CMRs are page aligned, ascend, and do not overlap; empty entries may be anywhere. */
static u64 check_cmr_table(void)
{
	unsigned int i;
	u64 last = 0;

	for (i = 0; i < MAX_CMRS; i++) {
		struct cmr entry = reported_cmr(i);

		if (entry.start == entry.end)
			continue;
		if (entry.start < last || !IS_ALIGNED(entry.start | entry.end, SZ_4K))
			return STATUS(CMR_LIST_INVALID, 0);
		last = entry.end;
	}
	return 0;
}
