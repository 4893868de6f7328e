/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.c - the booted guest on which kernel guests' snapshots are diffs, made by whom needs it
 * first
 *
 *   READING     worker: open the file, and check all of it
 *                 it is there, and good ─────────────────────────> done
 *                 else once more, with an empty file to write into:
 *   SHELL       until the pool has one
 *   BOOTING     the kernel boots, until its agent is there; nothing is started
 *   CAPTURING   the vmm writes the snapshot
 *   INSTALLING  worker: fsync, rename, and as in READING ──────────> done
 *   FAILED      worker: what was written is removed
 *
 * A job is for one base; everybody who wants that one meanwhile waits for the same job. Its guest
 * is booted in the name of the first of them, whose version stays as long as it waits. A job that
 * fails fails all of them with one text, and the next who wants the base begins anew.
 *
 * A base is of one host and one vmm, which a shell tells. Shells that an earlier snapd has left may
 * be of another vmm: whoever finds that his shell is not what his base is for asks again.
 */
#include "snapd/base.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/budget.h"
#include "snapd/kernel_guests.h"
#include "snapd/recapture.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"
#include "snapd/worker.h"

enum base_stage {
	BASE_READING,
	BASE_SHELL,
	BASE_BOOTING,
	BASE_CAPTURING,
	BASE_INSTALLING,
	BASE_FAILED,
	BASE_STAGE_COUNT
};

static const char *const stage_names[] = {
	[BASE_READING] = "reading the runtime's base",
	[BASE_SHELL] = "waiting for a shell for the runtime's base",
	[BASE_BOOTING] = "booting the runtime's base",
	[BASE_CAPTURING] = "capturing the runtime's base",
	[BASE_INSTALLING] = "installing the runtime's base",
	[BASE_FAILED] = "without the runtime's base",
};
static_assert(ARRAY_SIZE(stage_names) == BASE_STAGE_COUNT, "a name for each stage");

/**
 * struct base_job - a base on its way. The worker has all but the list and the stage.
 * @origin: what it is made with
 * @draft_fd: of the file to write, while it is made
 * @made: it was made by this job
 * @verdict: for all, where it has failed
 */
struct base_job {
	struct work work;
	enum base_stage stage;
	char name[BASE_NAME_MAX];
	struct origin origin;
	struct base_wait *waiting;
	int draft_fd;
	bool made;
	int err;
	struct snapshot_error text;
	struct template *template;
	struct base_verdict verdict;
	struct base_job *next;
};

/** struct base_sweep - the removal of outdated bases, once. */
struct base_sweep {
	struct work work;
	struct origin origins[KERNEL_GUEST_ROOTS_MAX];
	unsigned count;
	bool begun;
};

static struct {
	struct base_job *jobs;
	uint64_t init_timeout_ns;
	struct base_sweep sweep;
} bases;

int base_init(const struct base_store_params *params, uint64_t init_timeout_ns)
{
	bases.init_timeout_ns = init_timeout_ns;
	return base_store_open(params);
}

void base_finish(void)
{
	base_store_close();
}

static void set_stage(struct base_job *j, enum base_stage stage)
{
	j->stage = stage;
	for (struct base_wait *w = j->waiting; w; w = w->next)
		w->version->stage = stage_names[stage];
	log_debug("base %s: %s", j->name, stage_names[stage]);
}

/* ---- the end --------------------------------------------------------------------------------- */

/** Everybody is told; each of them may want another one at once. */
static void end_job(struct base_job *j)
{
	struct base_wait *next;
	struct base_job **at = &bases.jobs;

	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	for (struct base_wait *w = j->waiting; w; w = next) {
		next = w->next;
		w->verdict = j->verdict;
		w->done(w, j->template);
	}
	template_put(j->template);
	cleanup_fd(&j->draft_fd);
	free(j);
}

static void forget_run(struct work *work)
{
	base_store_forget(container_of(work, struct base_job, work)->name);
}

static void forget_done(struct work *work)
{
	end_job(container_of(work, struct base_job, work));
}

static void job_fail(struct base_job *j, unsigned status, const char *type, const char *text)
{
	j->verdict = (struct base_verdict){.status = status, .error_type = type};
	snprintf(j->verdict.text, sizeof(j->verdict.text), "%s: %.900s", stage_names[j->stage],
		 text);
	log_error("base %s: %s", j->name, j->verdict.text);
	set_stage(j, BASE_FAILED);
	j->work = (struct work){.run = forget_run, .done = forget_done};
	worker_queue_on(WORKER_IMAGES, &j->work);
}

static void fail_errno(struct base_job *j, int err)
{
	job_fail(j, 500, err == -ENOSPC ? "CodeStorageExceededException" : "ServiceException",
		 strerror(-err));
}

/* ---- READING, INSTALLING --------------------------------------------------------------------- */

static void read_run(struct work *work)
{
	struct base_job *j = container_of(work, struct base_job, work);

	j->err = base_store_read(j->name, &j->template, &j->text);
	if (j->err && !j->made)
		j->draft_fd = base_store_draft(j->name);
}

static void read_done(struct work *work)
{
	struct base_job *j = container_of(work, struct base_job, work);

	if (!j->err) {
		end_job(j);
	} else if (j->made) {
		job_fail(j, 500, "ServiceException", j->text.text);
	} else if (j->draft_fd < 0) {
		fail_errno(j, j->draft_fd);
	} else {
		if (j->err != -ENOENT)
			log_warn("base %s: made again: %s", j->name, j->text.text);
		set_stage(j, BASE_SHELL);
		base_pump();
	}
}

static void install_run(struct work *work)
{
	struct base_job *j = container_of(work, struct base_job, work);

	j->err = base_store_install(j->name, j->draft_fd);
	if (!j->err)
		read_run(work);
	else
		snprintf(j->text.text, sizeof(j->text.text), "%s", strerror(-j->err));
}

static void queue_job(struct base_job *j, enum base_stage stage, void (*run)(struct work *work))
{
	set_stage(j, stage);
	j->work = (struct work){.run = run, .done = read_done};
	worker_queue_on(WORKER_IMAGES, &j->work);
}

/* ---- BOOTING, CAPTURING ---------------------------------------------------------------------- */

static void on_ready(struct instance *inst, const struct proto_ready *ready)
{
	struct base_job *j = inst->owner;
	CLEANUP_FREE char *metadata = base_store_metadata(j->name, &j->origin);

	log_info("base %s: booted in %llu ms", j->name,
		 (unsigned long long)(ready->init_ns / NSEC_PER_MSEC));
	set_stage(j, BASE_CAPTURING);
	if (session_capture(inst, j->draft_fd, metadata ? metadata : "{}", NULL))
		job_fail(j, 500, "ServiceException", "the vmm does not read");
}

static void on_captured(struct instance *inst, const struct proto_captured *captured)
{
	struct base_job *j = inst->owner;

	inst->owner = NULL;
	if (captured->error) {
		fail_errno(j, captured->error);
	} else {
		log_info("base %s: captured in %llu ms, file of %llu KiB", j->name,
			 (unsigned long long)(captured->capture_ns / NSEC_PER_MSEC),
			 (unsigned long long)captured->file_bytes >> 10);
		j->made = true;
		queue_job(j, BASE_INSTALLING, install_run);
	}
	session_end(inst);
}

/** Why a kernel without a function does not come up is its node's affair, and no error of the
 * function's. */
static void on_failed(struct instance *inst, const struct session_failure *failure)
{
	struct base_job *j = inst->owner;
	char text[400];

	inst->owner = NULL;
	if (failure->kind == SESSION_FAILED_TIMEOUT && j->stage == BASE_BOOTING)
		snprintf(text, sizeof(text), "it took too long: give it more with --init-timeout");
	else if (failure->kind == PROTO_FAILED_KERNEL)
		snprintf(text, sizeof(text),
			 "%.*s: is the initramfs of this build (make guest-images)?",
			 (int)MIN(failure->text_bytes, (size_t)300), failure->text);
	else
		snprintf(text, sizeof(text), "%.*s", (int)MIN(failure->text_bytes, (size_t)300),
			 failure->text);
	job_fail(j, 500, "ServiceException", text);
}

static const struct session_events base_events = {
	.ready = on_ready,
	.captured = on_captured,
	.failed = on_failed,
};

static void boot(struct base_job *j, struct instance *shell)
{
	struct version *v = j->waiting->version;
	int ret;

	set_stage(j, BASE_BOOTING);
	budget_charge(shell, scheduler_instance_bytes(v));
	session_adopt(shell, v, j, &base_events);
	ret = session_boot_base(shell, bases.init_timeout_ns);
	if (ret)
		fail_errno(j, ret);
	else
		session_limit_memory(shell);
}

/* ---- what it is for -------------------------------------------------------------------------- */

static void name_for(const struct instance *shell, const struct version *v, struct origin *ret,
		     char ret_name[BASE_NAME_MAX])
{
	recapture_origin(shell, v, ret);
	base_store_name(ret, shell->ram_mib, ret_name);
}

bool base_is_for(const struct base_wait *w, const struct instance *shell)
{
	char name[BASE_NAME_MAX];
	struct origin origin;

	name_for(shell, w->version, &origin, name);
	return !strcmp(name, w->name);
}

static struct base_job *find_job(const char *name)
{
	for (struct base_job *j = bases.jobs; j; j = j->next)
		if (!strcmp(j->name, name))
			return j;
	return NULL;
}

static struct base_job *begin_job(const char *name, const struct origin *origin)
{
	struct base_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->draft_fd = -1;
	j->origin = *origin;
	memcpy(j->name, name, sizeof(j->name));
	j->next = bases.jobs;
	bases.jobs = j;
	queue_job(j, BASE_READING, read_run);
	return j;
}

int base_want(const struct instance *shell, struct base_wait *w)
{
	struct base_wait **at;
	struct origin origin;
	struct base_job *j;

	name_for(shell, w->version, &origin, w->name);
	j = find_job(w->name) ?: begin_job(w->name, &origin);
	if (!j)
		return -ENOMEM;
	at = &j->waiting;
	while (*at)
		at = &(*at)->next;
	*at = w;
	w->next = NULL;
	w->version->stage = stage_names[j->stage];
	return 0;
}

void base_pump(void)
{
	struct base_job *next;

	for (struct base_job *j = bases.jobs; j; j = next) {
		struct instance *shell;

		next = j->next;
		if (j->stage != BASE_SHELL || !scheduler_has_room(j->waiting->version))
			continue;
		shell = shell_pool_take(scheduler_ram_class(&j->waiting->version->settings), 1);
		if (shell && base_is_for(j->waiting, shell))
			boot(j, shell);
		else if (shell)
			end_job(j);
	}
}

/* ---- at the start ---------------------------------------------------------------------------- */

static void sweep_run(struct work *work)
{
	struct base_sweep *s = container_of(work, struct base_sweep, work);
	int ret = base_store_sweep(s->origins, s->count);

	if (ret)
		log_warn("bases: %s", strerror(-ret));
}

static void sweep_done(struct work *work)
{
	(void)work;
}

void base_on_shell(const struct instance *shell)
{
	struct base_sweep *s = &bases.sweep;

	if (s->begun || shell->kind != GUEST_KIND_KERNEL || shell->child.adopted)
		return;
	s->begun = true;
	while (s->count < KERNEL_GUEST_ROOTS_MAX &&
	       recapture_root_origin(shell, s->count, &s->origins[s->count]))
		s->count++;
	s->work = (struct work){.run = sweep_run, .done = sweep_done};
	worker_queue_on(WORKER_IMAGES, &s->work);
}
