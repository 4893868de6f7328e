/* SPDX-License-Identifier: Apache-2.0 */
/* test_vfs_synth.c - /proc, /dev, /sys and the standard descriptors */
#include <dirent.h>
#include <sys/sysmacros.h>

#include "tests/unit/vfs_fixture.h"

static char sunk[3][256];

static void sink(struct proc *p, int stream, const void *data, size_t n)
{
	size_t used = strlen(sunk[stream]);

	(void)p;
	n = MIN(n, sizeof(sunk[0]) - 1 - used);
	memcpy(sunk[stream] + used, data, n);
	sunk[stream][used + n] = '\0';
}

static void test_proc(void **state)
{
	struct guest *g = *state;
	char first[80];

	assert_string_equal(g_readlink(g, "/proc/self"), "1");
	assert_string_equal(g_readlink(g, "/proc/thread-self"), "1/task/1");
	assert_string_equal(g_readlink(g, "/proc/self/cwd"), "/");
	assert_string_equal(g_readlink(g, "/proc/self/root"), "/");
	assert_non_null(strstr(g_read(g, "/proc/self/maps"), "30000000-30400000 rw-p"));
	assert_non_null(strstr(g_read(g, "/proc/self/status"), "Threads:\t1\n"));
	assert_non_null(strstr(g_read(g, "/proc/meminfo"), "MemTotal:          65536 kB"));
	assert_non_null(strstr(g_read(g, "/proc/mounts"), "tmpfs /tmp tmpfs"));
	assert_non_null(strstr(g_read(g, "/proc/cpuinfo"), "processor\t: 0"));
	assert_string_equal(g_read(g, "/proc/self/cgroup"), "0::/\n");
	assert_string_equal(g_read(g, "/proc/self/task/1/comm"), g_read(g, "/proc/self/comm"));
	assert_string_equal(g_read(g, "/proc/self/task/2/comm"), "errno 2");
	assert_string_equal(g_read(g, "/proc/2/comm"), "errno 2");
	assert_string_equal(g_read(g, "/proc/sys/kernel/ostype"), "Linux\n");
	assert_string_equal(g_read(g, "/sys/devices/system/cpu/online"), "0\n");
	assert_string_equal(g_read(g, "/sys/fs/cgroup/memory.max"), "errno 2");
	snprintf(first, sizeof(first), "%s", g_read(g, "/proc/sys/kernel/random/uuid"));
	assert_int_equal(strlen(first), 37);
	assert_string_not_equal(first, g_read(g, "/proc/sys/kernel/random/uuid"));
	assert_int_equal(g_write(g, "/proc/self/comm", "worker\n"), 7);
	assert_string_equal(g_read(g, "/proc/self/comm"), "worker\n");
	assert_int_equal(g_write(g, "/proc/self/oom_score_adj", "100"), 3);
	assert_int_equal(g_open(g, "/proc/self/maps", O_WRONLY), -EACCES);
	assert_int_equal(g_open(g, "/proc/new", O_WRONLY | O_CREAT), -ENOENT);
	assert_int_equal(SYS(g, unlink, str(g, "/proc/uptime")), -EPERM);
	assert_int_equal(g_open(g, "/proc/self/mem", O_RDWR), -ENOENT);
}

static void expect_listed(struct guest *g, const char *dir, const char *name)
{
	char buf[8192];
	int64_t fd = g_open(g, dir, O_RDONLY | O_DIRECTORY), n;
	bool seen = false;

	assert_true(fd >= 0);
	while ((n = SYS(g, getdents64, fd, ARENA, 128)) > 0) {
		get(g, 0, buf, (size_t)n);
		for (int64_t at = 0; at < n;) {
			struct dirent64 *e = (struct dirent64 *)(buf + at);

			seen |= !strcmp(e->d_name, name);
			at += e->d_reclen;
		}
	}
	assert_int_equal(n, 0);
	SYS(g, close, fd);
	if (!seen)
		print_error("%s does not list %s\n", dir, name);
	assert_true(seen);
}

static void test_listing(void **state)
{
	struct guest *g = *state;

	expect_listed(g, "/proc", "self");
	expect_listed(g, "/proc", "1");
	expect_listed(g, "/proc/self", "maps");
	expect_listed(g, "/proc/self/fd", "2");
	expect_listed(g, "/proc/self/task", "1");
	expect_listed(g, "/proc/self/task/1", "stat");
	expect_listed(g, "/dev", "null");
	expect_listed(g, "/sys/devices/system/cpu", "online");
}

static void test_fd_links(void **state)
{
	struct guest *g = *state;
	char name[64];
	int64_t fd;
	struct stat st;

	assert_int_equal(g_write(g, "/tmp/file", "text"), 4);
	fd = g_open(g, "/tmp/file", O_RDONLY);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", (int)fd);
	assert_string_equal(g_readlink(g, name), "/tmp/file");
	assert_string_equal(g_read(g, name), "text");
	assert_int_equal(SYS(g, unlink, str(g, "/tmp/file")), 0);
	assert_string_equal(g_readlink(g, name), "/tmp/file (deleted)");
	/* The link leads to the file itself, which has no name any more. */
	assert_string_equal(g_read(g, name), "text");
	assert_int_equal(SYS(g, truncate, str(g, name), 2), 0);
	assert_int_equal(g_stat(g, name, &st), 0);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(SYS(g, linkat, AT_FDCWD, str(g, name), AT_FDCWD, str2(g, "/tmp/again"),
			     AT_SYMLINK_FOLLOW),
			 0);
	assert_string_equal(g_read(g, "/tmp/again"), "te");
	assert_string_equal(g_read(g, "/proc/self/fd/99"), "errno 2");
	assert_string_equal(g_read(g, "/proc/self/fd/01"), "errno 2");
	assert_string_equal(g_read(g, "/proc/self/fd/+1"), "errno 2");
	assert_string_equal(g_read(g, "/proc/self/fd/4294967297"), "errno 2");
}

static void test_devices(void **state)
{
	struct guest *g = *state;
	uint8_t a[64], b[64], zero[64] = {0};
	struct stat st;
	int64_t fd;

	assert_int_equal(g_stat(g, "/dev/null", &st), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	assert_string_equal(g_read(g, "/dev/null"), "");
	assert_int_equal(g_write(g, "/dev/null", "away"), 4);
	assert_int_equal(g_write(g, "/dev/full", "away"), -ENOSPC);
	assert_int_equal(g_open(g, "/dev/tty", O_RDWR), -ENXIO);
	assert_int_equal(g_open(g, "/dev/ptmx", O_RDWR), -ENOENT);
	assert_int_equal(g_open(g, "/dev/kvm", O_RDWR), -ENOENT);
	fd = g_open(g, "/dev/urandom", O_RDONLY);
	assert_int_equal(SYS(g, read, fd, ARENA, 64), 64);
	get(g, 0, a, 64);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 64, 0), 64);
	get(g, 0, b, 64);
	assert_memory_not_equal(a, b, 64);
	fd = g_open(g, "/dev/zero", O_RDONLY);
	assert_int_equal(SYS(g, read, fd, ARENA, 64), 64);
	get(g, 0, a, 64);
	assert_memory_equal(a, zero, 64);
	assert_int_equal(g_write(g, "/dev/shm/x", "shared"), 6);
	assert_string_equal(g_read(g, "/dev/shm/x"), "shared");
	assert_int_equal(SYS(g, rename, str(g, "/dev/shm/x"), str2(g, "/tmp/x")), -EXDEV);
}

static void test_stdio(void **state)
{
	struct guest *g = *state;
	struct stat st;

	memset(sunk, 0, sizeof(sunk));
	vfs_set_stdio_sink(&g->p, sink);
	assert_int_equal(SYS(g, read, 0, ARENA, 10), 0);
	assert_int_equal(SYS(g, write, 0, put(g, 0, "x", 1), 1), -EBADF);
	assert_int_equal(SYS(g, write, 1, put(g, 0, "out", 3), 3), 3);
	assert_int_equal(SYS(g, write, 2, put(g, 0, "err", 3), 3), 3);
	assert_int_equal(g_write(g, "/dev/stdout", "more"), 4);
	assert_int_equal(g_write(g, "/dev/fd/2", "more"), 4);
	assert_string_equal(sunk[1], "outmore");
	assert_string_equal(sunk[2], "errmore");
	assert_int_equal(SYS(g, ioctl, 1, 0x5401 /* TCGETS */, ARENA), -ENOTTY);
	assert_int_equal(SYS(g, lseek, 1, 0, SEEK_CUR), -ESPIPE);
	assert_int_equal(SYS(g, fstat, 1, ARENA), 0);
	get(g, 0, &st, sizeof(st));
	assert_true(S_ISFIFO(st.st_mode));
}

static void test_descriptors(void **state)
{
	struct guest *g = *state;

	assert_int_equal(SYS(g, dup, 1), 3);
	assert_int_equal(SYS(g, dup2, 1, 10), 10);
	assert_int_equal(SYS(g, dup3, 1, 11, O_CLOEXEC), 11);
	assert_int_equal(SYS(g, dup3, 1, 1, 0), -EINVAL);
	assert_int_equal(SYS(g, dup2, 1, 1), 1);
	assert_int_equal(SYS(g, dup2, 1, 1024), -EBADF);
	assert_int_equal(SYS(g, dup2, 99, 5), -EBADF);
	assert_int_equal(SYS(g, fcntl, 11, F_GETFD), FD_CLOEXEC);
	assert_int_equal(SYS(g, fcntl, 10, F_GETFD), 0);
	assert_int_equal(SYS(g, fcntl, 1, F_DUPFD_CLOEXEC, 10), 12);
	assert_int_equal(SYS(g, fcntl, 1, F_DUPFD, 1024), -EINVAL);
	assert_int_equal(SYS(g, fcntl, 1, F_GETFL), O_WRONLY);
	assert_int_equal(SYS(g, fcntl, 1, F_SETFL, O_NONBLOCK | O_RDWR), 0);
	assert_int_equal(SYS(g, fcntl, 10, F_GETFL), O_WRONLY | O_NONBLOCK);
	assert_int_equal(SYS(g, close_range, 10, UINT32_MAX, 0), 0);
	assert_int_equal(SYS(g, close, 10), -EBADF);
	assert_int_equal(SYS(g, close, 3), 0);
	for (int fd = 3; fd < FILES_MAX; fd++)
		assert_int_equal(SYS(g, dup, 1), fd);
	assert_int_equal(SYS(g, dup, 1), -EMFILE);
	assert_int_equal(g_open(g, "/dev/null", O_RDONLY), -EMFILE);
	assert_int_equal(SYS(g, pipe2, ARENA, 0), -EMFILE);
}

/* Every description keeps its text: a thousand of them must not keep as many large ones. */
static void test_texts_are_limited(void **state)
{
	struct guest *g = *state;
	int64_t fd, n = 1;

	/* Mappings that cannot be one: every other page. */
	for (uint64_t at = 0x50000000; at < 0x50000000 + 8000ull * PAGE_BYTES; at += 2 * PAGE_BYTES)
		assert_true(mm_map(&g->p, at, PAGE_BYTES, PROT_READ,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) > 0);
	for (int i = 0; n > 0 && i < 500; i++) {
		fd = SYS(g, openat, AT_FDCWD, str(g, "/proc/self/maps"), O_RDONLY, 0);
		assert_true(fd >= 0);
		n = SYS(g, read, fd, ARENA, 1);
	}
	assert_int_equal(n, -ENOMEM);
	assert_true(g->p.vfs->synth_bytes <= 16u << 20);
	assert_int_equal(SYS(g, close_range, 3, UINT32_MAX, 0), 0);
	assert_int_equal(g->p.vfs->synth_bytes, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_proc),
		TEST(test_listing),
		TEST(test_fd_links),
		TEST(test_devices),
		TEST(test_stdio),
		TEST(test_descriptors),
		TEST(test_texts_are_limited),
	};

	return cmocka_run_group_tests_name("vfs-synth", tests, NULL, NULL);
}
