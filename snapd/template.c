/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.c - the memory of one snapshot on this host: a memfd that page_in fills
 *
 * Instances map the memfd MAP_PRIVATE, so what is filled once is there for all of them, and what
 * they write is theirs alone. A page is filled by pwrite: the page cache makes it visible when it
 * is complete, which a memcpy into a shared mapping would not.
 */
#include "snapd/template.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "include/snapd_proto.h"
#include "snapd/populate.h"

static const uint8_t zeros[SNAPSHOT_CHUNK_BYTES];
static _Atomic uint64_t file_serial;

/* ---- the file -------------------------------------------------------------------------------- */

static int open_files(struct template_file *f, int dirfd, const char *path, bool drop_cache)
{
	f->fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0)
		return -errno;
	if (drop_cache)
		posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
	f->direct_fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_DIRECT);
	if (f->direct_fd < 0 && errno != EINVAL && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

/* What RESTORE hands over: the state as it is in the file, then the runs, 8-aligned. */
static int make_state_fd(struct template_file *f)
{
	size_t state_bytes = 0, ws_count = 0, total;
	const void *state =
		snapshot_reader_section(f->reader, SNAPSHOT_SECTION_STATE, &state_bytes);
	const struct snapshot_ws_entry *ws = snapshot_reader_working_set(f->reader, &ws_count);
	CLEANUP_FREE struct proto_populate *runs = NULL;
	CLEANUP_FREE uint8_t *data = NULL;
	int ret;

	if (!state)
		return -EBADMSG;
	ret = populate_runs(ws, ws_count, &runs, &f->populate_count);
	if (ret)
		return ret;
	f->state_bytes = state_bytes;
	total = align_up(state_bytes, sizeof(*runs)) + f->populate_count * sizeof(*runs);
	data = calloc(1, total);
	if (!data)
		return -ENOMEM;
	memcpy(data, state, state_bytes);
	if (f->populate_count)
		memcpy(data + align_up(state_bytes, sizeof(*runs)), runs,
		       f->populate_count * sizeof(*runs));
	f->state_fd = memfd_from_buffer("quickthaw-state", data, total);
	return f->state_fd < 0 ? f->state_fd : 0;
}

int template_file_open(int dirfd, const char *path, const char *name, bool drop_cache,
		       struct template_file **ret_file, struct snapshot_error *err)
{
	struct template_file *f = calloc(1, sizeof(*f));
	uint32_t chunks;
	int ret;

	err->text[0] = '\0';
	if (!f)
		return -ENOMEM;
	f->serial = ++file_serial;
	f->fd = f->direct_fd = f->state_fd = -1;
	ret = open_files(f, dirfd, path, drop_cache);
	if (!ret)
		ret = snapshot_reader_open(f->fd, name, &f->reader, err);
	if (!ret)
		ret = make_state_fd(f);
	if (!ret) {
		chunks = snapshot_reader_chunk_count(f->reader);
		f->chunk_read = malloc(chunks ? chunks : 1);
		ret = f->chunk_read ? 0 : -ENOMEM;
	}
	if (ret) {
		if (!err->text[0])
			snprintf(err->text, sizeof(err->text), "%s: %s", name, strerror(-ret));
		template_file_free(f);
		return ret;
	}
	memset(f->chunk_read, TEMPLATE_NO_READ, chunks);
	*ret_file = f;
	return 0;
}

void template_file_free(struct template_file *f)
{
	if (!f)
		return;
	snapshot_reader_free(f->reader);
	cleanup_fd(&f->fd);
	cleanup_fd(&f->direct_fd);
	cleanup_fd(&f->state_fd);
	free(f->chunk_read);
	free(f);
}

/* ---- the memory ------------------------------------------------------------------------------ */

int template_new(const char *name, struct template_file *file, struct template **ret)
{
	struct template *t = calloc(1, sizeof(*t));

	if (!t) {
		template_file_free(file);
		return -ENOMEM;
	}
	t->refs = 1;
	t->file = file;
	t->pages = snapshot_reader_params(file->reader)->template_pages;
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->resident = calloc(t->pages / 64 + 1, sizeof(uint64_t));
	t->memfd = memfd_create("quickthaw-template", MFD_CLOEXEC);
	if (!t->resident || t->memfd < 0 || ftruncate(t->memfd, (off_t)(t->pages * PAGE_BYTES))) {
		int err = errno ? -errno : -ENOMEM;

		template_put(t);
		return err;
	}
	*ret = t;
	return 0;
}

struct template *template_get(struct template *t)
{
	t->refs++;
	/* It takes C++'s keyword for one. cppcheck-suppress CastIntegerToAddressAtReturn */
	return t;
}

void template_put(struct template *t)
{
	if (!t || --t->refs)
		return;
	assert(!t->reads);
	template_file_free(t->file);
	template_file_free(t->next_file);
	cleanup_fd(&t->memfd);
	free(t->resident);
	free(t->order);
	free(t);
}

static void mark_resident(struct template *t, uint32_t page, uint32_t count)
{
	for (uint32_t i = page; i < page + count; i++) {
		uint64_t bit = 1ull << (i % 64);

		t->resident_pages += !(t->resident[i / 64] & bit);
		t->resident[i / 64] |= bit;
	}
}

int template_fill(struct template *t, uint32_t page, uint32_t count, const void *data)
{
	int ret = pwrite_full(t->memfd, data, (size_t)count * PAGE_BYTES,
			      (uint64_t)page * PAGE_BYTES);

	if (!ret)
		mark_resident(t, page, count);
	return ret;
}

int template_fill_zero(struct template *t, uint32_t page, uint32_t count)
{
	return template_fill(t, page, MIN(count, SNAPSHOT_CHUNK_PAGES), zeros);
}

bool template_has_working_set(const struct template *t)
{
	size_t count = 0;

	snapshot_reader_working_set(t->file->reader, &count);
	return count > 0;
}

uint32_t template_populate_count(struct template *t)
{
	const struct snapshot_ws_entry *ws;
	size_t count = 0;

	if (!t->working_set_resident) {
		ws = snapshot_reader_working_set(t->file->reader, &count);
		for (size_t i = 0; i < count; i++)
			if (!template_has_page(t, ws[i].page))
				return 0;
		t->working_set_resident = true;
	}
	return t->file->populate_count;
}

int template_record(struct template *t, bool on)
{
	free(t->order);
	t->order = NULL;
	t->order_count = 0;
	t->recording = false;
	if (!on)
		return 0;
	t->order = malloc((t->pages ? t->pages : 1) * sizeof(*t->order));
	if (!t->order)
		return -ENOMEM;
	t->recording = true;
	return 0;
}

void template_replace_file(struct template *t, struct template_file *file)
{
	template_file_free(t->next_file);
	t->next_file = file;
	template_settle(t);
}

void template_settle(struct template *t)
{
	if (!t->next_file || t->reads)
		return;
	template_file_free(t->file);
	t->file = t->next_file;
	t->next_file = NULL;
	t->working_set_resident = false;
	t->prefetch_next = t->prefetch_end = 0;
}
