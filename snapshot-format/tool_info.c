/* SPDX-License-Identifier: Apache-2.0 */
/* tool_info.c - `snapshot info` and `snapshot verify`: what a file says, and whether it is true */
#include <stdio.h>
#include <time.h>

#include "common/clock.h"
#include "snapshot-format/tool.h"

static const char *const cpu_words[8] = {"1.ecx", "1.edx",	  "7.ebx",	  "7.ecx",
					 "7.edx", "80000001.ecx", "80000001.edx", "xcr0"};

static const char *guest_kind_name(uint32_t kind)
{
	return kind == 1 ? "process" : kind == 2 ? "kernel" : "unknown";
}

static void format_time(uint64_t ns, char *out, size_t n)
{
	time_t seconds = (time_t)(ns / NSEC_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(out, n, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(out, n, "%llu ns", (unsigned long long)ns);
}

/** The metadata section as JSON, or as a string where it is none; NULL without one. */
static json_t *metadata_json(const struct snapshot_reader *r)
{
	size_t n;
	const char *text = snapshot_reader_section(r, SNAPSHOT_SECTION_METADATA, &n);
	json_t *json;

	if (!text)
		return json_null();
	json = json_loadb(text, n, JSON_DECODE_ANY, NULL);
	if (!json)
		json = json_stringn(text, n);
	return json ? json : json_null();
}

static void format_id(const struct format_hash128 *id, char out[33])
{
	snprintf(out, 33, "%016llx%016llx", (unsigned long long)id->high,
		 (unsigned long long)id->low);
}

static json_t *sections_json(const struct format_header *h)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < h->section_count; i++) {
		const struct format_section *s = &h->sections[i];
		char hash[33];

		format_id(&s->hash, hash);
		json_array_append_new(list, json_pack("{s:i, s:s, s:b, s:I, s:I, s:s}", "kind",
						      (int)s->kind, "name",
						      format_section_name(s->kind), "required",
						      (int)(s->flags & FORMAT_SECTION_REQUIRED),
						      "offset", (json_int_t)s->offset, "bytes",
						      (json_int_t)s->bytes, "xxh3_128", hash));
	}
	return list;
}

/** The files of the snapshot, from itself down to the one without a base. */
static json_t *files_json(const struct snapshot_reader *r)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < r->file_count; i++) {
		const struct snapshot_reader *f = r->files[i];
		char id[33];

		format_id(&f->identity, id);
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:I, s:I}", "file", f->name, "identity",
						id, "file_bytes", (json_int_t)f->header.file_bytes,
						"chunks", (json_int_t)f->header.chunks));
	}
	return list;
}

static int info_json(const struct tool_file *f)
{
	const struct format_header *h = &f->reader->header;
	struct tool_pages pages = tool_count_pages(f->reader);
	uint64_t stored = h->hot_bytes + h->cold_bytes;
	json_t *features = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(cpu_words); i++) {
		char hex[24];

		snprintf(hex, sizeof(hex), "%#llx", (unsigned long long)h->cpu_features[i]);
		json_object_set_new(features, cpu_words[i], json_string(hex));
	}
	return tool_print_json(json_pack(
		"{s:s, s:b, s:i, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
		"s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}",
		"file", f->path, "ok", 1, "version", (int)h->version, "file_bytes",
		(json_int_t)h->file_bytes, "created_ns", (json_int_t)h->created_ns, "architecture",
		"x86-64", "guest_kind", guest_kind_name(h->guest_kind), "ram_pages",
		(json_int_t)h->ram_pages, "template_pages", (json_int_t)h->template_pages,
		"page_bytes", (json_int_t)pages.own * PAGE_BYTES, "base_pages",
		(json_int_t)pages.base, "zero_pages", (json_int_t)pages.zero, "stored_bytes",
		(json_int_t)stored, "chunks", (json_int_t)h->chunks, "hot_chunks",
		(json_int_t)h->hot_chunks, "hot_offset", (json_int_t)h->hot_offset, "hot_bytes",
		(json_int_t)h->hot_bytes, "cold_offset", (json_int_t)h->cold_offset, "cold_bytes",
		(json_int_t)h->cold_bytes, "tables_offset", (json_int_t)h->tables_offset,
		"tables_bytes", (json_int_t)h->tables_bytes, "working_set_pages",
		(json_int_t)f->reader->working_set_count, "cpu_features", features, "sections",
		sections_json(h), "files", files_json(f->reader), "metadata",
		metadata_json(f->reader)));
}

static void print_features(const struct format_header *h)
{
	printf("CPU features  ");
	for (size_t i = 0; i < ARRAY_SIZE(cpu_words); i++)
		printf("%s%s %#llx", i ? (i == 4 ? "\n              " : ", ") : "", cpu_words[i],
		       (unsigned long long)h->cpu_features[i]);
	putchar('\n');
}

/** Of a diff: what it is based on, one file below the other. */
static void print_chain(const struct snapshot_reader *r)
{
	for (unsigned i = 1; i < r->file_count; i++) {
		const struct snapshot_reader *f = r->files[i];
		char id[33];

		format_id(&f->identity, id);
		printf("%-14s%s, %llu bytes, %s\n", i == 1 ? "based on" : "", f->name,
		       (unsigned long long)f->header.file_bytes, id);
	}
}

int tool_info(const struct tool_file *f, bool json)
{
	const struct format_header *h = &f->reader->header;
	struct tool_pages pages = tool_count_pages(f->reader);
	char when[40], *text;
	json_t *metadata;

	if (json)
		return info_json(f);
	format_time(h->created_ns, when, sizeof(when));
	printf("%s: snapshot, format version %u\n", f->path, h->version);
	printf("guest         %s, x86-64, captured %s\n", guest_kind_name(h->guest_kind), when);
	printf("memory        %llu pages of 4 KiB, %llu in the template, %llu stored\n",
	       (unsigned long long)h->ram_pages, (unsigned long long)h->template_pages,
	       (unsigned long long)pages.own);
	if (f->reader->file_count > 1)
		printf("diff          %llu pages stored here, %llu in its bases, %llu zero\n",
		       (unsigned long long)pages.own, (unsigned long long)pages.base,
		       (unsigned long long)pages.zero);
	print_chain(f->reader);
	printf("file          %llu bytes", (unsigned long long)h->file_bytes);
	if (pages.own)
		printf(", %.1f %% of the stored pages",
		       100.0 * (double)h->file_bytes / (double)(pages.own * PAGE_BYTES));
	printf("\nchunks        %u hot in %llu bytes, %u cold in %llu bytes\n", h->hot_chunks,
	       (unsigned long long)h->hot_bytes, h->chunks - h->hot_chunks,
	       (unsigned long long)h->cold_bytes);
	printf("working set   %zu pages\n", f->reader->working_set_count);
	print_features(h);
	printf("sections\n");
	for (uint32_t i = 0; i < h->section_count; i++)
		printf("  %-12s %8llu bytes at %llu\n", format_section_name(h->sections[i].kind),
		       (unsigned long long)h->sections[i].bytes,
		       (unsigned long long)h->sections[i].offset);
	metadata = metadata_json(f->reader);
	/* ASCII only: the file may come from anywhere, the text goes to a terminal. */
	text = json_dumps(metadata, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
	printf("metadata      %s\n", text ? text : "");
	free(text);
	json_decref(metadata);
	return TOOL_OK;
}

/* ---- verify ---------------------------------------------------------------------------------- */

int tool_verify(const struct tool_file *f, bool json)
{
	uint32_t count = snapshot_reader_chunk_count(f->reader), bad = 0;
	struct tool_pages pages = tool_count_pages(f->reader);
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	json_t *errors = json_array();

	for (uint32_t i = 0; i < count; i++) {
		struct snapshot_error err = {""};

		tool_progress("verify", f->path, i, count);
		if (!snapshot_reader_read_chunk(f->reader, i, out, &err))
			continue;
		bad++;
		tool_progress_end();
		fprintf(stderr, "snapshot: %s\n", err.text);
		json_array_append_new(errors, json_string(err.text));
	}
	tool_progress_end();
	if (json) {
		int ret = tool_print_json(json_pack("{s:s, s:b, s:I, s:I, s:o}", "file", f->path,
						    "ok", (int)!bad, "chunks", (json_int_t)count,
						    "bad", (json_int_t)bad, "errors", errors));

		return ret ? ret : bad ? TOOL_BAD : TOOL_OK;
	}
	json_decref(errors);
	if (bad)
		printf("%s: damaged: %u of %u chunks; publish again\n", f->path, bad, count);
	else if (f->reader->file_count > 1)
		printf("%s: good: %u chunks in %u files, %llu pages\n", f->path, count,
		       f->reader->file_count, (unsigned long long)(pages.own + pages.base));
	else
		printf("%s: good: %u chunks, %llu pages\n", f->path, count,
		       (unsigned long long)pages.own);
	return bad ? TOOL_BAD : TOOL_OK;
}
