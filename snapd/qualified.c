/* SPDX-License-Identifier: Apache-2.0 */
/* qualified.c - what is set per version or alias of a function: short lists, sorted by name */
#include "snapd/qualified.h"

#include <errno.h>
#include <string.h>

struct qualified *qualified_find(struct qualified *list, const char *qualifier)
{
	while (list && strcmp(list->qualifier, qualifier) != 0)
		list = list->next;
	return list;
}

int qualified_insert(struct qualified **list, struct qualified *entry)
{
	struct qualified **place = NULL;
	unsigned count = 0;

	for (struct qualified **at = list; *at; at = &(*at)->next) {
		int order = strcmp((*at)->qualifier, entry->qualifier);

		if (!order)
			return -EEXIST;
		if (order < 0)
			place = &(*at)->next;
		count++;
	}
	if (count >= QUALIFIED_MAX)
		return -ENOSPC;
	if (!place)
		place = list;
	entry->next = *place;
	*place = entry;
	return 0;
}

struct qualified *qualified_remove(struct qualified **list, const char *qualifier)
{
	struct qualified **at = list, *entry;

	while (*at && strcmp((*at)->qualifier, qualifier) != 0)
		at = &(*at)->next;
	entry = *at;
	if (entry) {
		*at = entry->next;
		entry->next = NULL;
	}
	return entry;
}
