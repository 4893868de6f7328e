/* SPDX-License-Identifier: Apache-2.0 */
/* test_file_pager.c - pages of a snapshot file come in as they are touched, over a real userfaultfd
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/util.h"
#include "tests/unit/test_format.h"
#include "vmm/file_pager.h"
#include "vmm/guest_mem.h"

enum { RAM_BYTES = GOLDEN_RAM_PAGES * PAGE_BYTES };

/** struct rig - a restored guest's memory. */
struct rig {
	int file, memfd;
	struct snapshot_reader *reader;
	struct guest_mem mem;
	struct file_pager pager;
};

/** Return: false after the reason for a skip. */
static bool rig_open(struct rig *g)
{
	char path[32];
	int ret;

	*g = (struct rig){.file = memfd_create("snapshot", 0), .memfd = memfd_create("ram", 0)};
	assert_int_equal(golden_write(g->file), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", g->file);
	assert_int_equal(snapshot_reader_open(AT_FDCWD, path, "golden", &g->reader, NULL), 0);
	assert_int_equal(ftruncate(g->memfd, GOLDEN_TEMPLATE_PAGES * PAGE_BYTES), 0);
	assert_int_equal(guest_mem_init_kernel(&g->mem, RAM_BYTES), 0);
	ret = file_pager_start(&g->pager, g->reader, g->memfd, g->mem.ram);
	if (!ret)
		ret = guest_mem_map_template(&g->mem, g->memfd, GOLDEN_TEMPLATE_PAGES,
					     g->pager.uffd);
	if (ret)
		print_message("no userfaultfd for the kernel's faults on this host: %s\n",
			      strerror(-ret));
	close(g->memfd); /* it lives on in the mapping and in the pager */
	return !ret;
}

static void rig_close(struct rig *g)
{
	guest_mem_free(&g->mem);
	file_pager_stop(&g->pager);
	snapshot_reader_free(g->reader);
	close(g->file);
}

static void expect_page(const struct rig *g, uint32_t page)
{
	static const uint32_t stored[] = {0, 1, 2, 3, 4, 5, 6, 9, 10, 20, 40, 42, 43, 63};
	uint8_t want[PAGE_BYTES] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(stored); i++)
		if (stored[i] == page)
			golden_page(page, want);
	assert_memory_equal((uint8_t *)g->mem.ram + (size_t)page * PAGE_BYTES, want, PAGE_BYTES);
}

static void test_every_page(void **state)
{
	struct rig g;

	(void)state;
	if (!rig_open(&g))
		skip();
	/* Downwards, and all of them twice: those that came along with others, too. */
	for (uint32_t page = GOLDEN_RAM_PAGES; page--;)
		expect_page(&g, page);
	for (uint32_t page = 0; page < GOLDEN_RAM_PAGES; page++)
		expect_page(&g, page);
	rig_close(&g);
}

/* What was written stays, whatever comes in around it; so does what the kernel touches. */
static void test_writes(void **state)
{
	struct rig g;
	uint8_t *ram;
	int ends[2];

	(void)state;
	if (!rig_open(&g))
		skip();
	ram = g.mem.ram;
	ram[3 * PAGE_BYTES + 7] = 0xee;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "\x11\x22", 2), 2);
	assert_int_equal(read(ends[0], ram + 30 * PAGE_BYTES, 2), 2);
	expect_page(&g, 4);
	expect_page(&g, 31);
	assert_int_equal(ram[3 * PAGE_BYTES + 7], 0xee);
	assert_int_equal(ram[30 * PAGE_BYTES + 1], 0x22);
	assert_int_equal(ram[30 * PAGE_BYTES + 2], 0);
	close(ends[0]);
	close(ends[1]);
	rig_close(&g);
}

static void *touch(void *arg)
{
	const struct rig *g = arg;

	for (uint32_t page = 0; page < GOLDEN_TEMPLATE_PAGES; page++)
		expect_page(g, page);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	struct rig g;

	(void)state;
	for (int round = 0; round < 20; round++) {
		if (!rig_open(&g))
			skip();
		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			assert_int_equal(pthread_create(&threads[i], NULL, touch, &g), 0);
		for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
			pthread_join(threads[i], NULL);
		rig_close(&g);
	}
}

/* The process ends, for there is nothing that could be given to who waits. */
static void test_damaged_chunk(void **state)
{
	struct rig g;
	int status;
	pid_t pid;

	(void)state;
	if (!rig_open(&g))
		skip();
	rig_close(&g);
	pid = fork();
	if (!pid) {
		const struct snapshot_chunk *c;

		if (!rig_open(&g))
			_exit(2);
		c = snapshot_reader_chunk(g.reader, snapshot_reader_page_chunk(g.reader, 20));
		if (pwrite(g.file, "damage", 6, (off_t)c->offset) != 6)
			_exit(3);
		_exit(((volatile uint8_t *)g.mem.ram)[20 * PAGE_BYTES] ? 4 : 5);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page),
		cmocka_unit_test(test_writes),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_damaged_chunk),
	};

	log_init("test_file_pager", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
