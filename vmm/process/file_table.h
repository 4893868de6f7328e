/* SPDX-License-Identifier: Apache-2.0 */
/* file_table.h - the descriptor table itself, for the types of files that look into it */
#ifndef QUICKTHAW_PROCESS_FILE_TABLE_H
#define QUICKTHAW_PROCESS_FILE_TABLE_H

#include <stdint.h>

#include "vmm/process/file.h"

/**
 * struct file_table - descriptors and the list of all descriptions.
 * @open, @cloexec: one bit a descriptor
 * @by_id: what files_load() made, until each is released
 * @next_serial: inode numbers of pipes and the like
 * @pipe_bytes: room of all pipes
 * @save_pass: counts files_save() calls, so that what several descriptions share is written once
 */
struct file_table {
	struct file *fds[FILES_MAX];
	uint64_t open[FILES_MAX / 64];
	uint64_t cloexec[FILES_MAX / 64];
	struct file *head, *tail;
	struct file **by_id;
	uint32_t by_id_count;
	uint64_t next_serial;
	size_t pipe_bytes;
	uint64_t save_pass;
};

/** fd_install_at() - @fd must be in range and closed; takes the reference. */
void fd_install_at(struct proc *p, struct file *f, int fd, bool cloexec);
/** file_serial() - a number that no other object of this guest had. */
uint64_t file_serial(struct proc *p);

#endif
