/* SPDX-License-Identifier: Apache-2.0 */
/* synth.h - the table of synthesised files and what writes their text */
#ifndef QUICKTHAW_PROCESS_SYNTH_H
#define QUICKTHAW_PROCESS_SYNTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc;

/** struct synth_text - text being written; cut silently at SYNTH_TEXT_MAX bytes. */
struct synth_text {
	char *data;
	size_t used;
	int err;
};
enum { SYNTH_TEXT_MAX = 1 << 20 };

enum synth_kind {
	SYNTH_DIR,
	SYNTH_FD_DIR,	 /* /proc/self/fd, fdinfo */
	SYNTH_TASK_DIR,	 /* /proc/self/task */
	SYNTH_LINK,	 /* fixed text */
	SYNTH_SELF_LINK, /* exe, cwd, root, thread-self */
	SYNTH_FD_LINK,	 /* /proc/self/fd/N */
	SYNTH_FILE,	 /* text written by a function */
	SYNTH_CONST,	 /* fixed text */
	SYNTH_DEVICE,	 /* character device */
};

/** struct synth_entry - one node; children are those whose path is one name longer. */
struct synth_entry {
	const char *path;
	enum synth_kind kind;
	mode_t mode; /**< permission bits */
	const char *text;
	void (*write)(struct proc *p, int num, struct synth_text *t);
	unsigned device; /**< minor of major 1, or 5 << 8 */
};

/** The entries end with one without a path. */
extern const struct synth_entry synth_entries[];
/** What /proc/self/fd/N, fdinfo/N and task/N are made of. */
extern const struct synth_entry synth_fd_link, synth_fdinfo, synth_task_dir;

void synth_print(struct synth_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void synth_append(struct synth_text *t, const void *data, size_t n);

#endif
