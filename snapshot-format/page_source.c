/* SPDX-License-Identifier: Apache-2.0 */
/* page_source.c - pages of a snapshot in any order, decoded chunk by chunk */
#include <stdlib.h>

#include "snapshot-format/internal.h"

struct page_source *page_source_new(const struct snapshot_reader *r)
{
	struct page_source *s = calloc(1, sizeof(*s));

	if (s)
		s->r = r;
	return s;
}

int page_source_get(struct page_source *s, uint32_t page, const uint8_t **ret_data,
		    struct snapshot_error *err)
{
	static const uint8_t zero[PAGE_BYTES];
	uint32_t chunk = snapshot_reader_page_chunk(s->r, page);
	unsigned slot = chunk % PAGE_SOURCE_CHUNKS, i = 0;

	if (chunk == SNAPSHOT_PAGE_ZERO) {
		*ret_data = zero;
		return 0;
	}
	if (s->cached[slot] != chunk + 1) {
		int ret;

		s->cached[slot] = 0;
		ret = snapshot_reader_read_chunk(s->r, chunk, s->cache[slot], err);
		if (ret)
			return ret;
		s->cached[slot] = chunk + 1;
	}
	while (snapshot_reader_chunk(s->r, chunk)->pages[i] != page)
		i++;
	*ret_data = s->cache[slot] + (size_t)i * PAGE_BYTES;
	return 0;
}
