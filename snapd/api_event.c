/* SPDX-License-Identifier: Apache-2.0 */
/* api_event.c - asynchronous Invoke over HTTP, and what is in the queue */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "snapd/api.h"
#include "snapd/event_queue.h"
#include "snapd/event_writer.h"

/* ---- Invoke ---------------------------------------------------------------------------------- */

static void on_added(void *arg, const char *request_id, int err, const char *error)
{
	struct http_request *r = arg;

	if (err == -EINVAL) {
		http_reply_error(r, 400, "InvalidRequestContentException",
				 "Could not parse request body into json");
	} else if (err) {
		http_reply_error(r, 500, "ServiceException",
				 "the event could not be stored, and will not be run: %s",
				 *error ? error : strerror(-err));
	} else if (http_reply_begin(r, "application/json", "", 0)) {
		http_reply(r, 500, "text/plain", "", 0);
	} else {
		http_reply_request_id(r, request_id);
		http_reply_end(r, 202);
	}
}

/** The body, or what an empty one means; malloc'ed, the caller's. */
static char *take_body(struct http_request *r, size_t *ret_n)
{
	char *body = r->body_bytes ? r->body : strdup("{}");

	*ret_n = r->body_bytes ? r->body_bytes : strlen("{}");
	if (r->body_bytes)
		r->body = NULL;
	return body;
}

void api_event_invoke(struct http_request *r, struct function *f, const char *qualifier)
{
	const char *trace = http_header(r, "X-Amzn-Trace-Id");
	size_t n;
	char *body;
	int ret;

	if (r->body_bytes > EVENT_PAYLOAD_MAX) {
		http_reply_error(r, 413, "RequestTooLargeException",
				 "%zu byte payload is too large for the Event invocation type "
				 "(limit %u bytes)",
				 r->body_bytes, EVENT_PAYLOAD_MAX);
		return;
	}
	body = take_body(r, &n);
	if (!body) {
		api_no_memory(r);
		return;
	}
	ret = event_queue_add(f, qualifier ? qualifier : "", trace ? trace : "", body, n, on_added,
			      r);
	if (!ret)
		return;
	free(body);
	if (ret == -EBUSY)
		http_reply_error(r, 429, "TooManyRequestsException",
				 "Rate Exceeded: the queue of events is full");
	else
		api_no_memory(r);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static json_t *counts_json(const struct event_counts *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "Accepted", (json_int_t)c->accepted,
			 "Succeeded", (json_int_t)c->succeeded, "Retried", (json_int_t)c->retried,
			 "SetBack", (json_int_t)c->set_back, "RetriesExhausted",
			 (json_int_t)c->exhausted, "EventAgeExceeded", (json_int_t)c->expired,
			 "Lost", (json_int_t)c->lost);
}

/** @into: a new reference, which is given back; NULL on want of memory. */
static json_t *add_depth(json_t *into, size_t depth, unsigned in_flight, uint64_t oldest_ns)
{
	json_t *more =
		json_pack("{s:I, s:i, s:f}", "Depth", (json_int_t)depth, "InFlight", (int)in_flight,
			  "OldestAgeSeconds", (double)oldest_ns / (double)NSEC_PER_SEC);

	if (into && json_object_update_new(into, more)) {
		json_decref(into);
		return NULL;
	}
	return into;
}

static json_t *functions_json(void)
{
	json_t *list = json_array();

	for (const struct function *f = functions_first(); f; f = f->next) {
		struct event_function_stats stats = event_function_stats(f);
		json_t *one;

		if (!f->events)
			continue;
		one = add_depth(counts_json(&stats.counts), stats.depth, stats.in_flight,
				stats.oldest_age_ns);
		json_object_set_new(one, "FunctionName", json_string(f->name));
		json_array_insert_new(list, 0, one);
	}
	return list;
}

void api_events(struct http_request *r)
{
	struct event_queue_stats stats = event_queue_stats();
	json_t *root = add_depth(counts_json(&stats.counts), stats.depth, stats.in_flight,
				 stats.oldest_age_ns);

	json_object_set_new(root, "Bytes", json_integer((json_int_t)stats.bytes));
	json_object_set_new(root, "Refused", json_integer((json_int_t)stats.refused));
	json_object_set_new(root, "DeliveryFailures",
			    json_integer((json_int_t)stats.delivery_failures));
	json_object_set_new(root, "Functions", functions_json());
	http_reply_json(r, 200, root);
}
