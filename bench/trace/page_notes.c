/* SPDX-License-Identifier: Apache-2.0 */
/* page_notes.c - what the guest has at each page of its RAM */
#include "bench/trace/page_notes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

enum { PAGES_MAX = 1 << 23, GROW = 1024 };

static int grow(struct page_notes *n, size_t count)
{
	struct page_note *v = realloc(n->v, (count + GROW) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	memset(v + n->count, 0, (count + GROW - n->count) * sizeof(*v));
	n->v = v;
	n->count = count + GROW;
	return 0;
}

int page_notes_parse(struct page_notes *n, const char *line)
{
	struct page_note *note;
	char *at, *end;
	unsigned long page = strtoul(line, &at, 10);
	uint64_t gva;

	if (at == line || *at != ' ' || page >= PAGES_MAX)
		return 0;
	gva = strtoull(at, &end, 16);
	if (end == at || *end != ' ')
		return 0;
	if (page >= n->count && grow(n, page + 1))
		return -ENOMEM;
	note = &n->v[page];
	note->gva = gva;
	snprintf(note->mapping, sizeof(note->mapping), "%s", end + 1);
	note->mapping[strcspn(note->mapping, "\n")] = '\0';
	return 0;
}

static int by_address(const void *a, const void *b, void *arg)
{
	const struct page_notes *n = arg;
	uint64_t x = n->v[*(const uint32_t *)a].gva, y = n->v[*(const uint32_t *)b].gva;

	return (x > y) - (x < y);
}

int page_notes_sort(struct page_notes *n)
{
	n->by_gva = calloc(n->count + 1, sizeof(*n->by_gva));
	if (!n->by_gva)
		return -ENOMEM;
	for (uint32_t i = 0; i < n->count; i++)
		if (n->v[i].mapping[0])
			n->by_gva[n->by_gva_count++] = i;
	qsort_r(n->by_gva, n->by_gva_count, sizeof(*n->by_gva), by_address, n);
	return 0;
}

int page_notes_read(struct page_notes *n, const char *vmm, const char *snapshot)
{
	char command[8300], line[1024];
	int ret = 0;
	FILE *f;

	/* The paths are ours and snapd's; a quote in one is no reason to run what follows it. */
	if (strchr(vmm, '\'') || strchr(snapshot, '\''))
		return -EINVAL;
	if (snprintf(command, sizeof(command), "'%s' pages '%s'", vmm, snapshot) >=
	    (int)sizeof(command))
		return -ENAMETOOLONG;
	f = popen(command, "r");
	if (!f)
		return -errno;
	while (!ret && fgets(line, sizeof(line), f))
		ret = page_notes_parse(n, line);
	if (pclose(f) && !ret)
		ret = -EIO;
	return ret ? ret : page_notes_sort(n);
}

void page_notes_free(struct page_notes *n)
{
	free(n->v);
	free(n->by_gva);
	*n = (struct page_notes){0};
}

const struct page_note *page_notes_page(const struct page_notes *n, uint64_t page)
{
	return page < n->count && n->v[page].mapping[0] ? &n->v[page] : NULL;
}

const char *page_notes_mapping_at(const struct page_notes *n, uint64_t gva)
{
	const struct page_note *below, *above;
	size_t low = 0, high = n->by_gva_count;

	/* The first page that begins above @gva. */
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (n->v[n->by_gva[middle]].gva <= gva)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return NULL;
	below = &n->v[n->by_gva[low - 1]];
	if (gva - below->gva < PAGE_BYTES)
		return below->mapping;
	if (low == n->by_gva_count)
		return NULL;
	above = &n->v[n->by_gva[low]];
	return strcmp(below->mapping, above->mapping) ? NULL : below->mapping;
}
