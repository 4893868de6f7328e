/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - names, checksums and error texts of the format */
#include <stdio.h>
#include <xxhash.h>

#include "snapshot-format/internal.h"

const char *format_section_name(uint32_t kind)
{
	static const char *const names[] = {
		[SNAPSHOT_SECTION_STATE] = "state",
		[SNAPSHOT_SECTION_METADATA] = "metadata",
		[SNAPSHOT_SECTION_WORKING_SET] = "working set",
		[SNAPSHOT_SECTION_CHUNKS] = "chunk table",
		[SNAPSHOT_SECTION_PAGE_INDEX] = "page index",
		[SNAPSHOT_SECTION_BASE] = "base",
		[SNAPSHOT_SECTION_ZERO_PAGES] = "zero pages",
		[SNAPSHOT_SECTION_IDENTITY] = "identity",
	};

	return kind < ARRAY_SIZE(names) && names[kind] ? names[kind] : "unknown section";
}

struct format_hash128 format_hash(const void *data, size_t n)
{
	XXH128_hash_t h = XXH3_128bits(data, n);

	return (struct format_hash128){.low = h.low64, .high = h.high64};
}

int format_fail(struct snapshot_error *err, const char *file, const char *where, uint64_t offset,
		int code, const char *fmt, ...)
{
	char what[420];
	va_list args;

	if (!err)
		return code;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	/* The end says what is wrong, so a long path loses its beginning. */
	if (strlen(file) > 64)
		file += strlen(file) - 64;
	snprintf(err->text, sizeof(err->text), "%s: %s at offset %llu: %s", file, where,
		 (unsigned long long)offset, what);
	return code;
}
