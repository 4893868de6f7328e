/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template.c - the memory of one snapshot on this host: a memfd that page_in fills
 *
 * Instances map the memfd MAP_PRIVATE, so what is filled once is there for all of them, and what
 * they write is theirs alone. A page is filled by pwrite: the page cache makes it visible when it
 * is complete, which a memcpy into a shared mapping would not.
 *
 * Eviction punches a hole into the memfd. The kernel takes the page out of every mapping first,
 * while faults on it wait; private copies stay. What is touched next is a hole again: a MISSING
 * event, which page-in serves as the first time. That is safe while instances run, because
 *
 *  1. A page's resident bit is set after the page was filled and cleared before it is punched (a
 *     snapd that is killed in between leaves a page that is filled once more, not a hole that
 *     passes for a page), and all of that happens in the loop's thread, where faults are served,
 *     too: whoever looks at the bit there sees the truth. A fault that is parked, or is still in a
 *     userfaultfd, is served by the bit at that time. A wake without a page only makes the fault
 *     come again.
 *  2. No mapping of a template is touched before it is registered MISSING: the vmm maps, registers,
 *     and only then populates, loads devices and runs (guest_mem_map_template()). Else a touch of
 *     the hole would have the kernel make a page of zeros, for all instances.
 *  3. While a template records, nothing is evicted: it could not tell a first touch from a second.
 *  4. While another snapd fills the template, too, nothing is evicted: between a bit that one
 *     clears and the hole that it punches, the other could fill the page and set the bit again.
 *  5. While a read is in flight, nothing is evicted: what it brings is wanted now.
 *  6. A template that an instance was given a moment ago is not evicted (relief.c): that instance
 *     is populating. It would be right all the same, but a run of populated pages would turn into
 *     as many events.
 */
#include "snapd/template.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "include/snapd_proto.h"
#include "snapd/populate.h"

static const uint8_t zeros[SNAPSHOT_CHUNK_BYTES];
static _Atomic uint64_t file_serial, template_serial;
static const struct template_hooks *template_hooks;

enum { EVICT_LOOKS = 512 }; /* chunks, or as many blocks of pages, at most in one call */

static struct {
	TAILQ_HEAD(, template) by_age;
	uint64_t resident_pages;
} templates = {.by_age = TAILQ_HEAD_INITIALIZER(templates.by_age)};

/* ---- the file -------------------------------------------------------------------------------- */

/** Throw a file out of the page cache, before anything of it is read. */
static void drop_from_cache(int dirfd, const char *path)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/** Open each file of the chain once more, past the page cache: what is read is what was checked. */
static int open_direct(struct template_file *f, bool drop_cache)
{
	for (unsigned i = 0; i < snapshot_reader_file_count(f->reader); i++) {
		int fd = snapshot_reader_fd(snapshot_reader_file(f->reader, i));
		char path[64];

		if (drop_cache && i)
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		f->direct_fd[i] = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
		if (f->direct_fd[i] < 0 && errno != EINVAL && errno != EOPNOTSUPP)
			return -errno;
	}
	return 0;
}

/** Mark the chunks that the working set is in. */
static void mark_working_set(const struct template_file *f, uint8_t *marks)
{
	size_t count = 0;
	const struct snapshot_ws_entry *ws = snapshot_reader_working_set(f->reader, &count);

	for (size_t i = 0; i < count; i++) {
		uint32_t chunk = snapshot_reader_page_chunk(f->reader, ws[i].page);

		if (chunk != SNAPSHOT_PAGE_ZERO)
			marks[chunk] = 1;
	}
}

/** Hot chunks are the first of the file, and belong to the working set. */
static int make_load_order(struct template_file *f)
{
	uint32_t count = snapshot_reader_chunk_count(f->reader);
	CLEANUP_FREE uint8_t *marks = calloc(1, (size_t)count + 1);

	f->load_order = malloc(((size_t)count + 1) * sizeof(*f->load_order));
	if (!marks || !f->load_order)
		return -ENOMEM;
	mark_working_set(f, marks);
	for (int wanted = 1; wanted >= 0; wanted--) {
		for (uint32_t i = 0; i < count; i++) {
			const struct snapshot_chunk *c = snapshot_reader_chunk(f->reader, i);
			int in_set = marks[i] || (c->hot && !c->file);

			if (c->live && in_set == wanted)
				f->load_order[f->load_count++] = i;
		}
		if (wanted)
			f->working_set_chunks = f->load_count;
	}
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
	f->knows_written = f->populate_count && runs[0].count_flags & PROTO_POPULATE_WRITE;
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
	f->fd = f->state_fd = -1;
	for (unsigned i = 0; i < SNAPSHOT_FILES_MAX; i++)
		f->direct_fd[i] = -1;
	if (drop_cache)
		drop_from_cache(dirfd, path);
	ret = snapshot_reader_open(dirfd, path, name, &f->reader, err);
	if (!ret)
		ret = open_direct(f, drop_cache);
	if (!ret)
		ret = make_load_order(f);
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
	f->fd = snapshot_reader_fd(f->reader);
	*ret_file = f;
	return 0;
}

void template_file_free(struct template_file *f)
{
	if (!f)
		return;
	snapshot_reader_free(f->reader);
	for (unsigned i = 0; i < SNAPSHOT_FILES_MAX; i++)
		cleanup_fd(&f->direct_fd[i]);
	cleanup_fd(&f->state_fd);
	free(f->chunk_read);
	free(f->load_order);
	free(f);
}

/* ---- the memory ------------------------------------------------------------------------------ */

static size_t resident_bytes(const struct template *t)
{
	return align_up((t->pages / 64 + 1) * sizeof(uint64_t), PAGE_BYTES);
}

/** Without its memory. Return: NULL without memory; @file is freed then. */
static struct template *template_alloc(const char *name, struct template_file *file)
{
	struct template *t = calloc(1, sizeof(*t));

	if (!t) {
		template_file_free(file);
		return NULL;
	}
	t->refs = 1;
	t->file = file;
	t->pages = snapshot_reader_params(file->reader)->template_pages;
	t->evict_zero = (uint32_t)t->pages;
	t->memfd = t->view_fd = t->resident_fd = -1;
	snprintf(t->name, sizeof(t->name), "%s", name);
	return t;
}

/** Map what is known of the memory, and open the instances' view of it. */
static int template_map(struct template *t)
{
	char path[64];
	void *map = mmap(NULL, resident_bytes(t), PROT_READ | PROT_WRITE, MAP_SHARED,
			 t->resident_fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	t->resident = map;
	/* An instance must not be able to write to what it shares with others. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->memfd);
	t->view_fd = open(path, O_RDONLY | O_CLOEXEC);
	return t->view_fd < 0 ? -errno : 0;
}

static int make_memory(struct template *t)
{
	t->memfd = memfd_create("quickthaw-template", MFD_CLOEXEC);
	t->resident_fd = memfd_create("quickthaw-resident", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (t->memfd < 0 || t->resident_fd < 0 ||
	    ftruncate(t->memfd, (off_t)(t->pages * PAGE_BYTES)) ||
	    ftruncate(t->resident_fd, (off_t)resident_bytes(t)) ||
	    fcntl(t->resident_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		return -errno;
	return template_map(t);
}

int template_new(const char *name, struct template_file *file, struct template **ret)
{
	struct template *t = template_alloc(name, file);
	int err = t ? make_memory(t) : -ENOMEM;

	if (err) {
		template_put(t);
		return err;
	}
	t->serial = ++template_serial;
	*ret = t;
	return 0;
}

/** Do the descriptors have the sizes of this snapshot, and can the map not shrink under us? */
static bool memory_fits(const struct template *t)
{
	int seals = fcntl(t->resident_fd, F_GET_SEALS);
	struct stat pages, map;

	return !fstat(t->memfd, &pages) && !fstat(t->resident_fd, &map) &&
	       (uint64_t)pages.st_size == t->pages * PAGE_BYTES &&
	       (uint64_t)map.st_size == resident_bytes(t) && seals >= 0 && seals & F_SEAL_SHRINK;
}

int template_revive(const char *name, struct template_file *file, int memfd, int resident_fd,
		    uint64_t serial, struct template **ret)
{
	struct template *t = template_alloc(name, file);
	int err;

	if (!t) {
		cleanup_fd(&memfd);
		cleanup_fd(&resident_fd);
		return -ENOMEM;
	}
	t->memfd = memfd;
	t->resident_fd = resident_fd;
	err = memory_fits(t) ? template_map(t) : -EBADMSG;
	if (err) {
		template_put(t);
		return err;
	}
	for (uint64_t i = 0; i < t->pages; i++)
		t->resident_pages += template_has_page(t, i);
	templates.resident_pages += t->resident_pages;
	t->serial = serial;
	if (template_serial < serial)
		template_serial = serial;
	*ret = t;
	return 0;
}

void template_set_hooks(const struct template_hooks *hooks)
{
	template_hooks = hooks;
}

static void changed(struct template *t)
{
	if (template_hooks && t->function[0])
		template_hooks->changed(t);
}

void template_is_of(struct template *t, const char *function, uint32_t number)
{
	snprintf(t->function, sizeof(t->function), "%s", function);
	t->number = number;
	t->current = true;
	changed(t);
}

void template_retire(struct template *t)
{
	if (!t)
		return;
	t->current = false;
	changed(t);
	template_put(t);
}

struct template *template_get(struct template *t)
{
	t->refs++;
	return t;
}

void template_put(struct template *t)
{
	if (!t || --t->refs)
		return;
	assert(!t->reads);
	if (t->listed)
		TAILQ_REMOVE(&templates.by_age, t, age_link);
	templates.resident_pages -= t->resident_pages;
	if (template_hooks && t->function[0])
		template_hooks->gone(t);
	template_file_free(t->file);
	template_file_free(t->next_file);
	cleanup_fd(&t->memfd);
	cleanup_fd(&t->view_fd);
	cleanup_fd(&t->resident_fd);
	if (t->resident)
		munmap(t->resident, resident_bytes(t));
	free(t->order);
	free(t);
}

static void mark_resident(struct template *t, uint32_t page, uint32_t count)
{
	for (uint32_t i = page; i < page + count; i++) {
		uint64_t bit = 1ull << (i % 64);
		/* Atomic: while one snapd takes over from another, both may fill. */
		uint64_t old = __atomic_fetch_or(&t->resident[i / 64], bit, __ATOMIC_RELAXED);

		templates.resident_pages += !(old & bit);
		t->resident_pages += !(old & bit);
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

/* ---- eviction -------------------------------------------------------------------------------- */

void template_used(struct template *t, uint64_t now_ns)
{
	if (t->listed)
		TAILQ_REMOVE(&templates.by_age, t, age_link);
	t->listed = true;
	t->used_ns = now_ns;
	TAILQ_INSERT_TAIL(&templates.by_age, t, age_link);
}

struct template *template_oldest(void)
{
	return TAILQ_FIRST(&templates.by_age);
}

struct template *template_next_oldest(struct template *t)
{
	return TAILQ_NEXT(t, age_link);
}

uint64_t template_all_bytes(void)
{
	return templates.resident_pages * PAGE_BYTES;
}

static void clear_resident(struct template *t, uint32_t page, uint32_t count)
{
	for (uint32_t i = page; i < page + count; i++)
		__atomic_fetch_and(&t->resident[i / 64], ~(1ull << (i % 64)), __ATOMIC_RELAXED);
	t->resident_pages -= count;
	templates.resident_pages -= count;
}

/** Return: pages, or -errno. */
static int punch(struct template *t, uint32_t page, uint32_t count)
{
	clear_resident(t, page, count);
	if (fallocate(t->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)page * PAGE_BYTES, (off_t)count * PAGE_BYTES)) {
		int err = -errno;

		mark_resident(t, page, count);
		return err;
	}
	t->working_set_resident = false;
	return (int)count;
}

/** Has the template a page that it can have again from this place in a chunk? */
static bool is_resident_from(const struct template *t, const struct snapshot_chunk *c, unsigned i)
{
	return snapshot_chunk_has(c, i) && template_has_page(t, c->pages[i]);
}

/** Those of a chunk that are there, neighbours together. Return: pages, or -errno. */
static int evict_chunk(struct template *t, const struct snapshot_chunk *c)
{
	unsigned i = 0, run;
	int pages = 0, ret;

	while (i < c->page_count) {
		if (!is_resident_from(t, c, i)) {
			i++;
			continue;
		}
		run = 1;
		while (i + run < c->page_count && c->pages[i + run] == c->pages[i] + run &&
		       is_resident_from(t, c, i + run))
			run++;
		ret = punch(t, c->pages[i], run);
		if (ret < 0)
			return ret;
		pages += ret;
		i += run;
	}
	return pages;
}

static bool is_resident_zero(const struct template *t, uint32_t page)
{
	return template_has_page(t, page) &&
	       snapshot_reader_page_chunk(t->file->reader, page) == SNAPSHOT_PAGE_ZERO;
}

/** The next run of zeros from the cursor on, one chunk's worth at most. */
static int evict_zeros(struct template *t)
{
	uint32_t page = t->evict_zero, end;
	uint32_t last = (uint32_t)MIN(t->pages, (uint64_t)page + SNAPSHOT_CHUNK_PAGES);

	while (page < last && !is_resident_zero(t, page))
		page++;
	for (end = page; end < last && is_resident_zero(t, end);)
		end++;
	t->evict_zero = end;
	return end > page ? punch(t, page, end - page) : 0;
}

static int evict_next(struct template *t)
{
	if (t->evict_zero < t->pages)
		return evict_zeros(t);
	return evict_chunk(
		t, snapshot_reader_chunk(t->file->reader, t->file->load_order[--t->evict_chunk]));
}

int template_evict(struct template *t, unsigned chunks)
{
	unsigned looks = EVICT_LOOKS;
	int pages = 0, ret;

	if (t->recording || t->reads || t->shared || !t->resident_pages)
		return 0;
	if (t->evict_zero >= t->pages && !t->evict_chunk) { /* from the start: more came in */
		t->evict_zero = 0;
		t->evict_chunk = t->file->load_count;
	}
	while (chunks && looks-- && (t->evict_zero < t->pages || t->evict_chunk)) {
		ret = evict_next(t);
		if (ret < 0)
			return ret;
		pages += ret;
		chunks -= ret > 0;
	}
	return pages;
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
	if (on)
		t->order = malloc((t->pages ? t->pages : 1) * sizeof(*t->order));
	t->recording = t->order != NULL;
	changed(t);
	return on && !t->recording ? -ENOMEM : 0;
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
	t->evict_zero = (uint32_t)t->pages; /* its chunks have other numbers: start again */
	t->evict_chunk = 0;
	t->prefetch_next = t->prefetch_end = 0;
	changed(t);
}
