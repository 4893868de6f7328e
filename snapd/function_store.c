/* SPDX-License-Identifier: Apache-2.0 */
/* function_store.c - functions on disk */
#include "snapd/function_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "snapd/layer_store.h"
#include "snapd/tree.h"

enum { CONFIG_BYTES_MAX = 64 << 10 };
#define STORE_BASE_TMP ".base.tmp"

static struct {
	char path[PATH_MAX]; /* of STATE/functions */
	int lock_fd;
	int dirfd;
} store = {.lock_fd = -1, .dirfd = -1};

int store_open(const char *state_dir)
{
	char path[PATH_MAX];
	CLEANUP_FD int dirfd = -1;

	if ((mkdir(state_dir, 0700) && errno != EEXIST) || !realpath(state_dir, path))
		return -errno;
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	if (store.lock_fd < 0) /* else the snapd before has left its own */
		store.lock_fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (store.lock_fd < 0)
		return -errno;
	if (flock(store.lock_fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (mkdirat(dirfd, "functions", 0700) && errno != EEXIST)
		return -errno;
	store.dirfd = openat(dirfd, "functions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store.dirfd < 0)
		return -errno;
	if (snprintf(store.path, sizeof(store.path), "%s/functions", path) >=
	    (int)sizeof(store.path))
		return -ENAMETOOLONG;
	return 0;
}

void store_inherit_lock(int fd)
{
	store.lock_fd = fd;
}

int store_lock(void)
{
	return store.lock_fd;
}

void store_close(void)
{
	cleanup_fd(&store.dirfd);
	cleanup_fd(&store.lock_fd);
	store.dirfd = store.lock_fd = -1;
}

/* ---- config.json ----------------------------------------------------------------------------- */

char *store_settings_text(const struct version *v)
{
	json_t *root = function_settings_json(&v->settings);
	char *text = NULL;

	if (!root)
		return NULL;
	json_object_set_new(root, "ModifiedNs", json_integer((json_int_t)v->modified_ns));
	json_object_set_new(root, "RevisionId", json_string(v->revision));
	json_object_set_new(root, "SourceRevisionId", json_string(v->source_revision));
	json_object_set_new(root, "Snapshot",
			    json_pack("{s:I, s:I, s:I, s:I}", "BootMs",
				      (json_int_t)v->snapshot.boot_ms, "CaptureMs",
				      (json_int_t)v->snapshot.capture_ms, "ResidentBytes",
				      (json_int_t)v->snapshot.resident_bytes, "FileBytes",
				      (json_int_t)v->snapshot.file_bytes));
	json_object_set_new(json_object_get(root, "Snapshot"), "Origin",
			    origin_json(&v->snapshot.origin));
	text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

static uint64_t get_u64(const json_t *root, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(root, key));

	return n > 0 ? (uint64_t)n : 0;
}

/** Texts that only the store writes; what it did not write yet leaves what is there. */
static int load_identity(const json_t *root, struct version *v, struct field_error *e)
{
	int ret = field_string(root, "RevisionId", 1, v->revision, sizeof(v->revision), e);

	if (!ret)
		ret = field_string(root, "SourceRevisionId", 0, v->source_revision,
				   sizeof(v->source_revision), e);
	v->modified_ns = get_u64(root, "ModifiedNs");
	return ret;
}

static int load_config(int dirfd, struct version *v)
{
	CLEANUP_FREE char *text = NULL;
	struct field_error e = {.text = "not JSON"};
	struct function_settings settings = {.env = NULL};
	const json_t *snapshot;
	json_t *root;
	int ret = read_file(dirfd, "config.json", CONFIG_BYTES_MAX, &text, NULL);

	if (ret)
		return ret;
	root = json_loads(text, 0, NULL);
	ret = root ? function_settings_parse(root, &settings, &e) : -EINVAL;
	if (!ret)
		ret = load_identity(root, v, &e);
	if (ret) {
		log_warn("store: %s: config.json: %s", v->function->name, e.text);
		function_settings_free(&settings);
		json_decref(root);
		return ret;
	}
	function_settings_free(&v->settings);
	v->settings = settings;
	snapshot = json_object_get(root, "Snapshot");
	v->snapshot = (struct version_snapshot){
		.boot_ms = get_u64(snapshot, "BootMs"),
		.capture_ms = get_u64(snapshot, "CaptureMs"),
		.resident_bytes = get_u64(snapshot, "ResidentBytes"),
		.file_bytes = get_u64(snapshot, "FileBytes"),
	};
	origin_parse(json_object_get(snapshot, "Origin"), &v->snapshot.origin);
	json_decref(root);
	return 0;
}

/** Without a file nothing is set. */
static int load_control(int dirfd, struct function *f)
{
	CLEANUP_FREE char *text = NULL;
	struct function_control control;
	struct field_error e = {.text = ""};
	int ret = read_file(dirfd, STORE_CONTROL_NAME, CONTROL_BYTES_MAX, &text, NULL);

	if (ret == -ENOENT)
		return 0;
	if (!ret)
		ret = function_control_parse(text, &control, &e);
	if (ret) {
		log_warn("store: %s: " STORE_CONTROL_NAME ": %s", f->name,
			 *e.text ? e.text : strerror(-ret));
		return ret;
	}
	function_control_free(&f->control);
	f->control = control;
	f->last_number = control.last_number;
	return 0;
}

/* ---- start ----------------------------------------------------------------------------------- */

/** Call @each for every name in a directory. The callee may remove the entry. */
static int for_each_name(int dirfd, void (*each)(int dirfd, const char *name, void *arg), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		int err = -errno;

		cleanup_fd(&fd);
		return err;
	}
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			each(dirfd, entry->d_name, arg);
	closedir(dir);
	return 0;
}

static void remove_leftover(int dirfd, const char *name)
{
	int ret = tree_remove(dirfd, name);

	if (ret)
		log_warn("store: cannot remove leftover %s: %s", name, strerror(-ret));
	else
		log_info("store: removed leftover %s", name);
}

static void remove_if_dotted(int dirfd, const char *name, void *arg)
{
	(void)arg;
	if (name[0] == '.')
		remove_leftover(dirfd, name);
}

/** Is a directory a half-made one? Only what certainly lacks @name is: after an error of the disk
 * or for want of descriptors, nothing may be removed. */
static bool lacks(int fd, const char *name)
{
	return faccessat(fd, name, F_OK, 0) && errno == ENOENT;
}

/** What is known of a version's code. Before there were packages, code/ was the tree itself. */
static int load_code(int dirfd, struct version *v)
{
	CLEANUP_FD int package = -1;
	int ret = 0;

	if (!lacks(dirfd, "code"))
		ret = code_adopt_tree(dirfd, "code", STORE_PACKAGE_NAME);
	if (!ret) {
		package = openat(dirfd, STORE_PACKAGE_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ret = package < 0 ? -errno : code_info_load(package, &v->code);
	}
	if (ret)
		log_warn("store: %s: code: %s", v->function->name, strerror(-ret));
	return ret;
}

static void load_version(int dirfd, const char *name, void *arg)
{
	struct function *f = arg;
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *end;
	unsigned long number = strtoul(name, &end, 10);
	struct version *v;
	struct stat st;

	if (fd < 0 || *end || !number || number > FUNCTION_VERSIONS_MAX) {
		log_warn("store: %s/versions/%s is no version: left alone", f->name, name);
		return;
	}
	if (lacks(fd, "config.json")) {
		remove_leftover(dirfd, name);
		return;
	}
	for_each_name(fd, remove_if_dotted, NULL);
	v = function_add_version(f, (uint32_t)number);
	if (!v)
		return;
	v->state = VERSION_ACTIVE;
	if (load_config(fd, v) || load_code(fd, v)) {
		v->state = VERSION_FAILED;
		snprintf(v->reason, sizeof(v->reason), "its config.json or its code is damaged");
	}
	if (lacks(fd, STORE_SNAPSHOT_NAME)) /* removed to save room */
		v->snapshot_removed = v->cold_boot = true;
	else if (!fstatat(fd, STORE_SNAPSHOT_NAME, &st, 0)) /* recording has rewritten it since */
		v->snapshot.file_bytes = (uint64_t)st.st_size;
}

static void load_function(int dirfd, const char *name, void *arg)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int versions = -1;
	struct function *f;

	(void)arg;
	if (name[0] == '.' || (fd >= 0 && function_name_ok(name) && lacks(fd, "config.json"))) {
		remove_leftover(dirfd, name);
		return;
	}
	if (fd < 0 || !function_name_ok(name)) {
		log_warn("store: functions/%s is no function: left alone", name);
		return;
	}
	for_each_name(fd, remove_if_dotted, NULL);
	f = function_new(name);
	if (!f)
		return;
	if (load_config(fd, &f->latest) || load_control(fd, f) ||
	    load_code(fd, &f->latest)) { /* kept for its owner to look at, but not served */
		log_warn("store: function %s is left out", name);
		function_put(f);
		return;
	}
	versions = openat(fd, "versions", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (versions >= 0)
		for_each_name(versions, load_version, f);
	functions_add(f);
}

int store_load(void)
{
	return for_each_name(store.dirfd, load_function, NULL);
}

/* ---- functions ------------------------------------------------------------------------------- */

/** As Lambda has it: a function and all its layers, unzipped. */
static int check_size(struct store_code *code)
{
	uint64_t bytes = code->info.unpacked_bytes + layer_list_unpacked_bytes(&code->layers);

	if (bytes <= CODE_BYTES_MAX)
		return 0;
	snprintf(code->error.text, sizeof(code->error.text),
		 "Function code combined with layers exceeds the maximum allowed size of %llu "
		 "bytes. The actual size is %llu bytes.",
		 CODE_BYTES_MAX, (unsigned long long)bytes);
	return -EINVAL;
}

static int stage_code(int dirfd, const char *name, struct store_code *code)
{
	int ret = code_stage(dirfd, name, &code->source, &code->info, &code->error);

	return ret ? ret : check_size(code);
}

/** Merge the layers into a new directory. */
static int stage_layers(int dirfd, const char *name, struct store_code *code)
{
	CLEANUP_FD int fd = -1;
	int ret = tree_remove(dirfd, name);

	if (ret)
		return ret;
	if (mkdirat(dirfd, name, 0755))
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755))
		return -errno;
	ret = layer_store_merge(&code->layers, fd);
	if (ret == -ENOENT) /* deleted while this waited for its turn */
		snprintf(code->error.text, sizeof(code->error.text),
			 "Layers: one of them does not exist any more");
	return ret;
}

static int fill_function(int dirfd, const char *settings_text, const char *control_text,
			 struct store_code *code)
{
	int ret = stage_code(dirfd, STORE_PACKAGE_NAME, code);

	if (!ret && code->layers.count)
		ret = stage_layers(dirfd, STORE_OPT_NAME, code);
	if (!ret && mkdirat(dirfd, "versions", 0700))
		ret = -errno;
	if (!ret && control_text)
		ret = write_file_atomic(dirfd, STORE_CONTROL_NAME, control_text,
					strlen(control_text), 0600);
	if (!ret)
		ret = write_file_atomic(dirfd, "config.json", settings_text, strlen(settings_text),
					0600);
	if (!ret && syncfs(dirfd))
		ret = -errno;
	return ret;
}

int store_create(const char *name, const char *settings_text, const char *control_text,
		 struct store_code *code)
{
	CLEANUP_FD int dirfd = -1;
	char tmp[FUNCTION_NAME_MAX + 8];
	int ret;

	snprintf(tmp, sizeof(tmp), ".new-%s", name);
	ret = tree_remove(store.dirfd, tmp);
	if (ret)
		return ret;
	if (mkdirat(store.dirfd, tmp, 0700))
		return -errno;
	dirfd = openat(store.dirfd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = dirfd < 0 ? -errno : fill_function(dirfd, settings_text, control_text, code);
	if (!ret && renameat2(store.dirfd, tmp, store.dirfd, name, RENAME_NOREPLACE))
		ret = -errno;
	if (!ret && fsync(store.dirfd))
		ret = -errno;
	if (ret)
		tree_remove(store.dirfd, tmp);
	return ret;
}

/** The old directory stays whole until the new one is, then they change places. */
static int swap(int dirfd, const char *staged, const char *name)
{
	if (!renameat2(dirfd, staged, dirfd, name, RENAME_EXCHANGE))
		return 0;
	/* There was none: the first layers of a function. */
	return errno == ENOENT && !renameat(dirfd, staged, dirfd, name) ? 0 : -errno;
}

static int stage_update(int dirfd, struct store_code *code)
{
	int ret = code->keep_code ? check_size(code) : stage_code(dirfd, ".package", code);

	if (!ret && !code->keep_layers)
		ret = stage_layers(dirfd, ".opt", code);
	if (!ret && syncfs(dirfd))
		ret = -errno;
	return ret;
}

static int replace_code(int dirfd, struct store_code *code)
{
	int ret = stage_update(dirfd, code);

	if (!ret && !code->keep_code)
		ret = swap(dirfd, ".package", STORE_PACKAGE_NAME);
	if (!ret && !code->keep_layers) {
		unlinkat(dirfd, STORE_OPT_IMAGE, 0);
		ret = swap(dirfd, ".opt", STORE_OPT_NAME);
	}
	tree_remove(dirfd, ".package");
	tree_remove(dirfd, ".opt");
	return ret;
}

int store_update(const char *name, const char *settings_text, struct store_code *code)
{
	CLEANUP_FD int dirfd = store_version_open(name, 0);
	int ret;

	if (dirfd < 0)
		return dirfd;
	ret = replace_code(dirfd, code);
	if (!ret)
		ret = write_file_atomic(dirfd, "config.json", settings_text, strlen(settings_text),
					0600);
	return ret;
}

int store_try(struct store_code *code)
{
	int ret = stage_code(store.dirfd, ".try", code);

	tree_remove(store.dirfd, ".try");
	return ret;
}

int store_update_control(const char *name, const char *control_text)
{
	CLEANUP_FD int dirfd = store_version_open(name, 0);

	if (dirfd < 0)
		return dirfd;
	return write_file_atomic(dirfd, STORE_CONTROL_NAME, control_text, strlen(control_text),
				 0600);
}

int store_remove(const char *name)
{
	char tmp[FUNCTION_NAME_MAX + 8];

	snprintf(tmp, sizeof(tmp), ".old-%s", name);
	tree_remove(store.dirfd, tmp);
	if (renameat(store.dirfd, name, store.dirfd, tmp))
		return errno == ENOENT ? 0 : -errno;
	fsync(store.dirfd);
	return tree_remove(store.dirfd, tmp);
}

/* ---- versions -------------------------------------------------------------------------------- */

static void version_path(const char *name, uint32_t number, char *buf, size_t size)
{
	if (number)
		snprintf(buf, size, "%s/versions/%u", name, number);
	else
		snprintf(buf, size, "%s", name);
}

int store_version_open(const char *name, uint32_t number)
{
	char path[FUNCTION_NAME_MAX + 32];
	int fd;

	version_path(name, number, path, sizeof(path));
	fd = openat(store.dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int store_package_open(const char *name, uint32_t number)
{
	CLEANUP_FD int dirfd = store_version_open(name, number);
	int fd;

	if (dirfd < 0)
		return dirfd;
	fd = openat(dirfd, STORE_PACKAGE_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int store_code_path(const char *name, uint32_t number, char *buf, size_t size)
{
	char path[FUNCTION_NAME_MAX + 32];

	version_path(name, number, path, sizeof(path));
	return snprintf(buf, size, "%s/%s/" STORE_PACKAGE_NAME "/tree", store.path, path) <
			       (int)size
		       ? 0
		       : -ENAMETOOLONG;
}

int store_opt_path(const char *name, uint32_t number, char *buf, size_t size)
{
	char path[FUNCTION_NAME_MAX + 32];
	int n;

	version_path(name, number, path, sizeof(path));
	n = snprintf(buf, size, "%s/%s/" STORE_OPT_NAME, store.path, path);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int store_code_image(const char *name, uint32_t number)
{
	CLEANUP_FD int package = store_package_open(name, number);

	return package < 0 ? package : erofs_image_open(package, STORE_CODE_IMAGE);
}

int store_opt_image(const char *name, uint32_t number)
{
	CLEANUP_FD int dirfd = store_version_open(name, number);

	return dirfd < 0 ? dirfd : erofs_image_open(dirfd, STORE_OPT_IMAGE);
}

int store_code_draft(const char *name, uint32_t number, struct erofs_draft *ret)
{
	int package = store_package_open(name, number);

	return package < 0 ? package : erofs_draft_make(ret, package, "tree", STORE_CODE_IMAGE);
}

int store_opt_draft(const char *name, uint32_t number, struct erofs_draft *ret)
{
	int dirfd = store_version_open(name, number);

	return dirfd < 0 ? dirfd : erofs_draft_make(ret, dirfd, STORE_OPT_NAME, STORE_OPT_IMAGE);
}

int store_snapshot_path(const char *name, uint32_t number, char *buf, size_t size)
{
	char path[FUNCTION_NAME_MAX + 32];
	int n;

	version_path(name, number, path, sizeof(path));
	n = snprintf(buf, size, "%s/%s/" STORE_SNAPSHOT_NAME, store.path, path);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

/** Copy a directory that was limited when it was made. Return: -ENOENT when there is none. */
static int copy_dir(int from_dirfd, int to_dirfd, const char *name, mode_t mode)
{
	CLEANUP_FD int from = openat(from_dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int to = -1;

	if (from < 0 || mkdirat(to_dirfd, name, mode))
		return -errno;
	to = openat(to_dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0 || fchmod(to, mode))
		return -errno;
	return tree_copy(from, to, UINT64_MAX);
}

int store_version_prepare(const char *name, uint32_t number, int *ret_dirfd, int *ret_tmp_fd)
{
	CLEANUP_FD int from_dir = store_version_open(name, 0);
	CLEANUP_FD int dirfd = -1, tmp_fd = -1;
	char path[FUNCTION_NAME_MAX + 32];
	int ret;

	if (from_dir < 0)
		return from_dir;
	version_path(name, number, path, sizeof(path));
	ret = tree_remove(store.dirfd, path);
	if (ret)
		return ret;
	if (mkdirat(store.dirfd, path, 0700))
		return -errno;
	dirfd = openat(store.dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	ret = copy_dir(from_dir, dirfd, STORE_PACKAGE_NAME, 0700);
	if (ret)
		return ret;
	ret = copy_dir(from_dir, dirfd, STORE_OPT_NAME, 0755);
	if (ret && ret != -ENOENT)
		return ret;
	tmp_fd = openat(dirfd, STORE_SNAPSHOT_TMP, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (tmp_fd < 0)
		return -errno;
	*ret_dirfd = steal_fd(&dirfd);
	*ret_tmp_fd = steal_fd(&tmp_fd);
	return 0;
}

int store_version_reopen(const char *name, uint32_t number, int *ret_dirfd, int *ret_tmp_fd)
{
	CLEANUP_FD int dirfd = store_version_open(name, number);
	int fd;

	if (dirfd < 0)
		return dirfd;
	fd = openat(dirfd, STORE_SNAPSHOT_TMP, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	*ret_tmp_fd = fd;
	*ret_dirfd = steal_fd(&dirfd);
	return 0;
}

void store_version_forget_tmp(int dirfd)
{
	unlinkat(dirfd, STORE_SNAPSHOT_TMP, 0);
}

static void remove_other_base(int dirfd, const char *name, void *arg)
{
	const struct store_base *base = arg;

	if (!strncmp(name, STORE_BASE_PREFIX, strlen(STORE_BASE_PREFIX)) &&
	    (!base || strcmp(name, base->name) != 0))
		unlinkat(dirfd, name, 0);
}

int store_snapshot_remove(const char *name, uint32_t number)
{
	CLEANUP_FD int dirfd = store_version_open(name, number);

	if (dirfd < 0)
		return dirfd == -ENOENT ? 0 : dirfd;
	if (unlinkat(dirfd, STORE_SNAPSHOT_NAME, 0) && errno != ENOENT)
		return -errno;
	return for_each_name(dirfd, remove_other_base, NULL);
}

/** In place of what has that name: a copy of a state directory has files of their own instead of
 * links, and one of them may be damaged. */
static int link_base(int dirfd, const struct store_base *base)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", base->fd);
	unlinkat(dirfd, STORE_BASE_TMP, 0);
	if (linkat(AT_FDCWD, path, dirfd, STORE_BASE_TMP, AT_SYMLINK_FOLLOW))
		return -errno;
	ret = renameat(dirfd, STORE_BASE_TMP, dirfd, base->name) ? -errno : 0;
	unlinkat(dirfd, STORE_BASE_TMP, 0); /* a rename of a link to another does nothing */
	return ret;
}

int store_version_install(int dirfd, int tmp_fd, const char *settings_text,
			  const struct store_base *base)
{
	int ret = base ? link_base(dirfd, base) : 0;

	if (!ret)
		ret = snapshot_file_install(dirfd, tmp_fd, STORE_SNAPSHOT_TMP, STORE_SNAPSHOT_NAME);
	if (!ret)
		ret = for_each_name(dirfd, remove_other_base, (void *)(uintptr_t)base);
	/* The code too is on disk before config.json makes a version of all this. */
	if (!ret && syncfs(dirfd))
		ret = -errno;
	if (!ret)
		ret = write_file_atomic(dirfd, "config.json", settings_text, strlen(settings_text),
					0600);
	return ret;
}

int store_version_remove(const char *name, uint32_t number)
{
	char path[FUNCTION_NAME_MAX + 32];
	int fd, ret;

	/* Without config.json first: whatever happens then, the next start finishes the job. */
	fd = store_version_open(name, number);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	unlinkat(fd, "config.json", 0);
	close(fd);
	version_path(name, number, path, sizeof(path));
	ret = tree_remove(store.dirfd, path);
	return ret;
}
