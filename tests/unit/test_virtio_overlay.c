/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_virtio_overlay.c - what guests write apart from a disk: isolated, in parts, on a full file
 * system, saved and loaded; each by io_uring and without it
 */
#include "tests/unit/blk_fixture.h"

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

/** A device that is given its disk, or -1: an empty drive, as a shell does it. */
static struct virtio_device *attached(struct rig *g, int base)
{
	const struct disk_options o = {
		.name = "drive", .base_fd = base, .read_only = true, .overlay_fd = -1};
	struct virtio_device *d;

	assert_int_equal(make_disk(&g->v, -1, true, -1, &d), 0);
	assert_int_equal(virtio_blk_attach(d, &o), 0);
	return d;
}

static uint64_t capacity_of(struct rig *g)
{
	struct virtio_blk_config config;

	driver_config(&g->v, 0, &config, sizeof(config));
	return config.capacity;
}

/* A guest that was captured with an empty drive is told of the image that it finds there. */
static void test_image_in_an_empty_drive(void **state)
{
	int base = base_file(DISK_BYTES);
	struct state_writer w, later;
	uint32_t generation;
	struct rig g;

	(void)state;
	rig_open(&g, base_file(DISK_BYTES), true, -1);
	virtio_device_free(g.v.d);
	g.v.d = attached(&g, -1);
	driver_start(&g.v, ALL_FEATURES);
	assert_int_equal(capacity_of(&g), 0);
	assert_int_equal(request(&g, VIRTIO_BLK_T_IN, 0, SECTOR), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&g, VIRTIO_BLK_T_OUT, 0, SECTOR), VIRTIO_BLK_S_IOERR);
	driver_interrupts(&g.v);
	generation = driver_read32(&g.v, VIRTIO_MMIO_CONFIG_GENERATION);
	w = driver_saved(&g.v);

	/* Still empty: nothing has changed. */
	assert_int_equal(driver_replace(&g.v, attached(&g, -1), &w), 0);
	assert_int_equal(driver_read32(&g.v, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_false(driver_read32(&g.v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);

	assert_int_equal(driver_replace(&g.v, attached(&g, dup(base)), &w), 0);
	assert_true(driver_read32(&g.v, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
	assert_int_not_equal(driver_read32(&g.v, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(capacity_of(&g), SECTORS);
	expect_bytes(&g, 7, SECTOR, base_value(7));

	/* From then on it is a disk like any other. */
	later = driver_saved(&g.v);
	assert_int_equal(driver_replace(&g.v, attached(&g, dup(base)), &later), 0);
	assert_int_equal(driver_replace(&g.v, attached(&g, base_file(DISK_BYTES / 2)), &later),
			 -EINVAL);
	assert_int_equal(driver_replace(&g.v, attached(&g, -1), &later), -EINVAL);
	/* What can be written to is no such drive. */
	assert_int_equal(load_onto(&g, reopen(base), true, overlay_file(), &w), -EINVAL);
	state_writer_free(&w);
	state_writer_free(&later);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_WAYS(test_overlays_are_isolated),
		BOTH_WAYS(test_overlay_model),
		BOTH_WAYS(test_neighbours_in_a_cluster),
		{"test_short_writes", test_short_writes, without_ring, NULL, NULL},
		BOTH_WAYS(test_many_in_two_parts),
		BOTH_WAYS(test_full_disk),
		BOTH_WAYS(test_clones),
		BOTH_WAYS(test_disks_that_are_others),
		BOTH_WAYS(test_image_in_an_empty_drive),
		BOTH_WAYS(test_hostile_state),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
