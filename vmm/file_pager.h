/* SPDX-License-Identifier: Apache-2.0 */
/* file_pager.h - serve a restored guest's page faults from its snapshot file, without snapd */
#ifndef QUICKTHAW_VMM_FILE_PAGER_H
#define QUICKTHAW_VMM_FILE_PAGER_H

#include <pthread.h>
#include <stdint.h>

#include "snapshot-format/snapshot.h"

/** struct file_pager - fields are this module's; zero it. @uffd: for guest_mem_map_template() */
struct file_pager {
	const struct snapshot_reader *reader;
	int memfd, uffd, stop_fd;
	const uint8_t *ram;
	uint8_t *filled; /**< a bit for each page of the template */
	uint8_t *pages;	 /**< of the chunk at hand */
	pthread_t thread;
	bool started;
};

/**
 * file_pager_start() - a thread that fills the holes of @memfd as the guest touches them. Before
 * the template is mapped.
 * @r: nobody else uses it until file_pager_stop()
 * @memfd: of the snapshot's template_pages, empty; stays the caller's, who may close it
 * @ram: where page 0 will be mapped
 * A chunk that cannot be read or verified ends the process, with exit status 1 and a log line: the
 * vCPU that waits for it cannot be given anything else.
 * Return: 0, or -errno: -EPERM or -ENOSYS where userfaultfd is not to be had: fill it beforehand.
 */
int file_pager_start(struct file_pager *p, const struct snapshot_reader *r, int memfd,
		     const void *ram);
/** file_pager_stop() - once nobody touches the guest's memory any more. */
void file_pager_stop(struct file_pager *p);

#endif
