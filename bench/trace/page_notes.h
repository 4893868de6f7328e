/* SPDX-License-Identifier: Apache-2.0 */
/* page_notes.h - what the guest has at each page of its RAM */
#ifndef QUICKTHAW_BENCH_PAGE_NOTES_H
#define QUICKTHAW_BENCH_PAGE_NOTES_H

#include <stddef.h>
#include <stdint.h>

enum { PAGE_NOTE_BYTES = 96 };

/** struct page_note - one page of the guest's RAM. */
struct page_note {
	uint64_t gva;		       /**< guest virtual address */
	char mapping[PAGE_NOTE_BYTES]; /**< rights and name; "" when the guest has none there */
};

/** struct page_notes - all of a snapshot, by page number. */
struct page_notes {
	struct page_note *v;
	size_t count;
	uint32_t *by_gva; /**< the pages that have a mapping, by address */
	size_t by_gva_count;
};

/**
 * page_notes_read() - ask `@vmm pages @snapshot`.
 * Return: 0 or -errno; without notes, addresses and mappings are left out of a time line.
 */
int page_notes_read(struct page_notes *n, const char *vmm, const char *snapshot);
/** page_notes_parse() - one line: "PAGE GVA RIGHTS MAPPING"; others are ignored. */
int page_notes_parse(struct page_notes *n, const char *line);
/** page_notes_sort() - after the last line, for page_notes_mapping_at(). Return: 0 or -ENOMEM. */
int page_notes_sort(struct page_notes *n);
void page_notes_free(struct page_notes *n);

/** page_notes_page() - the note of @page, or NULL. */
const struct page_note *page_notes_page(const struct page_notes *n, uint64_t page);
/**
 * page_notes_mapping_at() - the mapping that @gva falls into, or NULL.
 * A page that the snapshot does not have counts as its neighbours' when both are of one mapping.
 */
const char *page_notes_mapping_at(const struct page_notes *n, uint64_t gva);

#endif
