/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prewarm.c - bring a version's memory in before somebody waits for it
 *
 *   FREE ── OPENING (the worker opens code and snapshot) ── LOADING (page_in.c reads) ── FREE
 *
 * Asked for (snapctl warm), or because recent traffic says that an invocation will come: once a
 * second versions whose working set is not in memory are looked at, and the likely ones are loaded,
 * one at a time, while nothing waits and memory is not short. The predictor is arrivals.c.
 */
#include "snapd/prewarm.h"

#include <errno.h>
#include <stddef.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/budget.h"
#include "snapd/page_in.h"
#include "snapd/scheduler_internal.h"
#include "snapd/version_open.h"

enum {
	JOBS_MAX = 16,
	LOOK_MS = 1000,
	HORIZON_S = 10, /* an invocation within that time is soon */
	LIKELY_PERCENT = 50,
	VERSIONS_MAX = 8, /* of a function, the newest */
	QUIET_S = 3600,	  /* without any traffic for so long, nobody looks */
};

enum job_state { JOB_FREE, JOB_OPENING, JOB_LOADING };

struct job {
	enum job_state state;
	struct version *version;
	struct function *function; /* a reference */
	bool whole, asked;	   /* asked: page-in has taken it */
	prewarm_done_fn done;
	void *arg;
};

static struct {
	struct job jobs[JOBS_MAX];
	unsigned used;
	uint64_t looked_ns, traffic_ns;
} prewarm;

bool prewarm_wanted(unsigned percent, bool loaded, uint64_t room_bytes, uint64_t bytes)
{
	return !loaded && percent >= LIKELY_PERCENT && bytes <= room_bytes;
}

static void finish(struct job *job, const char *text)
{
	struct function *f = job->function;

	job->state = JOB_FREE;
	prewarm.used--;
	job->done(job->arg, job->version, text);
	function_put(f);
}

static void on_opened(struct version *v, const char *text)
{
	for (int i = 0; text && i < JOBS_MAX; i++)
		if (prewarm.jobs[i].state == JOB_OPENING && prewarm.jobs[i].version == v)
			finish(&prewarm.jobs[i], text);
	scheduler_pump(); /* invocations may have waited for the same */
}

static bool is_open(const struct version *v)
{
	return !v->opening && v->code_fd >= 0 && v->template;
}

/** Ask page-in for what is missing. Return: false when it has no room for it yet. */
static bool ask(const struct job *job)
{
	struct template *t = job->version->template;

	/* What is under way may be less than all. */
	if (page_in_is_loading(t))
		return !job->whole;
	return job->whole ? page_in_load(t, PAGE_IN_NOBODY) : page_in_prefetch(t, PAGE_IN_NOBODY);
}

static void step(struct job *job)
{
	struct version *v = job->version;

	if (job->function->deleted) {
		finish(job, "the function was deleted");
		return;
	}
	if (job->state == JOB_OPENING && is_open(v)) {
		template_used(v->template, clock_mono_ns());
		job->state = JOB_LOADING;
	}
	if (job->state != JOB_LOADING)
		return;
	if (!v->template)
		finish(job, "its memory was taken away again: it is short");
	else if (!job->asked)
		job->asked = ask(job);
	else if (!page_in_is_loading(v->template))
		finish(job, NULL);
}

int prewarm_start(struct version *v, bool whole, prewarm_done_fn done, void *arg)
{
	struct job *job = prewarm.jobs;

	while (job < prewarm.jobs + JOBS_MAX && job->state != JOB_FREE)
		job++;
	if (job == prewarm.jobs + JOBS_MAX)
		return -EBUSY;
	*job = (struct job){
		.state = JOB_OPENING,
		.version = v,
		.function = function_get(v->function),
		.whole = whole,
		.done = done,
		.arg = arg,
	};
	prewarm.used++;
	if (v->cold_boot)
		finish(job, "its snapshot cannot be restored and is being made again");
	else if (!v->opening && !is_open(v) && version_open(v, false, on_opened))
		finish(job, "out of memory");
	return 0;
}

/* ---- by itself ------------------------------------------------------------------------------- */

static void on_loaded(void *arg, struct version *v, const char *text)
{
	(void)arg;
	if (text)
		log_info("prewarm: %s:%u: %s", v->function->name, v->number, text);
}

static uint64_t room_bytes(void)
{
	struct budget_view view = budget_view();
	uint64_t room = view.limit_bytes > view.used_bytes ? view.limit_bytes - view.used_bytes : 0;

	if (view.available_bytes != UINT64_MAX)
		room = MIN(room, view.available_bytes > view.reserve_bytes
					 ? view.available_bytes - view.reserve_bytes
					 : 0);
	return room / 2; /* the rest is for instances */
}

static bool is_loaded(const struct version *v)
{
	return v->template &&
	       (template_populate_count(v->template) || !template_has_working_set(v->template));
}

static void consider(struct version *v, uint64_t now_ns)
{
	const struct arrivals *a = &v->load.arrivals;

	prewarm.traffic_ns = MAX(prewarm.traffic_ns, a->last_ns);
	if (!v->number || v->state != VERSION_ACTIVE || v->recording || !a->last_ns)
		return;
	if (prewarm_wanted(arrivals_percent(a, now_ns, HORIZON_S * NSEC_PER_SEC), is_loaded(v),
			   room_bytes(), v->snapshot.working_set_pages * PAGE_BYTES) &&
	    !prewarm.used)
		prewarm_start(v, false, on_loaded, NULL);
}

static void look(uint64_t now_ns)
{
	for (struct function *f = functions_first(); f; f = f->next) {
		struct version *v = f->versions;

		for (int i = 0; v && i < VERSIONS_MAX; i++, v = v->next)
			consider(v, now_ns);
	}
}

void prewarm_turn(uint64_t now_ns)
{
	for (int i = 0; prewarm.used && i < JOBS_MAX; i++)
		if (prewarm.jobs[i].state != JOB_FREE)
			step(&prewarm.jobs[i]);
	if (now_ns - prewarm.looked_ns < LOOK_MS * NSEC_PER_MSEC || scheduler_stats.queued)
		return;
	prewarm.looked_ns = now_ns;
	look(now_ns);
}

uint64_t prewarm_next_ns(void)
{
	uint64_t idle_ns = prewarm.looked_ns - prewarm.traffic_ns;

	if (prewarm.used || (prewarm.traffic_ns && idle_ns < QUIET_S * NSEC_PER_SEC))
		return prewarm.looked_ns + LOOK_MS * NSEC_PER_MSEC;
	return UINT64_MAX;
}

void prewarm_finish(void)
{
	for (int i = 0; i < JOBS_MAX; i++)
		if (prewarm.jobs[i].state != JOB_FREE)
			finish(&prewarm.jobs[i], "snapd is stopping");
}
