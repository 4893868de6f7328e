/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - the REPORT line of an invocation, as CloudWatch has it */
#ifndef QUICKTHAW_SNAPD_REPORT_H
#define QUICKTHAW_SNAPD_REPORT_H

#include "snapd/scheduler.h"

enum { REPORT_MAX = 320 };

/** struct report - @serve_ns: from the instance found to the answer, initialisation and restore
 * included; the line shows them apart. */
struct report {
	const char *request_id;
	enum start_kind start;
	uint64_t serve_ns, init_ns, restore_ns;
	unsigned memory_mib;
	uint64_t used_bytes;
};

/**
 * report_line() - fields are separated by tabs, and what was billed is rounded up to milliseconds:
 * "REPORT RequestId: ID Duration: 1.23 ms Billed Duration: 2 ms Memory Size: 128 MB Max Memory
 * Used: 30 MB", then "Init Duration: 95.20 ms" after a boot, "Restore Duration: 1.02 ms Billed
 * Restore Duration: 2 ms" after a restore. Return: @buf.
 */
const char *report_line(const struct report *r, char buf[REPORT_MAX]);

#endif
