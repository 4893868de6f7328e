/* SPDX-License-Identifier: Apache-2.0 */
/* host_memory.h - how much memory this host, or the cgroup that we are in, has and has left */
#ifndef QUICKTHAW_SNAPD_HOST_MEMORY_H
#define QUICKTHAW_SNAPD_HOST_MEMORY_H

#include <stdint.h>

/**
 * struct host_memory - @stall_us: time for which somebody waited for memory, since the boot (PSI
 * "some"); 0 where the kernel does not say
 */
struct host_memory {
	uint64_t total_bytes, available_bytes;
	uint64_t stall_us;
};

/** host_memory_read() - the tighter of host and cgroup. @root: "" but for tests, a directory in
 * which proc/ and sys/ are. Return: 0 or -errno of /proc/meminfo. */
int host_memory_read(const char *root, struct host_memory *ret);

/**
 * host_memory_of_process() - what a process has in memory.
 * @ret_own_pages: of those, what it shares with nobody: of a private mapping of a template only the
 * pages that it has written
 * Return: 0 or -errno.
 */
int host_memory_of_process(int pid, uint64_t *ret_pages, uint64_t *ret_own_pages);

#endif
