/* SPDX-License-Identifier: Apache-2.0 */
/* control.c - the stream of messages to the vmm */
#include "guest/agent/control.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

enum {
	LOG_BYTES_MAX = 16 << 10,  /**< of one LOG */
	OTHER_BYTES_MAX = 4 << 10, /**< kept free for all that is not LOG */
	/** So that READY finds room before whatever is queued. */
	OUT_BYTES_MAX = sizeof(((struct control *)0)->out) - sizeof(struct agent_ready),
};

void control_init(struct control *c, int fd)
{
	c->fd = fd;
	c->in_bytes = 0;
	c->out_bytes = 0;
	c->sent_bytes = 0;
}

void control_close(struct control *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->in_bytes = 0;
	c->sent_bytes = 0;
}

static struct agent_header out_header(const struct control *c, size_t at)
{
	struct agent_header h;

	memcpy(&h, c->out + at, sizeof(h));
	return h;
}

/** Keep only LOGs and EXITEDs. Return: is there an EXITED? */
static bool drop_answers(struct control *c)
{
	bool exited = false;
	size_t kept = 0;

	for (size_t at = 0; at < c->out_bytes;) {
		struct agent_header h = out_header(c, at);

		if (h.type == AGENT_LOG || h.type == AGENT_EXITED) {
			memmove(c->out + kept, c->out + at, h.bytes);
			kept += h.bytes;
		}
		exited |= h.type == AGENT_EXITED;
		at += h.bytes;
	}
	c->out_bytes = kept;
	return exited;
}

void control_reopen(struct control *c, int fd, struct agent_ready *ready)
{
	c->fd = fd;
	if (drop_answers(c))
		ready->flags |= AGENT_READY_RUNNING;
	ready->h = (struct agent_header){AGENT_READY, sizeof(*ready)};
	memmove(c->out + sizeof(*ready), c->out, c->out_bytes);
	memcpy(c->out, ready, sizeof(*ready));
	c->out_bytes += sizeof(*ready);
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

	if (c->out_bytes + body_bytes + n > OUT_BYTES_MAX)
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
	size_t used = c->out_bytes + sizeof(struct agent_log) + OTHER_BYTES_MAX;

	if (c->fd < 0 || used >= OUT_BYTES_MAX)
		return 0;
	return MIN(OUT_BYTES_MAX - used, (size_t)LOG_BYTES_MAX);
}

/** A message is kept until all of it is written: another stream would have to begin it again. */
static void drop_sent(struct control *c)
{
	size_t whole = 0;

	while (whole < c->out_bytes) {
		size_t end = whole + out_header(c, whole).bytes;

		if (end > c->sent_bytes)
			break;
		whole = end;
	}
	if (!whole)
		return;
	c->out_bytes -= whole;
	c->sent_bytes -= whole;
	memmove(c->out, c->out + whole, c->out_bytes);
}

int control_flush(struct control *c)
{
	while (c->out_bytes) {
		ssize_t n = write(c->fd, c->out + c->sent_bytes, c->out_bytes - c->sent_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		c->sent_bytes += (size_t)n;
		drop_sent(c);
	}
	return 0;
}
