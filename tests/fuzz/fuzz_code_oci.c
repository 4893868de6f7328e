/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_code_oci.c - any bytes are the layers of an image or none, and nothing is made outside of
 * the tree
 *
 * The first two bytes say how long the lower of two layers is. Layout, index and manifest are
 * sound, so that every input gets as far as its layers.
 */
#include <nettle/base16.h>
#include <nettle/sha2.h>

#include "common/io.h"
#include "snapd/unpacker/oci.h"
#include "tests/fuzz/unpack_promise.h"

enum { HEX_CHARS = 2 * SHA256_DIGEST_SIZE };

static void put_file(int dirfd, const char *name, const void *data, size_t n)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	PROMISE(fd >= 0 && !write_full(fd, data, n));
	close(fd);
}

static void put_blob(int image, const void *data, size_t n, char ret_hex[HEX_CHARS + 1])
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha;
	char path[16 + HEX_CHARS];

	sha256_init(&sha);
	sha256_update(&sha, n, data);
	sha256_digest(&sha, sizeof(digest), digest);
	base16_encode_update(ret_hex, sizeof(digest), digest);
	ret_hex[HEX_CHARS] = '\0';
	snprintf(path, sizeof(path), "blobs/sha256/%s", ret_hex);
	put_file(image, path, data, n);
}

static void put_image(int image, const uint8_t *data, size_t n)
{
	static const char layout[] = "{\"imageLayoutVersion\": \"1.0.0\"}";
	static const char config[] = "{\"os\": \"linux\", \"architecture\": \"amd64\"}";
	size_t lower = (size_t)(data[0] << 8 | data[1]) % (n - 1);
	char digests[4][HEX_CHARS + 1], text[1024];
	int len;

	close(open_dir(image, "blobs"));
	close(open_dir(image, "blobs/sha256"));
	put_file(image, "oci-layout", layout, sizeof(layout) - 1);
	put_blob(image, config, sizeof(config) - 1, digests[0]);
	put_blob(image, data + 2, lower, digests[1]);
	put_blob(image, data + 2 + lower, n - 2 - lower, digests[2]);
	len = snprintf(text, sizeof(text),
		       "{\"config\": {\"digest\": \"sha256:%s\"}, \"layers\": ["
		       "{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\", "
		       "\"digest\": \"sha256:%s\"}, "
		       "{\"mediaType\": \"application/vnd.oci.image.layer.v1.tar+gzip\", "
		       "\"digest\": \"sha256:%s\"}]}",
		       digests[0], digests[1], digests[2]);
	put_blob(image, text, (size_t)len, digests[3]);
	len = snprintf(text, sizeof(text),
		       "{\"manifests\": [{\"digest\": \"sha256:%s\", \"platform\": "
		       "{\"os\": \"linux\", \"architecture\": \"amd64\"}}]}",
		       digests[3]);
	put_file(image, "index.json", text, (size_t)len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct place place;
	struct unpack u;
	int image;

	if (n < 3)
		return 0;
	place_make(&place);
	image = open_dir(place.topfd, "image");
	put_image(image, data, n);
	unpack_begin(&u, place.tree, BYTES_MAX);
	place_check(&place, &u, oci_unpack(image, &u));
	close(image);
	return 0;
}
