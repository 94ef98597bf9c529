/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
#ifndef _TDX_STANDIN_H
#define _TDX_STANDIN_H

#include <linux/gfp.h>
#include <linux/nodemask.h>
#include <linux/types.h>

/* alloc_contig_pages() for the PAMT of the TDMR [base, base + size), written to the log. */
struct page *tdx_standin_alloc_pamt(u64 base, u64 size, unsigned long pages, gfp_t gfp, int nid,
				    nodemask_t *nodes);

#endif
