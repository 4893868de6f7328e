/* SPDX-License-Identifier: Apache-2.0 */
/* test_vfs.c - path names: nothing leaves the roots, and errors are Linux's */
#include <dirent.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "tests/unit/vfs_fixture.h"

static void expect_open(struct guest *g, const char *path, int flags, int err)
{
	int64_t fd = g_open(g, path, flags);

	if (fd >= 0)
		SYS(g, close, fd);
	if ((fd < 0 ? -fd : 0) != err)
		print_error("open %s with %#o: %d\n", path, (unsigned)flags, (int)fd);
	assert_int_equal(fd < 0 ? -fd : 0, err);
}

/* root: usr/bin/tool, bin -> usr/bin, data; task: app, venv -> /usr/bin/tool. */
static void tree_make(struct guest *g)
{
	host_mkdir(g, "root/usr");
	host_mkdir(g, "root/usr/bin");
	host_mkdir(g, "root/var");
	host_write(g, "root/usr/bin/tool-1.2", "tool");
	host_link(g, "tool-1.2", "root/usr/bin/tool");
	host_link(g, "usr/bin", "root/bin");
	host_link(g, "/usr", "root/absolute");
	host_write(g, "root/data", "data");
	host_write(g, "task/app", "app");
	host_link(g, "/usr/bin/tool", "task/venv");
	host_link(g, "../../usr/bin/tool", "task/relative");
}

static void test_names(void **state)
{
	struct guest *g = *state;

	tree_make(g);
	assert_string_equal(g_read(g, "/data"), "data");
	assert_string_equal(g_read(g, "//./data"), "data");
	assert_string_equal(g_read(g, "/usr/bin/tool"), "tool");
	assert_string_equal(g_read(g, "/bin/tool"), "tool");
	assert_string_equal(g_read(g, "/absolute/bin/../bin/tool"), "tool");
	assert_string_equal(g_read(g, "/bin/../../data"), "data");
	assert_string_equal(g_read(g, "/var/task/app"), "app");
	assert_string_equal(g_read(g, "/var/task/venv"), "tool");
	assert_string_equal(g_read(g, "/var/task/relative"), "tool");
	assert_string_equal(g_read(g, "/var/../var/task/../task/./app"), "app");
	assert_string_equal(g_read(g, "/tmp/../data"), "data");
	assert_string_equal(g_read(g, "/proc/self/../../data"), "data");
	assert_string_equal(g_readlink(g, "/usr/bin/tool"), "tool-1.2");
	assert_string_equal(g_readlink(g, "/data"), "errno 22");
	expect_open(g, "", O_RDONLY, ENOENT);
	expect_open(g, "/data/", O_RDONLY, ENOTDIR);
	expect_open(g, "/data/x", O_RDONLY, ENOTDIR);
	expect_open(g, "/data/..", O_RDONLY, ENOTDIR);
	expect_open(g, "/nothing", O_RDONLY, ENOENT);
	expect_open(g, "/nothing/../data", O_RDONLY, ENOENT);
	expect_open(g, "/var/nothing", O_RDONLY, ENOENT);
	expect_open(g, "/usr/bin/tool", O_RDONLY | O_NOFOLLOW, ELOOP);
	expect_open(g, "/usr/bin/tool", O_PATH | O_NOFOLLOW, 0);
	expect_open(g, "/usr/bin/tool/", O_RDONLY, ENOTDIR);
	expect_open(g, "/bin/", O_RDONLY | O_DIRECTORY, 0);
	expect_open(g, "/data", O_RDONLY | O_DIRECTORY, ENOTDIR);
	assert_int_equal(SYS(g, openat, 77, str(g, "data"), O_RDONLY), -EBADF);
	assert_int_equal(SYS(g, openat, 77, str(g, "/data"), O_RDONLY), 3);
	assert_int_equal(SYS(g, openat, 3, str(g, "x"), O_RDONLY), -ENOTDIR);
	assert_int_equal(SYS(g, openat, AT_FDCWD, 16, O_RDONLY), -EFAULT);
}

static void test_read_only(void **state)
{
	struct guest *g = *state;

	tree_make(g);
	expect_open(g, "/data", O_WRONLY, EROFS);
	expect_open(g, "/data", O_RDWR, EROFS);
	expect_open(g, "/data", O_RDONLY | O_TRUNC, EROFS);
	expect_open(g, "/data", O_RDONLY | O_CREAT, 0);
	expect_open(g, "/data", O_RDONLY | O_CREAT | O_EXCL, EEXIST);
	expect_open(g, "/new", O_WRONLY | O_CREAT, EROFS);
	expect_open(g, "/nothing/new", O_WRONLY | O_CREAT, ENOENT);
	expect_open(g, "/data/new", O_WRONLY | O_CREAT, ENOTDIR);
	expect_open(g, "/usr", O_WRONLY, EISDIR);
	expect_open(g, "/usr", O_RDONLY | O_CREAT, EISDIR);
	expect_open(g, "/usr", O_RDWR | O_TMPFILE, EROFS);
	assert_int_equal(SYS(g, mkdir, str(g, "/new"), 0755), -EROFS);
	assert_int_equal(SYS(g, mkdir, str(g, "/usr"), 0755), -EEXIST);
	assert_int_equal(SYS(g, mkdir, str(g, "/"), 0755), -EEXIST);
	assert_int_equal(SYS(g, unlink, str(g, "/data")), -EROFS);
	assert_int_equal(SYS(g, unlink, str(g, "/nothing")), -ENOENT);
	assert_int_equal(SYS(g, rmdir, str(g, "/usr")), -EROFS);
	assert_int_equal(SYS(g, rmdir, str(g, "/usr/.")), -EINVAL);
	assert_int_equal(SYS(g, rmdir, str(g, "/tmp")), -EBUSY);
	assert_int_equal(SYS(g, rename, str(g, "/data"), str2(g, "/other")), -EROFS);
	assert_int_equal(SYS(g, rename, str(g, "/data"), str2(g, "/tmp/other")), -EXDEV);
	assert_int_equal(SYS(g, link, str(g, "/data"), str2(g, "/tmp/other")), -EXDEV);
	assert_int_equal(SYS(g, symlink, str(g, "x"), str2(g, "/new")), -EROFS);
	assert_int_equal(SYS(g, chmod, str(g, "/data"), 0777), -EROFS);
	assert_int_equal(SYS(g, truncate, str(g, "/data"), 0), -EROFS);
	assert_int_equal(SYS(g, access, str(g, "/data"), W_OK), -EROFS);
	assert_int_equal(SYS(g, access, str(g, "/data"), X_OK), -EACCES);
	assert_int_equal(SYS(g, access, str(g, "/data"), R_OK), 0);
	assert_int_equal(SYS(g, mount, 0, 0, 0), -EPERM);
}

/* Whatever a path or a link says, "outside" is never reached. */
static void test_escapes(void **state)
{
	struct guest *g = *state;
	static const char *const tries[] = {
		"/../outside/secret",
		"/../../../../../../outside/secret",
		"/up/secret",
		"/usr/up/secret",
		"/host",
		"/var/task/../../../outside/secret",
		"/var/task/up/outside/secret",
		"/tmp/../../outside/secret",
		"/tmp/l/secret",
		"/proc/self/root/../outside/secret",
		"/proc/self/cwd/../outside/secret",
		"/proc/self/fd/0/../outside/secret",
		"/proc/1/task/1/root/outside/secret",
		"/magic/outside/secret",
		"/dev/fd/../../../outside/secret",
	};
	char host[160], tmp[128];

	tree_make(g);
	snprintf(host, sizeof(host), "%s/outside/secret", g->dir);
	host_link(g, "../outside", "root/up");
	host_link(g, "../../../outside", "root/usr/up");
	host_link(g, host, "root/host");
	host_link(g, "..", "task/up");
	host_link(g, "/proc/self/root/..", "root/magic");
	snprintf(tmp, sizeof(tmp), "%s/outside", g->dir);
	assert_int_equal(SYS(g, symlink, str(g, tmp), str2(g, "/tmp/l")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		if (!strstr(g_read(g, tries[i]), "errno"))
			print_error("%s got out\n", tries[i]);
		assert_string_not_equal(g_read(g, tries[i]), "secret");
		assert_non_null(strstr(g_read(g, tries[i]), "errno"));
	}
	assert_string_equal(g_read(g, host), "errno 2");
	/* But a link from the private directory into the root is an ordinary one. */
	assert_int_equal(SYS(g, symlink, str(g, "/usr/bin"), str2(g, "/tmp/bin")), 0);
	assert_string_equal(g_read(g, "/tmp/bin/tool"), "tool");
	assert_string_equal(g_read(g, "/tmp/bin/../../data"), "data");
	assert_string_equal(g_read(g, "/proc/self/root/data"), "data");
	assert_int_equal(SYS(g, chdir, str(g, "/usr")), 0);
	assert_string_equal(g_read(g, "/proc/self/cwd/bin/tool"), "tool");
	assert_string_equal(g_read(g, "../data"), "data");
	assert_string_equal(g_read(g, "../../../data"), "data");
}

static void test_loops_and_lengths(void **state)
{
	struct guest *g = *state;
	char path[5000], name[300];

	host_link(g, "b", "root/a");
	host_link(g, "/a", "root/b");
	host_link(g, "/tmp/m", "root/n");
	expect_open(g, "/a", O_RDONLY, ELOOP);
	expect_open(g, "/a/x", O_RDONLY, ELOOP);
	expect_open(g, "/a", O_WRONLY | O_CREAT, ELOOP);
	assert_int_equal(SYS(g, symlink, str(g, "/n"), str2(g, "/tmp/m")), 0);
	expect_open(g, "/n", O_RDONLY, ELOOP);
	memset(name, 'x', sizeof(name));
	name[0] = '/';
	name[257] = '\0';
	expect_open(g, name, O_RDONLY, ENAMETOOLONG);
	memcpy(path, "/tmp", 4);
	memcpy(path + 4, name, 258);
	expect_open(g, path, O_CREAT | O_WRONLY, ENAMETOOLONG);
	path[260] = '\0';
	expect_open(g, path, O_CREAT | O_WRONLY, 0);
	memset(path, '/', sizeof(path));
	path[4095] = '\0';
	expect_open(g, path, O_RDONLY, 0);
	path[4095] = '/';
	path[4096] = '\0';
	expect_open(g, path, O_RDONLY, ENAMETOOLONG);
}

/* Nodes that would reach a device, a program or a queue of the host are seen, never opened. */
static void test_special_nodes(void **state)
{
	struct guest *g = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char path[128];
	struct stat st;
	int sock;

	snprintf(path, sizeof(path), "%s/root/fifo", g->dir);
	assert_int_equal(mkfifo(path, 0666), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/root/sock", g->dir);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(sock);
	expect_open(g, "/fifo", O_RDONLY, ENXIO);
	expect_open(g, "/fifo", O_WRONLY, ENXIO);
	expect_open(g, "/sock", O_RDONLY, ENXIO);
	assert_int_equal(g_stat(g, "/fifo", &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	expect_open(g, "/fifo", O_PATH, 0);
	snprintf(path, sizeof(path), "%s/root/null", g->dir);
	if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) < 0) {
		print_message("no device node can be made here: %s\n", strerror(errno));
		return;
	}
	expect_open(g, "/null", O_RDONLY, EACCES);
}

static void test_stat(void **state)
{
	struct guest *g = *state;
	struct stat a, b;

	tree_make(g);
	assert_int_equal(g_stat(g, "/data", &a), 0);
	assert_true(S_ISREG(a.st_mode) && a.st_size == 4 && !a.st_uid && !a.st_gid);
	assert_int_equal(g_stat(g, "/usr/bin/tool", &b), 0);
	assert_int_equal(a.st_dev, b.st_dev);
	assert_int_not_equal(a.st_ino, b.st_ino);
	assert_int_equal(g_stat(g, "/var/task/app", &b), 0);
	assert_int_not_equal(a.st_dev, b.st_dev);
	assert_int_equal(SYS(g, lstat, str(g, "/usr/bin/tool"), ARENA), 0);
	get(g, 0, &b, sizeof(b));
	assert_true(S_ISLNK(b.st_mode));
	assert_int_equal(g_open(g, "/data", O_RDONLY), 3);
	assert_int_equal(SYS(g, newfstatat, 3, str(g, ""), ARENA, AT_EMPTY_PATH), 0);
	get(g, 0, &b, sizeof(b));
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(SYS(g, newfstatat, 3, str(g, ""), ARENA, 0), -ENOENT);
	assert_int_equal(SYS(g, newfstatat, 3, str(g, ""), ARENA, 0x40000000), -EINVAL);
}

/* Layers; and a program that remembers device numbers finds the old ones after a restore. */
static void test_opt(void **state)
{
	static const struct {
		const char *path;
		unsigned minor;
	} devices[] = {{"/", 0x20},	     {"/var/task", 0x21}, {"/tmp", 0x23},
		       {"/dev/shm", 0x24},   {"/proc", 0x25},	  {"/dev", 0x26},
		       {"/opt/python", 0x28}};
	struct guest *g = *state;
	struct stat st;

	tree_make(g);
	host_mkdir(g, "root/opt");
	host_write(g, "root/opt/hidden", "of the host");
	host_mkdir(g, "opt/python");
	host_write(g, "opt/python/layer.py", "layer");
	assert_string_equal(g_read(g, "/opt/python/layer.py"), "layer");
	assert_string_equal(g_read(g, "/opt/../data"), "data");
	expect_open(g, "/opt/hidden", O_RDONLY, ENOENT);
	expect_open(g, "/opt/python/layer.py", O_WRONLY, EROFS);
	expect_open(g, "/opt/new", O_WRONLY | O_CREAT, EROFS);
	assert_int_equal(SYS(g, unlink, str(g, "/opt/python/layer.py")), -EROFS);
	assert_int_equal(SYS(g, rename, str(g, "/opt/python"), str2(g, "/opt/p")), -EROFS);
	assert_non_null(strstr(g_read(g, "/proc/mounts"), "quickthaw /opt overlay ro"));
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		assert_int_equal(g_stat(g, devices[i].path, &st), 0);
		assert_int_equal(st.st_dev, makedev(0, devices[i].minor));
	}
}

static void test_directories(void **state)
{
	struct guest *g = *state;
	char buf[4096];
	unsigned seen = 0;
	int64_t fd, n;

	tree_make(g);
	fd = g_open(g, "/usr/bin", O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	/* One entry at a time: positions hold. */
	while ((n = SYS(g, getdents64, fd, ARENA, 40)) > 0) {
		get(g, 0, buf, (size_t)n);
		for (int64_t at = 0; at < n; seen++)
			at += ((struct dirent64 *)(buf + at))->d_reclen;
	}
	assert_int_equal(n, 0);
	assert_int_equal(seen, 4);
	assert_int_equal(SYS(g, lseek, fd, 0, SEEK_SET), 0);
	assert_int_equal(SYS(g, getdents64, fd, ARENA, 8), -EINVAL);
	assert_true(SYS(g, getdents64, fd, ARENA, 4096) > 0);
	assert_int_equal(SYS(g, openat, fd, str(g, "tool"), O_RDONLY), fd + 1);
	assert_int_equal(SYS(g, read, fd, ARENA, 10), -EISDIR);
	assert_int_equal(SYS(g, fchdir, fd), 0);
	assert_int_equal(SYS(g, getcwd, ARENA, 4096), 9);
	get(g, 0, buf, 9);
	assert_string_equal(buf, "/usr/bin");
	assert_int_equal(SYS(g, getcwd, ARENA, 8), -ERANGE);
	assert_int_equal(SYS(g, chdir, str(g, "/data")), -ENOTDIR);
	assert_int_equal(SYS(g, chdir, str(g, "..")), 0);
	assert_int_equal(SYS(g, getcwd, ARENA, 4096), 5);
}

static void test_openat2(void **state)
{
	struct guest *g = *state;
	struct open_how how = {.flags = O_RDONLY};
	int64_t fd;

	tree_make(g);
	fd = g_open(g, "/usr", O_PATH);
#define OPEN2(path, how_resolve)                                                                   \
	(how.resolve = (how_resolve),                                                              \
	 SYS(g, openat2, fd, str(g, path), put(g, 64, &how, sizeof(how)), sizeof(how)))
	assert_int_equal(OPEN2("bin/tool", RESOLVE_NO_SYMLINKS), -ELOOP);
	assert_true(OPEN2("bin/tool-1.2", RESOLVE_NO_SYMLINKS) >= 0);
	assert_int_equal(OPEN2("../data", RESOLVE_BENEATH), -EXDEV);
	assert_int_equal(OPEN2("/data", RESOLVE_BENEATH), -EXDEV);
	assert_true(OPEN2("bin/../bin/tool", RESOLVE_BENEATH) >= 0);
	assert_int_equal(OPEN2("../data", RESOLVE_IN_ROOT), -ENOENT);
	assert_true(OPEN2("/../bin/tool", RESOLVE_IN_ROOT) >= 0);
	assert_int_equal(OPEN2("/tmp", RESOLVE_NO_XDEV), -EXDEV);
	assert_int_equal(OPEN2("/proc/self/fd/0", RESOLVE_NO_MAGICLINKS), -ELOOP);
	assert_int_equal(OPEN2("/proc/self/stat", RESOLVE_NO_MAGICLINKS) >= 0, 1);
	assert_int_equal(OPEN2("bin", 0x800), -EINVAL);
}

/* A restore opens nothing; what changed meanwhile is noticed at first use. */
static void test_restore(void **state)
{
	struct guest *g = *state;
	struct guest *to = calloc(1, sizeof(*to));
	char buf[16] = "";
	int64_t data, dir, gone;

	tree_make(g);
	host_write(g, "root/gone", "0123456789");
	data = g_open(g, "/data", O_RDONLY);
	dir = g_open(g, "/usr/bin", O_RDONLY);
	gone = g_open(g, "/gone", O_RDONLY);
	assert_int_equal(SYS(g, lseek, data, 2, SEEK_SET), 2);
	assert_int_equal(SYS(g, chdir, str(g, "/usr")), 0);
	guest_move(g, to);
	host_write(g, "root/gone", "other");
	assert_int_equal(SYS(to, read, data, ARENA, 16), 2);
	get(to, 0, buf, 2);
	assert_string_equal(buf, "ta");
	assert_true(SYS(to, getdents64, dir, ARENA, 4096) > 0);
	assert_string_equal(g_read(to, "bin/tool"), "tool");
	assert_int_equal(to->p.end, PROC_RUNS);
	assert_int_equal(SYS(to, read, gone, ARENA, 16), -EIO);
	assert_int_equal(to->p.end, PROC_BROKEN);
	assert_non_null(strstr(to->p.end_text, "/gone"));
	guest_stop(to);
	free(to);
}

/* Every prefix and many altered copies of a state: refused or loaded, never a crash. */
static void test_hostile_state(void **state)
{
	struct guest *g = *state;
	struct state_writer w = {0};
	unsigned seed = 1;

	tree_make(g);
	g_open(g, "/data", O_RDONLY);
	g_open(g, "/proc/self/maps", O_RDONLY);
	assert_int_equal(g_write(g, "/tmp/file", "some text"), 9);
	g_open(g, "/tmp/file", O_RDWR);
	SYS(g, mkdir, str(g, "/tmp/dir"), 0755);
	SYS(g, symlink, str(g, "/x"), str2(g, "/tmp/dir/link"));
	SYS(g, chdir, str(g, "/tmp/dir"));
	SYS(g, pipe2, ARENA, 0);
	SYS(g, eventfd2, 3, 0);
	assert_int_equal(vfs_save(&g->p, &w), 0);
	assert_int_equal(files_save(&g->p, &w), 0);
	for (unsigned i = 0; i < 3000; i++) {
		struct guest *to = calloc(1, sizeof(*to));
		uint8_t *copy = malloc(w.used);
		size_t n = i < w.used ? i : w.used;
		struct state_reader r = {.data = copy, .left = n};

		memcpy(copy, w.data, w.used);
		if (n == w.used || i % 2)
			for (int k = 0; k < 3; k++)
				copy[(unsigned)rand_r(&seed) % w.used] ^=
					(uint8_t)(1u << (unsigned)rand_r(&seed) % 8);
		guest_start(to, g->dir);
		if (!vfs_load(&to->p, &r))
			files_load(&to->p, &r);
		files_free(&to->p);
		vfs_free(&to->p);
		assert_int_equal(files_new(&to->p), 0);
		guest_stop(to);
		free(copy);
		free(to);
	}
	state_writer_free(&w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),	  TEST(test_read_only),
		TEST(test_escapes),	  TEST(test_loops_and_lengths),
		TEST(test_special_nodes), TEST(test_stat),
		TEST(test_directories),	  TEST(test_openat2),
		TEST(test_restore),	  TEST(test_hostile_state),
		TEST(test_opt),
	};

	return cmocka_run_group_tests_name("vfs", tests, NULL, NULL);
}
