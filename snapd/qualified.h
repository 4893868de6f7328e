/* SPDX-License-Identifier: Apache-2.0 */
/* qualified.h - what is set per version or alias of a function: short lists, sorted by name */
#ifndef QUICKTHAW_SNAPD_QUALIFIED_H
#define QUICKTHAW_SNAPD_QUALIFIED_H

#include "snapd/function_name.h"

/** Of each kind, for one function. */
enum { QUALIFIED_MAX = 256 };

/** struct qualified - embed it as first member, so that container_of() needs no check for NULL.
 * @qualifier: version, alias or "$LATEST"; of an alias its own name */
struct qualified {
	char qualifier[QUALIFIER_MAX + 1];
	struct qualified *next;
};

/** qualified_find() - NULL: there is none. */
struct qualified *qualified_find(struct qualified *list, const char *qualifier);
/**
 * qualified_insert() - takes over @entry, whose qualifier is set.
 * Return: 0, -EEXIST, or -ENOSPC when there are QUALIFIED_MAX.
 */
int qualified_insert(struct qualified **list, struct qualified *entry);
/** qualified_remove() - Return: the entry, the caller's again; NULL: there was none. */
struct qualified *qualified_remove(struct qualified **list, const char *qualifier);

#endif
