/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_snapshot.c - the reader takes any bytes: opens or refuses, decodes or refuses
 *
 * Each input is tried as it is, and once more with its checksums made right, or the fuzzer would
 * never see what lies behind them. What opens has to keep the promises of snapshot.h.
 */
#include <unistd.h>

#include "tests/unit/test_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/** A promise of the header was broken: stop here, so that the fuzzer keeps the input. */
#define PROMISE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static void check_reader(const struct snapshot_reader *r, size_t n)
{
	uint64_t template_pages = snapshot_reader_params(r)->template_pages;
	const struct snapshot_ws_entry *ws;
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_error err;
	uint64_t end = 0;
	size_t ws_count;

	for (uint32_t i = 0; i < snapshot_reader_chunk_count(r); i++) {
		const struct snapshot_chunk *c = snapshot_reader_chunk(r, i);

		PROMISE(c->page_count >= 1 && c->page_count <= SNAPSHOT_CHUNK_PAGES);
		PROMISE(c->offset >= end);
		end = c->offset + c->stored_bytes;
		PROMISE(c->stored_bytes <= n && c->offset <= n - c->stored_bytes);
		for (unsigned k = 0; k < c->page_count; k++) {
			PROMISE(c->pages[k] < template_pages);
			PROMISE(k == 0 || c->pages[k] > c->pages[k - 1]);
			PROMISE(snapshot_reader_page_chunk(r, c->pages[k]) == i);
		}
		snapshot_reader_read_chunk(r, i, out, &err);
	}
	ws = snapshot_reader_working_set(r, &ws_count);
	for (size_t i = 0; i < ws_count; i++)
		PROMISE(ws[i].page < template_pages);
}

static void try_image(int fd, const uint8_t *image, size_t n)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;
	int ret;

	if (ftruncate(fd, (off_t)n) || pwrite_full(fd, image, n, 0))
		abort();
	ret = snapshot_reader_open(fd, "fuzz", &r, &err);
	PROMISE(!ret == (r != NULL));
	PROMISE(!ret || err.text[0]);
	if (!ret)
		check_reader(r, n);
	snapshot_reader_free(r);
}

/** Seal chunks too: their checksums are in the chunk table. */
static void reseal_chunks(uint8_t *image, size_t n)
{
	struct format_header h;
	uint64_t at;

	memcpy(&h, image, sizeof(h));
	at = h.hot_offset;
	for (uint32_t i = 0; i < MIN(h.section_count, FORMAT_SECTIONS_MAX); i++) {
		const struct format_section *s = &h.sections[i];

		if (s->kind != SNAPSHOT_SECTION_CHUNKS || s->offset > n || s->bytes > n - s->offset)
			continue;
		for (uint64_t k = 0; k < s->bytes / sizeof(struct format_chunk); k++) {
			uint8_t *entry = image + s->offset + k * sizeof(struct format_chunk);
			struct format_chunk c;

			memcpy(&c, entry, sizeof(c));
			if (k == h.hot_chunks)
				at = h.cold_offset;
			if (at > n || c.stored_bytes > n - at)
				return;
			c.xxh3 = XXH3_64bits(image + at, c.stored_bytes);
			memcpy(entry, &c, sizeof(c));
			at += c.stored_bytes;
		}
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static int fd = -1;
	uint8_t *image;
	uint64_t size = n;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0)
		abort();
	try_image(fd, data, n);
	if (n < FORMAT_HEADER_BYTES)
		return 0;
	image = malloc(n);
	if (!image)
		abort();
	memcpy(image, data, n);
	memcpy(image + offsetof(struct format_header, file_bytes), &size, sizeof(size));
	reseal_chunks(image, n);
	format_reseal(image, n);
	try_image(fd, image, n);
	free(image);
	return 0;
}
