/* SPDX-License-Identifier: Apache-2.0 */
/* code.c - code on its way into the store, and what it is there */
#include "snapd/code.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapd/base64.h"
#include "snapd/code_unpacker.h"
#include "snapd/tree.h"

enum { IO_BYTES = 64 << 10, INFO_BYTES_MAX = 4096 };

static_assert(BASE64_ENCODE_RAW_LENGTH(SHA256_DIGEST_SIZE) == CODE_SHA256_CHARS, "a hash as text");

void code_source_free(struct code_source *source)
{
	free(source->path);
	free(source->zip);
	json_decref(source->zip_text);
	*source = (struct code_source){0};
}

const char *code_source_name(const struct code_source *source)
{
	return source->kind == CODE_ZIP ? "a zip file" : source->path;
}

const char *code_error_type(int err, unsigned *ret_status)
{
	*ret_status = 400;
	switch (err) {
	case -EFBIG:
		return "CodeStorageExceededException";
	case -EINVAL:
	case -ENOENT:
	case -ENOTDIR:
	case -EACCES:
		return "InvalidParameterValueException";
	default:
		*ret_status = 500;
		return err == -ENOSPC ? "CodeStorageExceededException" : "ServiceException";
	}
}

/* ---- hashes ---------------------------------------------------------------------------------- */

static void sha256_text(struct sha256_ctx *sha, char ret[CODE_SHA256_CHARS + 1])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_digest(sha, sizeof(digest), digest);
	base64_encode_raw(ret, sizeof(digest), digest);
	ret[CODE_SHA256_CHARS] = '\0';
}

/** struct tree_hash - being made by hash_entry(). */
struct tree_hash {
	struct sha256_ctx sha;
	uint64_t bytes;
};

static int hash_file(struct tree_hash *h, int dirfd, const char *name)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint8_t buf[IO_BYTES];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		sha256_update(&h->sha, (size_t)n, buf);
		h->bytes += (uint64_t)n;
	}
	return n < 0 ? -errno : 0;
}

/* For each entry: type and mode as text, the name, NUL, and for files the size first, so that no
 * two trees have the same stream. */
static int hash_entry(const struct tree_entry *e, void *arg)
{
	struct tree_hash *h = arg;
	mode_t mode = e->st.st_mode;
	char head[64], target[PATH_MAX];
	ssize_t n;
	int len = snprintf(head, sizeof(head), "%c %lld ",
			   S_ISDIR(mode)   ? 'd'
			   : S_ISLNK(mode) ? 'l'
			   : mode & 0100   ? 'x'
					   : 'f',
			   S_ISREG(mode) ? (long long)e->st.st_size : 0ll);

	sha256_update(&h->sha, (size_t)len, (const uint8_t *)head);
	sha256_update(&h->sha, strlen(e->path) + 1, (const uint8_t *)e->path);
	if (S_ISREG(mode))
		return hash_file(h, e->dirfd, e->name);
	if (!S_ISLNK(mode))
		return 0;
	n = readlinkat(e->dirfd, e->name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	sha256_update(&h->sha, (size_t)n + 1, (const uint8_t *)target);
	return 0;
}

int code_tree_info(int tree_fd, struct code_info *ret)
{
	struct tree_hash h = {.bytes = 0};
	int err;

	sha256_init(&h.sha);
	err = tree_walk(tree_fd, hash_entry, &h);
	if (err)
		return err;
	sha256_text(&h.sha, ret->sha256);
	ret->bytes = ret->unpacked_bytes = h.bytes;
	return 0;
}

/* ---- info.json ------------------------------------------------------------------------------- */

static int write_info(int package_fd, const struct code_info *info)
{
	json_t *root = json_pack("{s:s, s:I, s:I}", "CodeSha256", info->sha256, "CodeSize",
				 (json_int_t)info->bytes, "UnpackedSize",
				 (json_int_t)info->unpacked_bytes);
	CLEANUP_FREE char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	return text ? write_file_atomic(package_fd, "info.json", text, strlen(text), 0600)
		    : -ENOMEM;
}

int code_info_load(int package_fd, struct code_info *ret)
{
	CLEANUP_FREE char *text = NULL;
	json_int_t bytes, unpacked;
	const char *sha256;
	json_t *root;
	int err = read_file(package_fd, "info.json", INFO_BYTES_MAX, &text, NULL);

	if (err)
		return err;
	root = json_loads(text, 0, NULL);
	err = json_unpack(root, "{s:s, s:I, s:I}", "CodeSha256", &sha256, "CodeSize", &bytes,
			  "UnpackedSize", &unpacked);
	if (err || strlen(sha256) != CODE_SHA256_CHARS || bytes < 0 || unpacked < 0) {
		err = -EBADMSG;
	} else {
		memcpy(ret->sha256, sha256, CODE_SHA256_CHARS + 1);
		ret->bytes = (uint64_t)bytes;
		ret->unpacked_bytes = (uint64_t)unpacked;
	}
	json_decref(root);
	return err;
}

/* ---- staging --------------------------------------------------------------------------------- */

static int say(struct code_error *e, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int say(struct code_error *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return err;
}

static int fill_from_directory(int tree, struct code_source *s, struct code_info *info,
			       struct code_error *e)
{
	CLEANUP_FD int from = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (from < 0)
		return say(e, -errno, "%.400s: %s", s->path, strerror(errno));
	ret = tree_copy(from, tree, CODE_BYTES_MAX);
	if (ret == -EFBIG)
		return say(e, ret, "%.400s: the code is larger than 250 MiB", s->path);
	if (!ret)
		ret = code_tree_info(tree, info);
	return ret ? say(e, ret, "%.400s: %s", s->path, strerror(-ret)) : 0;
}

static int fill_from_image(int tree, struct code_source *s, struct code_info *info,
			   struct code_error *e)
{
	CLEANUP_FD int from = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct unpacker_result result;
	int ret;

	if (from < 0)
		return say(e, -errno, "%.400s: %s", s->path, strerror(errno));
	ret = code_unpacker_run(UNPACKER_JOB_OCI, from, tree, &result);
	if (ret)
		return say(e, ret, "%.400s: %s", s->path, result.error);
	ret = code_tree_info(tree, info);
	return ret ? say(e, ret, "%.400s: %s", s->path, strerror(-ret)) : 0;
}

static int decode_zip(struct code_source *s, struct code_error *e)
{
	int ret;

	if (!s->zip_text)
		return 0;
	ret = base64_decode(json_string_value(s->zip_text), &s->zip, &s->zip_bytes);
	if (ret == -EINVAL)
		return say(e, ret, "ZipFile: not base64");
	return ret ? say(e, ret, "ZipFile: %s", strerror(-ret)) : 0;
}

/** The zip in a memfd that nobody changes any more. */
static int seal_zip(const struct code_source *s)
{
	CLEANUP_FD int fd = memfd_create("quickthaw-zip", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret = fd < 0 ? -errno : write_full(fd, s->zip, s->zip_bytes);

	if (!ret && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		ret = -errno;
	return ret ? ret : steal_fd(&fd);
}

static int fill_from_zip(int package, int tree, struct code_source *s, struct code_info *info,
			 struct code_error *e)
{
	CLEANUP_FD int from = -1;
	struct unpacker_result result;
	struct sha256_ctx sha;
	int ret = decode_zip(s, e);

	if (ret)
		return ret;
	if (s->zip_bytes > CODE_ZIP_MAX)
		return say(e, -EFBIG, "ZipFile: larger than 50 MiB");
	from = seal_zip(s);
	if (from < 0)
		return say(e, from, "ZipFile: %s", strerror(-from));
	ret = code_unpacker_run(UNPACKER_JOB_ZIP, from, tree, &result);
	if (ret)
		return say(e, ret, "%s", result.error);
	sha256_init(&sha);
	sha256_update(&sha, s->zip_bytes, (const uint8_t *)s->zip);
	sha256_text(&sha, info->sha256);
	info->bytes = s->zip_bytes;
	info->unpacked_bytes = result.bytes;
	ret = write_file_atomic(package, "code.zip", s->zip, s->zip_bytes, 0600);
	return ret ? say(e, ret, "code.zip: %s", strerror(-ret)) : 0;
}

static int fill_package(int package, struct code_source *s, struct code_info *info,
			struct code_error *e)
{
	CLEANUP_FD int tree = -1;
	int ret;

	if (mkdirat(package, "tree", 0755))
		return say(e, -errno, "tree: %s", strerror(errno));
	tree = openat(package, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree < 0 || fchmod(tree, 0755))
		return say(e, -errno, "tree: %s", strerror(errno));
	if (s->kind == CODE_ZIP)
		ret = fill_from_zip(package, tree, s, info, e);
	else if (s->kind == CODE_OCI_IMAGE)
		ret = fill_from_image(tree, s, info, e);
	else
		ret = fill_from_directory(tree, s, info, e);
	if (ret)
		return ret;
	ret = write_info(package, info);
	return ret ? say(e, ret, "info.json: %s", strerror(-ret)) : 0;
}

static int make_package(int dirfd, const char *name)
{
	int ret = tree_remove(dirfd, name), fd;

	if (ret)
		return ret;
	if (mkdirat(dirfd, name, 0700))
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int code_stage(int dirfd, const char *name, struct code_source *source, struct code_info *ret_info,
	       struct code_error *err)
{
	CLEANUP_FD int package = make_package(dirfd, name);
	int ret;

	*ret_info = (struct code_info){.bytes = 0};
	err->text[0] = '\0';
	if (package < 0)
		return say(err, package, "%s: %s", name, strerror(-package));
	ret = fill_package(package, source, ret_info, err);
	if (ret)
		tree_remove(dirfd, name);
	return ret;
}

int code_adopt_tree(int dirfd, const char *from, const char *name)
{
	CLEANUP_FD int package = make_package(dirfd, name);
	CLEANUP_FD int tree = openat(dirfd, from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct code_info info;
	int ret;

	if (package < 0 || tree < 0)
		return package < 0 ? package : -errno;
	ret = code_tree_info(tree, &info);
	if (!ret)
		ret = write_info(package, &info);
	if (!ret && renameat(dirfd, from, package, "tree"))
		ret = -errno;
	return ret;
}

/* ---- download -------------------------------------------------------------------------------- */

static int copy_zip(int from, int to)
{
	ssize_t n;

	do
		n = sendfile(to, from, NULL, 1 << 30);
	while (n > 0);
	return n < 0 ? -errno : 0;
}

int code_zip_open(int package_fd)
{
	CLEANUP_FD int zip = openat(package_fd, "code.zip", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FD int memfd = memfd_create("quickthaw-code", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CLEANUP_FD int tree = -1;
	struct unpacker_result result;
	int ret;

	if (memfd < 0)
		return -errno;
	if (zip >= 0) {
		ret = copy_zip(zip, memfd);
	} else {
		tree = openat(package_fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ret = tree < 0 ? -errno
			       : code_unpacker_run(UNPACKER_JOB_PACK, tree, memfd, &result);
	}
	if (!ret && fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		ret = -errno;
	return ret ? ret : steal_fd(&memfd);
}
