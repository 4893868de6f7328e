/* SPDX-License-Identifier: Apache-2.0 */
/*
 * url_event.h - an HTTP request as an event of payload format 2.0, and a function's result as a
 * reply
 *
 * Pure: no sockets and no functions. Requests are hostile, and so are results.
 *
 * Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
 */
#ifndef QUICKTHAW_SNAPD_URL_EVENT_H
#define QUICKTHAW_SNAPD_URL_EVENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { URL_HEADERS_MAX = 100 };

/** struct url_request - what was sent. Nothing is copied. */
struct url_request {
	const char *method;
	const char *uri; /**< path and query as they were on the wire, without the id */
	const char *protocol;
	const char *domain; /**< of the Host header, without a port */
	const char *id;	    /**< of the URL */
	const char *source_ip;
	const char *request_id;
	const char *access_key; /**< who has signed it; NULL: nobody */
	uint64_t time_ns;	/**< of day */
	const char *body;
	size_t body_bytes;
	struct {
		const char *name, *value;
	} headers[URL_HEADERS_MAX];
	size_t header_count;
};

/** url_event_make() - the event as JSON text, malloc'ed; NULL without memory, or when the path is
 * not UTF-8. */
char *url_event_make(const struct url_request *r);

/**
 * struct url_reply - what a result says about the reply.
 * @headers: object of strings, or NULL; @cookies: array of strings, or NULL; both borrowed from
 * @root
 * @body: borrowed too, or from @decoded
 */
struct url_reply {
	json_t *root;
	unsigned status;
	const json_t *headers, *cookies;
	const char *body;
	size_t body_bytes;
	char *decoded;
};

/**
 * url_reply_parse() - a result is {"statusCode": ...} with what belongs to it, or anything else,
 * which is the body then.
 * Return: 0, -EBADMSG for a result that cannot be sent, -ENOMEM. url_reply_free() in any case.
 */
int url_reply_parse(const char *payload, size_t n, struct url_reply *ret);
void url_reply_free(struct url_reply *reply);

/** struct url_cors - what is to be said to a page of another origin; strings are NULL or malloc'ed.
 */
struct url_cors {
	char *allow_origin, *allow_methods, *allow_headers, *expose_headers, *max_age;
	bool allow_credentials;
};

/** url_cors_make() - @config: the API's Cors object; @origin: of the request. Return: may it? */
bool url_cors_make(const json_t *config, const char *origin, struct url_cors *ret);
void url_cors_free(struct url_cors *cors);

#endif
