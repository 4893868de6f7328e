/* SPDX-License-Identifier: Apache-2.0 */
/* handover_record.h - what the descriptors are that one snapd leaves to the next */
#ifndef QUICKTHAW_SNAPD_HANDOVER_RECORD_H
#define QUICKTHAW_SNAPD_HANDOVER_RECORD_H

#include <stdbool.h>
#include <stdint.h>

/** States that an instance can be taken over in; the numbers are part of the format. */
enum handover_state {
	HANDOVER_NONE = 0, /**< nothing is there, or nothing that can be taken over */
	HANDOVER_SHELL = 1,
	HANDOVER_RESTORING = 2,
	HANDOVER_INVOKING = 3,
	HANDOVER_TRACING = 4,
	HANDOVER_IDLE = 5,
	HANDOVER_STATE_COUNT
};

enum { HANDOVER_SINGLE_USE = 1 };		       /**< handover_instance.flags */
enum { HANDOVER_RECORDING = 1, HANDOVER_CURRENT = 2 }; /**< handover_template.flags */
enum { HANDOVER_INSTANCES_MAX = 1024, HANDOVER_TEMPLATES_MAX = 256 };

/** struct handover_instance - one vmm. Integers are host-endian: a record never leaves its host. */
struct handover_instance {
	uint32_t state;		/**< enum handover_state */
	uint32_t proto_version; /**< what its vmm speaks: PROTO_VERSION */
	char id[72];		/**< of its jail, and the name of its descriptors */
	int32_t pid;
	uint32_t ram_mib;
	uint64_t ram_base;
	uint64_t cpu_features[8];
	uint64_t spawned_ns, changed_ns, deadline_ns; /**< CLOCK_MONOTONIC */
	uint64_t invocations;
	uint64_t template_serial; /**< 0: none */
	char function[72];
	uint32_t number;      /**< of the version; 0: $LATEST */
	uint32_t call_serial; /**< of its last INVOKE */
	char request_id[64];  /**< "": no request is in flight */
	uint32_t flags;
	uint32_t guest_kind;	/**< enum guest_kind */
	uint64_t state_version; /**< as in HELLO; 0: not known */
	uint32_t reserved[8];
};

/** struct handover_template - one template. @serial: t@serial is the name of its descriptors. */
struct handover_template {
	uint64_t serial; /**< 0: nothing is there */
	uint64_t pages;
	char function[72];
	uint32_t number;
	uint32_t flags;
	uint32_t reserved[6];
};

struct handover_record;

/**
 * handover_record_new() - an empty record, in a memfd that cannot change its size.
 * @generation: above that of every record before it
 * Return: 0 or -errno.
 */
int handover_record_new(uint64_t generation, struct handover_record **ret);

/**
 * handover_record_open() - read a record that came from a snapd before. Hostile bytes: an error, or
 * entries that are not there.
 * @fd: stays the caller's
 * @ret_why: what is wrong, for people
 * Return: 0, -EBADMSG, -EPROTONOSUPPORT (of another format version), or -errno.
 */
int handover_record_open(int fd, struct handover_record **ret, const char **ret_why);
/** handover_record_free() - NULL is legal. The memfd lives on where somebody keeps it. */
void handover_record_free(struct handover_record *r);

/** handover_record_fd() - the memfd; stays the record's. */
int handover_record_fd(const struct handover_record *r);
uint64_t handover_record_generation(const struct handover_record *r);

/** handover_record_complete() - from now on this record and not the one before it counts. */
void handover_record_complete(struct handover_record *r);
bool handover_record_is_complete(const struct handover_record *r);

/**
 * handover_record_set_instance() - replace an entry.
 * If the process is killed in the middle of it, the old entry is read. Some 100 ns, no system call.
 */
void handover_record_set_instance(struct handover_record *r, uint32_t slot,
				  const struct handover_instance *e);
void handover_record_set_template(struct handover_record *r, uint32_t slot,
				  const struct handover_template *e);

/** handover_record_instance() - a copy of an entry. Return: false when there is none, or none that
 * is whole. */
bool handover_record_instance(const struct handover_record *r, uint32_t slot,
			      struct handover_instance *ret);
bool handover_record_template(const struct handover_record *r, uint32_t slot,
			      struct handover_template *ret);

/** handover_instance_ok() - are the fields of an entry what a snapd writes? */
bool handover_instance_ok(const struct handover_instance *e);
bool handover_template_ok(const struct handover_template *e);

#endif
