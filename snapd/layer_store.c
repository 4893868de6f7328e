/* SPDX-License-Identifier: Apache-2.0 */
/* layer_store.c - layers on disk */
#include "snapd/layer_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "snapd/function_name.h"
#include "snapd/tree.h"

enum { ABOUT_BYTES_MAX = 64 << 10, LAST_BYTES_MAX = 32, VERSION_PATH_MAX = LAYER_NAME_MAX + 16 };

static int layers_dirfd = -1;

static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int sync_dir(int fd)
{
	return fsync(fd) ? -errno : 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

static int load_about(int dirfd, json_t **ret)
{
	CLEANUP_FREE char *text = NULL;
	int err = read_file(dirfd, "layer.json", ABOUT_BYTES_MAX, &text, NULL);

	*ret = err ? NULL : json_loads(text, 0, NULL);
	if (!err && !json_is_object(*ret))
		err = -EBADMSG;
	return err;
}

static void load_version(struct layer *l, int layer_fd, const char *name)
{
	CLEANUP_FD int fd = open_dir(layer_fd, name);
	struct code_info info;
	uint32_t number;
	json_t *about = NULL;
	int ret = fd < 0 ? fd : load_about(fd, &about);

	if (ret == -ENOENT || name[0] == '.') { /* half made */
		json_decref(about);
		tree_remove(layer_fd, name);
		return;
	}
	if (!ret && (!qualifier_number(name, &number) || !number))
		ret = -EINVAL;
	if (!ret)
		ret = code_info_load(fd, &info);
	if (!ret) {
		layer_add_version(l, number, &info, about);
		return;
	}
	json_decref(about);
	log_warn("store: layers/%s/%s: %s: left out", l->name, name, strerror(-ret));
}

static void load_layer(const char *name)
{
	CLEANUP_FD int fd = open_dir(layers_dirfd, name);
	CLEANUP_FREE char *last = NULL;
	struct layer *l = fd >= 0 && function_name_ok(name) ? layers_make(name) : NULL;
	DIR *dir = l ? fdopendir(dup(fd)) : NULL;
	struct dirent *entry;

	if (!dir) {
		log_warn("store: layers/%s is no layer: left alone", name);
		return;
	}
	if (!read_file(fd, "last", LAST_BYTES_MAX, &last, NULL))
		l->last_number = (uint32_t)strtoul(last, NULL, 10);
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    strcmp(entry->d_name, "last"))
			load_version(l, fd, entry->d_name);
	closedir(dir);
}

int layer_store_open(const char *state_dir)
{
	CLEANUP_FD int state = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	DIR *dir;

	if (state < 0 || (mkdirat(state, "layers", 0700) && errno != EEXIST))
		return -errno;
	layers_dirfd = open_dir(state, "layers");
	if (layers_dirfd < 0)
		return layers_dirfd;
	dir = fdopendir(open_dir(state, "layers"));
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			load_layer(entry->d_name);
	closedir(dir);
	return 0;
}

void layer_store_close(void)
{
	cleanup_fd(&layers_dirfd);
	layers_dirfd = -1;
}

/* ---- versions -------------------------------------------------------------------------------- */

/** The layer's directory, made if need be, in which @number is now the last. */
static int reserve_number(const char *name, uint32_t number)
{
	CLEANUP_FD int fd = -1;
	char text[LAST_BYTES_MAX];
	int ret;

	if (mkdirat(layers_dirfd, name, 0700)) {
		if (errno != EEXIST)
			return -errno;
	} else if (fsync(layers_dirfd)) {
		return -errno;
	}
	fd = open_dir(layers_dirfd, name);
	if (fd < 0)
		return fd;
	snprintf(text, sizeof(text), "%u\n", number);
	ret = write_file_atomic(fd, "last", text, strlen(text), 0600);
	return ret ? ret : steal_fd(&fd);
}

static int install(int layer_fd, const char *staged, const char *final, const char *about_text)
{
	CLEANUP_FD int package = open_dir(layer_fd, staged);
	int ret = package < 0 ? package
			      : write_file_atomic(package, "layer.json", about_text,
						  strlen(about_text), 0600);

	if (!ret && syncfs(layer_fd))
		ret = -errno;
	if (!ret && renameat(layer_fd, staged, layer_fd, final))
		ret = -errno;
	return ret ? ret : sync_dir(layer_fd);
}

int layer_store_publish(const char *name, uint32_t number, const char *about_text,
			struct code_source *source, struct code_info *ret_info,
			struct code_error *err)
{
	CLEANUP_FD int fd = reserve_number(name, number);
	char staged[24], final[16];
	int ret;

	err->text[0] = '\0';
	if (fd < 0)
		return fd;
	snprintf(staged, sizeof(staged), ".new-%u", number);
	snprintf(final, sizeof(final), "%u", number);
	ret = code_stage(fd, staged, source, ret_info, err);
	if (!ret)
		ret = install(fd, staged, final, about_text);
	if (ret)
		tree_remove(fd, staged);
	return ret;
}

int layer_store_remove(const char *name, uint32_t number)
{
	CLEANUP_FD int fd = open_dir(layers_dirfd, name);
	char from[16], to[24];

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	snprintf(from, sizeof(from), "%u", number);
	snprintf(to, sizeof(to), ".old-%u", number);
	tree_remove(fd, to);
	if (renameat(fd, from, fd, to))
		return errno == ENOENT ? 0 : -errno;
	sync_dir(fd);
	return tree_remove(fd, to);
}

int layer_store_package_open(const char *name, uint32_t number)
{
	char path[VERSION_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%u", name, number);
	return open_dir(layers_dirfd, path);
}

int layer_store_merge(const struct layer_list *list, int to_dirfd)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < list->count; i++) {
		CLEANUP_FD int package =
			layer_store_package_open(list->refs[i].name, list->refs[i].number);
		CLEANUP_FD int tree = package < 0 ? package : open_dir(package, "tree");

		ret = tree < 0 ? tree : tree_merge(tree, to_dirfd, CODE_BYTES_MAX);
	}
	return ret;
}
