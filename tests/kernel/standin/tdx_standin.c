// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Stand-in for the Intel TDX module, for tests in a virtual machine only.
 *
 * It takes the place of seamcall.S: every SEAMCALL of the kernel's TDX host code lands in standin_call()
 * below.  All the rest of that code is the kernel's own and runs unchanged: which memory it takes, the
 * TDMRs it makes of it, where it allocates their PAMTs, the reserved areas it lists, when it gives up.
 *
 * What is faked:
 *  - TDH.SYS.INIT, TDH.SYS.LP.INIT, TDH.SYS.KEY.CONFIG, TDH.SYS.TDMR.INIT: succeed and do nothing;
 *  - TDH.SYS.RD: the module's version, its features and its limits, from the parameters below;
 *  - TDH.SYS.CONFIG: writes the TDMRs it is handed to the log and checks them as the TDX module does,
 *    in its order: TDMR, reserved areas, PAMT, available memory.
 * alloc_contig_pages() of tdx.c is wrapped, so that PAMTs are logged also when init fails later on.
 *
 * All lines are written with the prefix "tdx-standin: ", which no line of the kernel has.
 *
 * Parameters, on the kernel command line as tdx_standin.NAME=VALUE:
 *  max_tdmrs, max_rsvd		limits that TDH.SYS.RD reports
 *  pamt_4k, pamt_2m, pamt_1g	PAMT entry sizes that it reports, bytes
 *  cmrs			LOW-HIGH,... end exclusive; without it all memory is convertible
 *  fail_fn, fail_code		the SEAMCALL leaf that fails, and the status that it returns
 */
#define pr_fmt(fmt) "tdx-standin: " fmt

#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/tdx.h>
#include "tdx.h"
#include "tdx_standin.h"

/* Completion status of TDH.SYS.CONFIG: class and code in the upper half, the TDMR's index in bits 7:0. */
#define STATUS(code, tdmr)		(0xC000000000000000ULL | (u64)(code) << 32 | (tdmr))
#define OPERAND_INVALID			0x0100
#define INVALID_TDMR			0x0A00
#define NON_ORDERED_TDMR		0x0A01
#define TDMR_OUTSIDE_CMRS		0x0A02
#define INVALID_PAMT			0x0A10
#define PAMT_OUTSIDE_CMRS		0x0A11
#define PAMT_OVERLAP			0x0A12
#define INVALID_RESERVED_IN_TDMR	0x0A20
#define NON_ORDERED_RESERVED_IN_TDMR	0x0A21

#define MAX_CMRS	32

static ulong max_tdmrs = 64;
static ulong max_rsvd = 16;
static ulong pamt_4k = 16;
static ulong pamt_2m = 16;
static ulong pamt_1g = 16;
static ulong fail_fn = ~0UL;
static ulong fail_code = STATUS(OPERAND_INVALID, 0);
static char *cmrs;

module_param(max_tdmrs, ulong, 0444);
module_param(max_rsvd, ulong, 0444);
module_param(pamt_4k, ulong, 0444);
module_param(pamt_2m, ulong, 0444);
module_param(pamt_1g, ulong, 0444);
module_param(fail_fn, ulong, 0444);
module_param(fail_code, ulong, 0444);
module_param(cmrs, charp, 0444);

struct cmr {
	u64 start, end;
};

static struct cmr cmr_table[MAX_CMRS] __initdata;
static int nr_cmrs __initdata;

/* Fill cmr_table from the parameter; CMRs that touch are joined, as the module's own checks do. */
static void __init parse_cmrs(void)
{
	char *p = cmrs;

	nr_cmrs = 0;
	while (p && *p && nr_cmrs < MAX_CMRS) {
		u64 start = simple_strtoull(p, &p, 0);
		u64 end = *p == '-' ? simple_strtoull(p + 1, &p, 0) : start;

		if (nr_cmrs && cmr_table[nr_cmrs - 1].end == start)
			cmr_table[nr_cmrs - 1].end = end;
		else
			cmr_table[nr_cmrs++] = (struct cmr){ start, end };
		if (*p == ',')
			p++;
	}
}

static bool __init convertible(u64 start, u64 end)
{
	int i;

	if (!cmrs || start >= end)
		return true;
	for (i = 0; i < nr_cmrs; i++)
		if (start >= cmr_table[i].start && end <= cmr_table[i].end)
			return true;
	return false;
}

static bool overlap(u64 base_a, u64 size_a, u64 base_b, u64 size_b)
{
	return base_a < base_b + size_b && base_b < base_a + size_a;
}

static unsigned long __init nr_areas(struct tdmr_info *t)
{
	unsigned long n = 0;

	while (n < max_rsvd && t->reserved_areas[n].size)
		n++;
	return n;
}

static void __init log_tdmr(struct tdmr_info *t, unsigned long index)
{
	unsigned long n = nr_areas(t), i;

	pr_info("tdmr %lu base 0x%llx size 0x%llx pamt 4k 0x%llx+0x%llx 2m 0x%llx+0x%llx 1g 0x%llx+0x%llx areas %lu\n",
		index, t->base, t->size, t->pamt_4k_base, t->pamt_4k_size, t->pamt_2m_base, t->pamt_2m_size,
		t->pamt_1g_base, t->pamt_1g_size, n);
	for (i = 0; i < n; i++)
		pr_info("area %lu %lu offset 0x%llx size 0x%llx\n", index, i, t->reserved_areas[i].offset,
			t->reserved_areas[i].size);
}

/* All TDMRs of TDH.SYS.CONFIG: RCX is the array of their physical addresses, RDX its length. */
static void __init log_tdmrs(struct tdx_module_args *args)
{
	u64 *pa = __va(args->rcx);
	unsigned long i;

	for (i = 0; i < args->rdx; i++)
		log_tdmr(__va(pa[i]), i);
}

/* Reserved areas must be aligned, in order, disjoint and inside their TDMR. */
static u64 __init check_areas(struct tdmr_info *t, unsigned long index)
{
	unsigned long n = nr_areas(t), i;
	u64 last = 0;

	for (i = 0; i < n; i++) {
		struct tdmr_reserved_area *r = &t->reserved_areas[i];

		if (r->offset < last)
			return STATUS(NON_ORDERED_RESERVED_IN_TDMR, index | i << 8);
		last = r->offset + r->size;
		if (!IS_ALIGNED(r->offset | r->size, SZ_4K) || last > t->size)
			return STATUS(INVALID_RESERVED_IN_TDMR, index | i << 8);
	}
	return 0;
}

/* What lies between the reserved areas must be convertible. */
static u64 __init check_available(struct tdmr_info *t, unsigned long index)
{
	unsigned long n = nr_areas(t), i;
	u64 available = t->base;

	for (i = 0; i < n; i++) {
		struct tdmr_reserved_area *r = &t->reserved_areas[i];

		if (!convertible(available, t->base + r->offset))
			return STATUS(TDMR_OUTSIDE_CMRS, index);
		available = t->base + r->offset + r->size;
	}
	return convertible(available, t->base + t->size) ? 0 : STATUS(TDMR_OUTSIDE_CMRS, index);
}

/* Does [base, base + size) touch memory of the TDMR that is not reserved? */
static bool __init in_available(struct tdmr_info *t, u64 base, u64 size)
{
	u64 available = t->base;
	unsigned long n = nr_areas(t), i;

	for (i = 0; i < n; i++) {
		u64 start = t->base + t->reserved_areas[i].offset;

		if (start > available && overlap(base, size, available, start - available))
			return true;
		available = start + t->reserved_areas[i].size;
	}
	return t->base + t->size > available && overlap(base, size, available, t->base + t->size - available);
}

/* The PAMT of TDMR @i against the TDMRs up to it, and theirs against it: sizes, overlaps, CMRs. */
static u64 __init check_pamt(u64 *pa, unsigned long i)
{
	struct tdmr_info *t = __va(pa[i]);
	u64 pamt_size = t->pamt_4k_size + t->pamt_2m_size + t->pamt_1g_size;
	unsigned long j;

	if (t->pamt_4k_size < (t->size >> 12) * pamt_4k || t->pamt_2m_size < (t->size >> 21) * pamt_2m ||
	    t->pamt_1g_size < (t->size >> 30) * pamt_1g ||
	    !IS_ALIGNED(t->pamt_4k_base | t->pamt_2m_base | t->pamt_1g_base, SZ_4K))
		return STATUS(INVALID_PAMT, i);
	for (j = 0; j < i; j++) {
		struct tdmr_info *o = __va(pa[j]);

		if (overlap(t->pamt_4k_base, pamt_size, o->pamt_4k_base,
			    o->pamt_4k_size + o->pamt_2m_size + o->pamt_1g_size))
			return STATUS(PAMT_OVERLAP, i | j << 16);
	}
	for (j = 0; j <= i; j++) {
		struct tdmr_info *o = __va(pa[j]);

		if (in_available(o, t->pamt_4k_base, pamt_size))
			return STATUS(PAMT_OVERLAP, i | j << 16);
		if (in_available(t, o->pamt_4k_base, o->pamt_4k_size + o->pamt_2m_size + o->pamt_1g_size))
			return STATUS(PAMT_OVERLAP, j | i << 16);
	}
	if (!convertible(t->pamt_1g_base, t->pamt_1g_base + t->pamt_1g_size) ||
	    !convertible(t->pamt_2m_base, t->pamt_2m_base + t->pamt_2m_size) ||
	    !convertible(t->pamt_4k_base, t->pamt_4k_base + t->pamt_4k_size))
		return STATUS(PAMT_OUTSIDE_CMRS, i);
	return 0;
}

/* TDH.SYS.CONFIG: the first thing that is wrong, or 0. */
static u64 __init sys_config(struct tdx_module_args *args)
{
	u64 *pa = __va(args->rcx), end = 0, status = 0;
	unsigned long n = args->rdx, i;

	parse_cmrs();
	if (!n || n > max_tdmrs)
		return STATUS(OPERAND_INVALID, 2);
	for (i = 0; i < n && !status; i++) {
		struct tdmr_info *t = __va(pa[i]);

		if (!t->size || !IS_ALIGNED(t->base | t->size, SZ_1G))
			status = STATUS(INVALID_TDMR, i);
		else if (t->base < end)
			status = STATUS(NON_ORDERED_TDMR, i);
		end = t->base + t->size;
		status = status ?: check_areas(t, i);
		status = status ?: check_pamt(pa, i);
		status = status ?: check_available(t, i);
	}
	return status;
}

/* TDH.SYS.RD: the fields that some kernel reads; 0 for all others. */
static u64 sys_rd(u64 field)
{
	switch (field) {
	case 0x0800000100000003ULL: return 5;		/* MINOR_VERSION */
	case 0x0800000100000004ULL: return 1;		/* MAJOR_VERSION */
	case 0x0800000100000005ULL: return 16;		/* UPDATE_VERSION */
	case 0x0A00000300000008ULL: return BIT_ULL(18);	/* TDX_FEATURES0: NO_RBP_MOD */
	case 0x9100000100000008ULL: return max_tdmrs;
	case 0x9100000100000009ULL: return max_rsvd;
	case 0x9100000100000010ULL: return pamt_4k;
	case 0x9100000100000011ULL: return pamt_2m;
	case 0x9100000100000012ULL: return pamt_1g;
	}
	return 0;
}

/* __ref: TDH.SYS.CONFIG is called at boot only, while init memory is there. */
static u64 __ref standin_call(u64 fn, struct tdx_module_args *args)
{
	u64 leaf = fn & 0xffff, status;

	if (leaf == TDH_SYS_CONFIG)
		log_tdmrs(args);
	if (leaf == fail_fn) {
		pr_info("leaf 0x%llx fails as told: 0x%lx\n", leaf, fail_code);
		return fail_code;
	}
	switch (leaf) {
	case TDH_SYS_INIT:
		pr_info("limits max_tdmrs %lu max_rsvd %lu pamt 4k %lu 2m %lu 1g %lu\n", max_tdmrs, max_rsvd,
			pamt_4k, pamt_2m, pamt_1g);
		return 0;
	case TDH_SYS_LP_INIT:
	case TDH_SYS_KEY_CONFIG:
		return 0;
	case TDH_SYS_RD:
		args->r8 = sys_rd(args->rdx);
		return 0;
	case TDH_SYS_CONFIG:
		status = sys_config(args);
		pr_info("config 0x%llx\n", status);
		return status;
	case TDH_SYS_TDMR_INIT:
		args->rdx = ~0ULL;			/* next address to initialise: all done */
		return 0;
	}
	return STATUS(OPERAND_INVALID, 0);
}

u64 __seamcall(u64 fn, struct tdx_module_args *args);
u64 __seamcall_ret(u64 fn, struct tdx_module_args *args);
u64 __seamcall_saved_ret(u64 fn, struct tdx_module_args *args);

u64 __seamcall(u64 fn, struct tdx_module_args *args)
{
	return standin_call(fn, args);
}

u64 __seamcall_ret(u64 fn, struct tdx_module_args *args)
{
	return standin_call(fn, args);
}

/* TDH.VP.ENTER and its like: no guest is ever run here. */
noinstr u64 __seamcall_saved_ret(u64 fn, struct tdx_module_args *args)
{
	return STATUS(OPERAND_INVALID, 0);
}

struct page *tdx_standin_alloc_pamt(u64 base, u64 size, unsigned long pages, gfp_t gfp, int nid,
				    nodemask_t *nodes)
{
	struct page *page = alloc_contig_pages(pages, gfp, nid, nodes);

	if (page)
		pr_info("pamt base 0x%llx size 0x%llx pages 0x%lx nid %d at 0x%llx node %d zone %s\n", base, size,
			pages, nid, (u64)page_to_phys(page), page_to_nid(page), page_zone(page)->name);
	else
		pr_info("pamt base 0x%llx size 0x%llx pages 0x%lx nid %d none\n", base, size, pages, nid);
	return page;
}

#ifdef TDX_STANDIN_ENABLE
/* Kernels before 7.1 leave it to KVM to bring TDX up, which needs VMX: bring it up here instead. */
static void __init enable_cpu(void *failed)
{
	int ret = tdx_cpu_enable();

	if (ret)
		*(int *)failed = ret;
}

static int __init tdx_standin_enable(void)
{
	int ret = 0;

	cpus_read_lock();
	on_each_cpu(enable_cpu, &ret, 1);
	if (!ret)
		ret = tdx_enable();
	cpus_read_unlock();
	pr_info("tdx_enable %d\n", ret);
	return 0;
}
late_initcall(tdx_standin_enable);
#endif
