/* SPDX-License-Identifier: Apache-2.0 */
/* api_page.c - long lists in pages: Marker, MaxItems, NextMarker */
#include "snapd/api_page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "snapd/api.h"

enum { MAX_ITEMS_MAX = 10000 }; /* more than a page is legal, and gets a page */

struct api_page_item {
	char key[API_PAGE_KEY_MAX + 1];
	const void *item;
};

static int refuse(struct http_request *r, const char *key, const char *value, const char *rule)
{
	struct field_error e;
	int err = field_refuse_value(&e, key, value, "%s", rule);

	api_refuse(r, &e);
	return err;
}

int api_page_begin(struct api_page *page, struct http_request *r)
{
	const char *marker = http_query(r, "Marker"), *max = http_query(r, "MaxItems");
	unsigned long n = max ? strtoul(max, NULL, 10) : API_PAGE_ITEMS;

	*page = (struct api_page){.max_items = MIN(n, (unsigned long)API_PAGE_ITEMS)};
	if (max && (max[strspn(max, "0123456789")] || n < 1 || n > MAX_ITEMS_MAX))
		return refuse(r, "MaxItems", max, "Member must have value from 1 to 10000");
	if (marker && strlen(marker) > API_PAGE_KEY_MAX)
		return refuse(r, "Marker", marker, "Member must be the NextMarker of a reply");
	snprintf(page->marker, sizeof(page->marker), "%s", marker ? marker : "");
	return 0;
}

void api_page_add(struct api_page *page, const char *key, const void *item)
{
	size_t size = page->size ? page->size * 2 : 64;
	struct api_page_item *items;

	if (page->failed || strcmp(key, page->marker) <= 0)
		return;
	if (page->count == page->size) {
		items = reallocarray(page->items, size, sizeof(*items));
		if (!items) {
			page->failed = true;
			return;
		}
		page->items = items;
		page->size = size;
	}
	snprintf(page->items[page->count].key, sizeof(page->items->key), "%s", key);
	page->items[page->count++].item = item;
}

static int by_key(const void *a, const void *b)
{
	const struct api_page_item *item_a = a, *item_b = b;

	return strcmp(item_a->key, item_b->key);
}

void api_page_reply(struct api_page *page, struct http_request *r, const char *name,
		    api_item_fn json, const void *arg)
{
	json_t *list = json_array(), *root = json_pack("{s:O?}", name, list);
	size_t n = MIN(page->count, page->max_items);

	if (page->count)
		qsort(page->items, page->count, sizeof(*page->items), by_key);
	for (size_t i = 0; i < n; i++)
		page->failed |= json_array_append_new(list, json(page->items[i].item, arg)) != 0;
	if (n < page->count)
		json_object_set_new(root, "NextMarker", json_string(page->items[n - 1].key));
	json_decref(list);
	free(page->items);
	if (page->failed || !list || !root) {
		json_decref(root);
		root = NULL;
	}
	http_reply_json(r, 200, root);
}
