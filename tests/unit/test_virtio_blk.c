/* SPDX-License-Identifier: Apache-2.0 */
/* test_virtio_blk.c - disks: requests, also of hostile guests; each by io_uring and without it */
#include "tests/unit/blk_fixture.h"

/* ---- what a disk does ---- */

static void test_raw(void **state)
{
	struct virtio_blk_config config;
	struct rig g;
	int base = base_file(DISK_BYTES);
	uint8_t block[SECTOR];

	(void)state;
	rig_open(&g, dup(base), false, -1);
	driver_config(&g.v, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, SECTORS);
	expect_bytes(&g, 7, SECTOR, base_value(7));
	write_bytes(&g, 8, 3 * SECTOR, 0xaa);
	expect_bytes(&g, 8, 3 * SECTOR, 0xaa);
	expect_bytes(&g, 11, SECTOR, base_value(11));
	assert_int_equal(request(&g, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread_full(base, block, sizeof(block), 10 * SECTOR), SECTOR);
	assert_int_equal(block[0], 0xaa);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 8, 8, 0), VIRTIO_BLK_S_OK);
	expect_bytes(&g, 8, 8 * SECTOR, 0);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 17, 2, 0), VIRTIO_BLK_S_OK);
	expect_bytes(&g, 17, 2 * SECTOR, 0);
	expect_bytes(&g, 19, SECTOR, base_value(19));
	assert_int_equal(request(&g, VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES), VIRTIO_BLK_S_OK);
	assert_string_equal(data_of(&g), "quickthaw");
	/* The largest request and the last sector. */
	write_bytes(&g, SECTORS - DATA_BYTES_MAX / SECTOR, DATA_BYTES_MAX, 0x55);
	expect_bytes(&g, SECTORS - 1, SECTOR, 0x55);
	rig_close(&g);
	close(base);
}

/* Where a driver cuts its buffers is its own business (2.7.4). */
static void test_any_layout(void **state)
{
	struct rig g;
	struct virtio_blk_outhdr *h;
	struct driver_used used;
	uint8_t *data;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, -1);
	h = driver_ptr(&g.v, g.request, sizeof(*h));
	*h = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 2};
	/* The header in three parts, the data in two, the second with the status at its end. */
	driver_add(&g.v, QUEUE,
		   (struct vring_desc[]){{.addr = g.request, .len = 5},
					 {.addr = g.request + 5, .len = 1},
					 {.addr = g.request + 6, .len = 10},
					 {.addr = g.data, .len = 700},
					 {.addr = g.data + 700, .len = 2 * SECTOR - 700 + 1}},
		   5, 3);
	driver_kick(&g.v, QUEUE);
	used = driver_wait(&g.v, QUEUE);
	data = data_of(&g);
	assert_int_equal(used.bytes, 2 * SECTOR + 1);
	assert_int_equal(data[0], base_value(2));
	assert_int_equal(data[2 * SECTOR - 1], base_value(3));
	assert_int_equal(data[2 * SECTOR], VIRTIO_BLK_S_OK);
	/* And a write with the header and the data in one. */
	h->type = VIRTIO_BLK_T_OUT;
	assert_int_equal(g.data, g.request + sizeof(*h));
	memset(data, 0x77, SECTOR);
	driver_add(&g.v, QUEUE,
		   (struct vring_desc[]){{.addr = g.request, .len = sizeof(*h) + SECTOR},
					 {.addr = g.status, .len = 1}},
		   2, 1);
	driver_kick(&g.v, QUEUE);
	driver_wait(&g.v, QUEUE);
	expect_bytes(&g, 2, SECTOR, 0x77);
	rig_close(&g);
}

static void test_requests_that_are_refused(void **state)
{
	struct rig g;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, -1);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, SECTORS, SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, SECTORS - 1, 2 * SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, UINT64_MAX, SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, UINT64_MAX / SECTOR + 1, SECTOR),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, 0, SECTOR - 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_SCSI_CMD, 0, SECTOR), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&g, VIRTIO_BLK_T_SECURE_ERASE, 0, 16), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 1, UINT32_MAX, 0),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, 15), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_DISCARD, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1600), VIRTIO_BLK_S_IOERR);
	assert_false(driver_needs_reset(&g.v));
	expect_bytes(&g, 0, SECTOR, base_value(0));
	rig_close(&g);

	rig_open(&g, base_file(DISK_BYTES), true, -1);
	assert_true(driver_features(&g.v) & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, 0, SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	expect_bytes(&g, 0, SECTOR, base_value(0));
	rig_close(&g);
}

/* No status can be written: the device needs a reset, and works after it. */
static void test_requests_that_are_none(void **state)
{
	struct rig g;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, -1);
	for (unsigned i = 0; i < 3; i++) {
		const struct vring_desc segs[] = {{.addr = g.request, .len = i == 1 ? 15 : 16},
						  {.addr = g.status, .len = 1}};

		driver_add(&g.v, QUEUE, segs, i == 0 ? 1 : 2, i == 2 ? 0 : i == 0 ? 1 : 1);
		driver_kick(&g.v, QUEUE);
		assert_true(driver_needs_reset(&g.v));
		driver_start(&g.v, ALL_FEATURES);
		expect_bytes(&g, 1, SECTOR, base_value(1));
	}
	rig_close(&g);
}

/* More at once than there are slots. */
static void test_many_at_once(void **state)
{
	struct rig g;
	struct virtio_blk_outhdr *h;
	enum { MANY = 85 };

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, -1);
	h = driver_ptr(&g.v, g.request, sizeof(*h));
	*h = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	for (unsigned i = 0; i < MANY; i++)
		driver_add(&g.v, QUEUE,
			   (struct vring_desc[]){{.addr = g.request, .len = sizeof(*h)},
						 {.addr = g.data + i * SECTOR, .len = SECTOR},
						 {.addr = g.status, .len = 1}},
			   3, 1);
	driver_kick(&g.v, QUEUE);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(driver_wait(&g.v, QUEUE).bytes, SECTOR + 1);
	assert_int_equal(((uint8_t *)data_of(&g))[(MANY - 1) * SECTOR], base_value(0));
	rig_close(&g);
}

static int sparse_file(uint64_t bytes)
{
	int fd = memfd_create("sparse", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/** Make a request for @parts times the same 64 KiB available, without a notification. */
static void add_large(struct rig *g, unsigned parts, uint32_t last_bytes)
{
	struct vring_desc segs[VIRTQ_SEGMENTS_MAX] = {
		{.addr = g->request, .len = sizeof(struct virtio_blk_outhdr)}};

	for (unsigned i = 1; i <= parts; i++)
		segs[i] = (struct vring_desc){.addr = g->data, .len = 64 << 10};
	segs[parts].len = last_bytes;
	segs[parts + 1] = (struct vring_desc){.addr = g->status, .len = 1};
	driver_add(&g->v, QUEUE, segs, parts + 2, 1);
}

/* Segments may be the same memory over and over, so memory is no limit for a request. */
static void test_largest_request(void **state)
{
	enum { PARTS = 64, PART_BYTES = 64 << 10 };
	const uint8_t *status;
	struct virtio_blk_config config;
	struct rig g;

	(void)state;
	rig_open(&g, sparse_file(16 << 20), false, -1);
	status = driver_ptr(&g.v, g.status, 1);
	driver_config(&g.v, 0, &config, sizeof(config));
	assert_true(config.size_max >= PAGE_BYTES);
	assert_true(config.seg_max * config.size_max <= PARTS * PART_BYTES);
	*(struct virtio_blk_outhdr *)driver_ptr(&g.v, g.request, sizeof(struct virtio_blk_outhdr)) =
		(struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	add_large(&g, PARTS, PART_BYTES);
	driver_kick(&g.v, QUEUE);
	assert_int_equal(driver_wait(&g.v, QUEUE).bytes, PARTS * PART_BYTES + 1);
	assert_int_equal(*status, VIRTIO_BLK_S_OK);
	add_large(&g, PARTS + 1, SECTOR);
	driver_kick(&g.v, QUEUE);
	assert_int_equal(driver_wait(&g.v, QUEUE).bytes, 1);
	assert_int_equal(*status, VIRTIO_BLK_S_IOERR);
	assert_false(driver_needs_reset(&g.v));
	rig_close(&g);
}

/* However much a guest asks for at once, others have their turn in between. */
static void test_turns_are_short(void **state)
{
	enum { MANY = 14, PARTS = 16, PART_BYTES = 64 << 10, TURN_REQUESTS = 8 };
	struct driver_used used;
	struct rig g;
	unsigned count = 0;

	(void)state;
	rig_open(&g, sparse_file(16 << 20), false, -1);
	*(struct virtio_blk_outhdr *)driver_ptr(&g.v, g.request, sizeof(struct virtio_blk_outhdr)) =
		(struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	for (unsigned i = 0; i < MANY; i++)
		add_large(&g, PARTS, PART_BYTES);
	done_at_once = true;
	driver_kick(&g.v, QUEUE);
	done_at_once = false;
	while (driver_take(&g.v, QUEUE, &used))
		count++;
	assert_in_range(count, 1, TURN_REQUESTS);
	for (; count < MANY; count++)
		assert_int_equal(driver_wait(&g.v, QUEUE).bytes, PARTS * PART_BYTES + 1);
	rig_close(&g);
}

/* Zeros are written while nobody else has his turn. */
static void test_zeros_are_limited(void **state)
{
	struct virtio_blk_config config;
	struct virtio_blk_discard_write_zeroes *range;
	struct rig g;
	enum { CHAIN_BYTES_MAX = 32 << 20 };

	(void)state;
	rig_open(&g, sparse_file(512 << 20), false, -1);
	driver_config(&g.v, 0, &config, sizeof(config));
	assert_true((uint64_t)config.max_write_zeroes_seg * config.max_write_zeroes_sectors *
			    SECTOR <=
		    CHAIN_BYTES_MAX);
	assert_true((uint64_t)config.max_discard_seg * config.max_discard_sectors * SECTOR <=
		    CHAIN_BYTES_MAX);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 0, config.max_discard_sectors, 0),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(
		zero_request(&g, VIRTIO_BLK_T_DISCARD, 0, config.max_discard_sectors + 1, 0),
		VIRTIO_BLK_S_IOERR);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0,
				      config.max_write_zeroes_sectors + 1, 0),
			 VIRTIO_BLK_S_IOERR);
	/* As many ranges as may be, and one more. */
	range = data_of(&g);
	for (unsigned i = 0; i <= config.max_write_zeroes_seg; i++)
		range[i] = (struct virtio_blk_discard_write_zeroes){
			.num_sectors = config.max_write_zeroes_sectors};
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0,
				 config.max_write_zeroes_seg * (uint32_t)sizeof(*range)),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(request(&g, VIRTIO_BLK_T_WRITE_ZEROES, 0,
				 (config.max_write_zeroes_seg + 1) * (uint32_t)sizeof(*range)),
			 VIRTIO_BLK_S_IOERR);
	rig_close(&g);
}

static void test_images_that_are_none(void **state)
{
	struct virtio_device *d;
	struct driver v;
	int base = base_file(DISK_BYTES), overlay = overlay_file();

	(void)state;
	driver_init(&v);
	assert_int_equal(make_disk(&v, base_file(0), true, -1, &d), -EINVAL);
	assert_int_equal(make_disk(&v, base_file(SECTOR + 100), true, -1, &d), -EINVAL);
	assert_int_equal(make_disk(&v, open("/dev/null", O_RDWR), true, -1, &d), -EINVAL);
	assert_int_equal(pwrite_full(overlay, "x", 1, 0), 0);
	assert_int_equal(make_disk(&v, reopen(base), true, overlay, &d), -ENOTEMPTY);
	/* Who writes to an image has it alone. */
	assert_int_equal(make_disk(&v, reopen(base), false, -1, &v.d), 0);
	assert_int_equal(make_disk(&v, reopen(base), false, -1, &d), -EBUSY);
	assert_int_equal(make_disk(&v, reopen(base), false, overlay_file(), &d), -EBUSY);
	virtio_device_free(v.d);
	assert_int_equal(make_disk(&v, reopen(base), false, overlay_file(), &v.d), 0);
	assert_int_equal(make_disk(&v, reopen(base), true, -1, &d), 0);
	virtio_device_free(d);
	assert_int_equal(make_disk(&v, reopen(base), false, -1, &d), -EBUSY);
	driver_free(&v);
	close(base);
}

static void test_image_that_shrinks(void **state)
{
	struct rig g;
	int base = base_file(DISK_BYTES);

	(void)state;
	rig_open(&g, dup(base), true, -1);
	assert_int_equal(ftruncate(base, DISK_BYTES / 2), 0);
	expect_bytes(&g, 0, SECTOR, base_value(0));
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, SECTORS / 2 - 1, 2 * SECTOR),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, SECTORS - 1, SECTOR), VIRTIO_BLK_S_IOERR);
	rig_close(&g);
	close(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_WAYS(test_raw),
		BOTH_WAYS(test_any_layout),
		BOTH_WAYS(test_requests_that_are_refused),
		BOTH_WAYS(test_requests_that_are_none),
		BOTH_WAYS(test_many_at_once),
		BOTH_WAYS(test_largest_request),
		BOTH_WAYS(test_turns_are_short),
		BOTH_WAYS(test_zeros_are_limited),
		BOTH_WAYS(test_images_that_are_none),
		BOTH_WAYS(test_image_that_shrinks),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
