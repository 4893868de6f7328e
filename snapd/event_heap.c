/* SPDX-License-Identifier: Apache-2.0 */
/* event_heap.c - events that are not due yet, the first one on top */
#include <errno.h>
#include <stdlib.h>

#include "snapd/event.h"

enum { HEAP_SIZE_FIRST = 64 };

int event_heap_reserve(struct event_heap *h, size_t count)
{
	size_t size = h->size ? h->size : HEAP_SIZE_FIRST;
	struct event **events;

	if (count <= h->size)
		return 0;
	while (size < count)
		size *= 2;
	events = realloc(h->events, size * sizeof(struct event *));
	if (!events)
		return -ENOMEM;
	h->events = events;
	h->size = size;
	return 0;
}

static void place(struct event_heap *h, size_t at, struct event *e)
{
	h->events[at] = e;
	e->heap_at = at;
}

/** Of those due at the same time, the one accepted first. */
static bool is_before(const struct event *a, const struct event *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->id < b->id;
}

/** Move @e from a hole at @at towards the top, as far as it belongs. */
static void sift_up(struct event_heap *h, size_t at, struct event *e)
{
	while (at && is_before(e, h->events[(at - 1) / 2])) {
		place(h, at, h->events[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	place(h, at, e);
}

static void sift_down(struct event_heap *h, size_t at, struct event *e)
{
	for (size_t child = 2 * at + 1; child < h->count; child = 2 * at + 1) {
		if (child + 1 < h->count && is_before(h->events[child + 1], h->events[child]))
			child++;
		if (!is_before(h->events[child], e))
			break;
		place(h, at, h->events[child]);
		at = child;
	}
	place(h, at, e);
}

void event_heap_push(struct event_heap *h, struct event *e)
{
	sift_up(h, h->count++, e);
}

void event_heap_remove(struct event_heap *h, struct event *e)
{
	struct event *last = h->events[--h->count];
	size_t at = e->heap_at;

	if (last == e)
		return;
	if (at && is_before(last, h->events[(at - 1) / 2]))
		sift_up(h, at, last);
	else
		sift_down(h, at, last);
}

struct event *event_heap_first(const struct event_heap *h)
{
	return h->count ? h->events[0] : NULL;
}

void event_heap_free(struct event_heap *h)
{
	free(h->events);
	*h = (struct event_heap){.events = NULL};
}
