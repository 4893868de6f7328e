/* SPDX-License-Identifier: Apache-2.0 */
/* page_index.c - which pages a chunk holds, as runs in variable-length integers */
#include "snapshot-format/internal.h"

void format_put_varint(struct state_writer *w, uint64_t v)
{
	while (v >= 0x80) {
		state_put_u8(w, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	state_put_u8(w, (uint8_t)v);
}

uint64_t format_get_varint(struct state_reader *r)
{
	uint64_t v = 0;

	/* Nothing in the format needs more than 35 bits. */
	for (unsigned shift = 0; shift < 35; shift += 7) {
		uint8_t b = state_get_u8(r);

		v |= (uint64_t)(b & 0x7f) << shift;
		if (b & 0x80)
			continue;
		/* A last byte of zero would be a second way to write the same number. */
		if (!r->err && (b || !shift))
			return v;
		break;
	}
	r->err = -EBADMSG;
	return 0;
}

void page_index_put(struct state_writer *w, const uint32_t *pages, unsigned count, uint32_t *next)
{
	unsigned i = 0;

	while (i < count) {
		unsigned run = 1;

		while (i + run < count && pages[i + run] == pages[i] + run)
			run++;
		if (i == 0)
			format_put_varint(w, zigzag_encode((int64_t)pages[0] - *next));
		else
			format_put_varint(w, pages[i] - *next);
		format_put_varint(w, run - 1);
		*next = pages[i] + run;
		i += run;
	}
}

int page_index_get(struct state_reader *r, uint32_t limit, unsigned count, uint32_t *next,
		   uint32_t *ret_pages)
{
	unsigned i = 0;

	while (i < count) {
		uint64_t v = format_get_varint(r);
		uint64_t run = format_get_varint(r) + 1;
		int64_t first = i ? (int64_t)*next + (int64_t)v : *next + zigzag_decode(v);

		if (r->err)
			return r->err;
		if ((i && v == 0) || first < 0 || run > count - i || (uint64_t)first + run > limit)
			return r->err = -EBADMSG;
		for (uint64_t k = 0; k < run; k++)
			ret_pages[i++] = (uint32_t)((uint64_t)first + k);
		*next = (uint32_t)((uint64_t)first + run);
	}
	return 0;
}

void zero_pages_put(struct state_writer *w, uint32_t first, uint32_t count, uint32_t *next)
{
	format_put_varint(w, first - *next);
	format_put_varint(w, count - 1);
	*next = first + count;
}

int zero_pages_get(struct state_reader *r, uint32_t limit, uint32_t *next, uint32_t *ret_first,
		   uint32_t *ret_count)
{
	uint64_t gap = format_get_varint(r);
	uint64_t count = format_get_varint(r) + 1, first = *next + gap;

	if (r->err)
		return r->err;
	/* Two runs with nothing between them would be a second way to write one. */
	if ((*next && !gap) || first >= limit || count > limit - first)
		return r->err = -EBADMSG;
	*ret_first = (uint32_t)first;
	*ret_count = (uint32_t)count;
	*next = (uint32_t)(first + count);
	return 0;
}
