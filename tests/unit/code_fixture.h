/* SPDX-License-Identifier: Apache-2.0 */
/* code_fixture.h - directories and archives for tests of how code gets in */
#ifndef QUICKTHAW_CODE_FIXTURE_H
#define QUICKTHAW_CODE_FIXTURE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/base16.h>
#include <nettle/sha2.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <cmocka.h>

#include "common/io.h"
#include "snapd/code.h"
#include "snapd/code_unpacker.h"
#include "snapd/tree.h"
#include "tests/unit/skip.h"

/** struct fixture - a directory of the test's own: out/ is where things are unpacked. */
struct fixture {
	char dir[64];
	int dirfd;
};

/** The unpacker that was built with this test. */
static inline void find_unpacker(void)
{
	char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	assert_true(n > 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/../bin/unpacker");
	assert_int_equal(code_unpacker_init(path), 0);
}

static inline int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	find_unpacker();
	assert_non_null(f);
	strcpy(f->dir, "/tmp/qt-code-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dirfd >= 0);
	*state = f;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(tree_remove(AT_FDCWD, f->dir), 0);
	close(f->dirfd);
	free(f);
	return 0;
}

static inline void put_file(const struct fixture *f, const char *name, const void *data, size_t n)
{
	int fd = openat(f->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, data, n), 0);
	close(fd);
}

/** get_file() - the contents; a test may call it a few times, the last four stay valid. */
static inline const char *get_file(const struct fixture *f, const char *name)
{
	static char *texts[4];
	static unsigned turn;
	char **text = &texts[turn++ % 4];

	free(*text);
	*text = NULL;
	return read_file(f->dirfd, name, 1 << 20, text, NULL) ? "(nothing)" : *text;
}

static inline bool is_there(const struct fixture *f, const char *name)
{
	struct stat st;

	return !fstatat(f->dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
}

/* ---- zip files ------------------------------------------------------------------------------- */

/** struct zip_item - one entry. @mode 0: the zip does not say. */
struct zip_item {
	const char *name;
	const char *data;
	mode_t mode;
	size_t n; /**< 0: up to the NUL */
};

/** zip_make() - a zip file; malloc'ed, the caller's. */
static inline struct code_source zip_make(const struct fixture *f, const struct zip_item *items,
					  size_t count)
{
	struct code_source ret = {.kind = CODE_ZIP};
	char path[PATH_MAX];
	zip_t *zip;
	int err;

	snprintf(path, sizeof(path), "%s/made.zip", f->dir);
	zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &err);
	assert_non_null(zip);
	for (size_t i = 0; i < count; i++) {
		size_t n = items[i].n ? items[i].n : strlen(items[i].data);
		zip_source_t *source = zip_source_buffer(zip, items[i].data, n, 0);
		zip_int64_t index = zip_file_add(zip, items[i].name, source, ZIP_FL_ENC_UTF_8);

		assert_true(index >= 0);
		if (items[i].mode)
			assert_int_equal(zip_file_set_external_attributes(
						 zip, (zip_uint64_t)index, 0, ZIP_OPSYS_UNIX,
						 (zip_uint32_t)items[i].mode << 16),
					 0);
	}
	assert_int_equal(zip_close(zip), 0);
	assert_int_equal(read_file(AT_FDCWD, path, 1 << 28, &ret.zip, &ret.zip_bytes), 0);
	unlink(path);
	return ret;
}

/** zip_patch_name() - give an entry a name that no tool would: same length, here and in the
 * directory.
 */
static inline void zip_patch_name(struct code_source *s, const char *from, const char *to)
{
	size_t n = strlen(from);
	unsigned found = 0;

	assert_int_equal(n, strlen(to));
	for (size_t at = 0; at + n <= s->zip_bytes; at++)
		if (!memcmp(s->zip + at, from, n)) {
			memcpy(s->zip + at, to, n);
			found++;
		}
	assert_true(found >= 2);
}

/* ---- OCI images ------------------------------------------------------------------------------ */

/** struct tar_item - one entry of a layer; @type as in AE_IFREG; @data: contents, or link target */
struct tar_item {
	const char *name;
	mode_t type;
	const char *data;
	bool hardlink;
	mode_t mode;
};

/** blob_put() - into the layout; @ret_digest: "sha256:..." */
static inline void blob_put(const struct fixture *f, const void *data, size_t n,
			    char ret_digest[7 + 2 * SHA256_DIGEST_SIZE + 1])
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha;
	char path[160];

	sha256_init(&sha);
	sha256_update(&sha, n, data);
	sha256_digest(&sha, sizeof(digest), digest);
	strcpy(ret_digest, "sha256:");
	base16_encode_update(ret_digest + 7, sizeof(digest), digest);
	ret_digest[7 + 2 * SHA256_DIGEST_SIZE] = '\0';
	snprintf(path, sizeof(path), "image/blobs/sha256/%.64s", ret_digest + 7);
	put_file(f, path, data, n);
}

static inline void layer_put(const struct fixture *f, const struct tar_item *items, size_t count,
			     bool gzip, char *ret_digest)
{
	static char buf[1 << 20];
	struct archive *a = archive_write_new();
	size_t used = 0;

	assert_int_equal(archive_write_set_format_pax_restricted(a), ARCHIVE_OK);
	if (gzip)
		assert_int_equal(archive_write_add_filter_gzip(a), ARCHIVE_OK);
	assert_int_equal(archive_write_open_memory(a, buf, sizeof(buf), &used), ARCHIVE_OK);
	for (size_t i = 0; i < count; i++) {
		struct archive_entry *e = archive_entry_new();
		const char *data = items[i].data ? items[i].data : "";

		archive_entry_set_pathname(e, items[i].name);
		archive_entry_set_filetype(e, items[i].type);
		archive_entry_set_perm(e, items[i].mode ? items[i].mode : 0644);
		if (items[i].hardlink)
			archive_entry_set_hardlink(e, data);
		else if (items[i].type == AE_IFLNK)
			archive_entry_set_symlink(e, data);
		else if (items[i].type == AE_IFREG)
			archive_entry_set_size(e, (la_int64_t)strlen(data));
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		if (items[i].type == AE_IFREG && !items[i].hardlink)
			archive_write_data(a, data, strlen(data));
		archive_entry_free(e);
	}
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	blob_put(f, buf, used, ret_digest);
}

/** image_put() - layout, index, manifest and config around layers that are there. */
static inline void image_put(const struct fixture *f, const char *config,
			     const char *const *digests, size_t count)
{
	static const char layout[] = "{\"imageLayoutVersion\": \"1.0.0\"}";
	char config_digest[80], manifest_digest[80], text[8192];
	int n;

	put_file(f, "image/oci-layout", layout, sizeof(layout) - 1);
	blob_put(f, config, strlen(config), config_digest);
	n = snprintf(text, sizeof(text), "{\"config\": {\"digest\": \"%s\"}, \"layers\": [",
		     config_digest);
	for (size_t i = 0; i < count; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      "%s{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar%s\", "
			      "\"digest\": \"%s\"}",
			      i ? ", " : "", i % 2 ? "" : "+gzip", digests[i]);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "]}");
	blob_put(f, text, (size_t)n, manifest_digest);
	n = snprintf(text, sizeof(text),
		     "{\"manifests\": [{\"mediaType\": \"x\", \"digest\": \"sha256:%064d\", "
		     "\"platform\": {\"os\": \"linux\", \"architecture\": \"arm64\"}}, "
		     "{\"digest\": \"%s\", "
		     "\"platform\": {\"os\": \"linux\", \"architecture\": \"amd64\"}}]}",
		     0, manifest_digest);
	put_file(f, "image/index.json", text, (size_t)n);
}

static inline void image_begin(const struct fixture *f)
{
	assert_int_equal(mkdirat(f->dirfd, "image", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "image/blobs", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "image/blobs/sha256", 0755), 0);
}

#endif
