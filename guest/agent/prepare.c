/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prepare.c - before a capture: leave as little in memory as possible
 *
 * Pages that are free still hold what was in them last. There are two ways to keep that out of a
 * snapshot. With a balloon that reports free pages, the host takes them back; the kernel does that
 * some seconds later, for whole free blocks of 2 MiB only (mm/page_reporting.c). Or free memory is
 * allocated once, which the kernel fills with zeros, and freed again: pages of zeros are not
 * stored. That takes no time worth mentioning, needs no device, and reaches single pages.
 */
#include "guest/agent/prepare.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"
#include "guest/agent/text_file.h"

enum { REPORT_MS_MAX = 60000 };
#define ZERO_STEP_BYTES MIB(2)

static uint64_t free_bytes(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (uint64_t)info.freeram * info.mem_unit;
}

/**
 * Below this much free memory the kernel begins to take back pages that are in use: its high
 * watermark is 1.5 times the minimum, or more on a large machine.
 */
static uint64_t reserve_bytes(void)
{
	char text[32];

	text_file_read("/proc/sys/vm/min_free_kbytes", text, sizeof(text));
	return KIB(strtoull(text, NULL, 10)) * 2 + ZERO_STEP_BYTES;
}

static void zero_free_memory(void)
{
	uint64_t reserve = reserve_bytes(), free_now = free_bytes(), bytes;
	char *p;

	if (free_now <= reserve)
		return;
	bytes = align_down(free_now - reserve, ZERO_STEP_BYTES);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return;
	for (uint64_t at = 0; at < bytes && free_bytes() > reserve; at += ZERO_STEP_BYTES)
		if (madvise(p + at, ZERO_STEP_BYTES, MADV_POPULATE_WRITE))
			break;
	munmap(p, bytes);
}

int prepare(const struct agent_prepare *msg, struct agent_prepared *ret)
{
	uint64_t begin_ns = clock_mono_ns();

	if (msg->flags & ~AGENT_PREPARE_ZERO_FREE || msg->report_ms > REPORT_MS_MAX)
		return -EBADMSG;
	sync();
	text_file_write("/proc/sys/vm/drop_caches", "3");
	text_file_write("/proc/sys/vm/compact_memory", "1");
	if (msg->flags & AGENT_PREPARE_ZERO_FREE)
		zero_free_memory();
	if (msg->report_ms)
		poll(NULL, 0, (int)msg->report_ms);
	ret->free_bytes = free_bytes();
	ret->took_ns = clock_mono_ns() - begin_ns;
	return 0;
}
