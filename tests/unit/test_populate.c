/* SPDX-License-Identifier: Apache-2.0 */
/* test_populate.c - a working set comes in by two threads, once and whole */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "vmm/guest_mem.h"
#include "vmm/populate.h"
#include "vmm/working_set.h"

enum { PAGES = 2048, RUN = 4, WAIT_MS = 10000 };

static struct guest_mem mem;
static struct proto_populate runs[PAGES / RUN / 2];
static uint8_t marks[PAGES];

static int setup(void **state)
{
	int fd = memfd_create("template", MFD_CLOEXEC);
	uint8_t page[PAGE_BYTES];

	(void)state;
	assert_true(fd >= 0);
	for (unsigned i = 0; i < PAGES; i++) {
		memset(page, (int)i, sizeof(page));
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	assert_int_equal(guest_mem_init(&mem, PAGES * PAGE_BYTES), 0);
	assert_int_equal(guest_mem_map_template(&mem, fd, PAGES, -1), 0);
	close(fd);
	return populate_init();
}

static int teardown(void **state)
{
	(void)state;
	guest_mem_free(&mem);
	return 0;
}

static void test_hostile_runs(void **state)
{
	static const struct proto_populate bad[] = {
		{PAGES + 1, 0},
		{0, PAGES + 1},
		{PAGES - 1, 2 | PROTO_POPULATE_WRITE},
		{UINT32_MAX, UINT32_MAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(populate_start(&mem, &bad[i], 1), -EBADMSG);
}

/** Every other run of the first half is to be copied, of the second half to be read. */
static bool all_there(int pagemap)
{
	assert_int_equal(working_set_read(&mem, pagemap, marks), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		uint8_t want = i / RUN % 2     ? 0
			       : i < PAGES / 2 ? WORKING_SET_TOUCHED | WORKING_SET_WRITTEN
					       : WORKING_SET_TOUCHED;

		if ((marks[i] & want) != want)
			return false;
	}
	return true;
}

static void test_both_threads_bring_all_in(void **state)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), waits = 0;

	(void)state;
	assert_true(pagemap >= 0);
	for (uint32_t i = 0; i < ARRAY_SIZE(runs); i++)
		runs[i] = (struct proto_populate){
			i * RUN * 2, RUN | (i < ARRAY_SIZE(runs) / 2 ? PROTO_POPULATE_WRITE : 0)};
	assert_int_equal(populate_start(&mem, runs, ARRAY_SIZE(runs)), 0);
	populate_help();
	while (!all_there(pagemap) && waits++ < WAIT_MS)
		nanosleep(&ms, NULL);
	assert_true(all_there(pagemap));
	/* What nobody asked for is not copied, and nothing has changed. */
	for (unsigned i = 0; i < PAGES; i++) {
		assert_true(i / RUN % 2 == 0 || !(marks[i] & WORKING_SET_WRITTEN));
		assert_int_equal(*(uint8_t *)guest_page_ptr(&mem, i), (uint8_t)i);
	}
	close(pagemap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_runs),
		cmocka_unit_test(test_both_threads_bring_all_in),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
