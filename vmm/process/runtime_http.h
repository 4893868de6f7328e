/* SPDX-License-Identifier: Apache-2.0 */
/* runtime_http.h - HTTP connections of the Runtime API: bytes in, requests out */
#ifndef QUICKTHAW_PROCESS_RUNTIME_HTTP_H
#define QUICKTHAW_PROCESS_RUNTIME_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/state.h"

struct runtime_api;
struct runtime_conn;

/** struct runtime_request - one complete request; everything is valid during the call only. */
struct runtime_request {
	bool post;	  /**< POST; else GET */
	const char *path; /**< without query */
	const void *body;
	size_t body_bytes;
	bool too_large;		/**< the body was over the limit and is not here */
	const char *error_type; /**< trailers: the response failed on its way; NULL: it did not */
	const char *error_body;
};

/**
 * struct runtime_wire - the streams that connections come by. A stream is the wire's own struct.
 * @arg: first argument of the others
 * @send: queue bytes for the guest. Return: 0, or -errno: the connection is of no use any more
 * @close: end a stream; nothing is called for it afterwards
 * @set_priv, @priv: a pointer that a stream keeps for us, NULL at first
 * @id, @by_id: names of streams in a saved state; @by_id finds only those to the API, else NULL
 * @ended: does the guest send no more, though it may still receive?
 */
struct runtime_wire {
	void *arg;
	int (*send)(void *arg, void *stream, const void *data, size_t n);
	void (*close)(void *arg, void *stream);
	void (*set_priv)(void *stream, void *priv);
	void *(*priv)(const void *stream);
	uint32_t (*id)(const void *stream);
	void *(*by_id)(void *arg, uint32_t id);
	bool (*ended)(const void *stream);
};

/* What a wire calls. */

/** runtime_http_accept() - the guest connected. Return: 0, or -ECONNREFUSED. */
int runtime_http_accept(struct runtime_api *api, void *stream);
/** runtime_http_data() - bytes of the guest; all are taken. */
void runtime_http_data(struct runtime_api *api, void *stream, const void *data, size_t n);
/** runtime_http_ended() - the guest sends no more, but receives (wire->ended): what it has asked
 * for is answered, and then the stream is closed. */
void runtime_http_ended(struct runtime_api *api, void *stream);
/** runtime_http_closed() - the stream is over. */
void runtime_http_closed(struct runtime_api *api, void *stream);

/* What runtime_api.c calls. */

void runtime_http_free(struct runtime_api *api);
int runtime_http_save(struct runtime_api *api, struct state_writer *w);
int runtime_http_load(struct runtime_api *api, struct state_reader *r);

/**
 * runtime_conn_send() - queue bytes of an answer.
 * Answers to requests that came in one batch leave together, and while the connection is paused
 * they wait for the answer that it is paused for: a runtime which pipelines its response with the
 * next /next then needs a single read for both answers.
 */
void runtime_conn_send(struct runtime_api *api, struct runtime_conn *conn, const void *data,
		       size_t n);
/** runtime_conn_cork() / runtime_conn_uncork() - hold bytes back, and let them go. They nest. */
void runtime_conn_cork(struct runtime_conn *conn);
void runtime_conn_uncork(struct runtime_api *api, struct runtime_conn *conn);
/** runtime_conn_pause() - read no further request until runtime_conn_resume(). */
void runtime_conn_pause(struct runtime_conn *conn);
void runtime_conn_resume(struct runtime_api *api, struct runtime_conn *conn);

/** runtime_conn_ended() - has its guest sent all that it ever will? Whether anybody still reads
 * shows only when something is sent. */
bool runtime_conn_ended(const struct runtime_conn *conn);
/** runtime_conn_end() - close it without an answer. */
void runtime_conn_end(struct runtime_api *api, struct runtime_conn *conn);

/** runtime_conn_id() / runtime_conn_by_id() - names in a saved state; ids are never 0. */
uint32_t runtime_conn_id(const struct runtime_conn *conn);
struct runtime_conn *runtime_conn_by_id(struct runtime_api *api, uint32_t id);

/* Implemented by runtime_api.c. */

const struct runtime_wire *runtime_api_wire(const struct runtime_api *api);
void runtime_api_request(struct runtime_api *api, struct runtime_conn *conn,
			 const struct runtime_request *req);
void runtime_api_conn_closed(struct runtime_api *api, struct runtime_conn *conn);
/** runtime_api_stream_begin() - a POST whose body is to be streamed begins. Return: false when it
 * is to be collected like any other. */
bool runtime_api_stream_begin(struct runtime_api *api, struct runtime_conn *conn, const char *path);
/** runtime_api_stream() - a part of that body, which is not kept. Return: false when it is too
 * long.
 */
bool runtime_api_stream(struct runtime_api *api, struct runtime_conn *conn, const void *data,
			size_t n);

#endif
