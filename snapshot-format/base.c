/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.c - a diff and the files that it is based on become one snapshot
 *
 * A diff names its base and says what it has to be: its identity, its size, its kind, and a depth
 * that is less than its own. Each file is opened and checked as any other (reader.c), so a chain
 * ends after SNAPSHOT_FILES_MAX files at the latest, whatever they say.
 *
 * The index is composed once, at open. Chunks get numbers through all files, those of the diff
 * first; page_chunk says for each page which of them has it. A chunk of a base may hold pages that
 * were replaced since: its `live` bits say which of its pages still count. So a look-up costs what
 * it costs in one file, and who fills memory from a chunk fills its live pages.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "snapshot-format/internal.h"

#define base_fail(r, code, ...)                                                                    \
	({                                                                                         \
		int fail_code = (code);                                                            \
		format_fail(err, (r)->name, "base", base_offset(r), fail_code, __VA_ARGS__);       \
		fail_code;                                                                         \
	})

static uint64_t base_offset(const struct snapshot_reader *r)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_BASE);

	return s ? s->offset : r->header.tables_offset;
}

/* ---- sections -------------------------------------------------------------------------------- */

bool base_name_ok(const char *name, size_t n)
{
	if (n == 0 || n > FORMAT_NAME_MAX || memchr(name, '/', n) || memchr(name, 0, n))
		return false;
	return !(n == 1 && name[0] == '.') && !(n == 2 && name[0] == '.' && name[1] == '.');
}

static int load_base(struct snapshot_reader *r, struct snapshot_error *err)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_BASE);
	const uint8_t *data;

	if (!s != !reader_is_diff(r))
		return base_fail(r, -EBADMSG, "%s", s ? "in a file that is no diff" : "missing");
	if (!s)
		return 0;
	data = reader_section_data(r, s);
	if (s->bytes < sizeof(r->need))
		return base_fail(r, -EBADMSG, "too short");
	memcpy(&r->need, data, sizeof(r->need));
	if (s->bytes - sizeof(r->need) != r->need.name_bytes ||
	    !base_name_ok((const char *)data + sizeof(r->need), r->need.name_bytes))
		return base_fail(r, -EBADMSG, "its name is not the plain name of a file");
	memcpy(r->base_name, data + sizeof(r->need), r->need.name_bytes);
	if (r->need.depth == 0 || r->need.depth > FORMAT_DEPTH_MAX)
		return base_fail(r, -EBADMSG, "%u files below this one: 1 to %u can be",
				 r->need.depth, FORMAT_DEPTH_MAX);
	if (r->need.guest_kind != r->header.guest_kind ||
	    r->need.architecture != r->header.architecture ||
	    r->need.ram_pages > SNAPSHOT_PAGES_MAX || r->need.template_pages > r->need.ram_pages)
		return base_fail(r, -EBADMSG, "another machine's");
	return 0;
}

/** While a file is alone: zero pages are those that no chunk has, in any case. Compose tells them
 * apart from the base's. */
static int load_zero_pages(struct snapshot_reader *r, struct snapshot_error *err)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_ZERO_PAGES);
	uint32_t limit = (uint32_t)r->header.template_pages, next = 0, first, count;
	struct state_reader in = {0};

	if (!s)
		return 0;
	if (!reader_is_diff(r))
		return base_fail(r, -EBADMSG, "zero pages in a file that is no diff");
	in.data = reader_section_data(r, s);
	in.left = s->bytes;
	while (in.left) {
		if (zero_pages_get(&in, limit, &next, &first, &count))
			return format_fail(err, r->name, "zero pages",
					   s->offset + (s->bytes - in.left), -EBADMSG,
					   "bad run of pages");
		for (uint32_t page = first; page < first + count; page++)
			if (r->page_chunk[page])
				return format_fail(err, r->name, "zero pages", s->offset, -EBADMSG,
						   "page %u is in chunk %u, too", page,
						   r->page_chunk[page] - 1);
	}
	return 0;
}

static int load_identity(struct snapshot_reader *r, struct snapshot_error *err)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_IDENTITY);

	r->identity = r->header.hash;
	if (!s)
		return 0;
	if (s->bytes != sizeof(r->identity))
		return format_fail(err, r->name, "identity", s->offset, -EBADMSG,
				   "not of 16 bytes");
	memcpy(&r->identity, reader_section_data(r, s), sizeof(r->identity));
	return 0;
}

int base_load(struct snapshot_reader *r, struct snapshot_error *err)
{
	int ret = load_base(r, err);

	if (!ret)
		ret = load_zero_pages(r, err);
	return ret ? ret : load_identity(r, err);
}

/* ---- composing ------------------------------------------------------------------------------- */

/** Put the chunks of the base behind the diff's own. Return: 0 or -ENOMEM. */
static int append_chunks(struct snapshot_reader *r)
{
	const struct snapshot_reader *base = r->base;
	size_t count = (size_t)r->chunk_count + base->chunk_count;
	struct snapshot_chunk *chunks = realloc(r->chunks, (count + 1) * sizeof(*chunks));

	if (!chunks)
		return -ENOMEM;
	r->chunks = chunks;
	for (uint32_t i = 0; i < base->chunk_count; i++) {
		struct snapshot_chunk *c = &chunks[r->chunk_count + i];

		*c = base->chunks[i];
		c->file++;
	}
	return 0;
}

/** Pages that the diff leaves to its base get the base's chunk; those in ZERO_PAGES do not. */
static void inherit_pages(struct snapshot_reader *r, uint32_t first, uint32_t end)
{
	const struct snapshot_reader *base = r->base;

	end = (uint32_t)MIN((uint64_t)end, base->header.template_pages);
	for (uint32_t page = first; page < end; page++)
		if (!r->page_chunk[page] && base->page_chunk[page])
			r->page_chunk[page] = base->page_chunk[page] + r->header.chunks;
}

static void inherit_between_zeros(struct snapshot_reader *r)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_ZERO_PAGES);
	uint32_t limit = (uint32_t)r->header.template_pages, next = 0, from = 0, first, count;
	struct state_reader in = {.data = s ? reader_section_data(r, s) : NULL,
				  .left = s ? s->bytes : 0};

	/* The section was checked when the file was loaded. */
	while (in.left && !zero_pages_get(&in, limit, &next, &first, &count)) {
		inherit_pages(r, from, first);
		from = next;
	}
	inherit_pages(r, from, limit);
}

/** Which pages of the base's chunks still count? */
static void mark_live(struct snapshot_reader *r)
{
	for (uint32_t i = r->header.chunks; i < r->chunk_count; i++) {
		struct snapshot_chunk *c = &r->chunks[i];

		for (unsigned k = 0; k < c->page_count; k++)
			if (c->pages[k] >= r->header.template_pages ||
			    r->page_chunk[c->pages[k]] != i + 1)
				c->live &= (uint16_t) ~(1u << k);
	}
}

static int compose(struct snapshot_reader *r, struct snapshot_error *err)
{
	if (append_chunks(r))
		return base_fail(r, -ENOMEM, "no memory");
	inherit_between_zeros(r);
	r->chunk_count += r->base->chunk_count;
	mark_live(r);
	for (unsigned i = 0; i < r->base->file_count; i++)
		r->files[r->file_count++] = r->base->files[i];
	return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

/** Is the base what the diff was made on? */
static int check_base(const struct snapshot_reader *r, const struct snapshot_reader *base,
		      struct snapshot_error *err)
{
	const struct format_header *h = &base->header;

	if (memcmp(&r->need.identity, &base->identity, sizeof(base->identity)))
		return base_fail(r, -ESTALE,
				 "%s is another snapshot than the one this was made on: bring that "
				 "one back, or capture again",
				 base->name);
	if (h->ram_pages != r->need.ram_pages || h->template_pages != r->need.template_pages ||
	    h->guest_kind != r->need.guest_kind)
		return base_fail(r, -EBADMSG,
				 "%s has %llu pages of memory, %llu in the template, and kind %u: "
				 "it does not fit; capture again",
				 base->name, (unsigned long long)h->ram_pages,
				 (unsigned long long)h->template_pages, h->guest_kind);
	if (base->need.depth >= r->need.depth)
		return base_fail(
			r, -EBADMSG,
			"%s has %u files below it, this one says at most %u: capture again",
			base->name, base->need.depth, r->need.depth - 1);
	return 0;
}

/** How errors name the base: it is in the same directory. */
static int name_base(const struct snapshot_reader *r, char **ret)
{
	const char *slash = strrchr(r->name, '/');
	int n = slash ? (int)(slash + 1 - r->name) : 0;

	return asprintf(ret, "%.*s%s", n, r->name, r->base_name) < 0 ? -ENOMEM : 0;
}

static int open_base(struct snapshot_reader *r, int dirfd, struct snapshot_error *err)
{
	CLEANUP_FREE char *name = NULL;
	/* Whatever has that name, the open is not to wait for it. */
	CLEANUP_FD int fd = openat(dirfd, r->base_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret = fd < 0 ? -errno : 0;

	if (name_base(r, &name))
		return base_fail(r, -ENOMEM, "no memory");
	if (ret)
		return base_fail(r, -ESTALE, "it is a diff on %s: %s: put that file beside it",
				 name, strerror(-ret));
	ret = snapshot_reader_open_alone(fd, name, &r->base, err);
	if (!ret)
		r->base->owned_fd = steal_fd(&fd);
	return ret ? ret : check_base(r, r->base, err);
}

/** Open and compose what is below @r. The depth, which gets less with each file, ends it. */
static int load_chain(struct snapshot_reader *r, int dirfd, struct snapshot_error *err)
{
	int ret;

	if (!reader_is_diff(r))
		return 0;
	ret = open_base(r, dirfd, err);
	if (!ret)
		ret = load_chain(r->base, dirfd, err);
	return ret ? ret : compose(r, err);
}

int snapshot_reader_open(int dirfd, const char *path, const char *name,
			 struct snapshot_reader **ret_reader, struct snapshot_error *err)
{
	CLEANUP_FD int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP_FD int parent = -1;
	struct snapshot_reader *r = NULL;
	int ret;

	*ret_reader = NULL;
	if (fd < 0) {
		ret = -errno;
		if (err)
			snprintf(err->text, sizeof(err->text), "%s: %s", name, strerror(-ret));
		return ret;
	}
	ret = snapshot_reader_open_alone(fd, name, &r, err);
	if (ret)
		return ret;
	r->owned_fd = steal_fd(&fd);
	if (reader_is_diff(r)) {
		parent = file_open_parent(dirfd, path, O_PATH);
		ret = parent < 0 ? base_fail(r, parent, "its directory: %s", strerror(-parent))
				 : load_chain(r, parent, err);
	}
	if (ret) {
		snapshot_reader_free(r);
		return ret;
	}
	*ret_reader = r;
	return 0;
}
