/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_page.h - long lists in pages: Marker, MaxItems, NextMarker
 *
 * A marker is the key of the last item that was seen: what is added or removed between two pages
 * neither repeats nor hides anything else.
 */
#ifndef QUICKTHAW_SNAPD_API_PAGE_H
#define QUICKTHAW_SNAPD_API_PAGE_H

#include <jansson.h>
#include <stddef.h>

#include "snapd/http_api.h"

enum { API_PAGE_ITEMS = 50, API_PAGE_KEY_MAX = 255 };

/** struct api_page - add all items, in any order, then reply. */
struct api_page {
	struct api_page_item *items;
	size_t count, size;
	size_t max_items;
	char marker[API_PAGE_KEY_MAX + 1];
	bool failed; /* no memory */
};

/** typedef api_item_fn - the JSON of an item, made only for those on the page. */
typedef json_t *(*api_item_fn)(const void *item, const void *arg);

/** api_page_begin() - read the request's Marker and MaxItems. Return: 0, or -EINVAL after a reply.
 */
int api_page_begin(struct api_page *page, struct http_request *r);
/** api_page_add() - @key: unique and in the order of the list, by strcmp(); @item: valid until the
 * reply. */
void api_page_add(struct api_page *page, const char *key, const void *item);
/** api_page_reply() - {@name: [...], "NextMarker": ...}, and free what the page holds. */
void api_page_reply(struct api_page *page, struct http_request *r, const char *name,
		    api_item_fn json, const void *arg);

#endif
