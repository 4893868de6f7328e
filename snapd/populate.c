/* SPDX-License-Identifier: Apache-2.0 */
/* populate.c - a working set as runs of pages, for RESTORE */
#include "snapd/populate.h"

#include <errno.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "common/util.h"

/** The kinds of a page: not in the set, or which run it may be part of. */
enum kind { KIND_NONE, KIND_READ, KIND_WRITTEN };

/** Append the runs of one kind. @kinds loses what is done. Return: runs in @runs now. */
static uint32_t add_runs(struct proto_populate *runs, uint32_t n,
			 const struct snapshot_ws_entry *ws, size_t count, uint8_t *kinds,
			 enum kind kind)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t page = ws[i].page;

		if (kinds[page] != kind)
			continue; /* of the other kind, or part of an earlier run */
		runs[n] = (struct proto_populate){page,
						  kind == KIND_WRITTEN ? PROTO_POPULATE_WRITE : 0};
		for (; kinds[page] == kind; page++) {
			kinds[page] = KIND_NONE;
			runs[n].count_flags++;
		}
		n++;
	}
	return n;
}

int populate_runs(const struct snapshot_ws_entry *ws, size_t count,
		  struct proto_populate **ret_runs, uint32_t *ret_count)
{
	CLEANUP_FREE uint8_t *kinds = NULL;
	struct proto_populate *runs;
	uint32_t n, end = 0;

	*ret_runs = NULL;
	*ret_count = 0;
	if (!count)
		return 0;
	for (size_t i = 0; i < count; i++)
		end = MAX(end, ws[i].page + 1);
	kinds = calloc(1, end + 1ul);
	runs = malloc(count * sizeof(*runs));
	if (!kinds || !runs) {
		free(runs);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		kinds[ws[i].page] = ws[i].flags & SNAPSHOT_WS_WRITTEN ? KIND_WRITTEN : KIND_READ;
	n = add_runs(runs, 0, ws, count, kinds, KIND_WRITTEN);
	*ret_count = add_runs(runs, n, ws, count, kinds, KIND_READ);
	*ret_runs = runs;
	return 0;
}
