/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup.h - scope-bound release of descriptors, memory and streams */
#ifndef QUICKTHAW_COMMON_CLEANUP_H
#define QUICKTHAW_COMMON_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* A descriptor that is closed when its scope ends. Start it at -1. */
#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))
/* Heap memory that is freed when its scope ends. Start it at NULL. */
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
/* A stdio stream that is closed when its scope ends. Start it at NULL. */
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file)))

/** steal_fd() - move a descriptor out of a CLEANUP_FD variable. Return: the descriptor. */
static inline int steal_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

/** steal_ptr() - move a pointer out of a CLEANUP_FREE variable. */
#define steal_ptr(p)                                                                               \
	({                                                                                         \
		__typeof__(p) steal_ret = (p);                                                     \
		(p) = NULL;                                                                        \
		steal_ret;                                                                         \
	})

#endif
