/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.c - code from an OCI image layout on this host
 *
 * Layers are applied in order, each in two passes: its whiteouts first, then what it brings. A
 * whiteout is about the layers below only, wherever in its layer it stands. Entries outside of the
 * code's directory are read past.
 */
#include "snapd/unpacker/oci.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <nettle/base16.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define IMAGE_BYTES_MAX (10ull << 30) /* all layers unpacked, as Lambda has it */

enum {
	JSON_BYTES_MAX = 4 << 20,
	LAYERS_MAX = 127, /* as container engines have it */
	INDEX_DEPTH_MAX = 2,
	IO_BYTES = 64 << 10,
	DIGEST_HEX_CHARS = 2 * SHA256_DIGEST_SIZE,
};

static const char whiteout[] = ".wh.", opaque[] = ".wh..wh..opq";

/**
 * struct image - an image being read.
 * @dirfd: of the layout
 * @prefix: of names in layers that are code: "var/task"
 * @found: a layer had something there
 * @bytes_left: of what its layers may unpack to, code or not
 */
struct image {
	int dirfd;
	struct unpack *u;
	char prefix[UNPACK_PATH_MAX + 1];
	bool found;
	uint64_t bytes_left;
};

/** struct blob_name - where a blob is, and what it has to hash to. */
struct blob_name {
	char path[16 + DIGEST_HEX_CHARS];
	const char *hex;
};

/* ---- blobs ----------------------------------------------------------------------------------- */

static int parse_digest(struct image *image, const json_t *descriptor, struct blob_name *ret)
{
	static const char algorithm[] = "sha256:";
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	const char *hex = digest ? digest + strlen(algorithm) : NULL;

	if (!digest || strncmp(digest, algorithm, strlen(algorithm)) != 0 ||
	    strlen(hex) != DIGEST_HEX_CHARS || strspn(hex, "0123456789abcdef") != DIGEST_HEX_CHARS)
		return unpack_refuse(image->u, -EINVAL, digest, "give digests as sha256:HEX");
	snprintf(ret->path, sizeof(ret->path), "blobs/sha256/%s", hex);
	ret->hex = ret->path + strlen("blobs/sha256/");
	return 0;
}

/** A regular file of the layout; nothing in it may be a symbolic link out. */
static int open_file(struct image *image, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	CLEANUP_FD int fd = (int)syscall(SYS_openat2, image->dirfd, path, &how, sizeof(how));
	struct stat st;

	if (fd < 0)
		return unpack_refuse(image->u, -EINVAL, path, "%s", strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return unpack_refuse(image->u, -EINVAL, path, "not a file");
	return steal_fd(&fd);
}

static int check_digest(struct image *image, int fd, const struct blob_name *name)
{
	uint8_t buf[IO_BYTES], digest[SHA256_DIGEST_SIZE];
	char hex[DIGEST_HEX_CHARS + 1];
	struct sha256_ctx sha;
	uint64_t at = 0;
	ssize_t n;

	sha256_init(&sha);
	while ((n = pread_full(fd, buf, sizeof(buf), at)) > 0) {
		sha256_update(&sha, (size_t)n, buf);
		at += (uint64_t)n;
		if (at > IMAGE_BYTES_MAX)
			return unpack_refuse(image->u, -EFBIG, name->path, "larger than 10 GiB");
	}
	if (n < 0)
		return unpack_refuse(image->u, (int)n, name->path, "%s", strerror((int)-n));
	sha256_digest(&sha, sizeof(digest), digest);
	base16_encode_update(hex, sizeof(digest), digest);
	hex[DIGEST_HEX_CHARS] = '\0';
	return strcmp(hex, name->hex) ? unpack_refuse(image->u, -EINVAL, name->path,
						      "its contents have another digest: damaged")
				      : 0;
}

static int open_blob(struct image *image, const json_t *descriptor)
{
	struct blob_name name;
	CLEANUP_FD int fd = -1;
	int ret = parse_digest(image, descriptor, &name);

	if (ret)
		return ret;
	fd = open_file(image, name.path);
	if (fd < 0)
		return fd;
	ret = check_digest(image, fd, &name);
	return ret ? ret : steal_fd(&fd);
}

/** @ret: set when it is an object. */
static int load_json(struct image *image, int fd, const char *what, json_t **ret)
{
	CLEANUP_FREE char *text = malloc(JSON_BYTES_MAX);
	ssize_t n = text ? pread_full(fd, text, JSON_BYTES_MAX, 0) : -ENOMEM;
	json_t *root;

	if (n == JSON_BYTES_MAX)
		return unpack_refuse(image->u, -EINVAL, what, "larger than 4 MiB");
	root = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
	if (!json_is_object(root)) {
		json_decref(root);
		return unpack_refuse(image->u, -EINVAL, what, "not a JSON object");
	}
	*ret = root;
	return 0;
}

static int load_blob(struct image *image, const json_t *descriptor, const char *what, json_t **ret)
{
	CLEANUP_FD int fd = open_blob(image, descriptor);

	return fd < 0 ? fd : load_json(image, fd, what, ret);
}

/* ---- which image ----------------------------------------------------------------------------- */

static const char *member(const json_t *root, const char *key)
{
	const char *text = json_string_value(json_object_get(root, key));

	return text ? text : "";
}

static bool is_index(const json_t *descriptor)
{
	const char *type = member(descriptor, "mediaType");

	return !strcmp(type, "application/vnd.oci.image.index.v1+json") ||
	       !strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json");
}

/** The first manifest for this machine; where none names a platform, the only one. */
static const json_t *choose(const json_t *manifests)
{
	const json_t *m, *platform, *plain = NULL;
	size_t i, plain_count = 0;

	json_array_foreach((json_t *)(uintptr_t)manifests, i, m)
	{
		platform = json_object_get(m, "platform");
		if (!strcmp(member(platform, "os"), "linux") &&
		    !strcmp(member(platform, "architecture"), "amd64"))
			return m;
		if (!platform) {
			plain = m;
			plain_count++;
		}
	}
	return plain_count == 1 ? plain : NULL;
}

/** From an index (the reference is taken over) to the manifest. */
static int find_manifest(struct image *image, json_t *index, json_t **ret)
{
	int err = 0;

	for (int depth = 0; !err; depth++) {
		const json_t *chosen = choose(json_object_get(index, "manifests"));
		bool again = chosen && is_index(chosen);
		json_t *next = NULL;

		if (!chosen)
			err = unpack_refuse(image->u, -EINVAL, "index.json",
					    "no image for linux/amd64 in it, or several that name "
					    "no platform");
		else if (again && depth == INDEX_DEPTH_MAX - 1)
			err = unpack_refuse(image->u, -EINVAL, "index.json",
					    "an index in an index in an index");
		else
			err = load_blob(image, chosen, again ? "the index" : "the manifest", &next);
		json_decref(index);
		index = next;
		if (!again)
			break;
	}
	*ret = index;
	return err;
}

/** What the image is for, and where its code is. */
static int read_config(struct image *image, const json_t *manifest)
{
	json_t *config = NULL;
	const char *dir;
	int ret = load_blob(image, json_object_get(manifest, "config"), "the config", &config);

	if (ret)
		goto out;
	if (strcmp(member(config, "os"), "linux") ||
	    strcmp(member(config, "architecture"), "amd64")) {
		ret = unpack_refuse(image->u, -EINVAL, "the image",
				    "it is for %.20s/%.20s; functions run on linux/amd64 (x86_64)",
				    member(config, "os"), member(config, "architecture"));
		goto out;
	}
	dir = member(json_object_get(config, "config"), "WorkingDir");
	dir += strspn(dir, "/");
	ret = unpack_name(image->u, *dir ? dir : "var/task", image->prefix);
	if (!ret && !*image->prefix)
		snprintf(image->prefix, sizeof(image->prefix), "var/task");
out:
	json_decref(config);
	return ret;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static void cleanup_reader(struct archive **a)
{
	if (*a)
		archive_read_free(*a);
}

static int refuse_layer(struct image *image, struct archive *a)
{
	const char *why = archive_error_string(a);

	return unpack_refuse(image->u, -EINVAL, "a layer", "%.150s", why ? why : "cannot be read");
}

/**
 * inside() - is a plain name the code's directory, or in it? @ret_rel: the rest, "" for itself.
 */
static bool inside(const struct image *image, const char *name, const char **ret_rel)
{
	size_t n = strlen(image->prefix);

	if (strncmp(name, image->prefix, n) != 0 || (name[n] && name[n] != '/'))
		return false;
	*ret_rel = name + n + (name[n] == '/');
	return true;
}

/** Is a plain name a directory above the code's? */
static bool above(const struct image *image, const char *name)
{
	size_t n = strlen(name);

	return n < strlen(image->prefix) && !strncmp(name, image->prefix, n) &&
	       (!n || image->prefix[n] == '/');
}

/** One whiteout: .wh.NAME takes NAME away, .wh..wh..opq all that is in its directory. */
static int apply_whiteout(struct image *image, const char *name, const char *base)
{
	char target[UNPACK_PATH_MAX + 1];
	size_t dir = (size_t)(base - name);
	const char *rel;

	if (!strcmp(base, opaque)) {
		snprintf(target, sizeof(target), "%.*s", (int)(dir ? dir - 1 : 0), name);
		if (above(image, target))
			return unpack_clear(image->u, "");
		return inside(image, target, &rel) ? unpack_clear(image->u, rel) : 0;
	}
	if (!base[strlen(whiteout)])
		return 0;
	snprintf(target, sizeof(target), "%.*s%s", (int)dir, name, base + strlen(whiteout));
	if (above(image, target))
		return unpack_clear(image->u, "");
	if (!inside(image, target, &rel))
		return 0;
	return *rel ? unpack_remove(image->u, rel) : unpack_clear(image->u, "");
}

static int write_file(struct image *image, struct archive *a, const char *rel, mode_t mode)
{
	CLEANUP_FD int fd = -1;
	char buf[IO_BYTES];
	la_ssize_t n;
	int ret = unpack_file(image->u, rel, mode, &fd);

	while (!ret && (n = archive_read_data(a, buf, sizeof(buf))) != 0) {
		if (n < 0)
			return refuse_layer(image, a);
		ret = unpack_write(image->u, rel, fd, buf, (size_t)n);
	}
	return ret;
}

static int make_hardlink(struct image *image, const char *rel, const char *target)
{
	char plain[UNPACK_PATH_MAX + 1];
	const char *from;
	int ret = unpack_name(image->u, target + strspn(target, "/"), plain);

	if (ret)
		return ret;
	if (!inside(image, plain, &from) || !*from)
		return unpack_refuse(image->u, -EINVAL, rel, "a link to a file outside of %.100s",
				     image->prefix);
	return unpack_hardlink(image->u, rel, from);
}

/** One entry in the code's directory, in the place of what lower layers have there. */
static int apply_entry(struct image *image, struct archive *a, struct archive_entry *e,
		       const char *rel)
{
	const char *link = archive_entry_hardlink(e), *symlink = archive_entry_symlink(e);
	mode_t type = archive_entry_filetype(e);
	int ret;

	image->found = true;
	if (type == AE_IFDIR && !link)
		return unpack_replace_dir(image->u, rel);
	if (!*rel)
		return unpack_refuse(image->u, -EINVAL, image->prefix, "not a directory");
	if (link && inside(image, link + strspn(link, "/"), &link) && !strcmp(link, rel))
		return 0; /* to itself: nothing is gained, and removing it first would lose it */
	link = archive_entry_hardlink(e);
	ret = unpack_remove(image->u, rel);
	if (ret)
		return ret;
	if (link)
		return make_hardlink(image, rel, link);
	if (type == AE_IFLNK)
		return unpack_symlink(image->u, rel, symlink ? symlink : "");
	if (type == AE_IFREG)
		return write_file(image, a, rel, archive_entry_perm(e));
	return unpack_refuse(image->u, -EINVAL, rel, "neither a file nor a directory nor a link");
}

static int visit_entry(struct image *image, struct archive *a, struct archive_entry *e,
		       bool whiteouts)
{
	const char *name = archive_entry_pathname(e), *base, *rel;
	char plain[UNPACK_PATH_MAX + 1];
	bool is_whiteout;
	int ret;

	if (!name)
		return unpack_refuse(image->u, -EINVAL, "a layer", "an entry without a name");
	ret = unpack_name(image->u, name + strspn(name, "/"), plain);
	if (ret)
		return ret;
	base = strrchr(plain, '/');
	base = base ? base + 1 : plain;
	is_whiteout = !strncmp(base, whiteout, strlen(whiteout));
	if (is_whiteout)
		return whiteouts ? apply_whiteout(image, plain, base) : 0;
	if (whiteouts)
		return 0;
	if (inside(image, plain, &rel))
		return apply_entry(image, a, e, rel);
	if (above(image, plain) && archive_entry_filetype(e) != AE_IFDIR)
		return unpack_refuse(image->u, -EINVAL, plain,
				     "a directory on the way to the code is none");
	return 0;
}

static int read_layer(struct image *image, int fd, bool whiteouts)
{
	__attribute__((cleanup(cleanup_reader))) struct archive *a = archive_read_new();
	struct archive_entry *e;
	int ret = 0, got;

	if (!a)
		return unpack_refuse(image->u, -ENOMEM, NULL, "out of memory");
	if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_support_format_tar(a) < ARCHIVE_WARN ||
	    archive_read_support_filter_gzip(a) < ARCHIVE_WARN ||
	    archive_read_open_fd(a, fd, IO_BYTES) < ARCHIVE_WARN)
		return refuse_layer(image, a);
	while (!ret && (got = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
		if (got < ARCHIVE_WARN)
			return refuse_layer(image, a);
		ret = visit_entry(image, a, e, whiteouts);
		/* What is read past was unpacked all the same. */
		if (!ret && archive_filter_bytes(a, 0) > (la_int64_t)image->bytes_left)
			ret = unpack_refuse(image->u, -EFBIG, NULL,
					    "the image is larger than 10 GiB");
	}
	if (!ret && !whiteouts)
		image->bytes_left -= (uint64_t)archive_filter_bytes(a, 0);
	return ret;
}

static int apply_layer(struct image *image, const json_t *descriptor)
{
	static const char *const types[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
	};
	const char *type = member(descriptor, "mediaType");
	bool known = false;
	int ret;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		known |= !strcmp(type, types[i]);
	if (!known)
		return unpack_refuse(image->u, -EINVAL, type,
				     "layers are taken as tar or tar+gzip");
	CLEANUP_FD int fd = open_blob(image, descriptor);
	if (fd < 0)
		return fd;
	ret = read_layer(image, fd, true);
	return ret ? ret : read_layer(image, fd, false);
}

static int apply_layers(struct image *image, const json_t *manifest)
{
	json_t *layers = json_object_get(manifest, "layers"), *layer;
	int ret = read_config(image, manifest);
	size_t i;

	if (ret)
		return ret;
	if (!json_array_size(layers) || json_array_size(layers) > LAYERS_MAX)
		return unpack_refuse(image->u, -EINVAL, "the manifest", "1 to %d layers",
				     LAYERS_MAX);
	json_array_foreach(layers, i, layer)
	{
		ret = apply_layer(image, layer);
		if (ret)
			return ret;
	}
	if (!image->found)
		return unpack_refuse(
			image->u, -EINVAL, "the image",
			"nothing in /%.150s: code is taken from WorkingDir, or /var/task",
			image->prefix);
	return unpack_end(image->u);
}

static int check_layout(struct image *image)
{
	CLEANUP_FD int fd = open_file(image, "oci-layout");
	json_t *layout = NULL;
	int ret;

	if (fd < 0)
		return fd;
	ret = load_json(image, fd, "oci-layout", &layout);
	if (!ret && strncmp(member(layout, "imageLayoutVersion"), "1.", 2) != 0)
		ret = unpack_refuse(image->u, -EINVAL, "oci-layout", "not of version 1");
	json_decref(layout);
	return ret;
}

int oci_unpack(int dirfd, struct unpack *u)
{
	struct image image = {.dirfd = dirfd, .u = u, .bytes_left = IMAGE_BYTES_MAX};
	json_t *index = NULL, *manifest = NULL;
	int ret = check_layout(&image), fd = -1;

	if (!ret) {
		fd = open_file(&image, "index.json");
		ret = fd < 0 ? fd : load_json(&image, fd, "index.json", &index);
		cleanup_fd(&fd);
	}
	if (!ret)
		ret = find_manifest(&image, index, &manifest);
	if (!ret)
		ret = apply_layers(&image, manifest);
	json_decref(manifest);
	return ret;
}
