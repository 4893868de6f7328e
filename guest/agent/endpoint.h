/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.h - where a stream to the outside leads: a vsock port of the host, a device, a socket */
#ifndef QUICKTHAW_AGENT_ENDPOINT_H
#define QUICKTHAW_AGENT_ENDPOINT_H

#include <stdint.h>

enum endpoint_kind {
	ENDPOINT_VSOCK,
	ENDPOINT_DEVICE, /**< a port of virtio-serial or a tty: one stream at a time */
	ENDPOINT_UNIX,	 /**< for a service that is tried without a machine around it */
};

struct endpoint {
	enum endpoint_kind kind;
	uint32_t port;
	char path[64];
};

/** endpoint_parse() - vsock:PORT, unix:PATH or /dev/PATH. Return: 0 or -EINVAL. */
int endpoint_parse(struct endpoint *e, const char *text);

/**
 * endpoint_connect() - begin a stream; it need not be established at return (poll for POLLOUT, then
 * ask for SO_ERROR).
 * Return: a non-blocking descriptor; or -errno, -ENOTCONN for a device whose other end is closed.
 */
int endpoint_connect(const struct endpoint *e);

/**
 * endpoint_connect_wait() - try until a stream is established.
 * Return: a non-blocking descriptor, or the last try's -errno after @timeout_ms.
 */
int endpoint_connect_wait(const struct endpoint *e, unsigned timeout_ms);

#endif
