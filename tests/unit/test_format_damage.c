/* SPDX-License-Identifier: Apache-2.0 */
/* test_format_damage.c - damaged, foreign, too new and hostile snapshots are refused */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "tests/unit/test_format.h"

/** struct image - a golden snapshot in memory, and the file that forged ones are written to. */
static struct image {
	uint8_t bytes[65536];
	size_t n;
	int fd;
} image;

static int setup(void **state)
{
	ssize_t n;

	(void)state;
	image.fd = memfd_create("snapshot", MFD_CLOEXEC);
	if (image.fd < 0 || golden_write(image.fd))
		return -1;
	n = pread_full(image.fd, image.bytes, sizeof(image.bytes), 0);
	image.n = n > 0 ? (size_t)n : 0;
	return image.n ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return close(image.fd);
}

/** Open the first @n bytes of @bytes, read every chunk, and close. Return: the first error. */
static int try_open(const uint8_t *bytes, size_t n, struct snapshot_error *err)
{
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_reader *r;
	int ret;

	assert_int_equal(ftruncate(image.fd, (off_t)n), 0);
	assert_int_equal(pwrite_full(image.fd, bytes, n, 0), 0);
	err->text[0] = '\0';
	ret = snapshot_reader_open_alone(image.fd, "test.snapshot", &r, err);
	for (uint32_t i = 0; !ret && i < snapshot_reader_chunk_count(r); i++)
		ret = snapshot_reader_read_chunk(r, i, out, err);
	if (ret) /* what, where and which file */
		assert_true(strstr(err->text, "test.snapshot: ") &&
			    strstr(err->text, " at offset "));
	snapshot_reader_free(r);
	return ret;
}

static void test_every_metadata_byte(void **state)
{
	struct format_header h;
	struct snapshot_error err;
	size_t end;

	(void)state;
	memcpy(&h, image.bytes, sizeof(h));
	end = h.tables_offset + h.tables_bytes;
	assert_int_equal(h.tables_offset, FORMAT_HEADER_BYTES);
	for (size_t i = 0; i < end; i++) {
		for (unsigned flip = 1; flip < 256; flip = flip == 1 ? 0x80 : flip + 0x7f) {
			image.bytes[i] ^= flip;
			assert_true(try_open(image.bytes, image.n, &err) < 0);
			image.bytes[i] ^= flip;
		}
	}
	assert_int_equal(try_open(image.bytes, image.n, &err), 0);
}

static void test_data_bytes(void **state)
{
	struct format_header h;
	struct snapshot_error err;

	(void)state;
	memcpy(&h, image.bytes, sizeof(h));
	for (size_t i = 0; i < h.hot_bytes; i += 7) {
		image.bytes[h.hot_offset + i] ^= 0x10;
		assert_int_equal(try_open(image.bytes, image.n, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "chunk"));
		image.bytes[h.hot_offset + i] ^= 0x10;
	}
	for (size_t i = 0; i < h.cold_bytes; i += 61) {
		image.bytes[h.cold_offset + i] ^= 0x01;
		assert_int_equal(try_open(image.bytes, image.n, &err), -EBADMSG);
		image.bytes[h.cold_offset + i] ^= 0x01;
	}
}

/** Chunk data that was changed and sealed again: LZ4 has to hold. */
static void test_hostile_chunk_data(void **state)
{
	struct format_header h;
	struct snapshot_error err;

	(void)state;
	memcpy(&h, image.bytes, sizeof(h));
	for (unsigned i = 0; i < 256; i++) {
		uint8_t copy[sizeof(image.bytes)];
		const struct format_section *s = NULL;
		struct format_chunk c;

		memcpy(copy, image.bytes, image.n);
		for (uint32_t k = 0; k < h.section_count; k++)
			if (h.sections[k].kind == SNAPSHOT_SECTION_CHUNKS)
				s = &h.sections[k];
		assert_non_null(s);
		memcpy(&c, copy + s->offset, sizeof(c));
		copy[h.hot_offset + i % c.stored_bytes] ^= (uint8_t)(1 + i / c.stored_bytes * 37);
		c.xxh3 = XXH3_64bits(copy + h.hot_offset, c.stored_bytes);
		memcpy(copy + s->offset, &c, sizeof(c));
		format_reseal(copy, image.n);
		/* Either is right: other text of the same length, or an error. No crash. */
		assert_true(try_open(copy, image.n, &err) <= 0);
	}
}

static void test_truncated(void **state)
{
	struct snapshot_error err;
	uint8_t more[1] = {0};

	(void)state;
	for (size_t n = 0; n < image.n; n += 512)
		assert_true(try_open(image.bytes, n, &err) < 0);
	assert_true(try_open(image.bytes, image.n - 1, &err) < 0);
	assert_int_equal(try_open(image.bytes, image.n, &err), 0);
	assert_int_equal(pwrite_full(image.fd, more, 1, image.n), 0);
	assert_int_equal(
		snapshot_reader_open_alone(image.fd, "t", &(struct snapshot_reader *){NULL}, &err),
		-EBADMSG);
}

/** struct forgery - a number of the header that a hostile file may have, sealed correctly. */
static const struct forgery {
	size_t offset;
	unsigned bytes;
	uint64_t value;
	int err;
} forgeries[] = {
#define H(field, value, err)                                                                       \
	{                                                                                          \
		offsetof(struct format_header, field), sizeof(((struct format_header *)0)->field), \
			value, err                                                                 \
	}
	H(version, 2, -ENOTSUP),
	H(version, 0, -ENOTSUP),
	H(incompatible, 1, -EBADMSG), /* a diff without a base */
	H(incompatible, 2, -ENOTSUP),
	H(incompatible, 1ull << 63, -ENOTSUP),
	H(architecture, 183, -ENOTSUP),
	H(page_bytes, 16384, -ENOTSUP),
	H(chunk_pages, 32, -ENOTSUP),
	H(header_bytes, 8192, -EBADMSG),
	H(file_bytes, 0, -EBADMSG),
	H(file_bytes, UINT64_MAX, -EBADMSG),
	H(ram_pages, UINT64_MAX, -EBADMSG),
	H(ram_pages, SNAPSHOT_PAGES_MAX + 1, -EBADMSG),
	H(ram_pages, 63, -EBADMSG),
	H(template_pages, UINT64_MAX, -EBADMSG),
	H(template_pages, 257, -EBADMSG),
	H(template_pages, 63, -EBADMSG),
	H(template_pages, 0, -EBADMSG),
	H(guest_kind, 0, -EBADMSG),
	H(hot_offset, 0, -EBADMSG),
	H(hot_offset, 4096, -EBADMSG),
	H(hot_offset, UINT64_MAX & ~4095ull, -EBADMSG),
	H(hot_offset, 8193, -EBADMSG),
	H(hot_bytes, UINT64_MAX, -EBADMSG),
	H(hot_bytes, 0, -EBADMSG),
	H(hot_bytes, 4097, -EBADMSG),
	H(cold_offset, 8192, -EBADMSG),
	H(cold_offset, 0, -EBADMSG),
	H(cold_bytes, UINT64_MAX - 12287, -EBADMSG),
	H(cold_bytes, 0, -EBADMSG),
	H(chunks, UINT32_MAX, -EBADMSG),
	H(chunks, 4, -EBADMSG),
	H(chunks, 64, -EBADMSG),
	H(hot_chunks, 6, -EBADMSG),
	H(hot_chunks, 5, -EBADMSG),
	H(hot_chunks, 0, -EBADMSG),
	H(hot_chunks, 1, -EBADMSG),
	H(tables_offset, 0, -EBADMSG),
	H(tables_offset, 8192, -EBADMSG),
	H(tables_offset, UINT64_MAX & ~4095ull, -EBADMSG),
	H(tables_bytes, UINT64_MAX, -EBADMSG),
	H(tables_bytes, 1ull << 30, -EBADMSG),
	H(tables_bytes, 0, -EBADMSG),
	H(tables_bytes, 8192, -EBADMSG),
	H(section_count, 17, -EBADMSG),
	H(section_count, UINT32_MAX, -EBADMSG),
	H(section_count, 0, -EBADMSG),
	H(section_count, 4, -EBADMSG),
	H(section_count, 6, -EBADMSG),
	H(reserved_zero, 1, -EBADMSG),
	H(sections[0].kind, 0, -EBADMSG),
	H(sections[0].kind, SNAPSHOT_SECTION_METADATA, -EBADMSG),
	H(sections[0].kind, 99, -ENOTSUP),
	H(sections[0].flags, 2, -EBADMSG),
	H(sections[0].offset, 0, -EBADMSG),
	H(sections[0].offset, UINT64_MAX, -EBADMSG),
	H(sections[0].bytes, UINT64_MAX, -EBADMSG),
	H(sections[4].bytes, 0, -EBADMSG),
	H(sections[4].kind, 4, -EBADMSG),
	H(sections[15].kind, 1, -EBADMSG),
	H(zero[0], 1, -EBADMSG),
	H(zero[3231], 1, -EBADMSG),
	H(magic[0], 'Q', -EINVAL),
#undef H
};

static void test_forged_header(void **state)
{
	struct snapshot_error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(forgeries); i++) {
		const struct forgery *f = &forgeries[i];
		uint8_t copy[sizeof(image.bytes)];
		int ret;

		memcpy(copy, image.bytes, image.n);
		memcpy(copy + f->offset, &f->value, f->bytes);
		format_reseal(copy, image.n);
		ret = try_open(copy, image.n, &err);
		if (ret != f->err)
			fail_msg("byte %zu = %#llx: got %d, wanted %d: %s", f->offset,
				 (unsigned long long)f->value, ret, f->err, err.text);
	}
}

/** A hot chunk that lies in the cold region, which looks full because of it. */
static void test_forged_regions(void **state)
{
	uint8_t copy[sizeof(image.bytes)];
	struct snapshot_error err;
	struct format_header h;

	(void)state;
	memcpy(copy, image.bytes, image.n);
	memcpy(&h, copy, sizeof(h));
	h.hot_chunks = 1;
	h.hot_bytes = 0;
	h.cold_offset = h.hot_offset;
	h.cold_bytes = 1071; /* as long as chunk 0 */
	memcpy(copy, &h, sizeof(h));
	format_reseal(copy, image.n);
	assert_int_equal(try_open(copy, image.n, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "do not fill"));
}

/** Any byte of any section, changed and sealed again: nothing may crash, ASan watches. */
static void test_forged_sections(void **state)
{
	struct format_header h;
	struct snapshot_error err;
	size_t refused = 0, tried = 0;

	(void)state;
	memcpy(&h, image.bytes, sizeof(h));
	for (uint32_t i = 2; i < h.section_count; i++) {
		for (uint64_t k = 0; k < h.sections[i].bytes; k++) {
			for (unsigned flip = 1; flip < 256; flip <<= 1) {
				uint8_t copy[sizeof(image.bytes)];

				memcpy(copy, image.bytes, image.n);
				copy[h.sections[i].offset + k] ^= (uint8_t)flip;
				format_reseal(copy, image.n);
				refused += try_open(copy, image.n, &err) < 0;
				tried++;
			}
		}
	}
	assert_true(refused > tried / 2);
}

/** An unknown section that is not required is passed over, an unknown compatible bit as well. */
static void test_compatible_additions(void **state)
{
	uint8_t copy[sizeof(image.bytes)];
	struct snapshot_error err;
	uint32_t kind = 99;

	(void)state;
	memcpy(copy, image.bytes, image.n);
	memcpy(copy + offsetof(struct format_header, sections[1].kind), &kind, sizeof(kind));
	copy[offsetof(struct format_header, compatible)] = 0x80;
	format_reseal(copy, image.n);
	assert_int_equal(try_open(copy, image.n, &err), 0);
}

static void test_says_what_to_do(void **state)
{
	uint8_t copy[sizeof(image.bytes)];
	struct snapshot_error err;

	(void)state;
	memcpy(copy, image.bytes, image.n);
	copy[offsetof(struct format_header, version)] = 2;
	format_reseal(copy, image.n);
	assert_int_equal(try_open(copy, image.n, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "version 2"));
	assert_non_null(strstr(err.text, "update quickthaw"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_metadata_byte),
		cmocka_unit_test(test_data_bytes),
		cmocka_unit_test(test_hostile_chunk_data),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_forged_header),
		cmocka_unit_test(test_forged_sections),
		cmocka_unit_test(test_forged_regions),
		cmocka_unit_test(test_compatible_additions),
		cmocka_unit_test(test_says_what_to_do),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
