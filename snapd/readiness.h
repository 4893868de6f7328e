/* SPDX-License-Identifier: Apache-2.0 */
/* readiness.h - should a load balancer send work here? */
#ifndef QUICKTHAW_SNAPD_READINESS_H
#define QUICKTHAW_SNAPD_READINESS_H

#include <stddef.h>
#include <stdint.h>

#include "snapd/http_api.h"

/** Below this much room in the state directory, nothing can be published any more. */
#define READINESS_DISK_MIN_BYTES (64ull << 20)

/** readiness_init() - look at the disk that @state_dir is on. Blocks. Return: 0 or -errno. */
int readiness_init(const char *state_dir);

/** readiness_stop() - from now on no: snapd is stopping. */
void readiness_stop(void);

/**
 * readiness_reason() - why not, in @buf for people; NULL: it is ready.
 * What the disk has left is what it had when this was last asked for, or a moment later: looking
 * may block, so the worker does it for the next one who asks.
 */
const char *readiness_reason(char *buf, size_t size);

/** readiness_disk_free() - bytes that were left when it was last looked at. */
uint64_t readiness_disk_free(void);

/** api_healthz(), api_readyz() - GET /healthz: the loop turns. GET /readyz: 200, or 503 and why. */
void api_healthz(struct http_request *r);
void api_readyz(struct http_request *r);

#endif
