/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recapture.c - make snapshots again that are stale or cannot be restored, in the background
 *
 * Theory of operation
 *
 * What snapshots would be made with now is known in two halves: the runtime's files, which the
 * worker looks at now and then (of kernel guests images, which stay the same until snapd ends), and
 * the host's CPU and the vmm's state version, which the first shell of each kind tells. When both
 * are there or one has changed, every version is judged by what its own was made with (origin.h). A
 * stale one serves on; one that is dead is not touched any more, its invocations boot. Either is
 * published again under its own number, one at a time and not while a restore is under way; when
 * the new file is in its place the template is dropped, so that the next restore is from that, and
 * instances of the old one end after their answer.
 *
 *      GOOD ──judged, or recapture_replace()──> WANTED ──publish_again()──> UNDER WAY ──> GOOD
 *                                                 ^───── failed: later ────────┘
 *
 * A version whose snapshot was removed to save room waits for an invocation before it is WANTED.
 */
#include "snapd/recapture.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/kernel_guests.h"
#include "snapd/publish.h"
#include "snapd/scheduler.h"
#include "snapd/version_open.h"
#include "snapshot-format/snapshot.h"

enum { RETRY_FIRST_S = 60, RETRY_MAX_S = 3600, RETRY_DOUBLINGS_MAX = 6 };

static struct {
	char runtime_dir[PATH_MAX];
	uint64_t check_ns, next_check_ns;
	struct work work;
	bool checking;
	int err;
	struct origin found; /* by the worker */
	struct origin now;
	struct origin kernels; /* of the host, what kernel guests are made with */
	bool files_known, host_known, kernels_known;
	bool judge;  /* something has changed: judge all */
	bool wanted; /* perhaps */
	bool under_way;
	uint64_t retry_ns;
} recapture;

int recapture_init(const struct recapture_params *params)
{
	int ret;

	snprintf(recapture.runtime_dir, sizeof(recapture.runtime_dir), "%s", params->runtime_dir);
	recapture.check_ns = params->check_ns;
	recapture.next_check_ns =
		params->check_ns ? clock_mono_ns() + params->check_ns : UINT64_MAX;
	recapture.now.format = recapture.kernels.format = SNAPSHOT_FORMAT_VERSION;
	ret = origin_read_files(recapture.runtime_dir, &recapture.now);
	recapture.files_known = !ret;
	recapture.judge = true;
	recapture.retry_ns = UINT64_MAX;
	return ret;
}

/** The half that is files: of a kernel guest they are images. Return: whether they are known. */
static bool now_for(const struct version *v, struct origin *ret)
{
	if (v->settings.guest_kind == GUEST_KIND_KERNEL) {
		*ret = recapture.kernels;
		return kernel_guests_origin(&v->settings, ret);
	}
	*ret = recapture.now;
	return recapture.files_known;
}

/** The half that a shell tells. */
static void set_host(struct origin *o, const struct instance *shell)
{
	o->state_version = shell->state_version;
	memcpy(o->cpu, shell->cpu_features, sizeof(o->cpu));
}

void recapture_origin(const struct instance *inst, const struct version *v, struct origin *ret)
{
	bool files_known = now_for(v, ret);

	ret->known = files_known && inst->state_version;
	set_host(ret, inst);
}

bool recapture_root_origin(const struct instance *shell, unsigned root, struct origin *ret)
{
	*ret = recapture.kernels;
	set_host(ret, shell);
	return kernel_guests_root_origin(root, ret);
}

/* ---- what is there now ----------------------------------------------------------------------- */

static void check_run(struct work *work)
{
	(void)work;
	recapture.err = origin_read_files(recapture.runtime_dir, &recapture.found);
}

static void check_done(struct work *work)
{
	(void)work;
	recapture.checking = false;
	if (recapture.err) {
		log_warn("recapture: %s: %s", recapture.runtime_dir, strerror(-recapture.err));
		return;
	}
	recapture.judge |= !recapture.files_known ||
			   recapture.found.mapped != recapture.now.mapped ||
			   recapture.found.read != recapture.now.read;
	recapture.now.mapped = recapture.found.mapped;
	recapture.now.read = recapture.found.read;
	recapture.files_known = true;
}

static void check_files(uint64_t now_ns)
{
	if (recapture.checking || now_ns < recapture.next_check_ns)
		return;
	recapture.checking = true;
	recapture.next_check_ns = now_ns + recapture.check_ns;
	recapture.work = (struct work){.run = check_run, .done = check_done};
	worker_queue(&recapture.work);
}

/** All shells of a kind that this snapd has made are of one vmm on one host: the first one tells.
 */
void recapture_on_shell(const struct instance *inst)
{
	bool kernel = inst->kind == GUEST_KIND_KERNEL;
	struct origin *now = kernel ? &recapture.kernels : &recapture.now;
	bool *known = kernel ? &recapture.kernels_known : &recapture.host_known;

	if (*known || inst->child.adopted)
		return;
	set_host(now, inst);
	*known = now->known = recapture.judge = true;
}

/* ---- judging --------------------------------------------------------------------------------- */

static void want(struct version *v, const char *why)
{
	if (!v->recapture.wanted)
		log_info("recapture: %s:%u: %s", v->function->name, v->number, why);
	v->recapture.wanted = true;
	recapture.wanted = true;
}

void recapture_replace(struct version *v, const char *why)
{
	v->cold_boot = true;
	if (!v->recording) /* else take_over() in publish.c does it */
		version_drop_template(v);
	want(v, why);
}

static void judge_version(struct version *v)
{
	bool kernel = v->settings.guest_kind == GUEST_KIND_KERNEL;
	char why[ORIGIN_WHY_MAX];
	struct origin now;

	if (v->state != VERSION_ACTIVE || v->recapture.under_way || v->snapshot_removed ||
	    !(kernel ? recapture.kernels_known : recapture.host_known) || !now_for(v, &now))
		return;
	switch (origin_judge(&v->snapshot.origin, &now, why)) {
	case ORIGIN_GOOD:
		/* What has changed has changed back. */
		v->recapture.wanted = v->cold_boot = false;
		break;
	case ORIGIN_STALE:
		v->cold_boot = false;
		want(v, why);
		break;
	case ORIGIN_DEAD:
		recapture_replace(v, why);
		break;
	}
}

static void judge_all(void)
{
	if (!recapture.judge || !recapture.files_known ||
	    !(recapture.host_known || recapture.kernels_known))
		return;
	recapture.judge = false;
	for (struct function *f = functions_first(); f; f = f->next)
		for (struct version *v = f->versions; v; v = v->next)
			judge_version(v);
}

/* ---- making again ---------------------------------------------------------------------------- */

static void on_done(void *arg, struct version *v, unsigned status, const char *error_type,
		    const char *text)
{
	struct version *tried = arg;
	unsigned doublings;

	(void)status;
	(void)error_type;
	recapture.under_way = false;
	tried->recapture.under_way = false;
	if (v) {
		v->recapture = (struct version_recapture){.wanted = false};
		v->cold_boot = v->snapshot_removed = false;
		recapture.judge = true; /* files may have changed meanwhile */
		return;
	}
	doublings = MIN(tried->recapture.failures, (unsigned)RETRY_DOUBLINGS_MAX);
	tried->recapture.failures++;
	tried->recapture.retry_ns =
		clock_mono_ns() +
		MIN((uint64_t)RETRY_FIRST_S << doublings, (uint64_t)RETRY_MAX_S) * NSEC_PER_SEC;
	log_warn("recapture: %s:%u: %s: %s", tried->function->name, tried->number, text,
		 tried->cold_boot ? "its invocations boot" : "the old snapshot serves on");
}

/** Those that nobody can restore first. */
static struct version *choose(uint64_t now_ns)
{
	struct version *found = NULL;

	recapture.wanted = false;
	recapture.retry_ns = UINT64_MAX;
	for (struct function *f = functions_first(); f; f = f->next)
		for (struct version *v = f->versions; v; v = v->next) {
			if (!v->recapture.wanted || v->state != VERSION_ACTIVE)
				continue;
			recapture.wanted = true;
			if (v->recapture.retry_ns > now_ns)
				recapture.retry_ns = MIN(recapture.retry_ns, v->recapture.retry_ns);
			else if (!v->opening && !v->recording &&
				 (!found || (v->cold_boot && !found->cold_boot)))
				found = v;
		}
	return found;
}

static void start_one(uint64_t now_ns)
{
	struct version *v;

	if (!recapture.wanted || recapture.under_way || scheduler_is_busy(now_ns))
		return;
	v = choose(now_ns);
	if (!v || publish_again(v, on_done, v))
		return;
	recapture.under_way = true;
	v->recapture.under_way = true;
}

void recapture_turn(uint64_t now_ns)
{
	check_files(now_ns);
	judge_all();
	start_one(now_ns);
}

uint64_t recapture_next_ns(void)
{
	return MIN(recapture.next_check_ns, recapture.wanted ? recapture.retry_ns : UINT64_MAX);
}
