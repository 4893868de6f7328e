/* SPDX-License-Identifier: Apache-2.0 */
/* tool.h - what the subcommands of the snapshot tool share */
#ifndef QUICKTHAW_SNAPSHOT_TOOL_H
#define QUICKTHAW_SNAPSHOT_TOOL_H

#include <jansson.h>

#include "snapshot-format/internal.h"

/** Exit codes: 0 fine, 1 the file is bad (or, for diff, differs), 2 usage or the file cannot be
 * read. */
enum { TOOL_OK, TOOL_BAD, TOOL_USAGE };

/** struct tool_file - an open snapshot, with what it is based on. */
struct tool_file {
	const char *path;
	struct snapshot_reader *reader;
};

/** tool_open() - open and check a file; says on stderr what is wrong. Return: an exit code. */
int tool_open(struct tool_file *f, const char *path, bool json);
/** tool_close() - legal on a file that did not open. */
void tool_close(struct tool_file *f);
/** tool_print_json() - print and release @json. Return: an exit code. */
int tool_print_json(json_t *json);
/** struct tool_pages - where the pages of a template are: in the file, in its bases, nowhere. */
struct tool_pages {
	uint64_t own, base, zero;
};
struct tool_pages tool_count_pages(const struct snapshot_reader *r);
/** tool_progress() - on a terminal, once the whole takes over a second: how far it is. */
void tool_progress(const char *what, const char *path, uint64_t done, uint64_t total);
/** tool_progress_end() - wipe it, before anything else is printed. */
void tool_progress_end(void);

int tool_info(const struct tool_file *f, bool json);
int tool_verify(const struct tool_file *f, bool json);
int tool_pages(const struct tool_file *f, bool json);
int tool_diff(const struct tool_file *a, const struct tool_file *b, bool json);
int tool_flatten(const struct tool_file *f, const char *out, bool json);

#endif
