/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_http.c - HTTP connections of the Runtime API: bytes in, requests out
 *
 * Theory of operation
 *
 * Bytes of the guest are collected in conn->in. As long as the connection is not paused they are
 * fed to the parser, which stops itself at the end of each message; the request is then complete in
 * conn->url and conn->body and is handed to runtime_api.c.
 *
 * The parser's own state is never saved. conn->in keeps the bytes of the message under way from its
 * start, so that a loaded connection parses them again.
 *
 * A response that the runtime streams (Lambda-Runtime-Function-Response-Mode) is handed on part by
 * part, where somebody wants it so, and its bytes are not kept: nothing is captured while an
 * invocation is under way. Whether it failed on its way is in its trailers.
 *
 * Invariants
 *  1. conn->in[0] is the first byte of a message, unless its body is streamed or too large;
 *     conn->parsed bytes of it went through the parser.
 *  2. Paused connections collect bytes and parse nothing.
 *  3. A body never takes more than PROTO_PAYLOAD_MAX bytes: the rest is counted, not kept.
 *  4. Answers that nobody reads end the connection: neither conn->out nor the socket grows without
 *     end.
 */
#include "vmm/process/runtime_http.h"

#include <errno.h>
#include <http_parser.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/runtime_api.h"

enum { CONNS_MAX = 16, URL_MAX = 511, IN_MAX = PROTO_PAYLOAD_MAX + 65536 };
enum { OUT_MAX = 8 << 20, BAD_REQUESTS_LOGGED = 8 };
enum { HEADER_NAME_MAX = 48, MODE_MAX = 16, ERROR_TYPE_MAX = 128, ERROR_BODY_MAX = 32 << 10 };

/** Headers that mean something to us: the rest is skipped. */
enum header { HEADER_OTHER, HEADER_MODE, HEADER_ERROR_TYPE, HEADER_ERROR_BODY };

static const char *const header_names[] = {
	[HEADER_OTHER] = "",
	[HEADER_MODE] = "lambda-runtime-function-response-mode",
	[HEADER_ERROR_TYPE] = "lambda-runtime-function-error-type",
	[HEADER_ERROR_BODY] = "lambda-runtime-function-error-body",
};

/** struct bytes - a growing buffer. */
struct bytes {
	char *data;
	size_t used, size;
};

struct runtime_conn {
	void *stream; /**< of the wire; NULL: the slot is free */
	struct runtime_api *api;
	http_parser parser;
	struct bytes in, body, out;
	size_t parsed;
	size_t dispatched; /**< whole messages at the front of in, while more of them are parsed */
	char url[URL_MAX + 1];
	size_t url_bytes;
	char name[HEADER_NAME_MAX + 1]; /**< of the header whose value comes next */
	size_t name_bytes;
	enum header header;
	bool in_value;
	char mode[MODE_MAX + 1];
	char error_type[ERROR_TYPE_MAX + 1];
	size_t mode_bytes, error_type_bytes;
	struct bytes error_body;
	bool streaming;
	unsigned corked;
	bool paused;
	bool complete;
	bool too_large;
	bool broken;
};

/* One guest per process: its connections are a fixed table. */
static struct runtime_conn conns[CONNS_MAX];

static int bytes_put(struct bytes *b, const void *data, size_t n)
{
	if (b->size - b->used < n) {
		size_t size = b->size ? b->size : 1024;
		char *grown;

		while (size - b->used < n)
			size *= 2;
		grown = realloc(b->data, size);
		if (!grown)
			return -ENOMEM;
		b->data = grown;
		b->size = size;
	}
	if (n)
		memcpy(b->data + b->used, data, n);
	b->used += n;
	return 0;
}

static void bytes_free(struct bytes *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

/* ---- parser callbacks ---- */

static int on_url(http_parser *parser, const char *at, size_t n)
{
	struct runtime_conn *conn = parser->data;

	if (n > URL_MAX - conn->url_bytes)
		return -1;
	memcpy(conn->url + conn->url_bytes, at, n);
	conn->url_bytes += n;
	conn->url[conn->url_bytes] = '\0';
	return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t n)
{
	struct runtime_conn *conn = parser->data;

	if (conn->in_value)
		conn->name_bytes = 0;
	conn->in_value = false;
	/* A longer name is none of ours, and stays so. */
	n = MIN(n, HEADER_NAME_MAX - conn->name_bytes);
	memcpy(conn->name + conn->name_bytes, at, n);
	conn->name_bytes += n;
	return 0;
}

static enum header find_header(const struct runtime_conn *conn)
{
	for (size_t i = 1; i < ARRAY_SIZE(header_names); i++)
		if (strlen(header_names[i]) == conn->name_bytes &&
		    !strncasecmp(header_names[i], conn->name, conn->name_bytes))
			return (enum header)i;
	return HEADER_OTHER;
}

/** Append to a value; what has no room is cut off. */
static void append(char *to, size_t *used, size_t max, const char *at, size_t n)
{
	n = MIN(n, max - *used);
	memcpy(to + *used, at, n);
	*used += n;
	to[*used] = '\0';
}

static int on_header_value(http_parser *parser, const char *at, size_t n)
{
	struct runtime_conn *conn = parser->data;

	if (!conn->in_value)
		conn->header = find_header(conn);
	conn->in_value = true;
	if (conn->header == HEADER_MODE)
		append(conn->mode, &conn->mode_bytes, MODE_MAX, at, n);
	else if (conn->header == HEADER_ERROR_TYPE)
		append(conn->error_type, &conn->error_type_bytes, ERROR_TYPE_MAX, at, n);
	else if (conn->header == HEADER_ERROR_BODY && conn->error_body.used + n < ERROR_BODY_MAX)
		return bytes_put(&conn->error_body, at, n);
	return 0;
}

static int on_headers_complete(http_parser *parser)
{
	struct runtime_conn *conn = parser->data;

	/* What comes after the body is trailers, under the same names: those of before do not
	 * count. */
	conn->error_type_bytes = conn->error_body.used = 0;
	conn->error_type[0] = '\0';
	conn->streaming = parser->method == HTTP_POST && !strcasecmp(conn->mode, "streaming") &&
			  runtime_api_stream_begin(conn->api, conn, conn->url);
	return 0;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
	struct runtime_conn *conn = parser->data;

	if (conn->streaming) {
		conn->too_large |= !runtime_api_stream(conn->api, conn, at, n);
		return 0;
	}
	if (conn->too_large || conn->body.used + n > PROTO_PAYLOAD_MAX) {
		conn->too_large = true;
		return 0;
	}
	return bytes_put(&conn->body, at, n);
}

static int on_complete(http_parser *parser)
{
	struct runtime_conn *conn = parser->data;

	conn->complete = true;
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

static void start_message(struct runtime_conn *conn)
{
	http_parser_init(&conn->parser, HTTP_REQUEST);
	conn->parser.data = conn;
	conn->body.used = 0;
	conn->url_bytes = 0;
	conn->url[0] = '\0';
	conn->complete = false;
	conn->too_large = false;
	conn->streaming = false;
	conn->in_value = false;
	conn->name_bytes = conn->mode_bytes = conn->error_type_bytes = conn->error_body.used = 0;
	conn->mode[0] = conn->error_type[0] = '\0';
}

/* ---- answers ---- */

static void flush(struct runtime_api *api, struct runtime_conn *conn)
{
	const struct runtime_wire *wire = runtime_api_wire(api);

	if (conn->corked || !conn->out.used || !conn->stream)
		return;
	if (wire->send(wire->arg, conn->stream, conn->out.data, conn->out.used))
		conn->broken = true;
	conn->out.used = 0;
}

void runtime_conn_send(struct runtime_api *api, struct runtime_conn *conn, const void *data,
		       size_t n)
{
	if (conn->out.used + n > OUT_MAX || bytes_put(&conn->out, data, n))
		conn->broken = true;
	flush(api, conn);
}

void runtime_conn_cork(struct runtime_conn *conn)
{
	conn->corked++;
}

void runtime_conn_uncork(struct runtime_api *api, struct runtime_conn *conn)
{
	conn->corked--;
	flush(api, conn);
}

/* ---- requests ---- */

static void drop(struct runtime_api *api, struct runtime_conn *conn)
{
	runtime_api_conn_closed(api, conn);
	bytes_free(&conn->in);
	bytes_free(&conn->body);
	bytes_free(&conn->out);
	bytes_free(&conn->error_body);
	memset(conn, 0, sizeof(*conn));
}

bool runtime_conn_ended(const struct runtime_conn *conn)
{
	const struct runtime_wire *wire = runtime_api_wire(conn->api);

	return wire->ended(conn->stream);
}

void runtime_conn_end(struct runtime_api *api, struct runtime_conn *conn)
{
	const struct runtime_wire *wire = runtime_api_wire(api);
	void *stream = conn->stream;

	drop(api, conn);
	wire->close(wire->arg, stream);
}

/** Nothing more is asked on a connection that has ended: it is over with its last answer. */
static void end_if_answered(struct runtime_api *api, struct runtime_conn *conn)
{
	if (conn->stream && !conn->paused && runtime_conn_ended(conn))
		runtime_conn_end(api, conn);
}

static void bad_request(struct runtime_api *api, struct runtime_conn *conn, const char *why)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
				   "Content-Length: 0\r\n\r\n";
	const struct runtime_wire *wire = runtime_api_wire(api);
	static unsigned told;

	if (told++ < BAD_REQUESTS_LOGGED)
		log_warn("runtime api: bad request from the guest: %s", why);
	wire->send(wire->arg, conn->stream, text, sizeof(text) - 1);
	runtime_conn_end(api, conn);
}

static void dispatch(struct runtime_api *api, struct runtime_conn *conn)
{
	struct runtime_request req = {
		.post = conn->parser.method == HTTP_POST,
		.path = conn->url,
		.body = conn->body.data ? conn->body.data : "",
		.body_bytes = conn->body.used,
		.too_large = conn->too_large,
		.error_type = conn->error_type_bytes ? conn->error_type : NULL,
		.error_body = "",
	};
	char *query = strchr(conn->url, '?');

	if (query)
		*query = '\0';
	if (conn->error_body.used && !bytes_put(&conn->error_body, "", 1))
		req.error_body = conn->error_body.data;
	conn->dispatched = conn->parsed;
	runtime_api_request(api, conn, &req);
	start_message(conn);
}

/** Once for all messages of a batch: one after the other would cost the square of their number. */
static void forget_dispatched(struct runtime_conn *conn)
{
	conn->in.used -= conn->dispatched;
	conn->parsed -= conn->dispatched;
	memmove(conn->in.data, conn->in.data + conn->dispatched, conn->in.used);
	conn->dispatched = 0;
	/* Nobody will parse these again: a message that is streamed is never saved. */
	if (conn->streaming && conn->parsed == conn->in.used)
		conn->in.used = conn->parsed = 0;
}

/** Feed what is there, message by message, until the connection pauses or the bytes are used up. */
static void parse(struct runtime_api *api, struct runtime_conn *conn)
{
	runtime_conn_cork(conn);
	while (!conn->paused && !conn->broken && conn->parsed < conn->in.used) {
		size_t left = conn->in.used - conn->parsed;

		conn->parsed += http_parser_execute(&conn->parser, &settings,
						    conn->in.data + conn->parsed, left);
		if (conn->complete) {
			dispatch(api, conn);
		} else if (HTTP_PARSER_ERRNO(&conn->parser) != HPE_OK) {
			conn->corked = 0;
			flush(api, conn);
			bad_request(api, conn,
				    http_errno_description(HTTP_PARSER_ERRNO(&conn->parser)));
			return;
		}
	}
	forget_dispatched(conn);
	/* Paused: what is corked leaves together with the answer that is waited for. */
	if (conn->paused)
		conn->corked--;
	else if (!conn->broken)
		runtime_conn_uncork(api, conn);
	if (conn->broken)
		bad_request(api, conn, "it does not read its answers");
}

void runtime_conn_pause(struct runtime_conn *conn)
{
	conn->paused = true;
}

void runtime_conn_resume(struct runtime_api *api, struct runtime_conn *conn)
{
	if (!conn->paused)
		return;
	conn->paused = false;
	if (conn->in.used)
		parse(api, conn);
	end_if_answered(api, conn);
}

/* ---- connections ---- */

int runtime_http_accept(struct runtime_api *api, void *stream)
{
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (conns[i].stream)
			continue;
		conns[i].stream = stream;
		conns[i].api = api;
		start_message(&conns[i]);
		runtime_api_wire(api)->set_priv(stream, &conns[i]);
		return 0;
	}
	return -ECONNREFUSED;
}

void runtime_http_data(struct runtime_api *api, void *stream, const void *data, size_t n)
{
	struct runtime_conn *conn = runtime_api_wire(api)->priv(stream);
	const char *next = data;

	/* In parts: a write may be larger than what is kept. A bad request frees conn. */
	while (conn && conn->stream && n) {
		size_t part = MIN(n, (size_t)IN_MAX - conn->in.used);

		/* A message's bytes are kept for a capture, but not those of an oversized body. */
		if (!part && conn->too_large) {
			conn->in.used = conn->parsed = 0;
			continue;
		}
		if (!part || bytes_put(&conn->in, next, part)) {
			bad_request(api, conn,
				    part ? "out of memory"
					 : "too many bytes without a complete request");
			return;
		}
		next += part;
		n -= part;
		if (!conn->paused)
			parse(api, conn);
	}
}

void runtime_http_ended(struct runtime_api *api, void *stream)
{
	struct runtime_conn *conn = runtime_api_wire(api)->priv(stream);

	if (conn)
		end_if_answered(api, conn);
}

void runtime_http_closed(struct runtime_api *api, void *stream)
{
	struct runtime_conn *conn = runtime_api_wire(api)->priv(stream);

	runtime_api_wire(api)->set_priv(stream, NULL);
	if (conn)
		drop(api, conn);
}

void runtime_http_free(struct runtime_api *api)
{
	for (size_t i = 0; i < CONNS_MAX; i++)
		if (conns[i].stream)
			drop(api, &conns[i]);
}

uint32_t runtime_conn_id(const struct runtime_conn *conn)
{
	return runtime_api_wire(conn->api)->id(conn->stream);
}

struct runtime_conn *runtime_conn_by_id(struct runtime_api *api, uint32_t id)
{
	const struct runtime_wire *wire = runtime_api_wire(api);
	const void *stream = wire->by_id(wire->arg, id);

	for (size_t i = 0; stream && i < CONNS_MAX; i++)
		if (conns[i].stream == stream)
			return &conns[i];
	return NULL;
}

int runtime_http_save(struct runtime_api *api, struct state_writer *w)
{
	uint32_t count = 0;

	(void)api;
	for (size_t i = 0; i < CONNS_MAX; i++)
		count += conns[i].stream != NULL;
	state_put_u32(w, count);
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (!conns[i].stream)
			continue;
		state_put_u32(w, runtime_conn_id(&conns[i]));
		state_put_bytes(w, conns[i].in.data, conns[i].in.used);
		state_put_bytes(w, conns[i].out.data, conns[i].out.used);
	}
	return w->err;
}

static int load_conn(struct runtime_api *api, struct state_reader *r)
{
	const struct runtime_wire *wire = runtime_api_wire(api);
	void *stream = wire->by_id(wire->arg, state_get_u32(r));
	const void *in, *out;
	size_t in_bytes, out_bytes;
	struct runtime_conn *conn;

	in = state_get_bytes(r, IN_MAX, &in_bytes);
	out = state_get_bytes(r, IN_MAX, &out_bytes);
	if (r->err)
		return r->err;
	/* Only the vmm's own ends, and each once: others go away without a word to us. */
	if (!stream || wire->priv(stream) || runtime_http_accept(api, stream))
		return -EBADMSG;
	conn = wire->priv(stream);
	if (bytes_put(&conn->in, in, in_bytes) || bytes_put(&conn->out, out, out_bytes))
		return -ENOMEM;
	return 0;
}

int runtime_http_load(struct runtime_api *api, struct state_reader *r)
{
	uint32_t count = state_get_count(r, 12);

	for (uint32_t i = 0; i < count; i++) {
		int ret = load_conn(api, r);

		if (ret)
			return ret;
	}
	return r->err;
}
