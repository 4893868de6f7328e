/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - the stream of messages to the vmm */
#include "guest/agent/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	LOG_BYTES_MAX = 16 << 10,  /**< of one LOG */
	OTHER_BYTES_MAX = 4 << 10, /**< kept free for all that is not LOG */
};

void control_init(struct control *c, int fd)
{
	c->fd = fd;
	c->in_bytes = 0;
	c->out_bytes = 0;
}

void control_close(struct control *c)
{
	if (c->fd >= 0)
		close(c->fd);
	control_init(c, -1);
}

int control_receive(struct control *c)
{
	ssize_t n;

	if (c->in_bytes == sizeof(c->in))
		return 0;
	n = read(c->fd, c->in + c->in_bytes, sizeof(c->in) - c->in_bytes);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	c->in_bytes += (size_t)n;
	return n ? 0 : -EPIPE;
}

int control_next(struct control *c, const struct agent_header **ret)
{
	const struct agent_header *h = (const struct agent_header *)c->in;

	if (c->in_bytes < sizeof(*h))
		return 0;
	if (!agent_message_ok(h))
		return -EBADMSG;
	*ret = h;
	return c->in_bytes >= h->bytes;
}

void control_consume(struct control *c)
{
	size_t bytes = ((const struct agent_header *)c->in)->bytes;

	c->in_bytes -= bytes;
	memmove(c->in, c->in + bytes, c->in_bytes);
}

int control_send(struct control *c, enum agent_type type, void *body, size_t body_bytes,
		 const void *tail, size_t n)
{
	struct agent_header *h = body;

	if (body_bytes + n > sizeof(c->out) - c->out_bytes)
		return -ENOBUFS;
	h->type = type;
	h->bytes = (uint32_t)(body_bytes + n);
	memcpy(c->out + c->out_bytes, body, body_bytes);
	c->out_bytes += body_bytes;
	if (n)
		memcpy(c->out + c->out_bytes, tail, n);
	c->out_bytes += n;
	return 0;
}

size_t control_log_room(const struct control *c)
{
	size_t left = sizeof(c->out) - c->out_bytes;
	size_t used = sizeof(struct agent_log) + OTHER_BYTES_MAX;

	if (c->fd < 0 || left <= used)
		return 0;
	return left - used < LOG_BYTES_MAX ? left - used : LOG_BYTES_MAX;
}

int control_flush(struct control *c)
{
	while (c->out_bytes) {
		ssize_t n = write(c->fd, c->out, c->out_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		c->out_bytes -= (size_t)n;
		memmove(c->out, c->out + n, c->out_bytes);
	}
	return 0;
}
