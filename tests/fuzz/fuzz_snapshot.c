/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_snapshot.c - the reader takes any bytes: opens or refuses, decodes or refuses
 *
 * Each input is tried as it is, and once more with its checksums made right, or the fuzzer would
 * never see what lies behind them. What opens has to keep the promises of snapshot.h. A diff has
 * the golden snapshot beside it, by that name; and whatever opens is made the base of another diff.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/test_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/** A promise of the header was broken: stop here, so that the fuzzer keeps the input. */
#define PROMISE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static void check_chunk(const struct snapshot_reader *r, uint32_t i, uint64_t *end)
{
	const struct snapshot_chunk *c = snapshot_reader_chunk(r, i);
	uint64_t n = snapshot_reader_file(r, c->file)->header.file_bytes;

	PROMISE(c->page_count >= 1 && c->page_count <= SNAPSHOT_CHUNK_PAGES);
	PROMISE(c->live >> c->page_count == 0);
	PROMISE(c->offset >= end[c->file]);
	end[c->file] = c->offset + c->stored_bytes;
	PROMISE(c->stored_bytes <= n && c->offset <= n - c->stored_bytes);
	for (unsigned k = 0; k < c->page_count; k++) {
		PROMISE(k == 0 || c->pages[k] > c->pages[k - 1]);
		PROMISE(snapshot_chunk_has(c, k) ==
			(snapshot_reader_page_chunk(r, c->pages[k]) == i));
		PROMISE(!snapshot_chunk_has(c, k) ||
			c->pages[k] < snapshot_reader_params(r)->template_pages);
	}
}

static void check_reader(const struct snapshot_reader *r)
{
	uint64_t template_pages = snapshot_reader_params(r)->template_pages;
	uint64_t end[SNAPSHOT_FILES_MAX] = {0};
	const struct snapshot_ws_entry *ws;
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_error err;
	size_t ws_count;

	for (uint32_t i = 0; i < snapshot_reader_chunk_count(r); i++) {
		check_chunk(r, i, end);
		snapshot_reader_read_chunk(r, i, out, &err);
	}
	ws = snapshot_reader_working_set(r, &ws_count);
	for (size_t i = 0; i < ws_count; i++)
		PROMISE(ws[i].page < template_pages);
}

/** struct place - where the files are that a chain is opened from. */
static struct place {
	int dirfd, image_fd;
} place = {-1, -1};

static int make_file(const char *name)
{
	int fd = openat(place.dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		abort();
	return fd;
}

static char dir[] = "/tmp/fuzz_snapshot.XXXXXX";

static void clean_place(void)
{
	unlinkat(place.dirfd, "image", 0);
	unlinkat(place.dirfd, "diff", 0);
	unlinkat(place.dirfd, "version-1.snapshot", 0);
	rmdir(dir);
}

static void make_place(void)
{
	int fd;

	if (place.dirfd >= 0)
		return;
	if (!mkdtemp(dir))
		abort();
	place.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place.image_fd = make_file("image");
	fd = make_file("version-1.snapshot");
	if (golden_write(fd))
		abort();
	close(fd);
	atexit(clean_place);
}

/** A diff on whatever opened: of its first pages some stay, some change, some become zero. */
static void try_as_base(const struct snapshot_reader *base)
{
	struct snapshot_params params = *snapshot_reader_params(base);
	struct snapshot_reader *r;
	struct snapshot_writer *w;
	struct snapshot_error err = {""};
	uint8_t data[PAGE_BYTES];
	int fd = make_file("diff");
	int ret = snapshot_writer_new(fd, &params, &w);

	PROMISE(!ret || ret == -ENOMEM);
	if (!ret)
		ret = snapshot_writer_base(w, base, "image");
	PROMISE(!ret || ret == -ENOMEM || ret == -EMLINK);
	for (uint32_t page = 0; !ret && page < MIN(params.template_pages, 48ull); page++) {
		golden_page(page, data);
		if (page % 3 == 0)
			snapshot_writer_same(w, page, page % 2 ? data : NULL);
		else if (page % 3 == 1)
			ret = snapshot_writer_chunk(w, &page, 1, data, false);
	}
	if (!ret)
		ret = snapshot_writer_finish(w);
	snapshot_writer_free(w);
	close(fd);
	if (ret)
		return;
	ret = snapshot_reader_open(place.dirfd, "diff", "diff", &r, &err);
	PROMISE(!ret || ret == -ENOMEM);
	if (!ret)
		check_reader(r);
	snapshot_reader_free(r);
}

static void try_image(const uint8_t *image, size_t n)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;
	int ret;

	if (ftruncate(place.image_fd, (off_t)n) || pwrite_full(place.image_fd, image, n, 0))
		abort();
	ret = snapshot_reader_open(place.dirfd, "image", "fuzz", &r, &err);
	PROMISE(!ret == (r != NULL));
	PROMISE(!ret || err.text[0]);
	if (!ret) {
		check_reader(r);
		try_as_base(r);
	}
	snapshot_reader_free(r);
}

/** Seal chunks too: their checksums are in the chunk table. */
static void reseal_chunks(uint8_t *image, size_t n)
{
	struct format_header h;
	uint64_t at;

	memcpy(&h, image, sizeof(h));
	at = h.hot_offset;
	for (uint32_t i = 0; i < MIN(h.section_count, FORMAT_SECTIONS_MAX); i++) {
		const struct format_section *s = &h.sections[i];

		if (s->kind != SNAPSHOT_SECTION_CHUNKS || s->offset > n || s->bytes > n - s->offset)
			continue;
		for (uint64_t k = 0; k < s->bytes / sizeof(struct format_chunk); k++) {
			uint8_t *entry = image + s->offset + k * sizeof(struct format_chunk);
			struct format_chunk c;

			memcpy(&c, entry, sizeof(c));
			if (k == h.hot_chunks)
				at = h.cold_offset;
			if (at > n || c.stored_bytes > n - at)
				return;
			c.xxh3 = XXH3_64bits(image + at, c.stored_bytes);
			memcpy(entry, &c, sizeof(c));
			at += c.stored_bytes;
		}
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t *image;
	uint64_t size = n;

	make_place();
	try_image(data, n);
	if (n < FORMAT_HEADER_BYTES)
		return 0;
	image = malloc(n);
	if (!image)
		abort();
	memcpy(image, data, n);
	memcpy(image + offsetof(struct format_header, file_bytes), &size, sizeof(size));
	reseal_chunks(image, n);
	format_reseal(image, n);
	try_image(image, n);
	free(image);
	return 0;
}
