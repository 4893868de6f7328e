/* SPDX-License-Identifier: Apache-2.0 */
/* working_set.c - the working set section: pages in order of first touch, as differences */
#include "snapshot-format/internal.h"

/** Add a page to a bitmap. Return: false when it was there or is out of range. */
static bool add_page(uint64_t *seen, uint64_t template_pages, uint64_t page)
{
	uint64_t bit = 1ull << (page % 64);

	if (page >= template_pages || (seen[page / 64] & bit))
		return false;
	seen[page / 64] |= bit;
	return true;
}

int working_set_check(const struct snapshot_ws_entry *ws, size_t count, uint64_t template_pages)
{
	uint64_t *seen;
	int ret = 0;

	if (count > template_pages)
		return -EINVAL;
	if (count == 0)
		return 0;
	seen = calloc(template_pages / 64 + 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; !ret && i < count; i++)
		if ((ws[i].flags & ~SNAPSHOT_WS_WRITTEN) ||
		    !add_page(seen, template_pages, ws[i].page))
			ret = -EINVAL;
	free(seen);
	return ret;
}

void working_set_put(struct state_writer *w, const struct snapshot_ws_entry *ws, size_t count)
{
	int64_t next = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t delta = zigzag_encode((int64_t)ws[i].page - next);

		format_put_varint(w, delta << 1 | (ws[i].flags & SNAPSHOT_WS_WRITTEN));
		next = (int64_t)ws[i].page + 1;
	}
}

int working_set_get(struct state_reader *r, uint64_t template_pages,
		    struct snapshot_ws_entry **ret_ws, size_t *ret_count)
{
	/* An entry is one byte at least, and no page comes twice. */
	size_t room = MIN((uint64_t)r->left, template_pages), count = 0;
	struct snapshot_ws_entry *ws;
	uint64_t *seen;
	int64_t next = 0;

	*ret_ws = NULL;
	*ret_count = 0;
	if (r->left == 0)
		return 0;
	ws = malloc((room ? room : 1) * sizeof(*ws));
	seen = calloc(template_pages / 64 + 1, sizeof(*seen));
	if (!ws || !seen)
		r->err = -ENOMEM;
	while (!r->err && r->left) {
		uint64_t v = format_get_varint(r);
		int64_t page = next + zigzag_decode(v >> 1);

		if (r->err)
			break;
		if (page < 0 || !add_page(seen, template_pages, (uint64_t)page)) {
			r->err = -EBADMSG;
			break;
		}
		ws[count].page = (uint32_t)page;
		ws[count].flags = v & SNAPSHOT_WS_WRITTEN;
		count++;
		next = page + 1;
	}
	free(seen);
	if (r->err) {
		free(ws);
		return r->err;
	}
	*ret_ws = ws;
	*ret_count = count;
	return 0;
}
