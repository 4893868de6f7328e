/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.c - what a snapd leaves to the next one: its instances and templates
 *
 * Theory of operation
 *
 * A vmm needs its snapd for three things: calls over the control socket, pages through the
 * userfaultfd, and a template that somebody fills. All three are descriptors. Where the service
 * manager keeps descriptors (fd_store.c), they live on when snapd ends, by whatever cause, and so
 * do the vmm processes: they are not tied to snapd's life but to that of their sockets' other ends
 * (sandbox.h, vmm/lifeline.c). The next snapd gets the descriptors back and goes on (inherit.c).
 *
 *   name          descriptors
 *   record.N      what all the others are (handover_record.h)
 *   cgroups       the locked directory of the instances' cgroups
 *   iN            of instance iN: control socket, userfaultfd, pidfd
 *   tN            of template N: memory, bitmap of what is resident, snapshot file
 *
 * An instance's are given away when it becomes a shell, which is off every path that somebody waits
 * for, and taken back when it ends. In between, a change of its state is a write to the record.
 * Faults are not noted anywhere: the kernel knows which threads wait.
 *
 * Without such a store nothing here does anything, and instances die with snapd.
 *
 * Invariants
 *  1. What the record says of an instance is so before its vmm is told (session_message.c): if
 *     snapd is killed in between, the next one waits for an answer too many, never for one too few.
 *  2. A bit in a template's bitmap is set after its page is filled, and cleared before the page is
 *     given back (template.c).
 *  3. A record is `complete` only when all that the one before it had is in it, or has been ended.
 *     Until then the one before it counts.
 *  4. What is in the store and in no record is ended by the next snapd.
 */
#include "snapd/handover.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "snapd/handover_internal.h"

static_assert(INSTANCES_MAX <= HANDOVER_INSTANCES_MAX, "every slot has an entry");

static struct {
	struct handover_record *record;
	struct template *templates[HANDOVER_TEMPLATES_MAX]; /* by entry; no references */
} handover;

void handover_template_name(uint64_t serial, char name[FD_STORE_NAME_MAX + 1])
{
	snprintf(name, FD_STORE_NAME_MAX + 1, "t%" PRIu64, serial);
}

/* ---- instances ------------------------------------------------------------------------------- */

void handover_changed(struct instance *inst)
{
	const int fds[] = {inst->control, inst->uffd, inst->child.pidfd};
	struct handover_instance e;

	if (!handover.record)
		return;
	if (inst->state == INSTANCE_SHELL && !inst->stored) {
		fd_store_keep(inst->id, fds, ARRAY_SIZE(fds));
		inst->stored = true;
	} else if (inst->state == INSTANCE_ENDING && inst->stored) {
		fd_store_drop(inst->id);
		inst->stored = false;
	}
	session_describe(inst, &e);
	if (e.state == HANDOVER_NONE && !inst->recorded)
		return;
	inst->recorded = e.state != HANDOVER_NONE;
	handover_record_set_instance(handover.record, inst->slot, &e);
}

/* ---- templates ------------------------------------------------------------------------------- */

/** The template's entry, or a free one. Return: HANDOVER_TEMPLATES_MAX: there is none. */
static uint32_t entry_of(const struct template *t)
{
	uint32_t empty = HANDOVER_TEMPLATES_MAX;

	for (uint32_t i = 0; i < HANDOVER_TEMPLATES_MAX; i++) {
		if (handover.templates[i] == t)
			return i;
		if (!handover.templates[i] && empty == HANDOVER_TEMPLATES_MAX)
			empty = i;
	}
	return empty;
}

void handover_describe_template(const struct template *t, struct handover_template *ret)
{
	*ret = (struct handover_template){
		.serial = t->serial,
		.pages = t->pages,
		.number = t->number,
		.flags = (t->recording ? HANDOVER_RECORDING : 0) |
			 (t->current ? HANDOVER_CURRENT : 0),
	};
	memcpy(ret->function, t->function, sizeof(t->function));
}

static void template_changed(struct template *t)
{
	const int fds[] = {t->memfd, t->resident_fd, t->file->fd};
	struct handover_template e;
	char name[FD_STORE_NAME_MAX + 1];
	uint32_t i = entry_of(t);

	if (i == HANDOVER_TEMPLATES_MAX)
		return; /* it and its instances end with us */
	if (!t->stored) {
		handover_template_name(t->serial, name);
		fd_store_keep(name, fds, ARRAY_SIZE(fds));
		t->stored = true;
	}
	handover_describe_template(t, &e);
	handover.templates[i] = t;
	handover_record_set_template(handover.record, i, &e);
}

static void template_gone(struct template *t)
{
	const struct handover_template none = {0};
	char name[FD_STORE_NAME_MAX + 1];
	uint32_t i = entry_of(t);

	if (i == HANDOVER_TEMPLATES_MAX || handover.templates[i] != t)
		return;
	handover.templates[i] = NULL;
	handover_record_set_template(handover.record, i, &none);
	handover_template_name(t->serial, name);
	fd_store_drop(name);
}

static const struct template_hooks template_hooks = {
	.changed = template_changed,
	.gone = template_gone,
};

/* ---- begin and end --------------------------------------------------------------------------- */

void handover_find(void)
{
	if (fd_store_open())
		inherit_find();
}

bool handover_is_kept(void)
{
	return fd_store_is_open();
}

static void record_name(const struct handover_record *r, char name[FD_STORE_NAME_MAX + 1])
{
	snprintf(name, FD_STORE_NAME_MAX + 1, HANDOVER_RECORD_NAME "%" PRIu64,
		 handover_record_generation(r));
}

/** A record of our own, in the store. Return: 0 or -errno. */
static int begin_record(const struct handover_record *before)
{
	uint64_t generation = before ? handover_record_generation(before) + 1 : 1;
	char name[FD_STORE_NAME_MAX + 1];
	int fd, ret = handover_record_new(generation, &handover.record);

	if (ret)
		return ret;
	record_name(handover.record, name);
	fd = handover_record_fd(handover.record);
	fd_store_drop(name); /* of a snapd that was killed at this very point */
	fd_store_keep(name, &fd, 1);
	fd = sandbox_cgroups();
	fd_store_drop(HANDOVER_CGROUPS_NAME);
	if (fd >= 0)
		fd_store_keep(HANDOVER_CGROUPS_NAME, &fd, 1);
	return 0;
}

/** Keep everything from now on. Return: the name of the record in the store, "": nothing is kept.
 */
static const char *begin_keeping(const struct handover_record *before,
				 char name[FD_STORE_NAME_MAX + 1])
{
	int ret;

	if (!fd_store_is_open())
		return "";
	ret = begin_record(before);
	if (ret) {
		log_error("handover: %s: nothing outlives this snapd", strerror(-ret));
		fd_store_close();
		return "";
	}
	template_set_hooks(&template_hooks);
	record_name(handover.record, name);
	return name;
}

void handover_begin(void (*shell)(struct instance *inst))
{
	const struct handover_record *before = inherit_record();
	char name[FD_STORE_NAME_MAX + 1], old[FD_STORE_NAME_MAX + 1];
	const char *kept = begin_keeping(before, name);

	if (before)
		inherit_begin(shell);
	if (*kept)
		handover_record_complete(handover.record);
	if (before) {
		record_name(before, old);
		fd_store_drop(old);
	}
	inherit_end(kept);
}

void handover_leave(void)
{
	for (int tries = 0; fd_store_next_ns() != UINT64_MAX && tries < 100; tries++) {
		usleep(1000);
		fd_store_turn(UINT64_MAX - 1);
	}
	template_set_hooks(NULL);
	handover_record_free(handover.record);
	handover.record = NULL;
}
