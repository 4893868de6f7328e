/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zip.c - code as a zip file: unpack one, make one
 *
 * Reading is libzip's, which goes by the central directory; writing is libarchive's, which streams.
 */
#include "snapd/unpacker/zip.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "common/cleanup.h"
#include "snapd/tree.h"

enum { IO_BYTES = 64 << 10, MTIME_S = 315532800 /* 1980-01-01, the first that zip knows */ };

/* ---- unpack ---------------------------------------------------------------------------------- */

static void cleanup_zip(zip_t **zip)
{
	if (*zip)
		zip_discard(*zip);
}

static void cleanup_zip_file(zip_file_t **file)
{
	if (*file)
		zip_fclose(*file);
}

/** Lambda's words first: clients look for them. */
static int refuse_zip(struct unpack *u, const char *name, const char *why)
{
	return unpack_refuse(u, -EINVAL, name,
			     "Could not unzip uploaded file. Please check your file, then try to "
			     "upload again. (%s)",
			     why);
}

static int open_zip(const void *data, size_t n, struct unpack *u, zip_t **ret)
{
	zip_error_t err;
	zip_source_t *source;
	int out = 0;

	zip_error_init(&err);
	source = zip_source_buffer_create(data, n, 0, &err);
	*ret = source ? zip_open_from_source(source, ZIP_RDONLY, &err) : NULL;
	if (!*ret) {
		zip_source_free(source);
		out = refuse_zip(u, NULL, zip_error_strerror(&err));
	}
	zip_error_fini(&err);
	return out;
}

/** Unix rights and type of an entry, 0 where the zip does not say. */
static mode_t entry_mode(zip_t *zip, zip_uint64_t index)
{
	zip_uint32_t attributes;
	zip_uint8_t system;

	if (zip_file_get_external_attributes(zip, index, 0, &system, &attributes) ||
	    system != ZIP_OPSYS_UNIX)
		return 0;
	return attributes >> 16;
}

static int copy_out(struct unpack *u, const char *name, zip_file_t *from, int to)
{
	char buf[IO_BYTES];
	zip_int64_t n;
	int ret = 0;

	while (!ret && (n = zip_fread(from, buf, sizeof(buf))) > 0)
		ret = unpack_write(u, name, to, buf, (size_t)n);
	if (!ret && n < 0)
		ret = refuse_zip(u, name, zip_error_strerror(zip_file_get_error(from)));
	return ret;
}

static int unpack_link(struct unpack *u, const char *name, zip_file_t *from)
{
	char target[PATH_MAX];
	zip_int64_t n = zip_fread(from, target, sizeof(target));

	if (n < 0)
		return refuse_zip(u, name, zip_error_strerror(zip_file_get_error(from)));
	if (n == sizeof(target) || memchr(target, '\0', (size_t)n))
		return unpack_refuse(u, -EINVAL, name, "a symbolic link to no sensible name");
	target[n] = '\0';
	return unpack_symlink(u, name, target);
}

static int unpack_content(zip_t *zip, zip_uint64_t index, struct unpack *u, const char *name,
			  mode_t mode)
{
	__attribute__((cleanup(cleanup_zip_file))) zip_file_t *from =
		zip_fopen_index(zip, index, 0);
	CLEANUP_FD int to = -1;
	int ret;

	if (!from)
		return refuse_zip(u, name, zip_error_strerror(zip_get_error(zip)));
	if (S_ISLNK(mode))
		return unpack_link(u, name, from);
	ret = unpack_file(u, name, mode, &to);
	return ret ? ret : copy_out(u, name, from, to);
}

static int unpack_entry(zip_t *zip, zip_uint64_t index, struct unpack *u)
{
	const zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_ENCRYPTION_METHOD;
	char name[UNPACK_PATH_MAX + 1];
	zip_stat_t st;
	mode_t mode;
	size_t n;
	int ret;

	if (zip_stat_index(zip, index, ZIP_FL_ENC_RAW, &st) || (st.valid & needed) != needed)
		return refuse_zip(u, NULL, "an entry cannot be read");
	ret = unpack_name(u, st.name, name);
	if (ret)
		return ret;
	if (st.encryption_method != ZIP_EM_NONE)
		return unpack_refuse(u, -EINVAL, name, "the entry is encrypted");
	mode = entry_mode(zip, index);
	n = strlen(st.name);
	if (S_ISDIR(mode) || (n && st.name[n - 1] == '/'))
		return unpack_dir(u, name);
	if ((mode & S_IFMT) && !S_ISREG(mode) && !S_ISLNK(mode))
		return unpack_refuse(u, -EINVAL, name,
				     "neither a file nor a directory nor a symbolic link");
	if (st.size > u->bytes_left) /* it may lie, but why begin */
		return unpack_refuse(u, -EFBIG, NULL,
				     "Unzipped size must be smaller than %llu bytes",
				     (unsigned long long)u->bytes_max);
	return unpack_content(zip, index, u, name, mode);
}

int zip_unpack(const void *data, size_t zip_bytes, struct unpack *u)
{
	__attribute__((cleanup(cleanup_zip))) zip_t *zip = NULL;
	zip_int64_t count;
	int ret = open_zip(data, zip_bytes, u, &zip);

	if (ret)
		return ret;
	count = zip_get_num_entries(zip, 0);
	if (count > UNPACK_ENTRIES_MAX)
		return unpack_refuse(u, -EFBIG, NULL, "more than %d entries", UNPACK_ENTRIES_MAX);
	if (count <= 0)
		return unpack_refuse(u, -EINVAL, NULL, "Uploaded file must be a non-empty zip");
	for (zip_int64_t i = 0; !ret && i < count; i++)
		ret = unpack_entry(zip, (zip_uint64_t)i, u);
	return ret ? ret : unpack_end(u);
}

/* ---- make ------------------------------------------------------------------------------------ */

static void cleanup_writer(struct archive **a)
{
	if (*a)
		archive_write_free(*a);
}

static void cleanup_entry(struct archive_entry **e)
{
	if (*e)
		archive_entry_free(*e);
}

static int archive_failed(struct archive *a)
{
	int err = archive_errno(a);

	return err > 0 ? -err : -EIO;
}

static int write_content(struct archive *a, int dirfd, const char *name)
{
	CLEANUP_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char buf[IO_BYTES];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (archive_write_data(a, buf, (size_t)n) < 0)
			return archive_failed(a);
	return n < 0 ? -errno : 0;
}

static int write_entry(const struct tree_entry *e, void *arg)
{
	__attribute__((cleanup(cleanup_entry))) struct archive_entry *entry = archive_entry_new();
	struct archive *a = arg;
	char target[PATH_MAX];
	mode_t mode = e->st.st_mode;
	ssize_t n;

	if (!entry)
		return -ENOMEM;
	archive_entry_copy_pathname(entry, e->path);
	archive_entry_set_mode(entry,
			       (mode & S_IFMT) | (mode & 0100 || S_ISLNK(mode) ? 0755 : 0644));
	archive_entry_set_mtime(entry, MTIME_S, 0);
	if (S_ISREG(mode))
		archive_entry_set_size(entry, e->st.st_size);
	if (S_ISLNK(mode)) {
		n = readlinkat(e->dirfd, e->name, target, sizeof(target) - 1);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		archive_entry_copy_symlink(entry, target);
	}
	if (archive_write_header(a, entry) < ARCHIVE_WARN)
		return archive_failed(a);
	return S_ISREG(mode) ? write_content(a, e->dirfd, e->name) : 0;
}

int zip_pack(int dirfd, int fd)
{
	__attribute__((cleanup(cleanup_writer))) struct archive *a = archive_write_new();
	int ret;

	if (!a)
		return -ENOMEM;
	if (archive_write_set_format_zip(a) || archive_write_set_bytes_in_last_block(a, 1) ||
	    archive_write_open_fd(a, fd))
		return archive_failed(a);
	ret = tree_walk(dirfd, write_entry, a);
	return ret ? ret : archive_write_close(a) ? archive_failed(a) : 0;
}
