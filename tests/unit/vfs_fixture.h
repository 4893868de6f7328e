/* SPDX-License-Identifier: Apache-2.0 */
/* vfs_fixture.h - a guest with real mounts that makes system calls, without a virtual machine */
#ifndef QUICKTHAW_TESTS_VFS_FIXTURE_H
#define QUICKTHAW_TESTS_VFS_FIXTURE_H

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "common/io.h"
#include "common/state.h"
#include "tests/unit/mm_fixture.h"
#include "vmm/process/clock.h"
#include "vmm/process/signal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs_node.h"

enum { ARENA = 0x30000000, ARENA_PAGES = 1024, PATHS = 0x100000, RAM_MIB = 64, TMP_MIB = 8 };

/** struct guest - a struct proc with roots in a temporary directory. */
struct guest {
	struct vm vm;
	struct proc p;
	struct task *task;
	char dir[64]; /**< has root, task, outside; empty for a restored guest */
};

static inline void guest_start(struct guest *g, const char *dir)
{
	char path[128];
	int dirs[PROTO_DIR_COUNT];

	memset(g, 0, sizeof(*g));
	g->p.vm = &g->vm;
	g->p.memory_bytes = MIB(RAM_MIB);
	g->p.tmp_bytes = MIB(TMP_MIB);
	assert_int_equal(guest_mem_init(&g->vm.mem, MIB(RAM_MIB)), 0);
	g->vm.vcpu.run = calloc(1, sizeof(*g->vm.vcpu.run));
	assert_non_null(g->vm.vcpu.run);
	syscall_init();
	assert_int_equal(sched_new(&g->p), 0);
	assert_int_equal(guest_clock_new(&g->p), 0);
	assert_int_equal(signals_new(&g->p), 0);
	assert_int_equal(files_new(&g->p), 0);
	snprintf(path, sizeof(path), "%s/root", dir);
	dirs[PROTO_DIR_ROOT] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/task", dir);
	dirs[PROTO_DIR_TASK] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	dirs[PROTO_DIR_RUNTIME] = -1;
	snprintf(path, sizeof(path), "%s/opt", dir);
	dirs[PROTO_DIR_OPT] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(dirs[0] >= 0 && dirs[1] >= 0);
	assert_int_equal(vfs_new(&g->p, dirs), 0);
}

/* What a program has when it starts: memory, a task, 0 to 2. */
static inline void guest_boot_up(struct guest *g)
{
	static const struct user_state user;

	assert_int_equal(mm_new(&g->p), 0);
	assert_int_equal(vfs_open_stdio(&g->p), 0);
	g->task = task_new(&g->p, &user);
	assert_non_null(g->task);
	map_anonymous(&g->p, ARENA, ARENA_PAGES);
}

static inline void guest_stop(struct guest *g)
{
	mm_free(&g->p);
	files_free(&g->p);
	vfs_free(&g->p);
	signals_free(&g->p);
	guest_clock_free(&g->p);
	sched_free(&g->p);
	free(g->vm.vcpu.run);
	guest_mem_free(&g->vm.mem);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void tree_remove(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/** host_write() - a file with text below the test's directory. */
static inline void host_write(const struct guest *g, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static inline void host_link(const struct guest *g, const char *target, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	assert_int_equal(symlink(target, path), 0);
}

static inline void host_mkdir(const struct guest *g, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

/** sys() - one system call as the program's task makes it. */
static inline int64_t sys(struct guest *g, long nr, uint64_t a0, uint64_t a1, uint64_t a2,
			  uint64_t a3, uint64_t a4, uint64_t a5)
{
	const uint64_t a[6] = {a0, a1, a2, a3, a4, a5};

	g->task->wait.cookie = 0;
	g->task->wait.outcome = WAIT_NONE;
	return syscall_dispatch(&g->p, g->task, (uint64_t)nr, a);
}
#define SYS6(g, nr, a0, a1, a2, a3, a4, a5, ...)                                                   \
	sys(g, SYS_##nr, (uint64_t)(a0), (uint64_t)(a1), (uint64_t)(a2), (uint64_t)(a3),           \
	    (uint64_t)(a4), (uint64_t)(a5))
#define SYS(g, nr, ...) SYS6(g, nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* Bytes of the program at ARENA + @at. */
static inline uint64_t put(struct guest *g, uint64_t at, const void *data, size_t n)
{
	assert_int_equal(mm_copy_out(&g->p, ARENA + at, data, n), 0);
	return ARENA + at;
}

static inline void get(struct guest *g, uint64_t at, void *data, size_t n)
{
	assert_int_equal(mm_copy_in(&g->p, data, ARENA + at, n), 0);
}

/** str() / str2() - a path name in the program's memory; two that live at once. */
static inline uint64_t str(struct guest *g, const char *s)
{
	return put(g, PATHS, s, strlen(s) + 1);
}

static inline uint64_t str2(struct guest *g, const char *s)
{
	return put(g, PATHS + 16384, s, strlen(s) + 1);
}

static inline int64_t g_open(struct guest *g, const char *path, int flags)
{
	return SYS(g, openat, AT_FDCWD, str(g, path), flags, 0644);
}

/** g_read() - all of a file as a string; -errno of the open in @ret_err or 0. */
static inline const char *g_read(struct guest *g, const char *path)
{
	static char text[65536];
	int64_t fd = g_open(g, path, O_RDONLY), n;

	if (fd < 0) {
		snprintf(text, sizeof(text), "errno %d", (int)-fd);
		return text;
	}
	n = SYS(g, read, fd, ARENA, sizeof(text) - 1);
	if (n < 0) {
		snprintf(text, sizeof(text), "read errno %d", (int)-n);
	} else {
		get(g, 0, text, (size_t)n);
		text[n] = '\0';
	}
	SYS(g, close, fd);
	return text;
}

static inline int64_t g_write(struct guest *g, const char *path, const char *text)
{
	int64_t fd = g_open(g, path, O_CREAT | O_TRUNC | O_WRONLY), n;

	if (fd < 0)
		return fd;
	n = SYS(g, write, fd, put(g, 0, text, strlen(text)), strlen(text));
	SYS(g, close, fd);
	return n;
}

static inline const char *g_readlink(struct guest *g, const char *path)
{
	static char text[4097];
	int64_t n = SYS(g, readlink, str(g, path), ARENA, 4096);

	if (n < 0) {
		snprintf(text, sizeof(text), "errno %d", (int)-n);
		return text;
	}
	get(g, 0, text, (size_t)n);
	text[n] = '\0';
	return text;
}

/** g_stat() - follows links. */
static inline int64_t g_stat(struct guest *g, const char *path, struct stat *ret)
{
	int64_t err = SYS(g, stat, str(g, path), ARENA);

	if (!err)
		get(g, 0, ret, sizeof(*ret));
	return err;
}

/** guest_move() - capture @from and load it into a new guest @to, as a restore does. */
static inline void guest_move(struct guest *from, struct guest *to)
{
	struct state_writer w = {0};
	struct state_reader r;

	assert_int_equal(vfs_save(&from->p, &w), 0);
	assert_int_equal(files_save(&from->p, &w), 0);
	assert_int_equal(mm_save(&from->p, &w), 0);
	guest_start(to, from->dir);
	memcpy(to->vm.mem.ram, from->vm.mem.ram, MIB(RAM_MIB));
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(vfs_load(&to->p, &r), 0);
	assert_int_equal(files_load(&to->p, &r), 0);
	assert_int_equal(mm_load(&to->p, &r), 0);
	assert_int_equal(r.err, 0);
	assert_int_equal(r.left, 0);
	to->task = task_new(&to->p, &from->task->user);
	assert_non_null(to->task);
	state_writer_free(&w);
}

static inline int guest_setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));
	char dir[64] = "/tmp/qt-vfs-XXXXXX";

	assert_non_null(g);
	assert_non_null(mkdtemp(dir));
	memcpy(g->dir, dir, sizeof(dir));
	host_mkdir(g, "root");
	host_mkdir(g, "task");
	host_mkdir(g, "opt");
	host_mkdir(g, "outside");
	host_write(g, "outside/secret", "secret");
	guest_start(g, dir);
	memcpy(g->dir, dir, sizeof(dir));
	guest_boot_up(g);
	*state = g;
	return 0;
}

static inline int guest_teardown(void **state)
{
	struct guest *g = *state;

	guest_stop(g);
	tree_remove(g->dir);
	free(g);
	return 0;
}

#endif
