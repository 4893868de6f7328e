/* SPDX-License-Identifier: Apache-2.0 */
/* populate.c - a working set as runs of pages, for RESTORE */
#include "snapd/populate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

static int by_page(const void *a, const void *b)
{
	const struct snapshot_ws_entry *x = a, *y = b;

	return (x->page > y->page) - (x->page < y->page);
}

int populate_runs(const struct snapshot_ws_entry *ws, size_t count,
		  struct proto_populate **ret_runs, uint32_t *ret_count)
{
	CLEANUP_FREE struct snapshot_ws_entry *sorted = NULL;
	struct proto_populate *runs;
	uint32_t n = 0;

	*ret_runs = NULL;
	*ret_count = 0;
	if (!count)
		return 0;
	sorted = malloc(count * sizeof(*sorted));
	runs = malloc(count * sizeof(*runs));
	if (!sorted || !runs) {
		free(runs);
		return -ENOMEM;
	}
	memcpy(sorted, ws, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_page);
	for (size_t i = 0; i < count; i++) {
		uint32_t kind = sorted[i].flags & SNAPSHOT_WS_WRITTEN ? PROTO_POPULATE_WRITE : 0;
		struct proto_populate *last = n ? &runs[n - 1] : NULL;
		uint32_t last_pages = last ? last->count_flags & ~PROTO_POPULATE_WRITE : 0;

		if (last && last->page + last_pages == sorted[i].page &&
		    (last->count_flags & PROTO_POPULATE_WRITE) == kind)
			last->count_flags++;
		else
			runs[n++] = (struct proto_populate){sorted[i].page, 1 | kind};
	}
	*ret_runs = runs;
	*ret_count = n;
	return 0;
}
