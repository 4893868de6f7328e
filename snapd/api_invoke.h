/* SPDX-License-Identifier: Apache-2.0 */
/* api_invoke.h - what Invoke and InvokeWithResponseStream have in common */
#ifndef QUICKTHAW_SNAPD_API_INVOKE_H
#define QUICKTHAW_SNAPD_API_INVOKE_H

#include "snapd/api.h"
#include "snapd/scheduler.h"

/** struct invoke_call - what is wanted, besides the invocation itself. */
struct invoke_call {
	struct invocation_request request; /**< without done, part and arg */
	const char *type;		   /**< X-Amz-Invocation-Type, by default RequestResponse */
	char *client_context;		   /**< decoded, malloc'ed; or NULL */
	bool tail;			   /**< the log's end is wanted with the answer */
};

/** api_invoke_parse() - from the headers. Return: false after a reply. api_invoke_free() after use.
 */
bool api_invoke_parse(struct http_request *r, struct function *f, const char *qualifier,
		      struct invoke_call *ret);
void api_invoke_free(struct invoke_call *call);

/** api_invoke_headers() - of the reply: the request's id, the version, the trace. */
void api_invoke_headers(struct http_request *r, const struct invocation *inv,
			const struct version *v);
/** api_invoke_log_tail() - the end of its log in base64, malloc'ed; NULL without memory. */
char *api_invoke_log_tail(const struct invocation *inv, struct version *v);
/** api_invoke_outcome() - the reply to an invocation whose result is here as a whole. */
void api_invoke_outcome(struct http_request *r, const struct invocation *inv,
			const struct invoke_call *call, const struct invocation_outcome *out);
/** api_invoke_busy() - 429, with the reason of scheduler_refusal(). */
void api_invoke_busy(struct http_request *r);

#endif
