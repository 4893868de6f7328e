/* SPDX-License-Identifier: Apache-2.0 */
/* handover_internal.h - what handover.c and inherit.c share */
#ifndef QUICKTHAW_SNAPD_HANDOVER_INTERNAL_H
#define QUICKTHAW_SNAPD_HANDOVER_INTERNAL_H

#include "snapd/fd_store.h"
#include "snapd/handover.h"
#include "snapd/handover_record.h"

#define HANDOVER_RECORD_NAME  "record."
#define HANDOVER_CGROUPS_NAME "cgroups"

/** What a descriptor is, by itself: its name alone is not believed. */
enum handover_kind {
	HANDOVER_CONTROL,
	HANDOVER_UFFD,
	HANDOVER_PIDFD,
	HANDOVER_MEMORY,   /**< of a template */
	HANDOVER_RESIDENT, /**< bitmap of a template */
	HANDOVER_RECORD,
	HANDOVER_FILE, /**< a regular one */
	HANDOVER_DIRECTORY,
	HANDOVER_UNKNOWN,
};

/** struct inherited - a descriptor that was left. @fd: -1 once it is claimed. */
struct inherited {
	char name[FD_STORE_NAME_MAX + 1];
	enum handover_kind kind;
	int fd;
};

/** inherit_find() - take what is ours from the service manager. */
void inherit_find(void);
/** inherit_add() - the same, one by one, from a snapd that hands over; inherit_prepare(): that was
 * all. */
void inherit_add(const char *name, int fd);
void inherit_prepare(void);
/** inherit_claim() - a descriptor by name and kind, the caller's from then on; -1: none. */
int inherit_claim(const char *name, enum handover_kind kind);
/** inherit_record() - the record that counts, or NULL. */
const struct handover_record *inherit_record(void);
/** inherit_begin() - templates, then instances. */
void inherit_begin(void (*shell)(struct instance *inst));
/** inherit_end() - end and close what nobody claimed. @record_name: what is in the store under this
 * name is of today; "": nothing is kept. */
void inherit_end(const char *record_name);

void handover_describe_template(const struct template *t, struct handover_template *ret);
/** handover_template_name() - of its descriptors. */
void handover_template_name(uint64_t serial, char name[FD_STORE_NAME_MAX + 1]);

#endif
