/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler.c - which instance serves an invocation, and how it is started
 *
 * Theory of operation
 *
 * An invocation is admitted, or refused at once (admission.c). Admitted, it waits in a queue that
 * is fair to functions (waiting.c) until it has an instance, for queue_timeout_ns at most.
 * try_start() looks for one: an idle instance of its version (keep.c: warm), else a shell which is
 * restored from the version's template, resident or cold, else, for $LATEST, a shell which boots.
 * What it lacks is asked for at the first try: an open template, a shell, room in the budget
 * (budget.c, relief.c). Whoever brings it calls scheduler_pump(), which walks the queue. An
 * instance serves one invocation at a time, so as many run at once as there are invocations, but
 * only so many are begun at once as the CPUs can serve (pace.c).
 *
 * What comes with every invocation takes constant time: free entries, idle instances and shells
 * are lists; a walk tries the oldest of each version that waits, not each invocation, so 200 at
 * once cost 200 tries and not 200 times 200.
 *
 * A request may force the kind of start, for measuring. Such an instance ends after its answer,
 * unless it is to be kept, and a cold start gets a template of its own from an uncached file.
 *
 * Invariants
 *  1. An invocation is either QUEUED or has an instance whose owner it is.
 *  2. Its done() is called exactly once; its entry is free from then on.
 *  3. It holds a reference to its function, so its version lives as long.
 *  4. in_flight of a function, and of all without a reservation, counts what is admitted and not
 *     answered.
 *  5. No instance is started outside of the budget; what waits for room makes idle instances and
 *     templates go, in the order of their last use.
 */
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/cpu_feature.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/admission.h"
#include "snapd/budget.h"
#include "snapd/failure_log.h"
#include "snapd/keep.h"
#include "snapd/kernel_guests.h"
#include "snapd/metrics.h"
#include "snapd/outcome.h"
#include "snapd/page_in.h"
#include "snapd/recapture.h"
#include "snapd/relief.h"
#include "snapd/scheduler_internal.h"
#include "snapd/shell_pool.h"
#include "snapd/uuid.h"
#include "snapd/version_open.h"

enum {
	BUSY_MS = 20,
	BUSY_MAX_MS = 250,
	RAM_EXTRA_MIB = 64,
	STARTS_PER_CPU = 4,
	STARTS_MIN = 8,
	RESERVED_AGE_MS = 100,
	WARM_TO_FRESH = 8,
	/* What a program, or a kernel with one, takes that has never run here, unless it may take
	 * less. */
	UNKNOWN_MIB = 64,
	UNKNOWN_KERNEL_MIB = 128,
};

const char *const start_kind_names[] = {
	[START_ANY] = "none",
	[START_WARM] = "warm",
	[START_RESIDENT] = "resident-restore",
	[START_COLD] = "cold-restore",
	[START_BOOT] = "cold-boot",
};
static_assert(ARRAY_SIZE(start_kind_names) == START_KIND_COUNT, "a name for each kind");

const char *const invocation_failure_names[] = {
	[INVOCATION_SUCCEEDED] = "none",	 [INVOCATION_FAILED_HANDLER] = "handler",
	[INVOCATION_FAILED_EXIT] = "exit",	 [INVOCATION_FAILED_MEMORY] = "memory",
	[INVOCATION_FAILED_INIT] = "init",	 [INVOCATION_FAILED_RESTORE] = "restore",
	[INVOCATION_FAILED_TIMEOUT] = "timeout", [INVOCATION_FAILED_RESPONSE] = "response",
	[INVOCATION_FAILED_REQUEST] = "request", [INVOCATION_FAILED_SERVICE] = "service",
};
static_assert(ARRAY_SIZE(invocation_failure_names) == INVOCATION_FAILURE_COUNT, "a name for each");

struct scheduler_stats scheduler_stats;

static struct {
	struct scheduler_params params;
	struct invocation table[INVOCATIONS_MAX];
	SLIST_HEAD(, invocation) free;
	TAILQ_HEAD(, invocation) by_age;
	struct waiting waiting;
	struct pace pace;
	unsigned unreserved;	  /* in flight */
	uint64_t admitted;	  /* ever */
	unsigned least_in_flight; /* of a function that is refused any more */
	unsigned reserved_total;
	uint64_t reserved_ns; /* when it was added up */
	uint64_t busy_until_ns;
	bool pumping, pump_again;
	struct scheduler_refusal refusal;
} scheduler;

int scheduler_init(const struct scheduler_params *params)
{
	cpu_set_t cpus;
	unsigned cpu_count = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);

	scheduler.params = *params;
	scheduler.params.account_concurrency =
		MIN(params->account_concurrency, (unsigned)INVOCATIONS_MAX);
	TAILQ_INIT(&scheduler.by_age);
	SLIST_INIT(&scheduler.free);
	/* The lowest are used first, so that memory which no burst has needed stays untouched. */
	for (int i = INVOCATIONS_MAX - 1; i >= 0; i--)
		SLIST_INSERT_HEAD(&scheduler.free, &scheduler.table[i], free_link);
	waiting_init(&scheduler.waiting);
	scheduler.least_in_flight = cpu_count + 1;
	pace_init(&scheduler.pace, MAX(cpu_count * STARTS_PER_CPU, (unsigned)STARTS_MIN));
	budget_init(params->memory_budget_bytes, params->max_instances);
	return 0;
}

const char *invocation_request_id(const struct invocation *inv)
{
	return inv->request_id;
}

void *invocation_arg(const struct invocation *inv)
{
	return inv->request.arg;
}

uint32_t scheduler_concurrency_limit(void)
{
	return scheduler.params.account_concurrency;
}

int scheduler_ram_class(const struct function_settings *s)
{
	if (s->guest_kind == GUEST_KIND_KERNEL)
		return shell_pool_class(GUEST_KIND_KERNEL, s->memory_mib);
	return shell_pool_class(GUEST_KIND_PROCESS,
				(uint64_t)s->memory_mib + s->tmp_mib + RAM_EXTRA_MIB);
}

void scheduler_sizes_changed(void)
{
	bool in_use[SHELL_POOL_CLASSES] = {false};

	for (struct function *f = functions_first(); f; f = f->next) {
		for (const struct version *v = &f->latest; v;
		     v = v == &f->latest ? f->versions : v->next) {
			int class = scheduler_ram_class(&v->settings);

			if (class >= 0)
				in_use[class] = true;
		}
	}
	shell_pool_keep_classes(in_use);
}

/* ---- the queue ------------------------------------------------------------------------------- */

static struct invocation *invocation_of(struct waiting_entry *e)
{
	return container_of(e, struct invocation, waiting);
}

void scheduler_leave_queue(struct invocation *inv)
{
	waiting_remove(&scheduler.waiting, &inv->waiting);
	TAILQ_REMOVE(&scheduler.by_age, inv, age_link);
	scheduler_stats.queued--;
}

static void enter_queue(struct invocation *inv)
{
	waiting_push(&scheduler.waiting, &inv->request.version->load.lane, &inv->waiting,
		     inv->created_ns);
	TAILQ_INSERT_TAIL(&scheduler.by_age, inv, age_link);
	scheduler_stats.queued++;
}

/** For how long a start is left alone by what can wait: twice as long as one takes. */
static uint64_t busy_ns(const struct version *v, enum start_kind start)
{
	uint64_t ns = start == START_WARM ? 0 : 2 * v->load.resident_alone_ns;

	return MIN(MAX(ns, BUSY_MS * NSEC_PER_MSEC), BUSY_MAX_MS * NSEC_PER_MSEC);
}

void scheduler_bound(struct invocation *inv, struct instance *inst, enum start_kind start)
{
	struct function_load *load = &inv->function->load;
	uint64_t now = clock_mono_ns();

	/* How fast a queue moves is seen only while there is one. */
	if (load->waiting.since_ns < load->last_start_ns)
		average_add(&load->start_gap_ns, now - load->last_start_ns);
	load->last_start_ns = now;
	scheduler_leave_queue(inv);
	inv->state = INVOCATION_RUNNING;
	inv->inst = inst;
	inv->start = start;
	inv->started_ns = now;
	scheduler.busy_until_ns =
		MAX(scheduler.busy_until_ns, now + busy_ns(inv->request.version, start));
	inv->request.version->load.running++;
	pace_begin(&scheduler.pace, &inv->pace, now);
	if (inv->request.version->template)
		template_used(inv->request.version->template, now);
}

/* ---- the end of an invocation ---------------------------------------------------------------- */

/** What its answer tells of the function's load. */
static void learn_load(const struct invocation *inv, uint64_t now_ns)
{
	struct function_load *load = &inv->function->load;
	bool busy = load->in_flight >= scheduler.least_in_flight;

	if (inv->alone && inv->serial == scheduler.admitted) {
		average_add(&load->alone_ns, now_ns - inv->created_ns);
		if (inv->start == START_RESIDENT)
			average_add(&inv->request.version->load.resident_alone_ns,
				    now_ns - inv->created_ns);
	}
	if (busy && load->last_answer_ns)
		average_add(&load->answer_gap_ns, now_ns - load->last_answer_ns);
	load->last_answer_ns = busy ? now_ns : 0;
}

void scheduler_deliver(struct invocation *inv, struct invocation_outcome *out)
{
	struct function *f = inv->function;
	uint64_t now = clock_mono_ns();

	learn_load(inv, now);
	out->total_ns = now - inv->created_ns;
	out->queue_ns = inv->started_ns ? inv->started_ns - inv->created_ns : out->total_ns;
	out->start = inv->start;
	out->init_ns = inv->init_ns;
	if (inv->inst) {
		struct page_in_account account = page_in_account(inv->inst->slot);

		out->pid = inv->inst->child.pid;
		if (inv->start != START_WARM) {
			out->faults = account.faults;
			out->bytes_read = account.bytes_read;
		}
		inv->inst->owner = NULL;
	}
	if (inv->state == INVOCATION_RUNNING)
		inv->request.version->load.running--;
	pace_end(&scheduler.pace, &inv->pace);
	f->load.in_flight--;
	scheduler.unreserved -= inv->unreserved;
	scheduler_stats.starts[inv->start]++;
	scheduler_stats.errors += out->function_error || out->status != 200;
	scheduler_stats.under_way--;
	inv->request.done(inv, out);
	metrics_invocation(out);
	if (out->failure)
		failure_log_add(inv->request.version, inv->request_id, out);
	inv->state = INVOCATION_FREE;
	inv->function = NULL;
	inv->inst = NULL;
	SLIST_INSERT_HEAD(&scheduler.free, inv, free_link);
	function_put(f);
}

void scheduler_release(struct instance *inst)
{
	uint64_t now = clock_mono_ns();

	/* Ending costs time that the answer must not wait for: it is done in a moment. */
	if (inst->single_use || inst->function->deleted ||
	    (!scheduler.params.keep_warm_ns && !inst->provisioned))
		session_idle_until(inst, now);
	else
		keep_add(inst, now + scheduler.params.keep_warm_ns);
}

/* ---- what an invocation needs ---------------------------------------------------------------- */

/** Its snapshot may come from elsewhere. */
bool scheduler_machine_fits(const struct version *v, const struct instance *inst, char *text,
			    size_t text_size)
{
	const struct snapshot_params *need = snapshot_reader_params(v->template->file->reader);
	uint64_t ram_mib = need->ram_pages * PAGE_BYTES / MIB(1);
	char missing[256];

	if (inst->kind == GUEST_KIND_KERNEL && ram_mib != inst->ram_mib) {
		snprintf(text, text_size,
			 "%s: the snapshot is of a machine with %llu MiB, and this one has %u MiB: "
			 "publish on a node of this version",
			 v->template->name, (unsigned long long)ram_mib, inst->ram_mib);
		return false;
	}
	if (!cpu_features_missing(need->cpu_features, inst->cpu_features, missing, sizeof(missing)))
		return true;
	snprintf(text, text_size,
		 "%s: this host's CPU lacks %s, which the snapshot needs: publish on such a host, "
		 "or with snapd --cpu-baseline x86-64-v3",
		 v->template->name, missing);
	return false;
}

/** Does somebody wait who takes any kind of start? Who forces one wants to know why not. */
static bool takes_any_start(const struct version *v)
{
	struct waiting_entry *e;

	TAILQ_FOREACH(e, &v->load.lane.entries, link)
	if (invocation_of(e)->request.force == START_ANY)
		return true;
	return false;
}

static void on_opened(struct version *v, const char *text)
{
	struct waiting_entry *e;

	if (text)
		log_error("scheduler: %s", text);
	/* Not damaged, but gone, it or its base, or of another version than this snapd's: that is
	 * no dead end. */
	if ((v->open_err == -ENOENT || v->open_err == -ESTALE || v->open_err == -ENOTSUP) &&
	    takes_any_start(v)) {
		recapture_replace(v, text);
		text = NULL;
	}
	/* With the last of them a deleted function goes, and its version. */
	for (unsigned n = text ? v->load.lane.count : 0; n; n--) {
		e = waiting_oldest(&v->load.lane);
		invocation_refuse(invocation_of(e), 500, "ServiceException", text);
	}
	scheduler_pump();
}

/** Is everything of the version open? Asks for it where not. */
static bool version_is_open(struct invocation *inv, bool boot)
{
	struct version *v = inv->request.version;
	bool cold = inv->request.force == START_COLD && !inv->cold_done;

	if (v->opening)
		return false;
	if (cold && v->number && !v->recording) {
		inv->cold_done = true;
		version_drop_template(v);
	} else if (v->code_fd >= 0 && (boot || v->template)) {
		return true;
	}
	if (version_open(v, cold, on_opened))
		invocation_refuse(inv, 500, "ServiceException", "out of memory");
	return false;
}

uint64_t scheduler_instance_bytes(const struct version *v)
{
	bool kernel = v->settings.guest_kind == GUEST_KIND_KERNEL;
	uint64_t most = kernel ? MIB(UNKNOWN_KERNEL_MIB) : MIB(UNKNOWN_MIB);
	uint64_t unknown = MIN(MIB(v->settings.memory_mib), most);
	uint64_t bytes = v->load.private_bytes;

	if (!bytes && v->snapshot.working_set_pages)
		bytes = v->snapshot.working_set_pages * PAGE_BYTES;
	else if (!bytes && v->snapshot.resident_bytes)
		bytes = v->snapshot.resident_bytes;
	return BUDGET_SHELL_BYTES + (bytes ? bytes : unknown);
}

/** Of a process guest. What it had at its capture is shared until it is written, which the working
 * set tells. */
static uint64_t own_bytes_of(const struct instance *inst, uint64_t used_bytes)
{
	const struct version_snapshot *s = &inst->version->snapshot;

	if (!inst->template)
		return used_bytes;
	return s->working_set_pages * PAGE_BYTES +
	       (used_bytes > s->resident_bytes ? used_bytes - s->resident_bytes : 0);
}

void scheduler_learn_memory(struct instance *inst, uint64_t used_bytes, uint64_t own_bytes)
{
	struct version *v = inst->version;
	uint64_t own = inst->kind == GUEST_KIND_KERNEL ? own_bytes : own_bytes_of(inst, used_bytes);

	if (!used_bytes)
		return; /* not known */
	v->load.private_bytes = MAX(v->load.private_bytes, own);
	budget_charge(inst, BUDGET_SHELL_BYTES + own);
}

bool scheduler_has_room(const struct version *v)
{
	uint64_t bytes = scheduler_instance_bytes(v);
	struct instance *oldest;

	for (;;) {
		struct budget_view view = budget_view();
		enum budget_verdict verdict = budget_decide(&view, bytes);

		if (verdict == BUDGET_ROOM)
			return true;
		oldest = keep_oldest();
		if (!oldest) {
			if (verdict == BUDGET_MEMORY)
				relief_want(bytes);
			return false;
		}
		session_end(oldest);
	}
}

/** All slots are taken: end the instance that has been idle for longest. */
static void make_slot(void)
{
	struct instance *oldest = keep_oldest();

	if (oldest && !session_count(INSTANCE_FREE) && !session_count(INSTANCE_ENDING))
		session_end(oldest);
}

/** Start it in a new instance. Return: false when it has to wait for something. */
static bool start_new(struct invocation *inv)
{
	struct version *v = inv->request.version;
	bool boot = !v->number || v->cold_boot || inv->request.force == START_BOOT;
	const char *trouble = kernel_guests_trouble(&v->settings);
	char text[OUTCOME_TEXT_MAX];
	struct instance *inst;

	if (trouble) {
		invocation_refuse(inv, 500, "ServiceException", trouble);
		return true;
	}
	if (v->snapshot_removed && !v->recapture.wanted)
		recapture_replace(v, "its snapshot was removed to save room, and is needed again");
	if (!version_is_open(inv, boot))
		return false;
	if (v->template)
		template_used(v->template, clock_mono_ns());
	if (!scheduler_has_room(v))
		return false;
	inst = shell_pool_take(scheduler_ram_class(&v->settings), v->load.lane.count);
	if (!inst) {
		make_slot();
		return false;
	}
	if (!boot && !scheduler_machine_fits(v, inst, text, sizeof(text))) {
		recapture_replace(v, text);
		boot = true; /* a forced restore too: the reply says what it was */
	}
	budget_charge(inst, scheduler_instance_bytes(v));
	if (boot)
		invocation_start_boot(inv, inst, scheduler.params.init_timeout_ns);
	else
		invocation_start_restore(inv, inst);
	return true;
}

static bool try_start(struct waiting_entry *e)
{
	struct invocation *inv = invocation_of(e);
	struct version *v = inv->request.version;
	enum start_kind force = inv->request.force;
	uint64_t now = clock_mono_ns();
	struct instance *inst = NULL;

	if (v->function->deleted) {
		invocation_refuse(inv, 404, "ResourceNotFoundException",
				  "the function was deleted");
		return true;
	}
	if (!pace_may_start(&scheduler.pace, now))
		return false;
	if (force == START_ANY || force == START_WARM)
		inst = keep_take(v, now);
	if (!inst)
		return start_new(inv);
	invocation_start_warm(inv, inst);
	return true;
}

void scheduler_pump(void)
{
	/* Starting may fail, which ends in here again. */
	scheduler.pump_again = true;
	if (scheduler.pumping)
		return;
	scheduler.pumping = true;
	while (scheduler.pump_again && scheduler.waiting.count) {
		scheduler.pump_again = false;
		waiting_walk(&scheduler.waiting, try_start);
	}
	scheduler.pumping = false;
}

/* ---- admission ------------------------------------------------------------------------------- */

/** What functions have reserved, all together: added up now and then, not for each invocation. */
static unsigned reserved_total(uint64_t now_ns)
{
	if (now_ns - scheduler.reserved_ns > RESERVED_AGE_MS * NSEC_PER_MSEC) {
		scheduler.reserved_ns = now_ns;
		scheduler.reserved_total = 0;
		for (const struct function *f = functions_first(); f; f = f->next)
			scheduler.reserved_total += (unsigned)MAX(function_reserved(f), 0);
	}
	return scheduler.reserved_total;
}

/** What one start costs here: a shell and a restore. Of little weight where invocations that are
 * alone take far less, for they find a warm instance. */
static uint64_t start_cost_ns(const struct version *v)
{
	uint64_t fresh_ns = v->load.resident_alone_ns, alone_ns = v->function->load.alone_ns;

	if (!fresh_ns)
		fresh_ns = shell_pool_make_ns(v->settings.guest_kind) + v->load.resident_ns;
	return alone_ns ? MIN(fresh_ns, alone_ns * WARM_TO_FRESH) : fresh_ns;
}

static struct admission_view view_admission(const struct version *v, uint64_t now_ns)
{
	const struct function_load *load = &v->function->load;

	return (struct admission_view){
		.account_limit = scheduler.params.account_concurrency,
		.reserved_total = reserved_total(now_ns),
		.unreserved = scheduler.unreserved,
		.reserved = function_reserved(v->function),
		.function = load->in_flight,
		.waiting = scheduler.waiting.count,
		.waiting_max = scheduler.params.queue_max,
		.function_waiting = load->waiting.count,
		.standing_ns = load->waiting.count ? now_ns - load->waiting.since_ns : 0,
		.calm_ns = load->overload_ns ? now_ns - load->overload_ns : UINT64_MAX,
		.burst_ns = admission_burst_ns(start_cost_ns(v), scheduler.params.queue_timeout_ns),
		.function_least = scheduler.least_in_flight,
		.answer_gap_ns = load->answer_gap_ns,
		.alone_ns = load->alone_ns ? load->alone_ns : v->load.resident_ns,
	};
}

static const char *const refusal_texts[] = {
	[ADMISSION_GRANTED] = "",
	[ADMISSION_RESERVED] = "Rate Exceeded.",
	[ADMISSION_ACCOUNT] = "Rate Exceeded.",
	[ADMISSION_QUEUE] = "Rate Exceeded: too many requests wait already.",
	[ADMISSION_OVERLOAD] = "Rate Exceeded: the function gets more than this node can do.",
};
static_assert(ARRAY_SIZE(refusal_texts) == ADMISSION_COUNT, "a text for each");

static const enum metric_counter refusal_metrics[] = {
	[ADMISSION_RESERVED] = METRIC_THROTTLES_RESERVED,
	[ADMISSION_ACCOUNT] = METRIC_THROTTLES_ACCOUNT,
	[ADMISSION_QUEUE] = METRIC_THROTTLES_QUEUE,
	[ADMISSION_OVERLOAD] = METRIC_THROTTLES_OVERLOAD,
};
static_assert(ARRAY_SIZE(refusal_metrics) == ADMISSION_COUNT, "a counter for each");

/** Return: false with scheduler.refusal set. */
static bool admit(const struct invocation_request *request, uint64_t now_ns)
{
	struct admission_view view;
	enum admission a;

	if (request->internal && !SLIST_EMPTY(&scheduler.free))
		return true;
	view = view_admission(request->version, now_ns);
	a = SLIST_EMPTY(&scheduler.free) ? ADMISSION_ACCOUNT : admission_decide(&view);
	if (a == ADMISSION_GRANTED)
		return true;
	if (a == ADMISSION_OVERLOAD)
		request->version->function->load.overload_ns = now_ns;
	metrics_add(refusal_metrics[a], 1);
	scheduler.refusal = (struct scheduler_refusal){
		.reason = admission_reasons[a],
		.text = refusal_texts[a],
		.retry_after_s = admission_retry_after_s(a, &view),
		.overload = a == ADMISSION_OVERLOAD,
	};
	return false;
}

unsigned scheduler_unreserved_left(void)
{
	unsigned limit = scheduler.params.account_concurrency;
	unsigned used = scheduler.unreserved + reserved_total(clock_mono_ns());

	return limit > used ? limit - used : 0;
}

const struct scheduler_refusal *scheduler_refusal(void)
{
	return &scheduler.refusal;
}

int scheduler_invoke(const struct invocation_request *request)
{
	struct function *f = request->version->function;
	uint64_t now = clock_mono_ns();
	struct invocation *inv;

	if (!request->internal)
		arrivals_add(&request->version->load.arrivals, now);
	if (!admit(request, now))
		return -EBUSY;
	inv = SLIST_FIRST(&scheduler.free);
	SLIST_REMOVE_HEAD(&scheduler.free, free_link);
	*inv = (struct invocation){
		.state = INVOCATION_QUEUED,
		.request = *request,
		.function = function_get(f),
		.created_ns = now,
		.unreserved = function_reserved(f) < 0,
		.alone = !scheduler_stats.under_way,
		.serial = ++scheduler.admitted,
	};
	if (request->request_id)
		snprintf(inv->request_id, sizeof(inv->request_id), "%s", request->request_id);
	else
		uuid_make(inv->request_id);
	snprintf(inv->trace_id, sizeof(inv->trace_id), "%s", request->trace_id);
	scheduler_stats.under_way++;
	f->load.in_flight++;
	scheduler.unreserved += inv->unreserved;
	enter_queue(inv);
	scheduler_pump();
	return 0;
}

/* ---- time ------------------------------------------------------------------------------------ */

static uint64_t queue_deadline_ns(const struct invocation *inv)
{
	return inv->created_ns + scheduler.params.queue_timeout_ns;
}

/** It has waited for as long as one may. */
static void time_out(struct invocation *inv)
{
	const struct scheduler_refusal refusal = {
		.reason = admission_reasons[ADMISSION_QUEUE],
		.text = "Rate Exceeded: no instance could be started in time.",
		.retry_after_s = 1,
	};
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	metrics_add(METRIC_THROTTLES_QUEUE, 1);
	scheduler_leave_queue(inv);
	outcome_of_refusal(&refusal, buf, &out);
	scheduler_deliver(inv, &out);
}

void scheduler_turn(uint64_t now_ns)
{
	struct invocation *inv;

	while ((inv = TAILQ_FIRST(&scheduler.by_age)) && queue_deadline_ns(inv) <= now_ns)
		time_out(inv);
	if (scheduler.waiting.count && pace_next_ns(&scheduler.pace) <= now_ns)
		scheduler_pump();
}

uint64_t scheduler_next_ns(void)
{
	const struct invocation *inv = TAILQ_FIRST(&scheduler.by_age);

	return inv ? MIN(queue_deadline_ns(inv), pace_next_ns(&scheduler.pace)) : UINT64_MAX;
}

bool scheduler_is_busy(uint64_t now_ns)
{
	return session_count(INSTANCE_RESTORING) + session_count(INSTANCE_INVOKING) > 0 &&
	       now_ns < scheduler.busy_until_ns;
}

void scheduler_end_instances(const struct function *f)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->function == f && inst->state != INSTANCE_FREE)
			session_stop(inst);
	}
	scheduler_pump();
}

void scheduler_retire_instances(const struct version *v)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->version != v || inst->state == INSTANCE_FREE)
			continue;
		inst->single_use = true;
		if (inst->state == INSTANCE_IDLE)
			session_stop(inst);
	}
	scheduler_pump();
}
