/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover_record.c - what the descriptors are that one snapd leaves to the next
 *
 * Theory of operation
 *
 * A descriptor that survives its snapd says little about itself: this is a socket, that a
 * userfaultfd. What they belong to is in the record, a memfd which survives with them: a header,
 * an entry for each slot of the table of instances and one for each template.
 *
 *   record = header instance-slot[INSTANCES_MAX] template-slot[TEMPLATES_MAX]
 *   slot   = copy copy
 *   copy   = checksum sequence entry
 *
 * snapd may be killed between any two of its instructions, and what it has written is then what the
 * next one reads (memory does not need to be flushed for that). So a slot has two copies: the older
 * is overwritten, and counts only once its checksum is right, which is written last. A reader takes
 * the whole copy with the higher sequence number.
 *
 * Invariants
 *  1. At any moment one copy of each slot is whole: the one written last, or the one before.
 *  2. The memfd cannot shrink, so a mapping of it does not end in SIGBUS.
 *  3. Nothing of a record is believed for its checksum alone: see handover_instance_ok().
 */
#include "snapd/handover_record.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "include/guest_abi.h"
#include "snapd/function.h"

#define RECORD_MAGIC "QTHANDOV"
enum { RECORD_VERSION = 1 };
static_assert(sizeof(struct handover_instance) == 392, "part of the format");
static_assert(sizeof(struct handover_template) == 120, "part of the format");
static_assert(SANDBOX_ID_MAX < sizeof(((struct handover_instance *)0)->id), "an id fits");
static_assert(FUNCTION_NAME_MAX < sizeof(((struct handover_instance *)0)->function), "a name too");

struct record_header {
	char magic[8];
	uint32_t version;
	uint32_t complete;
	uint64_t generation;
	uint32_t instance_count, template_count;
	uint64_t reserved[4];
};
static_assert(sizeof(struct record_header) == 64, "part of the format");

struct copy_head {
	uint64_t checksum; /**< of all that follows it; 0: it is being written */
	uint64_t sequence;
};

struct instance_copy {
	struct copy_head head;
	struct handover_instance entry;
};

struct template_copy {
	struct copy_head head;
	struct handover_template entry;
};

struct record_map {
	struct record_header header;
	struct instance_copy instances[HANDOVER_INSTANCES_MAX][2];
	struct template_copy templates[HANDOVER_TEMPLATES_MAX][2];
};

struct handover_record {
	int fd;
	struct record_map *map;
};

/* ---- the memfd ------------------------------------------------------------------------------- */

static int map_record(int fd, int protection, struct handover_record **ret)
{
	struct handover_record *r = calloc(1, sizeof(*r));
	void *map = MAP_FAILED;

	if (!r)
		return -ENOMEM;
	r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (r->fd >= 0)
		map = mmap(NULL, sizeof(*r->map), protection, MAP_SHARED, r->fd, 0);
	if (map == MAP_FAILED) {
		int err = -errno;

		handover_record_free(r);
		return err;
	}
	r->map = map;
	*ret = r;
	return 0;
}

int handover_record_new(uint64_t generation, struct handover_record **ret)
{
	CLEANUP_FD int fd = memfd_create("quickthaw-record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct record_header *h;
	int err;

	if (fd < 0 || ftruncate(fd, sizeof(struct record_map)) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	err = map_record(fd, PROT_READ | PROT_WRITE, ret);
	if (err)
		return err;
	h = &(*ret)->map->header;
	memcpy(h->magic, RECORD_MAGIC, sizeof(h->magic));
	h->version = RECORD_VERSION;
	h->generation = generation;
	h->instance_count = HANDOVER_INSTANCES_MAX;
	h->template_count = HANDOVER_TEMPLATES_MAX;
	return 0;
}

int handover_record_open(int fd, struct handover_record **ret, const char **ret_why)
{
	const struct record_header *h;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	int err;

	*ret_why = "it is no memfd of a record";
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) ||
	    st.st_size < (off_t)sizeof(struct record_header))
		return -EBADMSG;
	/* The header's place is the same in all versions; the rest may be shorter than ours. */
	h = mmap(NULL, sizeof(*h), PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return -errno;
	err = memcmp(h->magic, RECORD_MAGIC, sizeof(h->magic)) ? -EBADMSG
	      : h->version != RECORD_VERSION		       ? -EPROTONOSUPPORT
							       : 0;
	if (!err && (h->instance_count != HANDOVER_INSTANCES_MAX ||
		     h->template_count != HANDOVER_TEMPLATES_MAX ||
		     !mem_is_zero(h->reserved, sizeof(h->reserved)) ||
		     st.st_size != (off_t)sizeof(struct record_map)))
		err = -EBADMSG;
	munmap((void *)(uintptr_t)h, sizeof(*h));
	if (err == -EPROTONOSUPPORT)
		*ret_why = "its format is of another version";
	else if (err)
		*ret_why = "its header is damaged";
	return err ? err : map_record(fd, PROT_READ, ret);
}

void handover_record_free(struct handover_record *r)
{
	if (!r)
		return;
	if (r->map)
		munmap(r->map, sizeof(*r->map));
	cleanup_fd(&r->fd);
	free(r);
}

int handover_record_fd(const struct handover_record *r)
{
	return r->fd;
}

uint64_t handover_record_generation(const struct handover_record *r)
{
	return r->map->header.generation;
}

void handover_record_complete(struct handover_record *r)
{
	r->map->header.complete = 1;
}

bool handover_record_is_complete(const struct handover_record *r)
{
	return r->map->header.complete == 1;
}

/* ---- entries --------------------------------------------------------------------------------- */

/** Of everything in a copy that follows the checksum. */
static uint64_t checksum(const void *copy, size_t bytes)
{
	return XXH3_64bits((const uint8_t *)copy + sizeof(uint64_t), bytes - sizeof(uint64_t));
}

/** The sequence number of a copy that begins like this; 0 when its writer was killed in it. */
static uint64_t rank(const struct copy_head *head)
{
	return head->checksum ? head->sequence : 0;
}

static bool instance_is_whole(const struct instance_copy *c)
{
	return c->head.sequence && c->head.checksum == checksum(c, sizeof(*c));
}

static bool template_is_whole(const struct template_copy *c)
{
	return c->head.sequence && c->head.checksum == checksum(c, sizeof(*c));
}

void handover_record_set_instance(struct handover_record *r, uint32_t slot,
				  const struct handover_instance *e)
{
	struct instance_copy *copies = r->map->instances[slot];
	bool second = rank(&copies[0].head) > rank(&copies[1].head);
	struct instance_copy *older = &copies[second];

	assert(slot < HANDOVER_INSTANCES_MAX);
	/* Whoever reads does so after our death: the compiler must keep the order, no CPU has to.
	 */
	older->head.checksum = 0;
	atomic_signal_fence(memory_order_seq_cst);
	older->entry = *e;
	older->head.sequence = MAX(copies[0].head.sequence, copies[1].head.sequence) + 1;
	atomic_signal_fence(memory_order_seq_cst);
	older->head.checksum = checksum(older, sizeof(*older));
}

void handover_record_set_template(struct handover_record *r, uint32_t slot,
				  const struct handover_template *e)
{
	struct template_copy *copies = r->map->templates[slot];
	bool second = rank(&copies[0].head) > rank(&copies[1].head);
	struct template_copy *older = &copies[second];

	assert(slot < HANDOVER_TEMPLATES_MAX);
	older->head.checksum = 0; /* as above */
	atomic_signal_fence(memory_order_seq_cst);
	older->entry = *e;
	older->head.sequence = MAX(copies[0].head.sequence, copies[1].head.sequence) + 1;
	atomic_signal_fence(memory_order_seq_cst);
	older->head.checksum = checksum(older, sizeof(*older));
}

bool handover_record_instance(const struct handover_record *r, uint32_t slot,
			      struct handover_instance *ret)
{
	const struct instance_copy *copies = r->map->instances[slot];
	bool whole[2] = {instance_is_whole(&copies[0]), instance_is_whole(&copies[1])};
	int newer = copies[1].head.sequence > copies[0].head.sequence;

	if (!whole[0] && !whole[1])
		return false;
	*ret = copies[whole[newer] ? newer : !newer].entry;
	return ret->state != HANDOVER_NONE && handover_instance_ok(ret);
}

bool handover_record_template(const struct handover_record *r, uint32_t slot,
			      struct handover_template *ret)
{
	const struct template_copy *copies = r->map->templates[slot];
	bool whole[2] = {template_is_whole(&copies[0]), template_is_whole(&copies[1])};
	int newer = copies[1].head.sequence > copies[0].head.sequence;

	if (!whole[0] && !whole[1])
		return false;
	*ret = copies[whole[newer] ? newer : !newer].entry;
	return ret->serial && handover_template_ok(ret);
}

/** Is the text ended within its field? */
static bool text_ok(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/** i and a number, as session.c names jails: it names a cgroup, too. */
static bool id_ok(const char *id, size_t size)
{
	return text_ok(id, size) && id[0] == 'i' && id[1] && strlen(id) <= 20 &&
	       strspn(id + 1, "0123456789") == strlen(id + 1);
}

bool handover_instance_ok(const struct handover_instance *e)
{
	bool has_guest = e->state != HANDOVER_SHELL;

	if (e->state == HANDOVER_NONE || e->state >= HANDOVER_STATE_COUNT || e->pid <= 1 ||
	    !id_ok(e->id, sizeof(e->id)) || !text_ok(e->function, sizeof(e->function)) ||
	    !text_ok(e->request_id, sizeof(e->request_id)) || e->ram_base % PAGE_BYTES ||
	    e->flags & ~(uint32_t)HANDOVER_SINGLE_USE ||
	    (e->guest_kind != GUEST_KIND_PROCESS && e->guest_kind != GUEST_KIND_KERNEL) ||
	    !mem_is_zero(e->reserved, sizeof(e->reserved)))
		return false;
	return !has_guest || function_name_ok(e->function);
}

bool handover_template_ok(const struct handover_template *e)
{
	return e->serial && e->pages && e->pages <= UINT32_MAX &&
	       text_ok(e->function, sizeof(e->function)) && function_name_ok(e->function) &&
	       e->number && !(e->flags & ~(uint32_t)(HANDOVER_RECORDING | HANDOVER_CURRENT)) &&
	       mem_is_zero(e->reserved, sizeof(e->reserved));
}
