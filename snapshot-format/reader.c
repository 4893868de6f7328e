/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.c - check and load the metadata of a snapshot file
 *
 * Every number of the file is hostile. Checks go from the outside in, and each stage relies only on
 * those before it:
 *   1. header_check_identity(): magic, checksum, version, features, architecture
 *   2. header_check_layout(): counts within limits, regions inside the file and apart
 *   3. sections_check(): sections fill the tables without gaps, checksums match
 *   4. load_chunks(), working_set_get(): lengths add up, pages in range, none twice
 * A diff goes on in base.c.
 * Nothing is allocated for a number before it was compared with its limit and with the bytes of the
 * file that must stand behind it.
 */
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "snapshot-format/internal.h"

/* Header and tables of a usual process guest; larger tables take a second read. */
enum { FIRST_READ_BYTES = 64 << 10 };

/* A loading that fails names its place; all of them end in format_fail(). */
#define fail_at(where, offset, code, ...)                                                          \
	({                                                                                         \
		int fail_code = (code);                                                            \
		format_fail(err, r->name, where, offset, fail_code, __VA_ARGS__);                  \
		fail_code;                                                                         \
	})
#define header_fail(field, code, ...)                                                              \
	fail_at("header", offsetof(struct format_header, field), code, __VA_ARGS__)

/* ---- header ---------------------------------------------------------------------------------- */

static int header_check_identity(const struct snapshot_reader *r, struct snapshot_error *err)
{
	const struct format_header *h = &r->header;
	struct format_hash128 hash = format_hash(h, offsetof(struct format_header, hash));

	if (memcmp(h->magic, FORMAT_MAGIC, FORMAT_MAGIC_BYTES))
		return header_fail(magic, -EINVAL, "not a quickthaw snapshot");
	if (memcmp(&hash, &h->hash, sizeof(hash)))
		return header_fail(hash, -EBADMSG,
				   "checksum does not match: the file is damaged, publish again");
	if (h->version != FORMAT_VERSION)
		return header_fail(version, -ENOTSUP,
				   "format version %u, this program reads %u: "
				   "update quickthaw or publish again",
				   h->version, FORMAT_VERSION);
	if (h->incompatible & ~FORMAT_INCOMPATIBLE_KNOWN)
		return header_fail(
			incompatible, -ENOTSUP,
			"needs unknown features %#llx: update quickthaw or publish again",
			(unsigned long long)(h->incompatible & ~FORMAT_INCOMPATIBLE_KNOWN));
	if (h->architecture != FORMAT_ARCH_X86_64)
		return header_fail(
			architecture, -ENOTSUP,
			"made on architecture %u, this is x86-64 (%u): publish on this host",
			h->architecture, FORMAT_ARCH_X86_64);
	if (h->page_bytes != PAGE_BYTES || h->chunk_pages != SNAPSHOT_CHUNK_PAGES)
		return header_fail(page_bytes, -ENOTSUP, "chunks of %u pages of %u bytes",
				   h->chunk_pages, h->page_bytes);
	return 0;
}

/** Is [offset, offset + bytes) a region of the file: aligned, behind the header, before the end? */
static bool region_fits(const struct format_header *h, uint64_t offset, uint64_t bytes)
{
	return offset % FORMAT_ALIGN == 0 && offset >= FORMAT_HEADER_BYTES &&
	       offset <= h->file_bytes && bytes <= h->file_bytes - offset;
}

static int header_check_layout(const struct snapshot_reader *r, uint64_t size,
			       struct snapshot_error *err)
{
	const struct format_header *h = &r->header;
	const uint8_t *unused =
		(const uint8_t *)&h->sections[MIN(h->section_count, FORMAT_SECTIONS_MAX)];
	const uint8_t *hash = (const uint8_t *)&h->hash;

	if (h->file_bytes != size)
		return header_fail(file_bytes, -EBADMSG, "says %llu bytes, the file has %llu: %s",
				   (unsigned long long)h->file_bytes, (unsigned long long)size,
				   size < h->file_bytes ? "it is cut short"
							: "something was added");
	if (h->header_bytes != FORMAT_HEADER_BYTES || size > FORMAT_FILE_BYTES_MAX)
		return header_fail(header_bytes, -EBADMSG, "sizes out of range");
	if (h->ram_pages > SNAPSHOT_PAGES_MAX || h->template_pages > h->ram_pages)
		return header_fail(ram_pages, -EBADMSG, "%llu pages, of these %llu in the template",
				   (unsigned long long)h->ram_pages,
				   (unsigned long long)h->template_pages);
	if (h->guest_kind == 0)
		return header_fail(guest_kind, -EBADMSG, "no guest kind");
	if (h->chunks > h->template_pages || h->hot_chunks > h->chunks)
		return header_fail(chunks, -EBADMSG, "%u chunks, %u of them hot", h->chunks,
				   h->hot_chunks);
	if (h->tables_bytes > FORMAT_TABLES_MAX ||
	    !region_fits(h, h->tables_offset, h->tables_bytes))
		return header_fail(tables_offset, -EBADMSG, "tables do not fit the file");
	if (!region_fits(h, h->hot_offset, h->hot_bytes) ||
	    !region_fits(h, h->cold_offset, h->cold_bytes) ||
	    h->hot_offset + h->hot_bytes > h->cold_offset)
		return header_fail(hot_offset, -EBADMSG, "chunks do not fit the file");
	if (h->tables_offset + h->tables_bytes > h->hot_offset &&
	    h->tables_offset < h->cold_offset + h->cold_bytes)
		return header_fail(tables_offset, -EBADMSG, "tables overlap chunks");
	if (h->section_count > FORMAT_SECTIONS_MAX || h->reserved_zero ||
	    !mem_is_zero(unused, (size_t)(hash - unused)))
		return header_fail(section_count, -EBADMSG, "reserved bytes are not zero");
	return 0;
}

static void params_fill(struct snapshot_reader *r)
{
	const struct format_header *h = &r->header;

	r->params = (struct snapshot_params){
		.ram_pages = h->ram_pages,
		.template_pages = h->template_pages,
		.guest_kind = h->guest_kind,
		.created_ns = h->created_ns,
	};
	memcpy(r->params.cpu_features, h->cpu_features, sizeof(h->cpu_features));
}

/* ---- reading --------------------------------------------------------------------------------- */

/**
 * Read [offset, offset + bytes) of the file into an aligned buffer, with lengths that O_DIRECT
 * takes.
 * @offset: multiple of FORMAT_ALIGN
 */
static int read_aligned(struct snapshot_reader *r, uint64_t offset, uint64_t bytes,
			uint8_t **ret_buffer, struct snapshot_error *err)
{
	size_t length = (size_t)align_up(bytes ? bytes : 1, FORMAT_ALIGN);
	uint8_t *buffer = aligned_alloc(FORMAT_ALIGN, length);
	ssize_t n;

	if (!buffer)
		return fail_at("tables", offset, -ENOMEM, "no memory for %zu bytes", length);
	n = pread_full(r->fd, buffer, length, offset);
	if (n < 0 || (size_t)n < bytes) {
		free(buffer);
		return n < 0 ? fail_at("file", offset, (int)n, "read: %s", strerror((int)-n))
			     : fail_at("file", offset, -EBADMSG, "it was cut short while reading");
	}
	*ret_buffer = buffer;
	return 0;
}

static int read_header(struct snapshot_reader *r, struct snapshot_error *err)
{
	struct stat st;
	uint64_t first;
	int ret;

	if (fstat(r->fd, &st) < 0)
		return fail_at("file", 0, -errno, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail_at("file", 0, -EINVAL, "not a regular file");
	if (st.st_size < (off_t)FORMAT_HEADER_BYTES)
		return fail_at("file", 0, st.st_size ? -EBADMSG : -EINVAL,
			       "%lld bytes are too few for a snapshot", (long long)st.st_size);
	first = MIN((uint64_t)st.st_size, (uint64_t)FIRST_READ_BYTES);
	ret = read_aligned(r, 0, first, &r->buffer, err);
	if (ret)
		return ret;
	memcpy(&r->header, r->buffer, sizeof(r->header));
	ret = header_check_identity(r, err);
	if (!ret)
		ret = header_check_layout(r, (uint64_t)st.st_size, err);
	if (ret)
		return ret;
	if (r->header.tables_offset + r->header.tables_bytes <= first) {
		r->tables = r->buffer + r->header.tables_offset;
		return 0;
	}
	free(steal_ptr(r->buffer));
	ret = read_aligned(r, r->header.tables_offset, r->header.tables_bytes, &r->buffer, err);
	r->tables = r->buffer;
	return ret;
}

/* ---- sections -------------------------------------------------------------------------------- */

const uint8_t *reader_section_data(const struct snapshot_reader *r, const struct format_section *s)
{
	return r->tables + (s->offset - r->header.tables_offset);
}

const struct format_section *reader_section(const struct snapshot_reader *r, uint32_t kind)
{
	for (uint32_t i = 0; i < r->header.section_count; i++)
		if (r->header.sections[i].kind == kind)
			return &r->header.sections[i];
	return NULL;
}

static int section_check(const struct snapshot_reader *r, const struct format_section *s,
			 struct snapshot_error *err)
{
	const char *name = format_section_name(s->kind);
	struct format_hash128 hash;

	if (s->kind == 0 || (s->flags & ~FORMAT_SECTION_REQUIRED))
		return fail_at(name, s->offset, -EBADMSG, "kind %u with flags %#x", s->kind,
			       s->flags);
	if (s->kind > SNAPSHOT_SECTION_IDENTITY && (s->flags & FORMAT_SECTION_REQUIRED))
		return fail_at(name, s->offset, -ENOTSUP,
			       "kind %u is needed: update quickthaw or publish again", s->kind);
	if (reader_section(r, s->kind) != s)
		return fail_at(name, s->offset, -EBADMSG, "kind %u comes twice", s->kind);
	hash = format_hash(reader_section_data(r, s), s->bytes);
	if (memcmp(&hash, &s->hash, sizeof(hash)))
		return fail_at(name, s->offset, -EBADMSG,
			       "checksum does not match: the file is damaged, publish again");
	return 0;
}

static int sections_check(const struct snapshot_reader *r, struct snapshot_error *err)
{
	uint64_t at = r->header.tables_offset, end = at + r->header.tables_bytes;

	for (uint32_t i = 0; i < r->header.section_count; i++) {
		const struct format_section *s = &r->header.sections[i];
		uint64_t start = align_up(at, FORMAT_SECTION_ALIGN);
		int ret;

		if (s->offset != start || start > end || s->bytes > end - start ||
		    s->bytes > SNAPSHOT_SECTION_BYTES_MAX)
			return fail_at(format_section_name(s->kind), s->offset, -EBADMSG,
				       "%llu bytes do not fit the tables",
				       (unsigned long long)s->bytes);
		if (!mem_is_zero(r->tables + (at - r->header.tables_offset), start - at))
			return fail_at("tables", at, -EBADMSG, "padding is not zero");
		ret = section_check(r, s, err);
		if (ret)
			return ret;
		at = start + s->bytes;
	}
	if (at != end)
		return fail_at("tables", at, -EBADMSG, "bytes that belong to no section");
	return 0;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/** Check one entry of the chunk table and turn it into @c. */
static int load_chunk(struct snapshot_reader *r, const struct format_chunk *f,
		      struct snapshot_chunk *c)
{
	uint32_t bytes = f->page_count * PAGE_BYTES;

	if (f->page_count == 0 || f->page_count > SNAPSHOT_CHUNK_PAGES || f->reserved_zero ||
	    (f->flags & ~FORMAT_CHUNK_RAW))
		return -EBADMSG;
	c->raw = f->flags & FORMAT_CHUNK_RAW;
	if (c->raw ? f->stored_bytes != bytes : f->stored_bytes == 0 || f->stored_bytes >= bytes)
		return -EBADMSG;
	c->stored_bytes = f->stored_bytes;
	c->page_count = f->page_count;
	c->xxh3 = f->xxh3;
	c->hot = c < r->chunks + r->header.hot_chunks;
	c->live = (uint16_t)((1u << f->page_count) - 1);
	return 0;
}

/** Load chunks [first, end), which have to fill a region of the file exactly. */
static int load_region(struct snapshot_reader *r, const struct format_section *s, uint32_t first,
		       uint32_t end, uint64_t offset, uint64_t bytes, struct snapshot_error *err)
{
	uint64_t at = offset;

	for (uint32_t i = first; i < end; i++) {
		uint64_t entry = i * sizeof(struct format_chunk);
		struct format_chunk f;

		memcpy(&f, reader_section_data(r, s) + entry, sizeof(f));
		if (load_chunk(r, &f, &r->chunks[i]))
			return fail_at("chunk table", s->offset + entry, -EBADMSG,
				       "chunk %u: %u bytes, %u pages, flags %#x", i, f.stored_bytes,
				       f.page_count, f.flags);
		r->chunks[i].offset = at;
		at += f.stored_bytes;
	}
	if (at != offset + bytes)
		return fail_at("chunk table", s->offset, -EBADMSG,
			       "chunks %u to %u do not fill the %llu bytes of their region", first,
			       end, (unsigned long long)bytes);
	return 0;
}

static int load_chunk_table(struct snapshot_reader *r, uint64_t *ret_pages,
			    struct snapshot_error *err)
{
	const struct format_header *h = &r->header;
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_CHUNKS);
	int ret;

	if (!s || s->bytes != (uint64_t)h->chunks * sizeof(struct format_chunk))
		return fail_at("chunk table", s ? s->offset : h->tables_offset, -EBADMSG,
			       "missing, or not of %u chunks", h->chunks);
	r->chunk_count = h->chunks;
	r->chunks = calloc((size_t)h->chunks + 1, sizeof(*r->chunks));
	if (!r->chunks)
		return fail_at("chunk table", s->offset, -ENOMEM, "no memory");
	ret = load_region(r, s, 0, h->hot_chunks, h->hot_offset, h->hot_bytes, err);
	if (!ret)
		ret = load_region(r, s, h->hot_chunks, h->chunks, h->cold_offset, h->cold_bytes,
				  err);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < h->chunks; i++)
		*ret_pages += r->chunks[i].page_count;
	if (*ret_pages > h->template_pages)
		return fail_at("chunk table", s->offset, -EBADMSG,
			       "%llu pages in chunks, %llu in the template",
			       (unsigned long long)*ret_pages,
			       (unsigned long long)h->template_pages);
	return 0;
}

/** Load the page index: each page at most once. */
static int load_page_index(struct snapshot_reader *r, uint64_t pages, struct snapshot_error *err)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_PAGE_INDEX);
	struct state_reader in = {0};
	uint32_t next = 0, *list;

	if (!s)
		return fail_at("page index", r->header.tables_offset, -EBADMSG, "missing");
	in.data = reader_section_data(r, s);
	in.left = s->bytes;
	list = r->pages = malloc((pages + 1) * sizeof(*r->pages));
	r->page_chunk = calloc(r->header.template_pages + 1, sizeof(*r->page_chunk));
	if (!r->pages || !r->page_chunk)
		return fail_at("page index", s->offset, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < r->header.chunks; i++) {
		struct snapshot_chunk *c = &r->chunks[i];

		if (page_index_get(&in, (uint32_t)r->header.template_pages, c->page_count, &next,
				   list))
			return fail_at("page index", s->offset + (s->bytes - in.left), -EBADMSG,
				       "bad run of pages in chunk %u", i);
		for (unsigned k = 0; k < c->page_count; k++) {
			if (r->page_chunk[list[k]])
				return fail_at("page index", s->offset + (s->bytes - in.left),
					       -EBADMSG, "page %u is in chunks %u and %u", list[k],
					       r->page_chunk[list[k]] - 1, i);
			r->page_chunk[list[k]] = i + 1;
		}
		c->pages = list;
		list += c->page_count;
	}
	if (in.left)
		return fail_at("page index", s->offset + (s->bytes - in.left), -EBADMSG,
			       "%zu bytes too many", in.left);
	return 0;
}

static int load_working_set(struct snapshot_reader *r, struct snapshot_error *err)
{
	const struct format_section *s = reader_section(r, SNAPSHOT_SECTION_WORKING_SET);
	struct state_reader in = {0};
	int ret;

	if (!s)
		return 0;
	in.data = reader_section_data(r, s);
	in.left = s->bytes;
	ret = working_set_get(&in, r->header.template_pages, &r->working_set,
			      &r->working_set_count);
	if (ret)
		return fail_at("working set", s->offset + (s->bytes - in.left), ret,
			       ret == -ENOMEM ? "no memory" : "bad entry");
	return 0;
}

int snapshot_reader_open_alone(int fd, const char *name, struct snapshot_reader **ret_reader,
			       struct snapshot_error *err)
{
	struct snapshot_reader *r = calloc(1, sizeof(*r));
	uint64_t pages = 0;
	int ret;

	*ret_reader = NULL;
	if (!r || !(r->name = strdup(name))) {
		free(r);
		return format_fail(err, name, "file", 0, -ENOMEM, "no memory");
	}
	r->fd = fd;
	r->owned_fd = -1;
	r->files[r->file_count++] = r;
	ret = read_header(r, err);
	if (!ret)
		ret = sections_check(r, err);
	if (!ret)
		ret = load_chunk_table(r, &pages, err);
	if (!ret)
		ret = load_page_index(r, pages, err);
	if (!ret)
		ret = load_working_set(r, err);
	if (!ret)
		ret = base_load(r, err);
	if (ret) {
		snapshot_reader_free(r);
		return ret;
	}
	params_fill(r);
	*ret_reader = r;
	return 0;
}

void snapshot_reader_free(struct snapshot_reader *r)
{
	if (!r)
		return;
	snapshot_reader_free(r->base);
	free(r->working_set);
	free(r->page_chunk);
	free(r->pages);
	free(r->chunks);
	free(r->buffer);
	free(r->name);
	cleanup_fd(&r->owned_fd);
	free(r);
}

/* ---- what was loaded ------------------------------------------------------------------------- */

const struct snapshot_params *snapshot_reader_params(const struct snapshot_reader *r)
{
	return &r->params;
}

const void *snapshot_reader_section(const struct snapshot_reader *r, enum snapshot_section kind,
				    size_t *ret_n)
{
	const struct format_section *s = reader_section(r, kind);

	*ret_n = 0;
	if (!s)
		return NULL;
	if (kind == SNAPSHOT_SECTION_WORKING_SET) {
		*ret_n = r->working_set_count * sizeof(*r->working_set);
		return r->working_set;
	}
	*ret_n = s->bytes;
	return reader_section_data(r, s);
}

const struct snapshot_ws_entry *snapshot_reader_working_set(const struct snapshot_reader *r,
							    size_t *ret_count)
{
	*ret_count = r->working_set_count;
	return r->working_set;
}

uint32_t snapshot_reader_chunk_count(const struct snapshot_reader *r)
{
	return r->chunk_count;
}

const struct snapshot_chunk *snapshot_reader_chunk(const struct snapshot_reader *r, uint32_t chunk)
{
	return chunk < r->chunk_count ? &r->chunks[chunk] : NULL;
}

uint32_t snapshot_reader_page_chunk(const struct snapshot_reader *r, uint32_t page)
{
	if (page >= r->header.template_pages || !r->page_chunk[page])
		return SNAPSHOT_PAGE_ZERO;
	return r->page_chunk[page] - 1;
}

unsigned snapshot_reader_file_count(const struct snapshot_reader *r)
{
	return r->file_count;
}

const struct snapshot_reader *snapshot_reader_file(const struct snapshot_reader *r, unsigned file)
{
	return file < r->file_count ? r->files[file] : NULL;
}

bool snapshot_reader_is_of(const struct snapshot_reader *r, const char *path)
{
	struct stat there, own;

	if (stat(path, &there))
		return false;
	for (unsigned i = 0; i < r->file_count; i++)
		if (!fstat(r->files[i]->fd, &own) && own.st_dev == there.st_dev &&
		    own.st_ino == there.st_ino)
			return true;
	return false;
}

bool snapshot_reader_may_be_base(const struct snapshot_reader *r)
{
	return r->need.depth < FORMAT_DEPTH_MAX;
}

int snapshot_reader_fd(const struct snapshot_reader *r)
{
	return r->fd;
}

const char *snapshot_reader_name(const struct snapshot_reader *r)
{
	return r->name;
}

struct snapshot_id snapshot_reader_id(const struct snapshot_reader *r)
{
	return (struct snapshot_id){.low = r->identity.low, .high = r->identity.high};
}
