/* SPDX-License-Identifier: Apache-2.0 */
/* readiness.c - should a load balancer send work here? */
#include "snapd/readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "common/util.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

static struct {
	int dir_fd;
	_Atomic uint64_t disk_free; /* the worker writes it */
	bool looking;
	bool stopping;
	struct work look;
} readiness = {.dir_fd = -1};

static int look_at_disk(void)
{
	struct statvfs fs;

	if (fstatvfs(readiness.dir_fd, &fs))
		return -errno;
	readiness.disk_free = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

static void look_run(struct work *work)
{
	(void)work;
	if (look_at_disk())
		readiness.disk_free = 0; /* a disk that cannot be asked cannot be written */
}

static void look_done(struct work *work)
{
	(void)work;
	readiness.looking = false;
}

int readiness_init(const char *state_dir)
{
	readiness.dir_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (readiness.dir_fd < 0)
		return -errno;
	readiness.look = (struct work){.run = look_run, .done = look_done};
	return look_at_disk();
}

void readiness_stop(void)
{
	readiness.stopping = true;
}

uint64_t readiness_disk_free(void)
{
	if (!readiness.looking) {
		readiness.looking = true;
		worker_queue(&readiness.look);
	}
	return readiness.disk_free;
}

const char *readiness_reason(char *buf, size_t size)
{
	uint64_t disk_free = readiness_disk_free();
	const char *shells = shell_pool_trouble();

	if (readiness.stopping)
		snprintf(buf, size, "stopping");
	else if (shells)
		snprintf(buf, size, "%s", shells);
	else if (disk_free < READINESS_DISK_MIN_BYTES)
		snprintf(buf, size,
			 "the disk of the state directory is full: %" PRIu64
			 " MiB are left and %llu are needed: make room, or publish less",
			 disk_free >> 20, READINESS_DISK_MIN_BYTES >> 20);
	else
		return NULL;
	return buf;
}

void api_healthz(struct http_request *r)
{
	http_reply(r, 200, "text/plain", "ok\n", 3);
}

void api_readyz(struct http_request *r)
{
	char reason[256], text[260];
	int n;

	if (!readiness_reason(reason, sizeof(reason))) {
		http_reply(r, 200, "text/plain", "ready\n", 6);
		return;
	}
	n = snprintf(text, sizeof(text), "%s\n", reason);
	http_reply(r, 503, "text/plain", text, (size_t)n);
}
