/* SPDX-License-Identifier: Apache-2.0 */
/* console.h - one guest from the command line, without snapd: run, capture, restore */
#ifndef QUICKTHAW_VMM_CONSOLE_H
#define QUICKTHAW_VMM_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/snapshot_file.h"

struct vm;

enum { CONSOLE_INVOKES_MAX = 64 };

/** struct console_options - what a guest on the command line is and does. */
struct console_options {
	const char *root;    /**< / of the guest */
	const char *task;    /**< /var/task, or NULL */
	const char *runtime; /**< /var/runtime, or NULL */
	const char *opt;     /**< /opt, or NULL */
	uint64_t memory_bytes;
	uint64_t tmp_bytes;
	char *const *argv; /**< program and arguments (run) */
	char *const *envp;
	const char *capture; /**< snapshot to write once the guest asks for work, or, after a
				  restore, when it has answered all payloads; or NULL */
	bool diff;	     /**< it is a diff on what was restored */
	bool pages;	     /**< after restore: print what is in each page, and end */
	const struct snapshot_file *restore;	  /**< to start from instead of argv, or NULL */
	const char *invokes[CONSOLE_INVOKES_MAX]; /**< payloads, one after the other */
	int invoke_count;
};

/**
 * console_run() - boot or restore the guest, feed it the payloads, write results to stdout.
 * Return: the exit status for the shell: the guest's own, 128 + signal, 0 once all payloads have
 * results or the capture is written, 1 when a function or the restore failed.
 */
int console_run(struct vm *vm, const struct console_options *options);

#endif
