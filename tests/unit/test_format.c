/* SPDX-License-Identifier: Apache-2.0 */
/* test_format.c - what is written into a snapshot is read from it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/test_format.h"

static int new_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static struct snapshot_reader *open_ok(int fd)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;

	if (snapshot_reader_open_alone(fd, "test.snapshot", &r, &err))
		fail_msg("%s", err.text);
	return r;
}

/** Compare one page of the snapshot with what it should be; zero pages are in no chunk. */
static void check_page(const struct snapshot_reader *r, uint32_t page, const uint8_t *wanted)
{
	static const uint8_t zero[PAGE_BYTES];
	uint32_t chunk = snapshot_reader_page_chunk(r, page);
	const struct snapshot_chunk *c = snapshot_reader_chunk(r, chunk);
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_error err;
	unsigned i = 0;

	if (chunk == SNAPSHOT_PAGE_ZERO) {
		assert_memory_equal(wanted, zero, PAGE_BYTES);
		return;
	}
	assert_int_equal(snapshot_reader_read_chunk(r, chunk, out, &err), 0);
	while (i < c->page_count && c->pages[i] != page)
		i++;
	assert_true(i < c->page_count);
	assert_memory_equal(out + (size_t)i * PAGE_BYTES, wanted, PAGE_BYTES);
}

/** All that the golden snapshot says, whatever wrote it. */
static void check_golden(const struct snapshot_reader *r)
{
	static const uint32_t stored[] = {20, 3,  4,  5, 0, 1, 2, 6, GOLDEN_NOISE_PAGE,
					  40, 42, 43, 63};
	struct snapshot_params wanted = golden_params();
	uint8_t page[PAGE_BYTES];
	uint32_t total = 0;
	size_t n;

	assert_memory_equal(snapshot_reader_params(r), &wanted, sizeof(wanted));
	assert_memory_equal(snapshot_reader_section(r, SNAPSHOT_SECTION_STATE, &n), GOLDEN_STATE,
			    strlen(GOLDEN_STATE));
	assert_int_equal(n, strlen(GOLDEN_STATE));
	assert_memory_equal(snapshot_reader_section(r, SNAPSHOT_SECTION_METADATA, &n),
			    GOLDEN_METADATA, strlen(GOLDEN_METADATA));
	assert_int_equal(n, strlen(GOLDEN_METADATA));
	assert_memory_equal(snapshot_reader_working_set(r, &n), golden_ws, sizeof(golden_ws));
	assert_int_equal(n, ARRAY_SIZE(golden_ws));
	for (uint32_t i = 0; i < snapshot_reader_chunk_count(r); i++) {
		const struct snapshot_chunk *c = snapshot_reader_chunk(r, i);

		for (unsigned k = 0; k < c->page_count; k++)
			assert_int_equal(c->pages[k], stored[total++]);
	}
	assert_int_equal(total, ARRAY_SIZE(stored));
	for (size_t i = 0; i < ARRAY_SIZE(stored); i++) {
		golden_page(stored[i], page);
		check_page(r, stored[i], page);
	}
	assert_int_equal(snapshot_reader_page_chunk(r, GOLDEN_ZERO_PAGE), SNAPSHOT_PAGE_ZERO);
	assert_int_equal(snapshot_reader_page_chunk(r, 7), SNAPSHOT_PAGE_ZERO);
	assert_int_equal(snapshot_reader_page_chunk(r, UINT32_MAX), SNAPSHOT_PAGE_ZERO);
}

static void test_round_trip(void **state)
{
	struct snapshot_reader *r;
	uint64_t offset;
	int fd = new_file();

	(void)state;
	assert_int_equal(golden_write(fd), 0);
	r = open_ok(fd);
	check_golden(r);
	offset = r->header.hot_offset;
	assert_int_equal(offset % FORMAT_ALIGN, 0);
	assert_int_equal(r->header.hot_chunks, 2);
	assert_int_equal(snapshot_reader_chunk(r, 0)->offset, offset);
	assert_int_equal(snapshot_reader_chunk(r, 1)->offset +
				 snapshot_reader_chunk(r, 1)->stored_bytes,
			 offset + r->header.hot_bytes);
	assert_int_equal(snapshot_reader_chunk(r, 2)->offset % FORMAT_ALIGN, 0);
	assert_true(snapshot_reader_chunk(r, 1)->hot && !snapshot_reader_chunk(r, 2)->hot);
	assert_true(snapshot_reader_chunk(r, 3)->raw);
	assert_null(snapshot_reader_chunk(r, 5));
	/* The tables are within the first read. */
	assert_int_equal(r->header.tables_offset, FORMAT_HEADER_BYTES);
	snapshot_reader_free(r);
	close(fd);
}

static void test_golden_diff(void **state)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;
	uint8_t page[PAGE_BYTES];

	(void)state;
	if (snapshot_reader_open(AT_FDCWD, "tests/golden/version-1-diff.snapshot", "golden", &r,
				 &err))
		fail_msg("%s", err.text);
	assert_int_equal(snapshot_reader_file_count(r), 2);
	for (uint32_t i = 0; i < GOLDEN_TEMPLATE_PAGES; i++) {
		bool stored = i < 7 || i == GOLDEN_NOISE_PAGE || i == 20 || i == 40 || i == 42 ||
			      i == 43 || i == 63;

		golden_page(i == 3 || i == 50 || i == 51 ? i + 100 : i, page);
		if (i == 4 || i == 5 || (!stored && i != 50 && i != 51))
			memset(page, 0, sizeof(page));
		check_page(r, i, page);
	}
	snapshot_reader_free(r);
}

static void test_golden_version_1(void **state)
{
	int fd = open("tests/golden/version-1.snapshot", O_RDONLY | O_CLOEXEC);
	struct snapshot_reader *r;

	(void)state;
	assert_true(fd >= 0);
	r = open_ok(fd);
	check_golden(r);
	snapshot_reader_free(r);
	close(fd);
}

static void test_empty(void **state)
{
	struct snapshot_params params = {.ram_pages = 16, .guest_kind = 2};
	struct snapshot_writer *w;
	struct snapshot_reader *r;
	int fd = new_file();
	size_t n;

	(void)state;
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	r = open_ok(fd);
	assert_int_equal(snapshot_reader_chunk_count(r), 0);
	assert_null(snapshot_reader_section(r, SNAPSHOT_SECTION_STATE, &n));
	assert_null(snapshot_reader_working_set(r, &n));
	assert_int_equal(n, 0);
	snapshot_reader_free(r);
	close(fd);
}

/* A snapshot of a usual size, with mixed pages, whose tables do not fit the first read. */
enum { LARGE_PAGES = 3000 };

static void large_page(uint32_t page, uint8_t *out)
{
	memset(out, 0, PAGE_BYTES);
	if (page % 3)
		for (size_t i = 0; i < PAGE_BYTES; i += 8)
			memcpy(out + i, &(uint64_t){page * (i >> (page % 7))}, 8);
}

static void large_write(int fd, size_t state_bytes, bool state_first)
{
	struct snapshot_params params = {
		.ram_pages = 65536, .template_pages = LARGE_PAGES, .guest_kind = 1};
	uint8_t *blob = calloc(1, state_bytes), data[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_writer *w;

	assert_non_null(blob);
	blob[state_bytes - 1] = 0x5a;
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	if (state_first)
		assert_int_equal(
			snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, blob, state_bytes), 0);
	for (uint32_t page = 0; page < LARGE_PAGES; page += 8) {
		uint32_t pages[8];

		for (uint32_t i = 0; i < 8; i++) {
			pages[i] = page + 7 - i; /* the writer sorts */
			large_page(pages[i], data + (size_t)i * PAGE_BYTES);
		}
		assert_int_equal(snapshot_writer_chunk(w, pages, 8, data, false), 0);
	}
	if (!state_first)
		assert_int_equal(
			snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, blob, state_bytes), 0);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	free(blob);
}

static void check_large(const struct snapshot_reader *r)
{
	uint8_t page[PAGE_BYTES];

	for (uint32_t i = 0; i < LARGE_PAGES; i++) {
		large_page(i, page);
		check_page(r, i, page);
	}
}

static void test_large(void **state)
{
	(void)state;
	for (int state_first = 0; state_first < 2; state_first++) {
		struct snapshot_reader *r;
		const uint8_t *blob;
		int fd = new_file();
		size_t n;

		large_write(fd, 200000, state_first);
		r = open_ok(fd);
		check_large(r);
		blob = snapshot_reader_section(r, SNAPSHOT_SECTION_STATE, &n);
		assert_int_equal(n, 200000);
		assert_int_equal(blob[n - 1], 0x5a);
		assert_int_equal(r->header.tables_offset == FORMAT_HEADER_BYTES, state_first);
		/* All metadata but the state: a few KiB. */
		assert_true(r->header.tables_bytes - 200000 < 16384);
		snapshot_reader_free(r);
		close(fd);
	}
}

static void test_rewrite(void **state)
{
	static const struct snapshot_ws_entry ws[] = {{2000, 0}, {7, 1},    {8, 0}, {9, 0},
						      {7, 0},	 {2999, 0}, {1, 0}, {99999, 0}};
	int fd = new_file(), fd2 = new_file(), fd3 = new_file();
	const struct snapshot_ws_entry *got;
	struct snapshot_reader *r, *r2, *r3;
	struct snapshot_error err = {""};
	uint32_t last = 0;
	size_t n;

	(void)state;
	large_write(fd, 100, true);
	r = open_ok(fd);
	assert_int_equal(snapshot_rewrite(r, ws, ARRAY_SIZE(ws), fd2, &err), 0);
	r2 = open_ok(fd2);
	check_large(r2);
	assert_memory_equal(&r->params, &r2->params, sizeof(r->params));
	got = snapshot_reader_working_set(r2, &n);
	assert_int_equal(n, 6); /* once each, and only pages of the template */
	assert_int_equal(got[1].page, 7);
	assert_int_equal(got[1].flags, SNAPSHOT_WS_WRITTEN);
	assert_int_equal(r2->header.hot_chunks, 1);
	/* 9 and 2999 % 3 == 2: 9 is a zero page, so five of the six are stored. */
	assert_int_equal(snapshot_reader_chunk(r2, 0)->page_count, 5);
	for (uint32_t i = 1; i < snapshot_reader_chunk_count(r2); i++) {
		assert_true(i == 1 || snapshot_reader_chunk(r2, i)->pages[0] > last);
		last = snapshot_reader_chunk(r2, i)->pages[0];
	}
	/* And back to none: the same chunks as a rewrite of the first. */
	assert_int_equal(snapshot_rewrite(r2, NULL, 0, fd3, &err), 0);
	r3 = open_ok(fd3);
	check_large(r3);
	assert_int_equal(r3->header.hot_chunks, 0);
	assert_true(snapshot_id_equal(snapshot_reader_id(r), snapshot_reader_id(r2)));
	assert_true(snapshot_id_equal(snapshot_reader_id(r), snapshot_reader_id(r3)));
	snapshot_reader_free(r3);
	snapshot_reader_free(r2);
	snapshot_reader_free(r);
	close(fd3);
	close(fd2);
	close(fd);
}

/** A snapshot of one page, whose bytes all are @value. Return: its identity. */
static struct snapshot_id id_of_page(uint8_t value)
{
	struct snapshot_params params = golden_params();
	uint8_t page[PAGE_BYTES];
	const uint32_t number = 5;
	struct snapshot_writer *w;
	struct snapshot_reader *r;
	struct snapshot_id id;
	int fd = new_file();

	memset(page, value, sizeof(page));
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "s", 1), 0);
	assert_int_equal(snapshot_writer_chunk(w, &number, 1, page, false), 0);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	r = open_ok(fd);
	id = snapshot_reader_id(r);
	snapshot_reader_free(r);
	close(fd);
	return id;
}

/* Another page is another snapshot, though state and size are the same. */
static void test_identity(void **state)
{
	(void)state;
	assert_true(snapshot_id_equal(id_of_page(1), id_of_page(1)));
	assert_false(snapshot_id_equal(id_of_page(1), id_of_page(2)));
}

static void test_writer_refuses(void **state)
{
	static uint8_t data[SNAPSHOT_CHUNK_BYTES + PAGE_BYTES];
	struct snapshot_params params = {.ram_pages = 8, .template_pages = 8, .guest_kind = 1};
	static const struct snapshot_ws_entry twice[] = {{1, 0}, {1, 0}}, far[] = {{8, 0}};
	uint32_t pages[17] = {3, 3};
	struct snapshot_writer *w;
	int fd = new_file();

	(void)state;
	params.template_pages = 9;
	assert_int_equal(snapshot_writer_new(fd, &params, &w), -EINVAL);
	params.template_pages = 8;
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	memset(data, 1, sizeof(data));
	assert_int_equal(snapshot_writer_chunk(w, pages, 0, data, true), -EINVAL);
	assert_int_equal(snapshot_writer_chunk(w, pages, 17, data, true), -EINVAL);
	assert_int_equal(snapshot_writer_chunk(w, pages, 2, data, true), -EINVAL);
	pages[1] = 8;
	assert_int_equal(snapshot_writer_chunk(w, pages, 2, data, true), -EINVAL);
	assert_int_equal(snapshot_writer_chunk(w, pages, 1, data, false), 0);
	assert_int_equal(snapshot_writer_chunk(w, pages, 1, data, false), -EINVAL);
	pages[0] = 4;
	assert_int_equal(snapshot_writer_chunk(w, pages, 1, data, true), -EINVAL); /* after cold */
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_CHUNKS, data, 1), -EINVAL);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, data, 1), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, data, 1), -EINVAL);
	assert_int_equal(
		snapshot_writer_section(w, SNAPSHOT_SECTION_WORKING_SET, twice, sizeof(twice)),
		-EINVAL);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_WORKING_SET, far, sizeof(far)),
			 -EINVAL);
	assert_int_equal(snapshot_writer_finish(w), 0);
	assert_int_equal(snapshot_writer_finish(w), -EINVAL);
	snapshot_writer_free(w);
	assert_int_equal(snapshot_writer_new(fd, &params, &w), -EINVAL); /* not empty */
	snapshot_writer_free(NULL);
	snapshot_reader_free(NULL);
	close(fd);
}

/** The file cannot grow past a limit, as on a full disk. */
static void test_no_space(void **state)
{
	struct rlimit old, small;
	struct snapshot_reader *r;
	struct snapshot_error err;
	char path[] = "/tmp/test_format.XXXXXX";
	int fd = mkstemp(path), ret;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, SIG_IGN);
	for (rlim_t limit = 0; limit <= 25000; limit += 1000) {
		small = (struct rlimit){limit, old.rlim_max};
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		ret = golden_write(fd);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		if (!ret)
			break;
		assert_int_equal(ret, -EFBIG);
		assert_true(snapshot_reader_open_alone(fd, "t", &r, &err) < 0);
	}
	assert_int_equal(ret, 0); /* with enough room it works */
	signal(SIGXFSZ, SIG_DFL);
	unlink(path);
	close(fd);
}

/** A file system that is really full: a tmpfs of four pages, in a mount namespace of its own. */
static void test_disk_full(void **state)
{
	char dir[] = "/tmp/test_format.XXXXXX", path[64];
	struct snapshot_reader *r;
	struct snapshot_error err;
	int fd;

	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("not allowed to mount a small tmpfs: %s\n", strerror(errno));
		skip();
	}
	assert_non_null(mkdtemp(dir));
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=16k"), 0);
	snprintf(path, sizeof(path), "%s/snapshot", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(golden_write(fd), -ENOSPC);
	assert_true(snapshot_reader_open_alone(fd, "t", &r, &err) < 0);
	close(fd);
	assert_int_equal(umount(dir), 0);
	rmdir(dir);
}

static void test_install(void **state)
{
	char dir[] = "/tmp/test_format.XXXXXX", got[8] = "";
	int dirfd, fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dirfd, "name", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "old", 3), 3);
	close(fd);
	/* The rename fails: the temporary name is not there, or the target is a directory. */
	fd = openat(dirfd, "tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "new", 3), 3);
	assert_int_equal(mkdirat(dirfd, "sub", 0700), 0);
	assert_int_equal(snapshot_file_install(dirfd, fd, "missing", "name"), -ENOENT);
	assert_int_equal(snapshot_file_install(dirfd, fd, "tmp", "sub"), -EISDIR);
	assert_int_equal(faccessat(dirfd, "tmp", F_OK, 0), -1);
	close(fd);
	fd = openat(dirfd, "name", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, got, sizeof(got)), 3);
	assert_string_equal(got, "old");
	close(fd);
	fd = openat(dirfd, "tmp", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "new", 3), 3);
	assert_int_equal(snapshot_file_install(dirfd, fd, "tmp", "name"), 0);
	close(fd);
	fd = openat(dirfd, "name", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, got, sizeof(got)), 3);
	assert_string_equal(got, "new");
	close(fd);
	unlinkat(dirfd, "name", 0);
	unlinkat(dirfd, "sub", AT_REMOVEDIR);
	close(dirfd);
	rmdir(dir);
}

/** `test_format --golden-diff FILE` writes the golden diff, likewise. */
static int write_golden_diff_file(const char *path)
{
	int dirfd = open("tests/golden", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int ret = fd < 0 ? -errno : golden_write_diff(dirfd, "version-1.snapshot", fd);

	if (ret)
		fprintf(stderr, "%s: %s\n", path, strerror(-ret));
	close(fd);
	close(dirfd);
	return ret ? 1 : 0;
}

/** `test_format --golden FILE` writes the golden snapshot, once for each version of the format. */
static int write_golden_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int ret = fd < 0 ? -errno : golden_write(fd);

	if (ret)
		fprintf(stderr, "%s: %s\n", path, strerror(-ret));
	return ret ? 1 : 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_golden_version_1),
		cmocka_unit_test(test_golden_diff), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_large),	    cmocka_unit_test(test_rewrite),
		cmocka_unit_test(test_identity),    cmocka_unit_test(test_writer_refuses),
		cmocka_unit_test(test_no_space),    cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_install),
	};

	if (argc == 3 && !strcmp(argv[1], "--golden-diff"))
		return write_golden_diff_file(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "--golden"))
		return write_golden_file(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
