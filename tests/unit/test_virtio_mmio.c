/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_mmio.c - registers, negotiation and rings of a virtio device: as Linux uses them, and
 * as an enemy does; the device is the one for entropy
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_rng.h"

#define BASIC	 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define EVENTS	 (BASIC | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX))
#define INDIRECT (BASIC | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))
enum { QUEUE = 0, BUFFER_BYTES = 64 };

static struct virtio_device *new_rng(struct driver *v)
{
	struct virtio_wiring w = driver_wiring(v);
	struct virtio_device *d = NULL;

	assert_int_equal(virtio_rng_new(&w, &d), 0);
	return d;
}

static int setup(void **state)
{
	struct driver *v = malloc(sizeof(*v));

	driver_init(v);
	v->d = new_rng(v);
	*state = v;
	return 0;
}

static int teardown(void **state)
{
	driver_free(*state);
	free(*state);
	return 0;
}

static struct vring_desc buffer(struct driver *v, uint32_t n)
{
	return (struct vring_desc){.addr = driver_alloc(v, n, 1), .len = n};
}

static void test_identity(void **state)
{
	struct driver *v = *state;
	uint64_t eight = 1;
	uint8_t one = 1;

	assert_int_equal(driver_read32(v, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(driver_features(v), EVENTS | INDIRECT);
	driver_write32(v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	/* Registers are 32 bits wide and aligned; anything else is nothing. */
	virtio_mmio_read(v->d, VIRTIO_MMIO_MAGIC_VALUE, &one, sizeof(one));
	assert_int_equal(one, 0);
	virtio_mmio_read(v->d, VIRTIO_MMIO_MAGIC_VALUE, &eight, sizeof(eight));
	assert_int_equal(eight, 0);
	virtio_mmio_read(v->d, VIRTIO_MMIO_CONFIG, &eight, sizeof(eight));
	assert_int_equal(eight, 0);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_BYTES - 4), 0);
}

static void test_negotiation(void **state)
{
	struct driver *v = *state;

	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATING);
	/* Without VERSION_1, or with what was not offered, there is no agreement. */
	driver_take_features(v, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATED);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_NEGOTIATING);
	driver_take_features(v, BASIC | VIRTIO_FEATURE(VIRTIO_F_RING_PACKED));
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATED);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_NEGOTIATING);
	/* Nor is there a driver that is ready. */
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_RUNNING);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_NEGOTIATING);
	driver_take_features(v, BASIC);
	driver_write32(v, VIRTIO_MMIO_STATUS, DRIVER_NEGOTIATED);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_NEGOTIATED);
	/* Then features stay, and bits are not taken back. */
	driver_take_features(v, 0);
	assert_int_equal(v->d->driver_features, BASIC);
	driver_write32(v, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_NEGOTIATED);
	driver_write32(v, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(v->d->driver_features, 0);
}

static void test_queue_registers(void **state)
{
	struct driver *v = *state;

	/* Before the features are agreed upon no queue can be set up. */
	driver_write32(v, VIRTIO_MMIO_QUEUE_SEL, 0);
	driver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_QUEUE_READY), 0);
	driver_negotiate(v, BASIC);
	for (uint32_t i = 1; i < 10; i++) {
		driver_write32(v, VIRTIO_MMIO_QUEUE_SEL, i);
		assert_int_equal(driver_read32(v, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
		driver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(driver_read32(v, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	driver_setup_queue(v, QUEUE);
	/* A queue that is ready is not moved. */
	driver_set64(v, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
	assert_int_equal(v->d->queues[QUEUE].desc_gpa, v->q[QUEUE].desc);
	driver_write32(v, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void set_queue(struct driver *v, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	driver_negotiate(v, BASIC);
	driver_write32(v, VIRTIO_MMIO_QUEUE_SEL, QUEUE);
	driver_write32(v, VIRTIO_MMIO_QUEUE_NUM, size);
	driver_set64(v, VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
	driver_set64(v, VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail);
	driver_set64(v, VIRTIO_MMIO_QUEUE_USED_LOW, used);
	driver_write32(v, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void test_queues_that_are_none(void **state)
{
	struct driver *v = *state;
	const uint64_t at = DRIVER_BASE, end = DRIVER_BASE + DRIVER_RAM_BYTES;
	const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{0, at, at, at},
		{3, at, at, at},
		{65536 + 16, at, at, at},
		{1u << 31, at, at, at},
		{64, at + 8, at, at},
		{64, at, at + 1, at},
		{64, at, at, at + 2},
		{64, end - 16 * 64 + 16, at, at},
		{64, at, end - (6 + 2 * 64) + 2, at},
		{64, at, at, end - 512},
		{64, UINT64_MAX - 15, at, at},
		{64, at, UINT64_MAX - 1, at},
		{64, at, at, 0x8000000000000000},
	};

	set_queue(v, 64, end - 16 * 64, end - (6 + 2 * 64), end - 520);
	assert_false(driver_needs_reset(v));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set_queue(v, bad[i].size, bad[i].desc, bad[i].avail, bad[i].used);
		assert_true(driver_needs_reset(v));
		assert_int_equal(driver_read32(v, VIRTIO_MMIO_QUEUE_READY), 0);
	}
}

static bool is_filled(struct driver *v, const struct vring_desc *d)
{
	return !mem_is_zero(driver_ptr(v, d->addr, d->len), d->len);
}

static void test_buffers_come_back(void **state)
{
	struct driver *v = *state;
	struct driver_used used;

	driver_start(v, BASIC);
	/* More than once around the ring, in chains of two. */
	for (unsigned i = 0; i < 200; i++) {
		struct vring_desc segs[] = {buffer(v, BUFFER_BYTES), buffer(v, BUFFER_BYTES)};
		uint16_t head = driver_add(v, QUEUE, segs, 2, 0);

		assert_false(driver_take(v, QUEUE, &used));
		driver_kick(v, QUEUE);
		assert_true(driver_take(v, QUEUE, &used));
		assert_int_equal(used.id, head);
		assert_int_equal(used.bytes, 2 * BUFFER_BYTES);
		assert_true(is_filled(v, &segs[0]) && is_filled(v, &segs[1]));
		assert_int_equal(driver_interrupts(v), 1);
	}
	driver_avail(v, QUEUE)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	driver_add(v, QUEUE, &(struct vring_desc){.addr = DRIVER_BASE, .len = 1}, 1, 0);
	driver_kick(v, QUEUE);
	assert_true(driver_take(v, QUEUE, &used));
	assert_int_equal(driver_interrupts(v), 0);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static void test_event_index(void **state)
{
	struct driver *v = *state;
	struct vring_desc d = buffer(v, 16);
	__virtio16 *used_event;

	driver_start(v, EVENTS);
	used_event = &driver_avail(v, QUEUE)->ring[v->q[QUEUE].size];
	*used_event = 2; /* tell me of the third */
	for (unsigned i = 0; i < 5; i++) {
		driver_add(v, QUEUE, &d, 1, 0);
		driver_kick(v, QUEUE);
		assert_int_equal(driver_interrupts(v), i == 2);
		/* And the device asks to be told of the next. */
		assert_int_equal(*(__virtio16 *)driver_ptr(
					 v, v->q[QUEUE].used + 4 + 8ull * v->q[QUEUE].size, 2),
				 i + 1);
	}
	/* One interrupt covers a batch that contains it. */
	*used_event = 6;
	for (unsigned i = 0; i < 4; i++)
		driver_add(v, QUEUE, &d, 1, 0);
	driver_kick(v, QUEUE);
	assert_int_equal(driver_interrupts(v), 1);
	driver_kick(v, QUEUE);
	assert_int_equal(driver_interrupts(v), 0);
}

/* Indices are 16 bits wide, and go on from there. */
static void test_indices_wrap(void **state)
{
	struct driver *v = *state;
	struct vring_desc d = buffer(v, 1);
	struct driver_used used;

	driver_start(v, EVENTS);
	for (unsigned i = 0; i < 70000; i++) {
		driver_avail(v, QUEUE)->ring[v->q[QUEUE].size] = (__virtio16)i;
		driver_add(v, QUEUE, &d, 1, 0);
		driver_kick(v, QUEUE);
		assert_true(driver_take(v, QUEUE, &used));
		assert_int_equal(driver_interrupts(v), 1);
	}
	assert_false(driver_needs_reset(v));
}

static void test_indirect(void **state)
{
	struct driver *v = *state;
	struct vring_desc segs[VIRTQ_SEGMENTS_MAX];
	struct driver_used used;

	driver_start(v, INDIRECT);
	for (unsigned i = 0; i < VIRTQ_SEGMENTS_MAX; i++)
		segs[i] = buffer(v, 8);
	driver_add_indirect(v, QUEUE, segs, VIRTQ_SEGMENTS_MAX, 0);
	driver_kick(v, QUEUE);
	assert_true(driver_take(v, QUEUE, &used));
	assert_int_equal(used.bytes, 8 * VIRTQ_SEGMENTS_MAX);
	assert_true(is_filled(v, &segs[VIRTQ_SEGMENTS_MAX - 1]));
}

/** struct enemy - a chain that makes no sense. @desc: the queue's table from its start; @table: the
 * indirect one. */
struct enemy {
	const char *what;
	struct vring_desc desc[2];
	struct vring_desc table[2];
};

/* 0 in an address stands for the heap, -1 for the indirect table. */
#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define IN_TABLE VRING_DESC_F_INDIRECT
#define TABLE_AT UINT64_MAX
#define NOWHERE	 0x20000000
static const struct enemy enemies[] = {
	{"a loop", {{0, 8, NEXT | WRITE, 1}, {0, 8, NEXT | WRITE, 0}}, {}},
	{"a descriptor that is its own successor", {{0, 8, NEXT | WRITE, 0}}, {}},
	{"an index behind the table", {{0, 8, NEXT | WRITE, 64}}, {}},
	{"an address outside of memory", {{NOWHERE, 8, WRITE, 0}}, {}},
	{"an address at the end of the world", {{UINT64_MAX - 4, 8, WRITE, 0}}, {}},
	{"a length beyond memory", {{0, UINT32_MAX, WRITE, 0}}, {}},
	{"reading after writing", {{0, 8, NEXT | WRITE, 1}, {0, 8, 0, 0}}, {}},
	{"nothing to write into", {{0, 8, 0, 0}}, {}},
	{"nothing at all", {{0, 0, WRITE, 0}}, {}},
	{"a table outside of memory", {{NOWHERE, 16, IN_TABLE, 0}}, {}},
	{"an empty table", {{TABLE_AT, 0, IN_TABLE, 0}}, {}},
	{"a table of one descriptor and a half", {{TABLE_AT, 24, IN_TABLE, 0}}, {{0, 8, WRITE, 0}}},
	{"a table that is not the last", {{TABLE_AT, 16, IN_TABLE | NEXT, 0}}, {{0, 8, WRITE, 0}}},
	{"a table in a table", {{TABLE_AT, 16, IN_TABLE, 0}}, {{TABLE_AT, 16, IN_TABLE, 0}}},
	{"a loop in a table", {{TABLE_AT, 16, IN_TABLE, 0}}, {{0, 8, NEXT | WRITE, 0}}},
	{"an index behind a table", {{TABLE_AT, 16, IN_TABLE, 0}}, {{0, 8, NEXT | WRITE, 1}}},
	{"a table of 4 GiB", {{TABLE_AT, 0xfffffff0, IN_TABLE, 0}}, {{0, 8, WRITE, 0}}},
};

static void place(struct driver *v, struct vring_desc *to, const struct vring_desc *from)
{
	*to = *from;
	if (!from->addr)
		to->addr = v->heap;
	else if (from->addr == TABLE_AT)
		to->addr = v->q[QUEUE].indirect;
}

static void test_hostile_chains(void **state)
{
	struct driver *v = *state;
	struct driver_used used;

	for (size_t i = 0; i < ARRAY_SIZE(enemies); i++) {
		const struct enemy *e = &enemies[i];
		struct vring_desc *table;

		v->heap = DRIVER_BASE;
		driver_start(v, INDIRECT);
		table = driver_ptr(v, v->q[QUEUE].indirect, 32);
		for (unsigned k = 0; k < 2; k++) {
			place(v, driver_desc(v, QUEUE, k), &e->desc[k]);
			place(v, &table[k], &e->table[k]);
		}
		driver_offer(v, QUEUE, 0);
		driver_kick(v, QUEUE);
		if (!driver_needs_reset(v))
			fail_msg("%s: accepted", e->what);
		/* The driver hears of it, and nothing comes back until it resets the device. */
		assert_int_equal(driver_interrupts(v), 1);
		driver_kick(v, QUEUE);
		driver_wait_event(v, 0);
		assert_false(driver_take(v, QUEUE, &used));
	}
	/* After a reset it works as before. */
	v->heap = DRIVER_BASE;
	driver_start(v, BASIC);
	driver_add(v, QUEUE, &(struct vring_desc){.addr = v->heap, .len = 8}, 1, 0);
	driver_kick(v, QUEUE);
	assert_true(driver_take(v, QUEUE, &used));
}

static void test_hostile_indices(void **state)
{
	struct driver *v = *state;

	driver_start(v, BASIC);
	driver_avail(v, QUEUE)->idx = (__virtio16)(v->q[QUEUE].size + 1);
	driver_kick(v, QUEUE);
	assert_true(driver_needs_reset(v));
	driver_start(v, BASIC);
	driver_offer(v, QUEUE, v->q[QUEUE].size);
	driver_kick(v, QUEUE);
	assert_true(driver_needs_reset(v));
	/* Indirect descriptors that were not negotiated. */
	driver_start(v, BASIC);
	driver_add_indirect(v, QUEUE, &(struct vring_desc){.addr = DRIVER_BASE, .len = 8}, 1, 0);
	driver_kick(v, QUEUE);
	assert_true(driver_needs_reset(v));
	/* A notification of a queue that does not exist. */
	driver_start(v, BASIC);
	driver_kick(v, 1);
	driver_kick(v, UINT32_MAX);
	assert_false(driver_needs_reset(v));
}

/* A guest with a second CPU could fill the ring as fast as it is emptied: others get a turn. */
static void test_turns_end(void **state)
{
	struct driver *v = *state;
	struct vring_desc d = buffer(v, 4096);
	unsigned count = 0;
	struct driver_used used;

	driver_start(v, BASIC);
	for (unsigned i = 0; i < v->q[QUEUE].size; i++)
		driver_add(v, QUEUE, &d, 1, 0);
	driver_kick(v, QUEUE);
	while (driver_take(v, QUEUE, &used))
		count++;
	assert_in_range(count, 1, v->q[QUEUE].size - 1);
	for (unsigned i = count; i < v->q[QUEUE].size; i++)
		driver_wait(v, QUEUE);
	driver_wait_event(v, 0);
	assert_false(driver_wait_event(v, 0));
}

static void test_saved_and_loaded(void **state)
{
	struct driver *v = *state;
	struct vring_desc d = buffer(v, 16);
	struct state_writer w;
	struct driver_used used;

	driver_start(v, EVENTS | INDIRECT);
	driver_add(v, QUEUE, &d, 1, 0);
	driver_kick(v, QUEUE);
	assert_true(driver_take(v, QUEUE, &used));
	/* This one's notification is lost: it was in an eventfd at the capture. */
	driver_add(v, QUEUE, &d, 1, 0);
	w = driver_saved(v);
	assert_int_equal(driver_replace(v, new_rng(v), &w), 0);
	assert_int_equal(driver_read32(v, VIRTIO_MMIO_STATUS), DRIVER_RUNNING);
	assert_int_equal(driver_wait(v, QUEUE).bytes, 16);
	driver_interrupts(v);
	driver_avail(v, QUEUE)->ring[v->q[QUEUE].size] = 2;
	driver_add(v, QUEUE, &d, 1, 0);
	driver_kick(v, QUEUE);
	assert_int_equal(driver_interrupts(v), 1);
	state_writer_free(&w);
}

/* Each byte of a state changed, each length cut: refused, or a state that a guest could make. */
static void test_hostile_state(void **state)
{
	struct driver *v = *state;
	struct state_writer w, bad;

	driver_start(v, EVENTS | INDIRECT);
	w = driver_saved(v);
	for (size_t cut = 0; cut < w.used; cut++) {
		bad = (struct state_writer){.data = w.data, .used = cut};
		assert_int_equal(driver_replace(v, new_rng(v), &bad), -EBADMSG);
	}
	for (size_t at = 0; at < w.used; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			w.data[at] ^= (uint8_t)(1u << bit);
			if (!driver_replace(v, new_rng(v), &w)) {
				driver_kick(v, QUEUE);
				driver_wait_event(v, 0);
			}
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	/* Features that the driver took and this device has not. */
	v->d->driver_features = BASIC | VIRTIO_FEATURE(VIRTIO_F_RING_PACKED);
	v->d->status = DRIVER_RUNNING;
	bad = driver_saved(v);
	assert_int_equal(driver_replace(v, new_rng(v), &bad), -ENOTSUP);
	state_writer_free(&bad);
	state_writer_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_negotiation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queues_that_are_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_buffers_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_index, setup, teardown),
		cmocka_unit_test_setup_teardown(test_indices_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_indices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_turns_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved_and_loaded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_state, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
