/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_stream.c - replies that are sent while they are being made
 *
 * What is written waits in a buffer until libmicrohttpd asks for it; when there is nothing, the
 * connection is suspended, so that it is not asked in vain. Who writes is told when the client has
 * read, and stops before that: the buffer is as long as it lets it become, and never longer than
 * HTTP_STREAM_MAX.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "snapd/http_internal.h"

enum { BLOCK_BYTES = 16 << 10 };

/**
 * struct http_stream - @waits: the connection is suspended for want of something to send
 * @ended: nothing will be written any more
 * @failed: something is missing in it: the client is not to think that it was all
 */
struct http_stream {
	const struct http_stream_events *events;
	void *arg;
	char *data;
	size_t start, used, size; /* of data: bytes that are not sent yet */
	bool waits, ended, failed;
};

static ssize_t on_read(void *cls, uint64_t position, char *to, size_t max)
{
	struct http_request *r = cls;
	struct http_stream *s = r->stream;
	size_t n = MIN(max, s->used);

	(void)position;
	if (s->failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (!n && s->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (!n) {
		s->waits = true;
		r->door->suspended++;
		http_connection_enter(r->client, HTTP_ANSWERING, 0);
		MHD_suspend_connection(r->connection);
		return 0;
	}
	memcpy(to, s->data + s->start, n);
	s->used -= n;
	s->start = s->used ? s->start + n : 0;
	r->client->bytes += n;
	s->events->read(s->arg, s->used);
	return (ssize_t)n;
}

/** There is something to send, or to end. */
static void wake(struct http_request *r)
{
	if (!r->stream->waits)
		return;
	r->stream->waits = false;
	r->door->suspended--;
	r->door->due = r->door->answers = true;
	http_connection_enter(r->client, HTTP_STREAM, 0);
	MHD_resume_connection(r->connection);
}

int http_stream_begin(struct http_request *r, const char *type,
		      const struct http_stream_events *events, void *arg)
{
	struct http_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	r->response =
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, r, NULL);
	if (!r->response) {
		free(s);
		return -ENOMEM;
	}
	s->events = events;
	s->arg = arg;
	r->stream = s;
	http_reply_header(r, "Content-Type", type);
	return 0;
}

/** Room for @n bytes behind what is there. */
static int make_room(struct http_stream *s, size_t n)
{
	size_t size = s->size ? s->size : BLOCK_BYTES;
	char *data;

	if (n > HTTP_STREAM_MAX - s->used)
		return -ENOBUFS;
	if (s->start + s->used + n <= s->size)
		return 0;
	if (s->start)
		memmove(s->data, s->data + s->start, s->used);
	s->start = 0;
	while (size < s->used + n)
		size *= 2;
	if (size == s->size)
		return 0;
	data = realloc(s->data, size);
	if (!data)
		return -ENOMEM;
	s->data = data;
	s->size = size;
	return 0;
}

int http_stream_write(struct http_request *r, const void *data, size_t n)
{
	struct http_stream *s = r->stream;
	int ret = make_room(s, n);

	if (n && !ret)
		memcpy(s->data + s->start + s->used, data, n);
	s->used += ret ? 0 : n;
	s->failed |= ret != 0;
	wake(r);
	return ret;
}

size_t http_stream_unread(const struct http_request *r)
{
	return r->stream->used;
}

void http_stream_end(struct http_request *r)
{
	r->stream->ended = true;
	wake(r);
}

void http_stream_break(struct http_request *r)
{
	r->stream->failed = true;
	wake(r);
}

void http_stream_free(struct http_request *r)
{
	if (!r->stream)
		return;
	r->stream->events->closed(r->stream->arg);
	free(r->stream->data);
	free(r->stream);
	r->stream = NULL;
}
