/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_blk.c - disks: requests, overlays that are isolated, full and saved, hostile
 * requests; each by io_uring and without it
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>

#include "common/io.h"
#include "common/log.h"
#include "tests/unit/virtio_driver.h"
#include "vmm/kernel/virtio_blk.h"

enum {
	QUEUE = 0,
	SECTOR = 512,
	DISK_BYTES = 1 << 20,
	SECTORS = DISK_BYTES / SECTOR,
	DATA_BYTES_MAX = 256 << 10,
};
#define ALL_FEATURES (~0ull)

static bool by_ring;	       /* how this run reads and writes */
static bool done_at_once;      /* what is submitted to a ring */
static size_t write_bytes_max; /* what the kernel takes of a write at once; 0: all of it */

/** liburing's, for a kernel that has everything in its page cache. */
int io_uring_submit(struct io_uring *ring)
{
	return io_uring_submit_and_wait(ring, done_at_once ? io_uring_sq_ready(ring) : 0);
}

/** The libc's, for a kernel that takes less than it is given. */
ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct iovec part = *iov;

	if (write_bytes_max && part.iov_len > write_bytes_max) {
		part.iov_len = write_bytes_max;
		iov = &part;
		count = 1;
	}
	return syscall(SYS_pwritev2, fd, iov, (long)count, offset, 0l, flags);
}

/** struct rig - a driver with one disk. @request, @data, @status: addresses of its buffers. */
struct rig {
	struct driver v;
	uint64_t request, data, status;
};

static int base_file(uint64_t bytes)
{
	int fd = memfd_create("base", MFD_CLOEXEC);
	uint8_t block[SECTOR];

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < bytes; at += sizeof(block)) {
		memset(block, (int)(1 + at / sizeof(block) % 250), sizeof(block));
		assert_int_equal(pwrite_full(fd, block, MIN(sizeof(block), bytes - at), at), 0);
	}
	return fd;
}

/** The same file opened once more, as another process has it. */
static int reopen(int fd)
{
	char path[40];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_RDWR | O_CLOEXEC);
	assert_true(ret >= 0);
	return ret;
}

static int overlay_file(void)
{
	return memfd_create("overlay", MFD_CLOEXEC);
}

static int make_disk(struct driver *v, int base, bool read_only, int overlay,
		     struct virtio_device **ret)
{
	struct virtio_wiring w = driver_wiring(v);
	struct virtio_blk_options o = {
		.disk = {.name = "test",
			 .base_fd = base,
			 .read_only = read_only,
			 .overlay_fd = overlay},
		.serial = "quickthaw",
		.no_io_uring = !by_ring,
	};

	return virtio_blk_new(&w, &o, ret);
}

static void rig_open(struct rig *g, int base, bool read_only, int overlay)
{
	driver_init(&g->v);
	assert_int_equal(make_disk(&g->v, base, read_only, overlay, &g->v.d), 0);
	driver_start(&g->v, ALL_FEATURES);
	g->request = driver_alloc(&g->v, sizeof(struct virtio_blk_outhdr), 8);
	g->data = driver_alloc(&g->v, DATA_BYTES_MAX, 1);
	g->status = driver_alloc(&g->v, 1, 1);
}

static void rig_close(struct rig *g)
{
	driver_free(&g->v);
}

static void *data_of(struct rig *g)
{
	return driver_ptr(&g->v, g->data, DATA_BYTES_MAX);
}

/** Make a request available; the buffers are the rig's. */
static void submit(struct rig *g, uint32_t type, uint64_t sector, uint32_t n)
{
	struct virtio_blk_outhdr *h = driver_ptr(&g->v, g->request, sizeof(*h));
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct vring_desc segs[] = {{.addr = g->request, .len = sizeof(*h)},
				    {.addr = g->data, .len = n},
				    {.addr = g->status, .len = 1}};

	*h = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	*(uint8_t *)driver_ptr(&g->v, g->status, 1) = 0xff;
	driver_add_indirect(&g->v, QUEUE, segs, 3, in ? 1 : 2);
	driver_kick(&g->v, QUEUE);
}

static uint8_t request(struct rig *g, uint32_t type, uint64_t sector, uint32_t n)
{
	submit(g, type, sector, n);
	driver_wait(&g->v, QUEUE);
	return *(uint8_t *)driver_ptr(&g->v, g->status, 1);
}

static void write_bytes(struct rig *g, uint64_t sector, uint32_t n, uint8_t value)
{
	memset(data_of(g), value, n);
	assert_int_equal(request(g, VIRTIO_BLK_T_OUT, sector, n), VIRTIO_BLK_S_OK);
}

static void expect_bytes(struct rig *g, uint64_t sector, uint32_t n, uint8_t value)
{
	const uint8_t *data = data_of(g);

	memset(data_of(g), value ^ 0xff, n);
	assert_int_equal(request(g, VIRTIO_BLK_T_IN, sector, n), VIRTIO_BLK_S_OK);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(data[i], value);
}

static uint8_t base_value(uint64_t sector)
{
	return (uint8_t)(1 + sector % 250);
}

static uint8_t zero_request(struct rig *g, uint32_t type, uint64_t sector, uint32_t sectors,
			    uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes *range = data_of(g);

	*range = (struct virtio_blk_discard_write_zeroes){sector, sectors, flags};
	return request(g, type, 0, sizeof(*range));
}

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

/* ---- overlays ---- */

static void test_overlays_are_isolated(void **state)
{
	struct rig a, b;
	int base = base_file(DISK_BYTES);
	uint8_t before[SECTOR], after[SECTOR];

	(void)state;
	rig_open(&a, reopen(base), false, overlay_file());
	rig_open(&b, reopen(base), false, overlay_file());
	assert_int_equal(pread_full(base, before, SECTOR, 9 * SECTOR), SECTOR);
	write_bytes(&a, 9, SECTOR, 0xa1);
	write_bytes(&b, 9, SECTOR, 0xb1);
	expect_bytes(&a, 9, SECTOR, 0xa1);
	expect_bytes(&b, 9, SECTOR, 0xb1);
	/* What is beside it in the cluster came along. */
	expect_bytes(&a, 8, SECTOR, base_value(8));
	expect_bytes(&a, 10, SECTOR, base_value(10));
	assert_int_equal(zero_request(&a, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_OK);
	expect_bytes(&a, 0, 8 * SECTOR, 0);
	expect_bytes(&b, 1, SECTOR, base_value(1));
	assert_int_equal(request(&a, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread_full(base, after, SECTOR, 9 * SECTOR), SECTOR);
	assert_memory_equal(before, after, SECTOR);
	rig_close(&a);
	rig_close(&b);
	close(base);
}

/* Anything in any order, beside an array that says what has to be there. The disk ends within a
 * cluster. */
static void overlay_model(struct rig *g, uint8_t *model, uint64_t sectors, unsigned steps)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_OUT,
					 VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};

	for (unsigned i = 0; i < steps; i++) {
		uint32_t type = types[(unsigned)rand() % ARRAY_SIZE(types)];
		uint64_t first = (uint64_t)rand() % sectors;
		uint32_t count = (uint32_t)(1 + (uint64_t)rand() % MIN(sectors - first, 40ul));
		size_t at = first * SECTOR, n = count * SECTOR;

		if (type == VIRTIO_BLK_T_OUT) {
			memset(data_of(g), rand(), n);
			memcpy(model + at, data_of(g), n);
			assert_int_equal(request(g, type, first, (uint32_t)n), VIRTIO_BLK_S_OK);
		} else if (type == VIRTIO_BLK_T_IN) {
			assert_int_equal(request(g, type, first, (uint32_t)n), VIRTIO_BLK_S_OK);
			assert_memory_equal(data_of(g), model + at, n);
		} else {
			memset(model + at, 0, n);
			assert_int_equal(zero_request(g, type, first, count, 0), VIRTIO_BLK_S_OK);
		}
	}
}

static void test_overlay_model(void **state)
{
	enum { ODD_SECTORS = 203, STEPS = 3000 };
	static uint8_t model[ODD_SECTORS * SECTOR];
	struct state_writer w;
	struct virtio_device *d;
	struct rig g;
	int base = base_file(sizeof(model));

	(void)state;
	srand(by_ring);
	assert_int_equal(pread_full(base, model, sizeof(model), 0), sizeof(model));
	rig_open(&g, dup(base), false, overlay_file());
	overlay_model(&g, model, ODD_SECTORS, STEPS);
	/* And on in a clone. */
	w = driver_saved(&g.v);
	assert_int_equal(make_disk(&g.v, dup(base), false, overlay_file(), &d), 0);
	assert_int_equal(driver_replace(&g.v, d, &w), 0);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, 0, sizeof(model)), VIRTIO_BLK_S_OK);
	assert_memory_equal(data_of(&g), model, sizeof(model));
	overlay_model(&g, model, ODD_SECTORS, STEPS);
	state_writer_free(&w);
	rig_close(&g);
	close(base);
}

/* Requests that lie side by side in one cluster, all under way at once: none undoes another. */
static void test_neighbours_in_a_cluster(void **state)
{
	enum { CLUSTERS = 8, PARTS = 8 };
	struct rig g;
	uint64_t headers;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, overlay_file());
	headers = driver_alloc(&g.v, CLUSTERS * PARTS * sizeof(struct virtio_blk_outhdr), 8);
	for (unsigned i = 0; i < CLUSTERS * PARTS; i++) {
		struct virtio_blk_outhdr *h;
		uint64_t at = headers + i * sizeof(*h);

		h = driver_ptr(&g.v, at, sizeof(*h));
		*h = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = i};
		memset((uint8_t *)data_of(&g) + i * SECTOR, (int)(100 + i), SECTOR);
		driver_add(&g.v, QUEUE,
			   (struct vring_desc[]){{.addr = at, .len = sizeof(*h)},
						 {.addr = g.data + i * SECTOR, .len = SECTOR},
						 {.addr = g.status, .len = 1}},
			   3, 2);
	}
	driver_kick(&g.v, QUEUE);
	for (unsigned i = 0; i < CLUSTERS * PARTS; i++)
		driver_wait(&g.v, QUEUE);
	for (unsigned i = 0; i < CLUSTERS * PARTS; i++)
		expect_bytes(&g, i, SECTOR, (uint8_t)(100 + i));
	rig_close(&g);
}

/* A write that the kernel takes in parts, each of which ends within a cluster. */
static void test_short_writes(void **state)
{
	enum { CLUSTERS = 5, SECTORS_EACH = 8 };
	struct rig g;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, overlay_file());
	write_bytes_max = 3000;
	write_bytes(&g, SECTORS_EACH, CLUSTERS * SECTORS_EACH * SECTOR, 0xcc);
	write_bytes(&g, 101, 20 * SECTOR, 0xdd);
	write_bytes_max = 0;
	expect_bytes(&g, SECTORS_EACH, CLUSTERS * SECTORS_EACH * SECTOR, 0xcc);
	expect_bytes(&g, 101, 20 * SECTOR, 0xdd);
	expect_bytes(&g, 100, SECTOR, base_value(100));
	expect_bytes(&g, 121, SECTOR, base_value(121));
	rig_close(&g);
}

/* Reads of two files each, as many as there are slots and more: the second parts are queued while
 * nothing is under way any more. */
static void test_many_in_two_parts(void **state)
{
	enum { MANY = 85, CLUSTER_SECTORS = 8 };
	struct virtio_blk_outhdr *h;
	struct rig g;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), false, overlay_file());
	write_bytes(&g, 0, CLUSTER_SECTORS * SECTOR, 0x99);
	h = driver_ptr(&g.v, g.request, sizeof(*h));
	*h = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = CLUSTER_SECTORS - 1};
	for (unsigned i = 0; i < MANY; i++)
		driver_add(
			&g.v, QUEUE,
			(struct vring_desc[]){{.addr = g.request, .len = sizeof(*h)},
					      {.addr = g.data + 2 * i * SECTOR, .len = 2 * SECTOR},
					      {.addr = g.status, .len = 1}},
			3, 1);
	while (driver_wait_event(&g.v, 0))
		; /* nothing else is to make the device go on */
	done_at_once = true;
	driver_kick(&g.v, QUEUE);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(driver_wait(&g.v, QUEUE).bytes, 2 * SECTOR + 1);
	done_at_once = false;
	assert_int_equal(((uint8_t *)data_of(&g))[2 * (MANY - 1) * SECTOR], 0x99);
	assert_int_equal(((uint8_t *)data_of(&g))[(2 * MANY - 1) * SECTOR],
			 base_value(CLUSTER_SECTORS));
	rig_close(&g);
}

/** In a child, which may mount: a file system of 64 KiB under the overlay. */
static int full_overlay(void)
{
	struct rig g;
	unsigned failed = 0;
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/tmp", "tmpfs", 0, "size=64k"))
		return 77;
	fd = open("/tmp/overlay", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	DRIVER_CHECK(fd >= 0);
	rig_open(&g, base_file(DISK_BYTES), false, fd);
	for (uint64_t at = 0; at < 256; at += 8) {
		memset(data_of(&g), 0xee, 8 * SECTOR);
		failed += request(&g, VIRTIO_BLK_T_OUT, at, 8 * SECTOR) == VIRTIO_BLK_S_IOERR;
	}
	/* Partial clusters have to be copied first, and that fails, too. */
	DRIVER_CHECK(request(&g, VIRTIO_BLK_T_OUT, 1001, SECTOR) == VIRTIO_BLK_S_IOERR);
	DRIVER_CHECK(failed > 8 && failed < 32 && !driver_needs_reset(&g.v));
	/* What was written is there, what was not is as before, and can be overwritten. */
	for (uint64_t at = 0; at < 256; at += 8) {
		DRIVER_CHECK(request(&g, VIRTIO_BLK_T_IN, at, SECTOR) == VIRTIO_BLK_S_OK);
		DRIVER_CHECK(*(uint8_t *)data_of(&g) ==
			     (at < (32 - failed) * 8 ? 0xee : base_value(at)));
	}
	DRIVER_CHECK(request(&g, VIRTIO_BLK_T_OUT, 0, 8 * SECTOR) == VIRTIO_BLK_S_OK);
	/* Space that is given back is of use. */
	DRIVER_CHECK(zero_request(&g, VIRTIO_BLK_T_DISCARD, 0, 16, 0) == VIRTIO_BLK_S_OK);
	DRIVER_CHECK(request(&g, VIRTIO_BLK_T_OUT, 1001, SECTOR) == VIRTIO_BLK_S_OK);
	rig_close(&g);
	return 0;
}

static void test_full_disk(void **state)
{
	pid_t pid = fork();
	int status = -1;

	(void)state;
	if (!pid)
		_exit(full_overlay());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no right to mount a small file system here\n");
		skip();
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- state ---- */

static void test_clones(void **state)
{
	struct rig g, clone[2];
	struct state_writer w;
	int base = base_file(DISK_BYTES);

	(void)state;
	rig_open(&g, dup(base), false, overlay_file());
	write_bytes(&g, 16, 8 * SECTOR, 0x11);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 24, 8, 0), VIRTIO_BLK_S_OK);
	memset(data_of(&g), 0x11, SECTOR);
	submit(&g, VIRTIO_BLK_T_OUT, 32, SECTOR); /* under way */
	w = driver_saved(&g.v);
	driver_wait(&g.v, QUEUE);
	for (unsigned i = 0; i < 2; i++) {
		struct virtio_device *d;
		struct state_reader r = {.data = w.data, .left = w.used};

		rig_open(&clone[i], dup(base), false, overlay_file());
		assert_int_equal(make_disk(&clone[i].v, dup(base), false, overlay_file(), &d), 0);
		/* The memory is the other machine's own here: only the disk's part counts. */
		assert_int_equal(virtio_device_load(d, &r), 0);
		assert_int_equal(r.left, 0);
		virtio_device_free(clone[i].v.d);
		clone[i].v.d = d;
		driver_start(&clone[i].v, ALL_FEATURES);
	}
	expect_bytes(&clone[0], 16, 8 * SECTOR, 0x11);
	expect_bytes(&clone[1], 24, 8 * SECTOR, 0);
	expect_bytes(&clone[1], 32, SECTOR, 0x11);
	write_bytes(&clone[0], 16, 8 * SECTOR, 0x22);
	expect_bytes(&clone[1], 16, 8 * SECTOR, 0x11);
	expect_bytes(&g, 16, 8 * SECTOR, 0x11);
	for (unsigned i = 0; i < 2; i++)
		rig_close(&clone[i]);
	state_writer_free(&w);
	rig_close(&g);
	close(base);
}

static int load_onto(struct rig *g, int base, bool read_only, int overlay,
		     const struct state_writer *w)
{
	struct virtio_device *d;

	virtio_device_free(g->v.d); /* or its lock were in the way */
	g->v.d = NULL;
	assert_int_equal(make_disk(&g->v, base, read_only, overlay, &d), 0);
	return driver_replace(&g->v, d, w);
}

static void test_disks_that_are_others(void **state)
{
	struct rig g;
	struct state_writer w;
	int base = base_file(DISK_BYTES);

	(void)state;
	rig_open(&g, reopen(base), false, -1);
	w = driver_saved(&g.v);
	assert_int_equal(load_onto(&g, base_file(DISK_BYTES / 2), false, -1, &w), -EINVAL);
	assert_int_equal(load_onto(&g, reopen(base), true, -1, &w), -ENOTSUP); /* no discard */
	assert_int_equal(load_onto(&g, reopen(base), false, overlay_file(), &w), -EINVAL);
	assert_int_equal(load_onto(&g, reopen(base), false, -1, &w), 0);
	/* A raw disk that went on without this machine. */
	usleep(20000); /* the file's time has the grain of a tick */
	assert_int_equal(pwrite_full(base, "x", 1, 0), 0);
	assert_int_equal(load_onto(&g, reopen(base), false, -1, &w), -ESTALE);
	state_writer_free(&w);
	rig_close(&g);
	close(base);
}

static void test_hostile_state(void **state)
{
	struct rig g;
	struct state_writer w;

	(void)state;
	rig_open(&g, base_file(4 * 4096), false, overlay_file());
	write_bytes(&g, 0, 8 * SECTOR, 0x11);
	assert_int_equal(zero_request(&g, VIRTIO_BLK_T_DISCARD, 16, 8, 0), VIRTIO_BLK_S_OK);
	w = driver_saved(&g.v);
	for (size_t cut = 0; cut < w.used; cut += cut < 200 || w.used - cut < 50 ? 1 : 97) {
		struct state_writer bad = {.data = w.data, .used = cut};

		assert_int_equal(load_onto(&g, base_file(4 * 4096), false, overlay_file(), &bad),
				 -EBADMSG);
	}
	for (size_t at = 0; at < w.used; at += at < 200 || w.used - at < 50 ? 1 : 97) {
		for (unsigned bit = 0; bit < 8; bit++) {
			w.data[at] ^= (uint8_t)(1u << bit);
			if (!load_onto(&g, base_file(4 * 4096), false, overlay_file(), &w)) {
				driver_kick(&g.v, QUEUE);
				driver_wait_event(&g.v, 0);
			}
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	state_writer_free(&w);
	rig_close(&g);
}

static int with_ring(void **state)
{
	(void)state;
	by_ring = true;
	return 0;
}

static int without_ring(void **state)
{
	(void)state;
	by_ring = false;
	return 0;
}

#define BOTH_WAYS(test)                                                                            \
	{#test " (io_uring)", test, with_ring, NULL, NULL},                                        \
	{                                                                                          \
#test, test, without_ring, NULL, NULL                                              \
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
		BOTH_WAYS(test_overlays_are_isolated),
		BOTH_WAYS(test_overlay_model),
		BOTH_WAYS(test_neighbours_in_a_cluster),
		{"test_short_writes", test_short_writes, without_ring, NULL, NULL},
		BOTH_WAYS(test_many_in_two_parts),
		BOTH_WAYS(test_full_disk),
		BOTH_WAYS(test_clones),
		BOTH_WAYS(test_disks_that_are_others),
		BOTH_WAYS(test_hostile_state),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
