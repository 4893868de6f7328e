/* SPDX-License-Identifier: Apache-2.0 */
/* capacity.h - what an invocation of a version would cost now, for schedulers of several hosts */
#ifndef QUICKTHAW_SNAPD_CAPACITY_H
#define QUICKTHAW_SNAPD_CAPACITY_H

#include "snapd/scheduler.h"

/**
 * struct capacity_view - what a prediction needs to know of a version and this host.
 * @idle: an instance waits; @boots: it has no snapshot to be restored from
 * @resident: its working set is in memory; @shells: of its size, ready
 * @missing_pages: of the working set (of the snapshot's resident pages, while that is unknown) that
 * would have to be read
 * @page_bytes: what a page takes in the file, on average
 * @warm_ns, @resident_ns: what invocations of it have taken; @host_resident_ns: of all versions;
 * 0: not known
 * @boot_ns: its cold boot
 * @shell_ns: to make a shell; @read_ns, @read_bytes, @decode_ns: struct page_in_costs
 * @wait_ns: before its turn comes
 */
struct capacity_view {
	bool idle, boots, resident;
	unsigned shells;
	uint64_t missing_pages, page_bytes;
	uint64_t warm_ns, resident_ns, host_resident_ns, boot_ns;
	uint64_t shell_ns, read_ns, read_bytes, decode_ns;
	uint64_t wait_ns;
};

/** struct capacity_estimate - @start_ns: until the function's code runs, beyond what a warm
 * invocation takes; @total_ns: until the answer, as far as that is known. */
struct capacity_estimate {
	enum start_kind start;
	uint64_t wait_ns, start_ns, total_ns;
};

/**
 * capacity_predict() - a resident restore costs what it has cost here; a cold one in addition the
 * reading and decoding of what is not in memory, which go on side by side, so the slower one
 * counts; without a shell one has to be made first. Where nothing was measured yet, the unknown
 * part counts as nothing.
 */
struct capacity_estimate capacity_predict(const struct capacity_view *v);

/** capacity_view() - of a version on this host, now. */
struct capacity_view capacity_view(struct version *v, uint64_t now_ns);

#endif
