/* SPDX-License-Identifier: Apache-2.0 */
/* tree.c - copy, walk and remove directory trees */
#include "snapd/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"

/* What can be copied can be removed: a function's directory has its code some levels down. */
enum { COPY_DEPTH_MAX = 64, REMOVE_DEPTH_MAX = COPY_DEPTH_MAX + 8 };

static inline void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}
#define CLEANUP_DIR __attribute__((cleanup(cleanup_dir)))

/** A stream over a directory whose descriptor stays the caller's. */
static DIR *open_stream(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/** struct copy - @left: bytes that may still be copied; @merge: what is in the way gives way. */
struct copy {
	uint64_t left;
	bool merge;
};

/** Copy to the end of the file, but no more than @left bytes, whatever its size was said to be. */
static int copy_bytes(int in, int out, uint64_t *left)
{
	ssize_t n;
	char more;

	do {
		n = sendfile(out, in, NULL, MIN(*left, 1u << 30)); /* between any file systems */
		*left -= n > 0 ? (uint64_t)n : 0;
	} while (n > 0 && *left);
	if (n > 0)
		n = read(in, &more, 1) ? -EFBIG : 0;
	else if (n < 0)
		n = -errno;
	return (int)n;
}

static int copy_file(int from, int to, const char *name, struct copy *c)
{
	/* O_NONBLOCK: somebody may have put a FIFO in the place of the file since it was looked at.
	 */
	CLEANUP_FD int in =
		openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	CLEANUP_FD int out = -1;
	struct stat st;
	mode_t mode;
	int ret;

	if (in < 0 || fstat(in, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	mode = st.st_mode & 0100 ? 0755 : 0644;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (out < 0)
		return -errno;
	ret = (uint64_t)st.st_size > c->left ? -EFBIG : copy_bytes(in, out, &c->left);
	if (!ret && fchmod(out, mode)) /* whatever the umask is */
		ret = -errno;
	return ret;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) ? -errno : 0;
}

static int copy_dir(int from, int to, struct copy *c, int depth);

static int copy_subdir(int from, int to, const char *name, struct copy *c, int depth)
{
	CLEANUP_FD int sub_from =
		openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FD int sub_to = -1;

	if (sub_from < 0 || (mkdirat(to, name, 0755) && !(c->merge && errno == EEXIST)))
		return -errno;
	sub_to = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (sub_to < 0 || fchmod(sub_to, 0755))
		return -errno;
	return copy_dir(sub_from, sub_to, c, depth + 1);
}

/** Only a directory over a directory stays. */
static int clear_way(int to, const char *name, bool is_dir)
{
	struct stat st;

	if (fstatat(to, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : -errno;
	return is_dir && S_ISDIR(st.st_mode) ? 0 : tree_remove(to, name);
}

static int copy_entry(int from, int to, const char *name, struct copy *c, int depth)
{
	struct stat st;
	int ret = 0;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (c->merge)
		ret = clear_way(to, name, S_ISDIR(st.st_mode));
	if (ret)
		return ret;
	if (S_ISDIR(st.st_mode))
		return copy_subdir(from, to, name, c, depth);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name);
	return S_ISREG(st.st_mode) ? copy_file(from, to, name, c) : 0;
}

static int copy_dir(int from, int to, struct copy *c, int depth)
{
	CLEANUP_DIR DIR *dir = open_stream(from);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return -errno;
	if (depth > COPY_DEPTH_MAX)
		return -ELOOP;
	while (!ret && (entry = readdir(dir)))
		if (!is_dot(entry->d_name))
			ret = copy_entry(from, to, entry->d_name, c, depth);
	return ret;
}

int tree_copy(int from, int to, uint64_t bytes_max)
{
	struct copy c = {.left = bytes_max};

	return copy_dir(from, to, &c, 0);
}

int tree_merge(int from, int to, uint64_t bytes_max)
{
	struct copy c = {.left = bytes_max, .merge = true};

	return copy_dir(from, to, &c, 0);
}

/* ---- walk ------------------------------------------------------------------------------------ */

/** struct walk - @path: of the entry that is visited; @visit as in tree_walk(). */
struct walk {
	char path[PATH_MAX];
	int (*visit)(const struct tree_entry *e, void *arg);
	void *arg;
};

struct name_list {
	char **names;
	size_t count, size;
};

static void cleanup_names(struct name_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
}
#define CLEANUP_NAMES __attribute__((cleanup(cleanup_names)))

static int add_name(struct name_list *list, const char *name)
{
	size_t size = list->size ? 2 * list->size : 64;
	char **names;

	if (list->count == list->size) {
		names = reallocarray(list->names, size, sizeof(*names));
		if (!names)
			return -ENOMEM;
		list->names = names;
		list->size = size;
	}
	list->names[list->count] = strdup(name);
	return list->names[list->count] ? (list->count++, 0) : -ENOMEM;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int dirfd, struct name_list *list)
{
	CLEANUP_DIR DIR *dir = open_stream(dirfd);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (!is_dot(entry->d_name))
			ret = add_name(list, entry->d_name);
	if (list->count)
		qsort(list->names, list->count, sizeof(*list->names), by_bytes);
	return ret;
}

static int walk_dir(struct walk *w, int dirfd, size_t path_len, int depth)
{
	CLEANUP_NAMES struct name_list list = {0};
	int ret = depth > COPY_DEPTH_MAX ? -ELOOP : read_names(dirfd, &list);

	for (size_t i = 0; !ret && i < list.count; i++) {
		struct tree_entry e = {.dirfd = dirfd, .name = list.names[i], .path = w->path};
		int n = snprintf(w->path + path_len, sizeof(w->path) - path_len, "%s%s",
				 path_len ? "/" : "", e.name);

		if (n >= (int)(sizeof(w->path) - path_len))
			return -ENAMETOOLONG;
		if (fstatat(dirfd, e.name, &e.st, AT_SYMLINK_NOFOLLOW))
			return -errno;
		ret = w->visit(&e, w->arg);
		if (!ret && S_ISDIR(e.st.st_mode)) {
			CLEANUP_FD int fd = openat(dirfd, e.name,
						   O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

			ret = fd < 0 ? -errno : walk_dir(w, fd, path_len + (size_t)n, depth + 1);
		}
	}
	return ret;
}

int tree_walk(int dirfd, int (*visit)(const struct tree_entry *e, void *arg), void *arg)
{
	struct walk w = {.visit = visit, .arg = arg};

	return walk_dir(&w, dirfd, 0, 0);
}

/* ---- remove ---------------------------------------------------------------------------------- */

static int remove_entry(int dirfd, const char *name, int depth)
{
	CLEANUP_FD int fd = -1;
	CLEANUP_DIR DIR *dir = NULL;
	struct dirent *entry;
	int ret = 0;

	if (!unlinkat(dirfd, name, 0))
		return 0;
	if (errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth > REMOVE_DEPTH_MAX)
		return -ELOOP;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	dir = open_stream(fd);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (!is_dot(entry->d_name))
			ret = remove_entry(fd, entry->d_name, depth + 1);
	if (!ret && unlinkat(dirfd, name, AT_REMOVEDIR))
		ret = -errno;
	return ret;
}

int tree_clear(int dirfd)
{
	CLEANUP_DIR DIR *dir = open_stream(dirfd);
	struct dirent *entry;
	int ret = 0;

	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (!is_dot(entry->d_name))
			ret = remove_entry(dirfd, entry->d_name, 0);
	return ret;
}

int tree_remove(int dirfd, const char *name)
{
	return remove_entry(dirfd, name, 0);
}
