/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.c - requests to snapd over its unix socket (libcurl) */
#include "common/http_client.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct http_client {
	CURL *curl;
	char error[CURL_ERROR_SIZE];
	void (*on_wait)(void *arg);
	void *on_wait_arg;
};

void http_reply_free(struct http_reply *r)
{
	free(r->body);
	memset(r, 0, sizeof(*r));
}

const char *http_reply_header(const struct http_reply *r, const char *name)
{
	for (int i = 0; i < r->header_count; i++)
		if (!strcmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct http_reply *r = arg;

	n *= size;
	if (r->body_size - r->body_bytes < n + 1) {
		size_t grown = (r->body_bytes + n + 1) * 2;
		char *body = realloc(r->body, grown);

		if (!body)
			return 0;
		r->body = body;
		r->body_size = grown;
	}
	memcpy(r->body + r->body_bytes, data, n);
	r->body_bytes += n;
	r->body[r->body_bytes] = '\0';
	return n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	struct http_reply *r = arg;
	struct http_header *h = &r->headers[r->header_count];
	const char *colon = memchr(data, ':', n * size);
	size_t name_bytes = colon ? (size_t)(colon - data) : 0, at = name_bytes + 1;
	size_t end = n * size;

	if (!colon || r->header_count == HTTP_HEADERS_MAX || name_bytes >= sizeof(h->name))
		return end;
	for (size_t i = 0; i < name_bytes; i++)
		h->name[i] = (char)tolower((unsigned char)data[i]);
	h->name[name_bytes] = '\0';
	while (at < end && data[at] == ' ')
		at++;
	while (end > at && (data[end - 1] == '\r' || data[end - 1] == '\n'))
		end--;
	snprintf(h->value, sizeof(h->value), "%.*s", (int)(end - at), data + at);
	r->header_count++;
	return n * size;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct http_client *client = arg;

	(void)a;
	(void)b;
	(void)c;
	(void)d;
	if (client->on_wait)
		client->on_wait(client->on_wait_arg);
	return 0;
}

struct http_client *http_client_new(const char *socket_path)
{
	struct http_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->curl = curl_easy_init();
	if (!c->curl) {
		free(c);
		return NULL;
	}
	curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	free(c);
}

void http_client_on_wait(struct http_client *c, void (*fn)(void *arg), void *arg)
{
	c->on_wait = fn;
	c->on_wait_arg = arg;
	curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, fn ? 0L : 1L);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
}

const char *http_client_error(const struct http_client *c)
{
	return c->error;
}

static struct curl_slist *header_list(const char *const *headers)
{
	/* curl would wait for "100 Continue" before a large body. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (; headers && *headers; headers++)
		list = curl_slist_append(list, *headers);
	return list;
}

int http_client_request(struct http_client *c, const char *method, const char *path,
			const void *body, size_t body_bytes, const char *const *headers,
			struct http_reply *reply)
{
	struct curl_slist *list = header_list(headers);
	char url[1024];
	CURLcode code;

	reply->body_bytes = 0;
	reply->header_count = 0;
	if (reply->body)
		reply->body[0] = '\0';
	c->error[0] = '\0';
	snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, reply);
	curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, reply);
	if (body) {
		curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_bytes);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
	} else {
		curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
	}
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	code = curl_easy_perform(c->curl);
	curl_slist_free_all(list);
	if (code == CURLE_COULDNT_CONNECT)
		return -ECONNREFUSED;
	if (code != CURLE_OK)
		return -EIO;
	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &reply->status);
	return 0;
}
