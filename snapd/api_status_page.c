/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_status_page.c - GET /: a page for people, which asks for everything else by itself
 *
 * It is made of status_page/ by scripts/embed-page. Names of functions and their errors are shown
 * on it, and those come from anybody: the policy lets nothing run but the page's own script, and
 * that puts them in as text.
 */
#include "snapd/api.h"
#include "snapd/status_page.inc"

void api_status_page(struct http_request *r)
{
	if (http_reply_begin(r, "text/html; charset=utf-8", status_page_html,
			     sizeof(status_page_html))) {
		http_reply(r, 500, "text/plain", "", 0);
		return;
	}
	http_reply_header(r, "Content-Security-Policy", status_page_policy);
	http_reply_header(r, "X-Content-Type-Options", "nosniff");
	http_reply_header(r, "Referrer-Policy", "no-referrer");
	http_reply_header(r, "Cache-Control", "no-cache");
	http_reply_end(r, 200);
}
