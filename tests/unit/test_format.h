/* SPDX-License-Identifier: Apache-2.0 */
/* test_format.h - the golden snapshot, built in memory, and how tests forge files */
#ifndef QUICKTHAW_TEST_FORMAT_H
#define QUICKTHAW_TEST_FORMAT_H

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/io.h"
#include "snapshot-format/internal.h"

#define GOLDEN_STATE	"state of the golden snapshot"
#define GOLDEN_METADATA "{\"function\":\"golden\",\"runtime\":\"none\"}"

enum {
	GOLDEN_RAM_PAGES = 256,
	GOLDEN_TEMPLATE_PAGES = 64,
	GOLDEN_NOISE_PAGE = 9,
	GOLDEN_ZERO_PAGE = 10,
};

static const struct snapshot_ws_entry golden_ws[] = {
	{20, SNAPSHOT_WS_WRITTEN}, {5, 0}, {3, SNAPSHOT_WS_WRITTEN}, {4, 0}};

static inline struct snapshot_params golden_params(void)
{
	struct snapshot_params p = {.ram_pages = GOLDEN_RAM_PAGES,
				    .template_pages = GOLDEN_TEMPLATE_PAGES,
				    .guest_kind = 1,
				    .created_ns = 1700000000000000000ull};

	for (unsigned i = 0; i < 8; i++)
		p.cpu_features[i] = 0x0101010101010101ull * (i + 1);
	return p;
}

/** The bytes of each page are a function of its number: text, noise or zero. */
static inline void golden_page(uint32_t page, uint8_t *out)
{
	uint64_t x = 0x9e3779b97f4a7c15ull + page;
	size_t used = 0;

	memset(out, 0, PAGE_BYTES);
	if (page == GOLDEN_ZERO_PAGE)
		return;
	for (size_t i = 0; page == GOLDEN_NOISE_PAGE && i < PAGE_BYTES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)(x >> 32);
	}
	while (page != GOLDEN_NOISE_PAGE && used < PAGE_BYTES - 32)
		used += (size_t)snprintf((char *)out + used, 32, "page %u, byte %zu\n", page, used);
}

static inline int golden_add(struct snapshot_writer *w, const uint32_t *pages, unsigned count,
			     bool hot)
{
	uint8_t data[SNAPSHOT_CHUNK_BYTES];

	for (unsigned i = 0; i < count; i++)
		golden_page(pages[i], data + (size_t)i * PAGE_BYTES);
	return snapshot_writer_chunk(w, pages, count, data, hot);
}

/** Write the golden snapshot to an empty file. Return: 0 or -errno. */
static inline int golden_write(int fd)
{
	static const uint32_t hot1[] = {20}, hot2[] = {5, 3, 4}, cold1[] = {0, 1, 2, 6},
			      cold2[] = {GOLDEN_NOISE_PAGE, GOLDEN_ZERO_PAGE},
			      cold3[] = {40, 42, 43, 63};
	struct snapshot_params params = golden_params();
	struct snapshot_writer *w = NULL;
	int ret = snapshot_writer_new(fd, &params, &w);

	if (!ret)
		ret = snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, GOLDEN_STATE,
					      strlen(GOLDEN_STATE));
	if (!ret)
		ret = snapshot_writer_section(w, SNAPSHOT_SECTION_METADATA, GOLDEN_METADATA,
					      strlen(GOLDEN_METADATA));
	if (!ret)
		ret = snapshot_writer_section(w, SNAPSHOT_SECTION_WORKING_SET, golden_ws,
					      sizeof(golden_ws));
	ret = ret ? ret : golden_add(w, hot1, ARRAY_SIZE(hot1), true);
	ret = ret ? ret : golden_add(w, hot2, ARRAY_SIZE(hot2), true);
	ret = ret ? ret : golden_add(w, cold1, ARRAY_SIZE(cold1), false);
	ret = ret ? ret : golden_add(w, cold2, ARRAY_SIZE(cold2), false);
	ret = ret ? ret : golden_add(w, cold3, ARRAY_SIZE(cold3), false);
	ret = ret ? ret : snapshot_writer_finish(w);
	snapshot_writer_free(w);
	return ret;
}

/**
 * Write the golden diff to an empty file: on the golden snapshot, as that is in @dirfd. Page 3 is
 * new and hot, 4 and 5 are zero, 50 and 51 come in; all others stay. Return: 0 or -errno.
 */
static inline int golden_write_diff(int dirfd, const char *base_name, int fd)
{
	static const struct snapshot_ws_entry ws[] = {{3, SNAPSHOT_WS_WRITTEN}, {20, 0}};
	static const uint32_t hot[] = {3}, cold[] = {50, 51};
	struct snapshot_params params = golden_params();
	struct snapshot_reader *base = NULL;
	struct snapshot_writer *w = NULL;
	uint8_t data[2 * PAGE_BYTES];
	int ret = snapshot_reader_open(dirfd, base_name, base_name, &base, NULL);

	params.created_ns++;
	ret = ret ? ret : snapshot_writer_new(fd, &params, &w);
	ret = ret ? ret : snapshot_writer_base(w, base, base_name);
	ret = ret ? ret : snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "new state", 9);
	ret = ret ? ret : snapshot_writer_section(w, SNAPSHOT_SECTION_WORKING_SET, ws, sizeof(ws));
	golden_page(103, data);
	ret = ret ? ret : snapshot_writer_chunk(w, hot, 1, data, true);
	for (uint32_t page = 0; !ret && page < GOLDEN_TEMPLATE_PAGES; page++)
		if (page != 3 && page != 4 && page != 5 && page != 50 && page != 51)
			ret = MIN(snapshot_writer_same(w, page, NULL), 0);
	golden_page(150, data);
	golden_page(151, data + PAGE_BYTES);
	ret = ret ? ret : snapshot_writer_chunk(w, cold, 2, data, false);
	ret = ret ? ret : snapshot_writer_finish(w);
	snapshot_writer_free(w);
	snapshot_reader_free(base);
	return ret;
}

/** Make the checksums of a forged image match again: sections inside it first, then the header. */
static inline void format_reseal(uint8_t *image, size_t n)
{
	struct format_header h;

	if (n < sizeof(h))
		return;
	memcpy(&h, image, sizeof(h));
	for (uint32_t i = 0; i < MIN(h.section_count, FORMAT_SECTIONS_MAX); i++) {
		struct format_section *s = &h.sections[i];

		if (s->offset <= n && s->bytes <= n - s->offset)
			s->hash = format_hash(image + s->offset, s->bytes);
	}
	h.hash = format_hash(&h, offsetof(struct format_header, hash));
	memcpy(image, &h, sizeof(h));
}

#endif
