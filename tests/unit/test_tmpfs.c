/* SPDX-License-Identifier: Apache-2.0 */
/* test_tmpfs.c - the in-memory file system: cases, limits, and a random walk beside a real one */
#include <dirent.h>
#include <linux/falloc.h>
#include <sys/statfs.h>

#include "tests/unit/vfs_fixture.h"

static uint64_t frames_used(struct guest *g)
{
	return mm_resident_pages(&g->p);
}

static void test_names(void **state)
{
	struct guest *g = *state;
	struct stat st;

	assert_int_equal(SYS(g, mkdir, str(g, "/tmp/d/"), 0755), 0);
	assert_int_equal(SYS(g, mkdir, str(g, "/tmp/d"), 0755), -EEXIST);
	assert_int_equal(SYS(g, mkdir, str(g, "/tmp/x/y"), 0755), -ENOENT);
	assert_int_equal(g_write(g, "/tmp/d/f", "text"), 4);
	assert_int_equal(g_open(g, "/tmp/d/f", O_CREAT | O_EXCL | O_WRONLY), -EEXIST);
	assert_int_equal(g_open(g, "/tmp/d/new/", O_CREAT | O_WRONLY), -EISDIR);
	assert_int_equal(g_open(g, "/tmp/d", O_WRONLY), -EISDIR);
	assert_int_equal(SYS(g, rmdir, str(g, "/tmp/d")), -ENOTEMPTY);
	assert_int_equal(SYS(g, rmdir, str(g, "/tmp/d/f")), -ENOTDIR);
	assert_int_equal(SYS(g, unlink, str(g, "/tmp/d")), -EISDIR);
	assert_int_equal(SYS(g, link, str(g, "/tmp/d/f"), str2(g, "/tmp/hard")), 0);
	assert_int_equal(SYS(g, link, str(g, "/tmp/d"), str2(g, "/tmp/dir")), -EPERM);
	assert_int_equal(g_stat(g, "/tmp/hard", &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(g_stat(g, "/tmp", &st), 0);
	assert_int_equal(st.st_nlink, 3);
	assert_true(st.st_mode & S_ISVTX);
	assert_int_equal(SYS(g, symlink, str(g, "d/f"), str2(g, "/tmp/soft")), 0);
	assert_int_equal(SYS(g, symlink, str(g, ""), str2(g, "/tmp/soft2")), -ENOENT);
	assert_string_equal(g_read(g, "/tmp/soft"), "text");
	assert_string_equal(g_readlink(g, "/tmp/soft"), "d/f");
	assert_int_equal(SYS(g, symlink, str(g, "made"), str2(g, "/tmp/dangling")), 0);
	assert_int_equal(g_open(g, "/tmp/dangling", O_CREAT | O_EXCL | O_WRONLY), -EEXIST);
	assert_int_equal(g_write(g, "/tmp/dangling", "by link"), 7);
	assert_string_equal(g_read(g, "/tmp/made"), "by link");
	SYS(g, umask, 077);
	assert_int_equal(SYS(g, mkdir, str(g, "/tmp/private"), 0777), 0);
	assert_int_equal(g_stat(g, "/tmp/private", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(SYS(g, umask, 022), 077);
	assert_int_equal(SYS(g, mknod, str(g, "/tmp/node"), S_IFREG | 0600), 0);
	assert_int_equal(SYS(g, mknod, str(g, "/tmp/dev"), S_IFCHR | 0600), -EPERM);
}

static void test_rename(void **state)
{
	struct guest *g = *state;
	char path[64];

	SYS(g, mkdir, str(g, "/tmp/a"), 0755);
	SYS(g, mkdir, str(g, "/tmp/a/b"), 0755);
	SYS(g, mkdir, str(g, "/tmp/c"), 0755);
	g_write(g, "/tmp/f", "f");
	g_write(g, "/tmp/g", "g");
#define RENAME2(from, to, flags)                                                                   \
	SYS(g, renameat2, AT_FDCWD, str(g, from), AT_FDCWD, str2(g, to), flags)
	assert_int_equal(RENAME2("/tmp/a", "/tmp/a/b/x", 0), -EINVAL);
	assert_int_equal(RENAME2("/tmp/f", "/tmp/a", 0), -EISDIR);
	assert_int_equal(RENAME2("/tmp/a", "/tmp/f", 0), -ENOTDIR);
	assert_int_equal(RENAME2("/tmp/c", "/tmp/a", 0), -ENOTEMPTY);
	assert_int_equal(RENAME2("/tmp/a/b", "/tmp/a", 0), -ENOTEMPTY);
	assert_int_equal(RENAME2("/tmp/none", "/tmp/x", 0), -ENOENT);
	assert_int_equal(RENAME2("/tmp/f", "/tmp/g", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(RENAME2("/tmp/f", "/tmp/none", RENAME_EXCHANGE), -ENOENT);
	assert_int_equal(RENAME2("/tmp/f", "/tmp/g", 8), -EINVAL);
	assert_int_equal(RENAME2("/tmp/f", "/tmp/g", RENAME_EXCHANGE), 0);
	assert_string_equal(g_read(g, "/tmp/f"), "g");
	assert_int_equal(RENAME2("/tmp/f", "/tmp/g", 0), 0);
	assert_string_equal(g_read(g, "/tmp/g"), "g");
	assert_string_equal(g_read(g, "/tmp/f"), "errno 2");
	assert_int_equal(RENAME2("/tmp/a", "/tmp/a", 0), 0);
	assert_int_equal(RENAME2("/tmp/a/b", "/tmp/g", RENAME_EXCHANGE), 0);
	assert_string_equal(g_read(g, "/tmp/a/b"), "g");
	assert_int_equal(SYS(g, chdir, str(g, "/tmp/g")), 0);
	assert_int_equal(RENAME2("/tmp/g", "/tmp/c/moved", 0), 0);
	assert_int_equal(SYS(g, getcwd, ARENA, 64), 13);
	get(g, 0, path, 13);
	assert_string_equal(path, "/tmp/c/moved");
	assert_int_equal(g_write(g, "here", "x"), 1);
	assert_string_equal(g_read(g, "../moved/here"), "x");
	assert_int_equal(SYS(g, unlink, str(g, "here")), 0);
	assert_int_equal(SYS(g, rmdir, str(g, "/tmp/c/moved")), 0);
	assert_int_equal(SYS(g, getcwd, ARENA, 64), -ENOENT);
	assert_int_equal(g_open(g, "here", O_CREAT | O_WRONLY), -ENOENT);
	assert_int_equal(g_open(g, "/tmp/g", O_RDONLY), -ENOENT);
}

static void test_data(void **state)
{
	struct guest *g = *state;
	char buf[64];
	struct stat st;
	uint64_t before;
	int64_t fd;

	g_write(g, "/tmp/first", "so that the arena is there");
	SYS(g, unlink, str(g, "/tmp/first"));
	before = frames_used(g);
	fd = g_open(g, "/tmp/f", O_CREAT | O_RDWR);

	assert_int_equal(SYS(g, pwrite64, fd, put(g, 0, "end", 3), 3, 1 << 20), 3);
	assert_int_equal(SYS(g, fstat, fd, ARENA), 0);
	get(g, 0, &st, sizeof(st));
	assert_int_equal(st.st_size, (1 << 20) + 3);
	assert_int_equal(st.st_blocks, 8);
	assert_int_equal(SYS(g, lseek, fd, 0, SEEK_DATA), 1 << 20);
	assert_int_equal(SYS(g, lseek, fd, 0, SEEK_HOLE), 0);
	assert_int_equal(SYS(g, lseek, fd, 5, SEEK_END), (1 << 20) + 8);
	assert_int_equal(SYS(g, lseek, fd, -1, SEEK_SET), -EINVAL);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 64, (1 << 20) - 32), 35);
	get(g, 0, buf, 35);
	assert_memory_equal(buf + 32, "end", 3);
	for (int i = 0; i < 32; i++)
		assert_int_equal(buf[i], 0);
	/* What was cut off does not come back when the file grows again. */
	assert_int_equal(SYS(g, ftruncate, fd, (1 << 20) + 1), 0);
	assert_int_equal(SYS(g, ftruncate, fd, (1 << 20) + 3), 0);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 64, 1 << 20), 3);
	get(g, 0, buf, 3);
	assert_memory_equal(buf, "e\0\0", 3);
	assert_int_equal(SYS(g, fallocate, fd, 0, 0, 8192), 0);
	assert_int_equal(SYS(g, fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5000),
			 0);
	assert_int_equal(SYS(g, lseek, fd, 0, SEEK_DATA), 4096);
	assert_int_equal(SYS(g, fcntl, fd, F_SETFL, O_APPEND), 0);
	assert_int_equal(SYS(g, pwrite64, fd, put(g, 0, "tail", 4), 4, 0), 4);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 64, (1 << 20) + 3), 4);
	assert_int_equal(SYS(g, unlink, str(g, "/tmp/f")), 0);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 64, (1 << 20) + 3), 4);
	assert_int_equal(SYS(g, close, fd), 0);
	assert_int_equal(frames_used(g), before);
	assert_int_equal(g->p.vfs->tmpfs.page_count, 0);
	assert_int_equal(g->p.vfs->tmpfs.inode_count, 2);
}

static void test_limits(void **state)
{
	struct guest *g = *state;
	int64_t fd = g_open(g, "/tmp/big", O_CREAT | O_RDWR), total = 0, n;
	struct statfs fs;
	char path[64];

	while ((n = SYS(g, write, fd, ARENA, 1000000)) > 0)
		total += n;
	assert_int_equal(n, -ENOSPC);
	assert_int_equal(total, MIB(TMP_MIB));
	assert_int_equal(SYS(g, statfs, str(g, "/tmp"), ARENA), 0);
	get(g, 0, &fs, sizeof(fs));
	assert_int_equal(fs.f_bfree, 0);
	assert_int_equal(fs.f_blocks, MIB(TMP_MIB) / PAGE_BYTES);
	assert_int_equal(g_write(g, "/tmp/more", "x"), -ENOSPC);
	assert_int_equal(SYS(g, ftruncate, fd, PAGE_BYTES), 0);
	assert_int_equal(g_write(g, "/tmp/more", "x"), 1);
	assert_int_equal(SYS(g, fallocate, fd, 0, 0, MIB(TMP_MIB) + 1), -ENOSPC);
	assert_int_equal(SYS(g, ftruncate, fd, INT64_MAX), -EFBIG);
	assert_int_equal(SYS(g, pwrite64, fd, ARENA, 1, INT64_MAX), -EFBIG);
	assert_int_equal(SYS(g, pwrite64, fd, ARENA, 1, -1), -EINVAL);
	for (int i = 0;; i++) {
		snprintf(path, sizeof(path), "/tmp/n%d", i);
		n = SYS(g, mknod, str(g, path), S_IFREG | 0600);
		if (n)
			break;
	}
	assert_int_equal(n, -ENOSPC);
	assert_int_equal(g->p.vfs->tmpfs.inode_count, TMPFS_INODES_MAX);
}

static void test_unnamed(void **state)
{
	struct guest *g = *state;
	int64_t fd = g_open(g, "/tmp", O_TMPFILE | O_RDWR), memfd;

	assert_true(fd >= 0);
	assert_int_equal(SYS(g, write, fd, put(g, 0, "tmp", 3), 3), 3);
	assert_int_equal(
		SYS(g, linkat, fd, str(g, ""), AT_FDCWD, str2(g, "/tmp/named"), AT_EMPTY_PATH), 0);
	assert_string_equal(g_read(g, "/tmp/named"), "tmp");
	memfd = SYS(g, memfd_create, str(g, "mem"), 2 /* MFD_ALLOW_SEALING */);
	assert_true(memfd >= 0);
	assert_int_equal(SYS(g, write, memfd, put(g, 0, "mem", 3), 3), 3);
	assert_int_equal(SYS(g, fcntl, memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(SYS(g, ftruncate, memfd, 1), -EPERM);
	assert_int_equal(SYS(g, ftruncate, memfd, 9), -EPERM);
	assert_int_equal(SYS(g, write, memfd, ARENA, 1), -EPERM);
	assert_int_equal(SYS(g, pwrite64, memfd, ARENA, 1, 0), 1);
	assert_int_equal(SYS(g, fcntl, memfd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(SYS(g, fcntl, fd, F_GET_SEALS), -EINVAL);
}

/* A shared mapping and read(2) see the same bytes, also after a restore. */
static void test_shared_mapping(void **state)
{
	struct guest *g = *state;
	struct guest *to = calloc(1, sizeof(*to));
	int64_t fd = g_open(g, "/tmp/shm", O_CREAT | O_RDWR), at;
	char byte;

	assert_int_equal(SYS(g, ftruncate, fd, 32768), 0);
	at = mm_map(&g->p, 0, 32768, PROT_READ | PROT_WRITE, MAP_SHARED, fd_get(&g->p, (int)fd), 0);
	assert_true(at > 0);
	assert_int_equal(poke(&g->p, (uint64_t)at + 5000, 'm'), 0);
	assert_int_equal(SYS(g, pread64, fd, ARENA, 1, 5000), 1);
	get(g, 0, &byte, 1);
	assert_int_equal(byte, 'm');
	assert_int_equal(SYS(g, pwrite64, fd, put(g, 0, "w", 1), 1, 9000), 1);
	assert_int_equal(peek(&g->p, (uint64_t)at + 9000), 'w');
	SYS(g, unlink, str(g, "/tmp/shm"));
	SYS(g, close, fd);
	guest_move(g, to);
	assert_int_equal(peek(&to->p, (uint64_t)at + 5000), 'm');
	assert_int_equal(mm_unmap(&to->p, (uint64_t)at, 32768), 0);
	assert_int_equal(to->p.vfs->tmpfs.page_count, 0);
	assert_int_equal(to->p.vfs->tmpfs.inode_count, 2);
	guest_stop(to);
	free(to);
}

/* ---- a random walk, beside a directory of the host ------------------------------------------ */

struct model {
	struct guest *g;
	char dir[80]; /* a directory of the host's own tmpfs */
	unsigned seed;
	int fds[8];	 /* the host's */
	int64_t gfds[8]; /* the guest's */
};

static unsigned pick(struct model *m, unsigned n)
{
	return (unsigned)rand_r(&m->seed) % n;
}

/* A name of a small set, so that names collide; some have a directory in front. */
static void name_pick(struct model *m, char *host, char *guest, size_t n)
{
	static const char *const names[] = {"a",     "b",  "c",	   "d",	    "a/x", "a/y", "b/x",
					    "c/x/y", "d/", "a/..", "b/./x", "l",   "l/x"};
	const char *name = names[pick(m, ARRAY_SIZE(names))];

	snprintf(host, n, "%s/%s", m->dir, name);
	snprintf(guest, n, "/tmp/m/%s", name);
}

static int64_t host_result(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

static void expect_same(struct model *m, const char *what, const char *path, int64_t host,
			int64_t guest)
{
	if (host != guest)
		print_error("%s %s: host %lld, guest %lld (seed %u)\n", what, path, (long long)host,
			    (long long)guest, m->seed);
	assert_true(host == guest);
}

static void step_name_op(struct model *m)
{
	struct guest *g = m->g;
	char h[128], v[128], h2[128], v2[128];
	unsigned flags = pick(m, 4) ? 0 : pick(m, 2) ? RENAME_NOREPLACE : RENAME_EXCHANGE;

	name_pick(m, h, v, sizeof(h));
	name_pick(m, h2, v2, sizeof(h2));
	switch (pick(m, 8)) {
	case 0:
		expect_same(m, "mkdir", v, host_result(mkdir(h, 0755)),
			    SYS(g, mkdir, str(g, v), 0755));
		break;
	case 1:
		expect_same(m, "rmdir", v, host_result(rmdir(h)), SYS(g, rmdir, str(g, v)));
		break;
	case 2:
		expect_same(m, "unlink", v, host_result(unlink(h)), SYS(g, unlink, str(g, v)));
		break;
	case 3:
	case 4:
		expect_same(m, "rename", v,
			    host_result(renameat2(AT_FDCWD, h, AT_FDCWD, h2, flags)),
			    SYS(g, renameat2, AT_FDCWD, str(g, v), AT_FDCWD, str2(g, v2), flags));
		break;
	case 5:
		expect_same(m, "link", v, host_result(link(h, h2)),
			    SYS(g, link, str(g, v), str2(g, v2)));
		break;
	case 6:
		expect_same(m, "symlink", v, host_result(symlink("a", h)),
			    SYS(g, symlink, str(g, "a"), str2(g, v)));
		break;
	default:
		expect_same(m, "mknod", v, host_result(mknod(h, S_IFREG | 0600, 0)),
			    SYS(g, mknod, str(g, v), S_IFREG | 0600));
		break;
	}
}

static void step_stat(struct model *m)
{
	struct guest *g = m->g;
	char h[128], v[128];
	struct stat a, b = {0};
	int64_t host, guest;

	name_pick(m, h, v, sizeof(h));
	host = host_result(lstat(h, &a));
	guest = SYS(g, lstat, str(g, v), ARENA);
	expect_same(m, "lstat", v, host, guest);
	if (host)
		return;
	get(g, 0, &b, sizeof(b));
	expect_same(m, "mode", v, a.st_mode & S_IFMT, b.st_mode & S_IFMT);
	expect_same(m, "nlink", v, (int64_t)a.st_nlink, (int64_t)b.st_nlink);
	if (!S_ISDIR(a.st_mode))
		expect_same(m, "size", v, a.st_size, b.st_size);
}

static void step_open(struct model *m)
{
	static const int flag_sets[] = {O_RDWR,
					O_RDWR | O_CREAT,
					O_RDWR | O_CREAT | O_EXCL,
					O_RDWR | O_TRUNC,
					O_RDWR | O_CREAT | O_APPEND,
					O_RDONLY | O_DIRECTORY,
					O_RDWR | O_CREAT | O_NOFOLLOW};
	int flags = flag_sets[pick(m, ARRAY_SIZE(flag_sets))];
	unsigned slot = pick(m, 8);
	char h[128], v[128];
	int64_t host, guest;

	name_pick(m, h, v, sizeof(h));
	if (m->fds[slot] >= 0) {
		close(m->fds[slot]);
		SYS(m->g, close, m->gfds[slot]);
	}
	host = host_result(open(h, flags | O_CLOEXEC, 0644));
	guest = SYS(m->g, openat, AT_FDCWD, str(m->g, v), flags, 0644);
	m->fds[slot] = (int)MAX(host, (int64_t)-1);
	m->gfds[slot] = guest;
	expect_same(m, "open", v, MIN(host, (int64_t)0), MIN(guest, (int64_t)0));
}

static void step_data(struct model *m)
{
	unsigned slot = pick(m, 8), n = pick(m, 3) ? pick(m, 300) : pick(m, 20000);
	int64_t at = pick(m, 2) ? pick(m, 9000) : pick(m, 100000);
	static uint8_t a[20000], b[20000];
	struct guest *g = m->g;
	int64_t host, guest;

	if (m->fds[slot] < 0)
		return;
	switch (pick(m, 4)) {
	case 0:
		for (unsigned i = 0; i < n; i++)
			a[i] = (uint8_t)pick(m, 256);
		put(g, 0, a, n);
		expect_same(m, "pwrite", "", host_result(pwrite(m->fds[slot], a, n, at)),
			    SYS(g, pwrite64, m->gfds[slot], ARENA, n, at));
		break;
	case 1:
		expect_same(m, "ftruncate", "", host_result(ftruncate(m->fds[slot], at)),
			    SYS(g, ftruncate, m->gfds[slot], at));
		break;
	case 2:
		host = host_result(fallocate(
			m->fds[slot], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n + 1));
		guest = SYS(g, fallocate, m->gfds[slot], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    at, n + 1);
		expect_same(m, "punch", "", host, guest);
		break;
	default:
		host = host_result(pread(m->fds[slot], a, n, at));
		guest = SYS(g, pread64, m->gfds[slot], ARENA, n, at);
		expect_same(m, "pread", "", host, guest);
		if (host > 0) {
			get(g, 0, b, (size_t)host);
			assert_memory_equal(a, b, (size_t)host);
		}
		break;
	}
}

static void model_walk(struct model *m, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		switch (pick(m, 8)) {
		case 0:
		case 1:
		case 2:
			step_name_op(m);
			break;
		case 3:
			step_stat(m);
			break;
		case 4:
			step_open(m);
			break;
		default:
			step_data(m);
			break;
		}
	}
}

/* Tables of pages are the vmm's own memory: files with a page at their far end have large ones. */
static void test_tables_are_limited(void **state)
{
	struct guest *g = *state;
	const struct tmpfs *fs = tmpfs_of(&g->p);
	const int64_t far_end = TMPFS_FILE_BYTES_MAX - 1;
	char path[32];
	int64_t ret = 1;
	int files = 0;

	for (; ret == 1 && files < 2000; files++) {
		int64_t fd;

		snprintf(path, sizeof(path), "/tmp/%d", files);
		fd = SYS(g, open, str(g, path), O_RDWR | O_CREAT, 0600);
		assert_true(fd >= 0);
		ret = SYS(g, pwrite64, fd, str(g, "x"), 1, far_end);
		assert_int_equal(SYS(g, close, fd), 0);
	}
	assert_int_equal(ret, -ENOSPC);
	assert_true(fs->page_count < g->p.tmp_bytes / PAGE_BYTES);
	assert_true(fs->meta_bytes <= TMPFS_META_MAX);
	while (files-- > 0) {
		snprintf(path, sizeof(path), "/tmp/%d", files);
		assert_int_equal(SYS(g, unlink, str(g, path)), 0);
	}
	assert_int_equal(fs->meta_bytes, 0);
}

/* The same calls on both give the same results; half way the guest is captured and restored. */
static void test_model(void **state)
{
	struct guest *g = *state;

	for (unsigned seed = 1; seed <= 20; seed++) {
		struct model m = {.g = g, .dir = "/dev/shm/qt-tmpfs-XXXXXX", .seed = seed};
		struct guest *to = calloc(1, sizeof(*to));

		if (!mkdtemp(m.dir)) {
			free(to);
			print_message("no tmpfs of the host on /dev/shm to compare with\n");
			skip();
		}
		assert_int_equal(SYS(g, mkdir, str(g, "/tmp/m"), 0755), 0);
		memset(m.fds, 0xff, sizeof(m.fds));
		model_walk(&m, 1500);
		guest_move(g, to);
		memcpy(to->dir, g->dir, sizeof(to->dir));
		m.g = to;
		model_walk(&m, 1500);
		guest_stop(to);
		free(to);
		for (int i = 0; i < 8; i++)
			if (m.fds[i] >= 0)
				close(m.fds[i]);
		tree_remove(m.dir);
		guest_stop(g);
		{
			char dir[64];

			memcpy(dir, g->dir, sizeof(dir));
			guest_start(g, dir);
			memcpy(g->dir, dir, sizeof(dir));
			guest_boot_up(g);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),   TEST(test_rename),
		TEST(test_data),    TEST(test_limits),
		TEST(test_unnamed), TEST(test_shared_mapping),
		TEST(test_model),   TEST(test_tables_are_limited),
	};

	return cmocka_run_group_tests_name("tmpfs", tests, NULL, NULL);
}
