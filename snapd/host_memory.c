/* SPDX-License-Identifier: Apache-2.0 */
/* host_memory.c - how much memory this host, or the cgroup that we are in, has and has left */
#include "snapd/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/util.h"

enum { FILE_BYTES_MAX = 16384 };

static int read_text(const char *root, const char *path, char **ret)
{
	char full[512];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	return read_file(AT_FDCWD, full, FILE_BYTES_MAX, ret, NULL);
}

/** The number behind @key, or @none. */
static uint64_t number_after(const char *text, const char *key, uint64_t none)
{
	const char *at = strstr(text, key);
	char *end;
	uint64_t v;

	if (!at)
		return none;
	at += strlen(key);
	v = strtoull(at, &end, 10);
	return end == at ? none : v;
}

/** One file of a cgroup; "max" and what cannot be read are @none. */
static uint64_t cgroup_number(const char *root, const char *group, const char *file, uint64_t none)
{
	CLEANUP_FREE char *text = NULL;
	char path[400];

	snprintf(path, sizeof(path), "sys/fs/cgroup%s/%s", group, file);
	return read_text(root, path, &text) ? none : number_after(text, "", none);
}

/** Limits of @group and of all above it, for each binds. */
static void apply_cgroups(const char *root, char *group, struct host_memory *m)
{
	for (;;) {
		uint64_t max = cgroup_number(root, group, "memory.max", UINT64_MAX);
		uint64_t used = cgroup_number(root, group, "memory.current", 0);
		char *slash = strrchr(group, '/');

		if (max != UINT64_MAX) {
			m->total_bytes = MIN(m->total_bytes, max);
			m->available_bytes = MIN(m->available_bytes, max > used ? max - used : 0);
		}
		if (!slash)
			return;
		*slash = '\0';
	}
}

int host_memory_read(const char *root, struct host_memory *ret)
{
	CLEANUP_FREE char *meminfo = NULL, *groups = NULL, *pressure = NULL;
	int err = read_text(root, "proc/meminfo", &meminfo);
	char *group = NULL;

	*ret = (struct host_memory){0};
	if (err)
		return err;
	ret->total_bytes = KIB(number_after(meminfo, "MemTotal:", 0));
	ret->available_bytes = KIB(number_after(meminfo, "MemAvailable:", 0));
	if (!read_text(root, "proc/self/cgroup", &groups))
		group = strstr(groups, "0::/");
	if (group) {
		group += strlen("0::");
		group[strcspn(group, "\n")] = '\0';
		if (!strcmp(group, "/"))
			*group = '\0';
		apply_cgroups(root, group, ret);
	}
	if (!read_text(root, "proc/pressure/memory", &pressure))
		ret->stall_us = number_after(pressure, "total=", 0);
	return 0;
}

int host_memory_of_process(int pid, uint64_t *ret_pages, uint64_t *ret_own_pages)
{
	CLEANUP_FREE char *text = NULL;
	uint64_t pages, file_pages; /* of files and of memfds */
	char path[32], *at;
	int ret;

	snprintf(path, sizeof(path), "proc/%d/statm", pid);
	ret = read_text("", path, &text);
	if (ret)
		return ret;
	strtoull(text, &at, 10); /* what it has mapped */
	pages = strtoull(at, &at, 10);
	file_pages = strtoull(at, &at, 10);
	if (*at != ' ' || file_pages > pages)
		return -EBADMSG;
	*ret_pages = pages;
	*ret_own_pages = pages - file_pages;
	return 0;
}
