/* SPDX-License-Identifier: Apache-2.0 */
/* tool_flatten.c - `snapshot flatten`: a chain of files becomes one */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "snapshot-format/tool.h"

/** Is @path one of the files that are to be copied? */
static bool is_of_chain(const struct snapshot_reader *r, const char *path)
{
	struct stat out, in;

	if (stat(path, &out) < 0)
		return false;
	for (unsigned i = 0; i < r->file_count; i++)
		if (!fstat(r->files[i]->fd, &in) && in.st_dev == out.st_dev &&
		    in.st_ino == out.st_ino)
			return true;
	return false;
}

static void show(void *arg, uint64_t done, uint64_t total)
{
	const struct tool_file *f = arg;

	tool_progress("flatten", f->path, done, total);
}

/** Write and install @out. Return: 0 or -errno with @err filled; no file is left behind. */
static int flatten(const struct tool_file *f, const char *out, struct snapshot_error *err)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_FD int fd = -1;
	struct tool_file shown = *f;
	int ret;

	if (asprintf(&tmp, "%s.tmp.%d", out, getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = snapshot_flatten(f->reader, fd, show, &shown, err);
	if (!ret)
		return snapshot_file_install(AT_FDCWD, fd, tmp, out);
	unlink(tmp);
	return ret;
}

int tool_flatten(const struct tool_file *f, const char *out, bool json)
{
	struct snapshot_error err = {""};
	struct stat st = {0};
	int ret;

	if (is_of_chain(f->reader, out)) {
		fprintf(stderr,
			"snapshot: %s is what %s is read from: give the new file another name\n",
			out, f->path);
		return TOOL_USAGE;
	}
	ret = flatten(f, out, &err);
	tool_progress_end();
	if (ret) {
		fprintf(stderr, "snapshot: %s: %s\n", out, err.text[0] ? err.text : strerror(-ret));
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
