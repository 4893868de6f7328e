/* SPDX-License-Identifier: Apache-2.0 */
/* test_virtio_balloon.c - pages that the guest gives up are the host's, and only those */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <linux/virtio_balloon.h>

#include "common/log.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_balloon.h"

enum { INFLATE, DEFLATE, REPORTING_LINUX, REPORTING_SPEC = 4, AREA_PAGES = 64 };

/** struct rig - a driver, and an area of memory that is full of something. */
struct rig {
	struct driver v;
	uint64_t area, list;
};

static struct rig rig;

static struct virtio_device *new_balloon(struct rig *g)
{
	struct virtio_wiring w = driver_wiring(&g->v);
	struct virtio_device *d = NULL;

	assert_int_equal(virtio_balloon_new(&w, &d), 0);
	return d;
}

static void fill_area(struct rig *g)
{
	memset(driver_ptr(&g->v, g->area, AREA_PAGES * PAGE_BYTES), 0xaa, AREA_PAGES * PAGE_BYTES);
}

static int setup(void **state)
{
	memset(&rig, 0, sizeof(rig));
	driver_init(&rig.v);
	rig.v.d = new_balloon(&rig);
	driver_start(&rig.v, ~0ull);
	rig.area = driver_alloc(&rig.v, AREA_PAGES * PAGE_BYTES, PAGE_BYTES);
	rig.list = driver_alloc(&rig.v, 128 << 10, 4);
	fill_area(&rig);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	driver_free(&((struct rig *)*state)->v);
	return 0;
}

/** Bit n: page n of the area's first 32 has memory of its own. */
static uint32_t resident(struct rig *g)
{
	unsigned char pages[32];
	uint32_t ret = 0;

	assert_int_equal(mincore(driver_ptr(&g->v, g->area, sizeof(pages) * PAGE_BYTES),
				 sizeof(pages) * PAGE_BYTES, pages),
			 0);
	for (unsigned i = 0; i < 32; i++)
		ret |= (uint32_t)(pages[i] & 1) << i;
	return ret;
}

static void send_pfns(struct rig *g, unsigned queue, const uint32_t *pfns, uint32_t count)
{
	struct driver_used used;
	uint32_t n = count * (uint32_t)sizeof(*pfns);

	memcpy(driver_ptr(&g->v, g->list, n), pfns, n);
	driver_add(&g->v, queue,
		   (struct vring_desc[]){{.addr = g->list, .len = 6},
					 {.addr = g->list + 6, .len = n - 6}},
		   2, 2);
	driver_kick(&g->v, queue);
	assert_true(driver_take(&g->v, queue, &used));
}

static void test_inflate_and_deflate(void **state)
{
	struct rig *g = *state;
	uint32_t first = (uint32_t)(g->area / PAGE_BYTES);
	/* Upwards, downwards, alone, twice, and outside of memory. */
	const uint32_t pfns[] = {first,	    first + 1,	first + 2,  first + 9, first + 8,
				 first + 7, first + 20, first + 20, 0x20000,   UINT32_MAX};

	assert_int_equal(resident(g), 0xffffffff);
	send_pfns(g, INFLATE, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(resident(g), ~(0x7u | 0x380u | 1u << 20));
	assert_true(mem_is_zero(driver_ptr(&g->v, g->area, 3 * PAGE_BYTES), 3 * PAGE_BYTES));
	assert_int_equal(*(uint8_t *)driver_ptr(&g->v, g->area + 3 * PAGE_BYTES, 1), 0xaa);
	/* Taken back: the guest writes, and has a page. */
	send_pfns(g, DEFLATE, pfns, 2);
	memset(driver_ptr(&g->v, g->area, PAGE_BYTES), 1, PAGE_BYTES);
	assert_int_equal(*(uint8_t *)driver_ptr(&g->v, g->area + PAGE_BYTES - 1, 1), 1);
	assert_false(driver_needs_reset(&g->v));
}

static void test_free_pages_are_reported(void **state)
{
	static const unsigned queues[] = {REPORTING_LINUX, REPORTING_SPEC};
	struct rig *g = *state;
	struct driver_used used;

	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		fill_area(g);
		/* Only whole pages, even if somebody reports parts. */
		driver_add(&g->v, queues[i],
			   (struct vring_desc[]){
				   {.addr = g->area + 4 * PAGE_BYTES, .len = 4 * PAGE_BYTES},
				   {.addr = g->area + 10 * PAGE_BYTES + 1, .len = 2 * PAGE_BYTES},
				   {.addr = g->area + 20 * PAGE_BYTES, .len = PAGE_BYTES - 1}},
			   3, 0);
		driver_kick(&g->v, queues[i]);
		assert_true(driver_take(&g->v, queues[i], &used));
		assert_int_equal(resident(g), ~(0xf0u | 1u << 11));
	}
}

/* Only one number of its configuration is the guest's to write, and goes with it. */
static void test_config(void **state)
{
	struct rig *g = *state;
	struct virtio_balloon_config config;
	struct state_writer w;

	driver_write32(&g->v, VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, actual),
		       77);
	driver_write32(&g->v,
		       VIRTIO_MMIO_CONFIG + offsetof(struct virtio_balloon_config, num_pages), 1);
	w = driver_saved(&g->v);
	assert_int_equal(driver_replace(&g->v, new_balloon(g), &w), 0);
	driver_config(&g->v, 0, &config, sizeof(config));
	assert_int_equal(config.num_pages, 0);
	assert_int_equal(config.actual, 77);
	state_writer_free(&w);
}

static void test_too_long_a_list(void **state)
{
	struct rig *g = *state;

	driver_add(&g->v, INFLATE,
		   (struct vring_desc[]){{.addr = DRIVER_BASE, .len = DRIVER_RAM_BYTES},
					 {.addr = DRIVER_BASE, .len = DRIVER_RAM_BYTES}},
		   2, 2);
	driver_kick(&g->v, INFLATE);
	assert_true(driver_needs_reset(&g->v));
	assert_int_equal(resident(g), 0xffffffff);
}

/** What came back by now, and all that comes of @count chains in the end. Return: the first. */
static unsigned turn(struct rig *g, unsigned queue, unsigned count)
{
	struct driver_used used;
	unsigned now = 0;

	while (driver_take(&g->v, queue, &used))
		now++;
	for (unsigned i = now; i < count; i++)
		driver_wait(&g->v, queue);
	return now;
}

/* A list may be the same page again and again, and so may a report: others have their turn. */
static void test_turns_are_short(void **state)
{
	enum { CHAINS = 16, LIST_BYTES = 64 << 10, PARTS = 120, LARGE_BYTES = 4 << 20 };
	struct rig *g = *state;
	uint32_t *pfns = driver_ptr(&g->v, g->list, LIST_BYTES);
	uint64_t large = driver_alloc(&g->v, LARGE_BYTES, PAGE_BYTES);
	struct vring_desc parts[PARTS];

	for (unsigned i = 0; i < LIST_BYTES / sizeof(*pfns); i++)
		pfns[i] = (uint32_t)(g->area / PAGE_BYTES + i % 2 * 2);
	for (unsigned i = 0; i < CHAINS; i++)
		driver_add(&g->v, INFLATE, &(struct vring_desc){.addr = g->list, .len = LIST_BYTES},
			   1, 1);
	driver_kick(&g->v, INFLATE);
	assert_in_range(turn(g, INFLATE, CHAINS), 1, 2);
	assert_int_equal(resident(g), ~5u);
	/* Of a report without measure the end is left as it is. */
	fill_area(g);
	for (unsigned i = 0; i < PARTS; i++)
		parts[i] = (struct vring_desc){.addr = large, .len = LARGE_BYTES};
	parts[0] = (struct vring_desc){.addr = g->area, .len = PAGE_BYTES};
	parts[PARTS - 1] = (struct vring_desc){.addr = g->area + PAGE_BYTES, .len = PAGE_BYTES};
	driver_add(&g->v, REPORTING_LINUX, parts, PARTS, 0);
	driver_offer(&g->v, REPORTING_LINUX, 0);
	driver_kick(&g->v, REPORTING_LINUX);
	assert_int_equal(turn(g, REPORTING_LINUX, 2), 1);
	assert_int_equal(resident(g), ~1u);
	assert_false(driver_needs_reset(&g->v));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inflate_and_deflate), TEST(test_free_pages_are_reported),
		TEST(test_turns_are_short),	TEST(test_config),
		TEST(test_too_long_a_list),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
