/* SPDX-License-Identifier: Apache-2.0 */
/* tool_flatten.c - `snapshot flatten`: a chain of files becomes one */
#include <stdio.h>
#include <sys/stat.h>

#include "snapshot-format/tool.h"

static void show(void *arg, uint64_t done, uint64_t total)
{
	const struct tool_file *f = arg;

	tool_progress("flatten", f->path, done, total);
}

/** struct flattening - what show() and fill() are about. */
struct flattening {
	struct tool_file file;
	struct snapshot_error err;
};

static int fill(void *arg, int fd)
{
	struct flattening *f = arg;

	return snapshot_flatten(f->file.reader, fd, show, &f->file, &f->err);
}

int tool_flatten(const struct tool_file *f, const char *out, bool json)
{
	struct flattening work = {.file = *f};
	struct stat st = {0};
	int ret;

	if (snapshot_reader_is_of(f->reader, out)) {
		fprintf(stderr,
			"snapshot: %s is what %s is read from: give the new file another name\n",
			out, f->path);
		return TOOL_USAGE;
	}
	ret = snapshot_file_make(out, fill, &work);
	tool_progress_end();
	if (ret) {
		fprintf(stderr, "snapshot: %s: %s\n", out,
			work.err.text[0] ? work.err.text : strerror(-ret));
		return ret == -EBADMSG ? TOOL_BAD : TOOL_USAGE;
	}
	stat(out, &st);
	if (json)
		return tool_print_json(json_pack("{s:s, s:b, s:i, s:I}", "file", out, "ok", 1,
						 "files", (int)f->reader->file_count, "file_bytes",
						 (json_int_t)st.st_size));
	printf("%s: %u file%s as one, %llu bytes\n", out, f->reader->file_count,
	       f->reader->file_count == 1 ? "" : "s", (unsigned long long)st.st_size);
	return TOOL_OK;
}
