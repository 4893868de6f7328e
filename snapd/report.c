/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - the REPORT line of an invocation, as CloudWatch has it */
#include "snapd/report.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/util.h"

static double ms(uint64_t ns)
{
	return (double)ns / (double)NSEC_PER_MSEC;
}

static uint64_t billed_ms(uint64_t ns)
{
	return (ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
}

const char *report_line(const struct report *r, char buf[REPORT_MAX])
{
	uint64_t before_ns = r->init_ns + r->restore_ns;
	uint64_t run_ns = r->serve_ns > before_ns ? r->serve_ns - before_ns : 0;
	int n = snprintf(buf, REPORT_MAX,
			 "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %" PRIu64
			 " ms\tMemory Size: %u MB\tMax Memory Used: %" PRIu64 " MB",
			 r->request_id, ms(run_ns), billed_ms(run_ns), r->memory_mib,
			 (r->used_bytes + MIB(1) - 1) / MIB(1));

	if (r->start == START_BOOT)
		snprintf(buf + n, REPORT_MAX - (size_t)n, "\tInit Duration: %.2f ms",
			 ms(r->init_ns));
	else if (r->start == START_RESIDENT || r->start == START_COLD)
		snprintf(buf + n, REPORT_MAX - (size_t)n,
			 "\tRestore Duration: %.2f ms\tBilled Restore Duration: %" PRIu64 " ms",
			 ms(r->restore_ns), billed_ms(r->restore_ns));
	return buf;
}
