/* SPDX-License-Identifier: Apache-2.0 */
/* blk_fixture.h - a driver with one disk, whose requests go by io_uring or without it */
#ifndef QUICKTHAW_BLK_FIXTURE_H
#define QUICKTHAW_BLK_FIXTURE_H

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

static inline int base_file(uint64_t bytes)
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
static inline int reopen(int fd)
{
	char path[40];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_RDWR | O_CLOEXEC);
	assert_true(ret >= 0);
	return ret;
}

static inline int overlay_file(void)
{
	return memfd_create("overlay", MFD_CLOEXEC);
}

static inline int make_disk(struct driver *v, int base, bool read_only, int overlay,
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

static inline void rig_open(struct rig *g, int base, bool read_only, int overlay)
{
	driver_init(&g->v);
	assert_int_equal(make_disk(&g->v, base, read_only, overlay, &g->v.d), 0);
	driver_start(&g->v, ALL_FEATURES);
	g->request = driver_alloc(&g->v, sizeof(struct virtio_blk_outhdr), 8);
	g->data = driver_alloc(&g->v, DATA_BYTES_MAX, 1);
	g->status = driver_alloc(&g->v, 1, 1);
}

static inline void rig_close(struct rig *g)
{
	driver_free(&g->v);
}

static inline void *data_of(struct rig *g)
{
	return driver_ptr(&g->v, g->data, DATA_BYTES_MAX);
}

/** Make a request available; the buffers are the rig's. */
static inline void submit(struct rig *g, uint32_t type, uint64_t sector, uint32_t n)
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

static inline uint8_t request(struct rig *g, uint32_t type, uint64_t sector, uint32_t n)
{
	submit(g, type, sector, n);
	driver_wait(&g->v, QUEUE);
	return *(uint8_t *)driver_ptr(&g->v, g->status, 1);
}

static inline void write_bytes(struct rig *g, uint64_t sector, uint32_t n, uint8_t value)
{
	memset(data_of(g), value, n);
	assert_int_equal(request(g, VIRTIO_BLK_T_OUT, sector, n), VIRTIO_BLK_S_OK);
}

static inline void expect_bytes(struct rig *g, uint64_t sector, uint32_t n, uint8_t value)
{
	const uint8_t *data = data_of(g);

	memset(data_of(g), value ^ 0xff, n);
	assert_int_equal(request(g, VIRTIO_BLK_T_IN, sector, n), VIRTIO_BLK_S_OK);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(data[i], value);
}

static inline uint8_t base_value(uint64_t sector)
{
	return (uint8_t)(1 + sector % 250);
}

static inline uint8_t zero_request(struct rig *g, uint32_t type, uint64_t sector, uint32_t sectors,
				   uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes *range = data_of(g);

	*range = (struct virtio_blk_discard_write_zeroes){sector, sectors, flags};
	return request(g, type, 0, sizeof(*range));
}

static inline int with_ring(void **state)
{
	(void)state;
	by_ring = true;
	return 0;
}

static inline int without_ring(void **state)
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

#endif
