/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - a function becomes a version: cold boot, capture, install
 *
 *   PREPARING  worker: directory, copy of the code, empty temporary file
 *   SHELL      until the pool has one
 *   BASE       of a kernel guest: what it is restored from is looked at (base.c), then SHELL again
 *   BOOTING    the runtime initialises until it asks for work
 *   CAPTURING  the vmm writes the snapshot
 *   INSTALLING worker: fsync, rename, config.json; from here on the version exists
 *   TRAINING   one invocation, recorded (if the caller gave an event)
 *
 * The version's state is Pending meanwhile, and its stage says where it is. When a step fails,
 * everything that was made is removed and the caller is told; older versions are not touched.
 *
 * A process guest boots, and its snapshot is whole. A kernel guest is restored from its runtime's
 * base, on which its snapshot is a diff; the version's directory gets a link of the base.
 *
 * A version that there is can go through the same stages again (publish_again()): its new snapshot
 * takes the place of the old one in INSTALLING, and not before.
 */
#include "snapd/publish.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/base.h"
#include "snapd/budget.h"
#include "snapd/function_store.h"
#include "snapd/kernel_guests.h"
#include "snapd/outcome.h"
#include "snapd/page_in.h"
#include "snapd/recapture.h"
#include "snapd/retention.h"
#include "snapd/runtime.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"
#include "snapd/version_open.h"
#include "snapd/worker.h"

enum publish_stage {
	PUBLISH_PREPARING,
	PUBLISH_SHELL,
	PUBLISH_BASE,
	PUBLISH_BOOTING,
	PUBLISH_CAPTURING,
	PUBLISH_INSTALLING,
	PUBLISH_TRAINING,
	PUBLISH_REMOVING,
	PUBLISH_STAGE_COUNT
};

static const char *const stage_names[] = {
	[PUBLISH_PREPARING] = "preparing",
	[PUBLISH_SHELL] = "waiting for a shell",
	[PUBLISH_BASE] = "waiting for the runtime's base",
	[PUBLISH_BOOTING] = "booting",
	[PUBLISH_CAPTURING] = "capturing",
	[PUBLISH_INSTALLING] = "installing",
	[PUBLISH_TRAINING] = "training",
	[PUBLISH_REMOVING] = "removing",
};
static_assert(ARRAY_SIZE(stage_names) == PUBLISH_STAGE_COUNT, "a name for each stage");

struct publish {
	struct work work;
	enum publish_stage stage;
	struct function *function; /* a reference */
	struct version *version;
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	char *settings_text;
	char *train;
	size_t train_bytes;
	bool trained;
	bool again; /* the version is there, and stays whatever happens */
	struct version_snapshot snapshot;
	struct base_wait base_wait;
	struct template *base; /* what it is restored from; a reference */
	char base_name[BASE_LINK_NAME_MAX];
	int dirfd, tmp_fd;
	int err;
	publish_done_fn done; /* NULL: the caller knows that it goes on */
	void *arg;
	uint64_t answer_ns; /* when the caller is told that it goes on */
	unsigned status;
	const char *error_type;
	char text[OUTCOME_TEXT_MAX];
	struct publish *next;
};

static struct {
	struct publish *all;
	uint64_t init_timeout_ns, wait_ns;
} publishing;

void publish_init(uint64_t init_timeout_ns, uint64_t wait_ns)
{
	publishing.init_timeout_ns = init_timeout_ns;
	publishing.wait_ns = wait_ns;
}

static void enter_stage(struct publish *p, enum publish_stage stage)
{
	p->stage = stage;
	p->version->stage = stage_names[stage];
	log_debug("publish %s:%u: %s", p->name, p->number, stage_names[stage]);
}

static void queue_work(struct publish *p, void (*run)(struct work *), void (*done)(struct work *))
{
	p->work = (struct work){.run = run, .done = done};
	worker_queue(&p->work);
}

/* ---- the end --------------------------------------------------------------------------------- */

/** Tell the caller, unless that was done. */
static void answer(struct publish *p, struct version *v)
{
	if (p->done)
		p->done(p->arg, v, v ? 201 : p->status, v ? NULL : p->error_type,
			v ? NULL : p->text);
	p->done = NULL;
	p->answer_ns = UINT64_MAX;
}

void publish_turn(uint64_t now_ns)
{
	for (struct publish *p = publishing.all; p; p = p->next)
		if (p->answer_ns <= now_ns && p->stage != PUBLISH_REMOVING)
			answer(p, p->version);
}

uint64_t publish_next_ns(void)
{
	uint64_t next = UINT64_MAX;

	for (const struct publish *p = publishing.all; p; p = p->next)
		if (p->stage != PUBLISH_REMOVING)
			next = MIN(next, p->answer_ns);
	return next;
}

static void publish_free(struct publish *p)
{
	struct publish **at = &publishing.all;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (p->again)
		p->version->recapture.under_way = false;
	else
		p->function->busy_publishing = false;
	function_put(p->function);
	template_put(p->base);
	cleanup_fd(&p->dirfd);
	cleanup_fd(&p->tmp_fd);
	free(p->settings_text);
	free(p->train);
	free(p);
}

static void remove_run(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	if (!p->again)
		store_version_remove(p->name, p->number);
	else if (p->dirfd >= 0)
		store_version_forget_tmp(p->dirfd);
}

static void remove_done(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	p->version->stage = "";
	if (!p->again) {
		function_remove_version(p->function, p->version);
		p->version = NULL;
	}
	answer(p, NULL);
	publish_free(p);
}

static void publish_fail(struct publish *p, unsigned status, const char *type, const char *text)
{
	p->status = status;
	p->error_type = type;
	if (text != p->text)
		snprintf(p->text, sizeof(p->text), "%s", text);
	log_warn("publish %s:%u: %s: %s", p->name, p->number, stage_names[p->stage], p->text);
	if (!p->again) {
		p->version->state = VERSION_FAILED;
		snprintf(p->version->reason, sizeof(p->version->reason), "%.255s", p->text);
	}
	enter_stage(p, PUBLISH_REMOVING);
	queue_work(p, remove_run, remove_done);
}

static void fail_errno(struct publish *p, int err)
{
	char text[160];

	snprintf(text, sizeof(text), "%s: %s", stage_names[p->stage], strerror(-err));
	publish_fail(p, 500, err == -ENOSPC ? "CodeStorageExceededException" : "ServiceException",
		     text);
}

static void publish_succeed(struct publish *p)
{
	retention_look();
	p->version->stage = "";
	answer(p, p->version);
	publish_free(p);
}

/* ---- TRAINING -------------------------------------------------------------------------------- */

static void on_trained(struct invocation *inv, const struct invocation_outcome *out)
{
	struct publish *p = invocation_arg(inv);

	if (out->status != 200 || out->function_error)
		log_warn("publish %s:%u: the training event failed: %.*s", p->name, p->number,
			 (int)MIN(out->payload_bytes, (size_t)300), (const char *)out->payload);
	p->trained = true; /* publish_pump() waits for the end of its recording */
}

static void train(struct publish *p)
{
	struct invocation_request request = {
		.version = p->version,
		.payload = p->train,
		.payload_bytes = p->train_bytes,
		.client_context = "",
		.trace_id = "",
		.internal = true,
		.force = START_RESIDENT, /* an instance of its own, that ends afterwards */
		.done = on_trained,
		.arg = p,
	};

	enter_stage(p, PUBLISH_TRAINING);
	if (scheduler_invoke(&request))
		publish_succeed(p); /* too busy: the first invocation will be recorded */
}

/* ---- INSTALLING ------------------------------------------------------------------------------ */

static void install_run(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	const struct store_base base = {
		.fd = p->base ? p->base->file->fd : -1,
		.name = p->base_name,
	};

	p->err = store_version_install(p->dirfd, p->tmp_fd, p->settings_text,
				       p->base ? &base : NULL);
}

/** The next restore is from the new file; what runs from the old one ends after its answer. */
static void take_over(struct version *v)
{
	version_drop_template(v);
	v->record_tries = 0;
	v->cold_boot = v->snapshot_removed = false;
	scheduler_retire_instances(v);
}

static void install_done(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	if (p->err) {
		fail_errno(p, p->err);
		return;
	}
	cleanup_fd(&p->tmp_fd);
	p->tmp_fd = -1;
	if (p->function->deleted) {
		publish_fail(p, 404, "ResourceNotFoundException", "the function was deleted");
		return;
	}
	p->version->snapshot = p->snapshot;
	if (p->again)
		take_over(p->version);
	p->version->state = VERSION_ACTIVE;
	log_info("publish %s:%u: %s %llu ms, capture %llu ms, %llu KiB in use, file of %llu KiB",
		 p->name, p->number, p->base ? "start from its base" : "boot",
		 (unsigned long long)p->version->snapshot.boot_ms,
		 (unsigned long long)p->version->snapshot.capture_ms,
		 (unsigned long long)p->version->snapshot.resident_bytes >> 10,
		 (unsigned long long)p->version->snapshot.file_bytes >> 10);
	if (p->train)
		train(p);
	else
		publish_succeed(p);
}

/* ---- BOOTING, CAPTURING ---------------------------------------------------------------------- */

static char *make_metadata(const struct publish *p)
{
	struct utsname host;
	json_t *root;
	char *text;

	uname(&host);
	root = json_pack("{s:s, s:I, s:s, s:s, s:i, s:s, s:I, s:o*}", "function", p->name,
			 "version", (json_int_t)p->number, "runtime", p->version->settings.runtime,
			 "handler", p->version->settings.handler, "memory_mib",
			 (int)p->version->settings.memory_mib, "host_kernel", host.release,
			 "created_s", (json_int_t)(clock_real_ns() / NSEC_PER_SEC), "origin",
			 origin_json(&p->snapshot.origin));
	text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	return text;
}

static void on_ready(struct instance *inst, const struct proto_ready *ready)
{
	struct publish *p = inst->owner;
	CLEANUP_FREE char *metadata = make_metadata(p);

	p->snapshot.boot_ms = ready->init_ns / 1000000;
	enter_stage(p, PUBLISH_CAPTURING);
	if (session_capture(inst, p->tmp_fd, metadata ? metadata : "{}",
			    p->base ? p->base_name : NULL))
		publish_fail(p, 500, "ServiceException", "the vmm does not read");
}

static void on_captured(struct instance *inst, const struct proto_captured *captured)
{
	struct publish *p = inst->owner;
	struct version_snapshot *s = &p->snapshot;
	struct version changed = *p->version;

	inst->owner = NULL;
	if (captured->error) {
		fail_errno(p, captured->error);
	} else {
		s->capture_ms = captured->capture_ns / 1000000;
		s->resident_bytes = captured->resident_pages * PAGE_BYTES;
		s->file_bytes = captured->file_bytes;
		/* Less than the host has, by a baseline: it may be restored on other hosts. */
		memcpy(s->origin.cpu, captured->cpu_features, sizeof(s->origin.cpu));
		changed.snapshot = *s;
		p->settings_text = store_settings_text(&changed);
		enter_stage(p, PUBLISH_INSTALLING);
		if (p->settings_text)
			queue_work(p, install_run, install_done);
		else
			fail_errno(p, -ENOMEM);
	}
	session_end(inst);
}

/** Its own error is the user's to see, as JSON text in the message. */
static void on_failed(struct instance *inst, const struct session_failure *failure)
{
	struct publish *p = inst->owner;
	struct invocation_outcome out = {0};
	char buf[OUTCOME_TEXT_MAX];

	inst->owner = NULL;
	outcome_of_failure(failure, "publish", p->version->settings.timeout_s,
			   p->stage == PUBLISH_BOOTING, buf, &out);
	snprintf(p->text, sizeof(p->text), "%.*s", (int)MIN(out.payload_bytes, sizeof(p->text) - 1),
		 (const char *)out.payload);
	log_ring_add(function_log(p->function), "init", failure->text, failure->text_bytes);
	if (out.function_error)
		publish_fail(p, 400, "SnapStartException", p->text);
	else
		publish_fail(p, out.status, out.error_type,
			     failure->kind == SESSION_FAILED_STOPPED ? "stopped" : p->text);
}

static const struct session_events publish_events = {
	.ready = on_ready,
	.captured = on_captured,
	.failed = on_failed,
};

/** All of the base will be wanted: its kernel's memory is, and what is left as it is has to be read
 * for that. */
static int start_from_base(struct publish *p, struct instance *inst,
			   const struct runtime_command *command)
{
	int ret;

	template_used(p->base, clock_mono_ns());
	ret = session_start(inst, p->base, command->argv, (const char *const *)command->envp,
			    publishing.init_timeout_ns);
	if (!ret)
		page_in_load(p->base, inst->slot);
	return ret;
}

static void boot(struct publish *p, struct instance *inst)
{
	const struct function_settings *s = &p->version->settings;
	struct runtime_command command;
	int ret = runtime_command_make(p->version, &command);

	budget_charge(inst, scheduler_instance_bytes(p->version));
	enter_stage(p, PUBLISH_BOOTING);
	recapture_origin(inst, p->version, &p->snapshot.origin);
	session_adopt(inst, p->version, p, &publish_events);
	if (ret)
		session_end(inst);
	else if (p->base)
		ret = start_from_base(p, inst, &command);
	else
		ret = session_boot(inst, command.argv, (const char *const *)command.envp,
				   MIB(s->memory_mib), MIB(s->tmp_mib), publishing.init_timeout_ns);
	runtime_command_free(&command);
	if (ret)
		fail_errno(p, ret);
	else
		session_limit_memory(inst);
}

/* ---- SHELL, BASE ----------------------------------------------------------------------------- */

static void on_base(struct base_wait *w, struct template *base)
{
	struct publish *p = container_of(w, struct publish, base_wait);

	if (!base && w->verdict.status) {
		publish_fail(p, w->verdict.status, w->verdict.error_type, w->verdict.text);
		return;
	}
	template_put(p->base);
	p->base = base ? template_get(base) : NULL;
	if (base)
		base_store_link_name(base, p->base_name);
	enter_stage(p, PUBLISH_SHELL); /* the next turn looks for one */
}

/** A kernel guest needs the base that is for this shell's host and vmm. */
static bool has_base(const struct publish *p, const struct instance *shell)
{
	return p->version->settings.guest_kind != GUEST_KIND_KERNEL ||
	       (p->base && base_is_for(&p->base_wait, shell));
}

static void use_shell(struct publish *p, struct instance *shell)
{
	int ret;

	if (has_base(p, shell)) {
		boot(p, shell);
		return;
	}
	enter_stage(p, PUBLISH_BASE);
	p->base_wait = (struct base_wait){.version = p->version, .done = on_base};
	ret = base_want(shell, &p->base_wait);
	if (ret)
		fail_errno(p, ret);
}

/* ---- PREPARING ------------------------------------------------------------------------------- */

static void prepare_run(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	p->err = p->again ? store_version_reopen(p->name, p->number, &p->dirfd, &p->tmp_fd)
			  : store_version_prepare(p->name, p->number, &p->dirfd, &p->tmp_fd);
}

static void on_code_opened(struct version *v, const char *text)
{
	struct publish *p = publishing.all;

	while (p && p->version != v)
		p = p->next;
	if (!p)
		return;
	if (text) {
		publish_fail(p, 500, "ServiceException", text);
		return;
	}
	enter_stage(p, PUBLISH_SHELL);
	publish_pump();
}

static void prepare_done(struct work *work)
{
	struct publish *p = container_of(work, struct publish, work);

	if (!p->err && p->version->code_fd >= 0) {
		on_code_opened(p->version, NULL);
		return;
	}
	if (!p->err)
		p->err = version_open(p->version, false, on_code_opened);
	if (p->err)
		fail_errno(p, p->err);
}

static void start(struct publish *p, struct version *v, publish_done_fn done, void *arg)
{
	p->version = v;
	p->function = function_get(v->function);
	p->number = v->number;
	snprintf(p->name, sizeof(p->name), "%s", v->function->name);
	p->dirfd = p->tmp_fd = -1;
	p->done = done;
	p->arg = arg;
	p->answer_ns = UINT64_MAX;
	p->next = publishing.all;
	publishing.all = p;
	enter_stage(p, PUBLISH_PREPARING);
	queue_work(p, prepare_run, prepare_done);
}

int publish_again(struct version *v, publish_done_fn done, void *arg)
{
	struct publish *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->again = true;
	v->recapture.under_way = true;
	start(p, v, done, arg);
	return 0;
}

int publish_start(struct function *f, char *train, size_t train_bytes, bool to_the_end,
		  publish_done_fn done, void *arg)
{
	struct publish *p = f->busy_publishing ? NULL : calloc(1, sizeof(*p));
	struct version *v = p ? function_add_version(f, f->last_number + 1) : NULL;

	if (!v) {
		free(p);
		free(train);
		return f->busy_publishing ? -EBUSY : -ENOMEM;
	}
	f->busy_publishing = true;
	p->train = train;
	p->train_bytes = train_bytes;
	start(p, v, done, arg);
	if (!to_the_end)
		p->answer_ns = clock_mono_ns() + publishing.wait_ns;
	return 0;
}

void publish_pump(void)
{
	struct publish *next;

	base_pump();
	for (struct publish *p = publishing.all; p; p = next) {
		struct instance *inst;

		next = p->next;
		if (p->stage == PUBLISH_TRAINING && p->trained && !p->version->recording) {
			publish_succeed(p);
		} else if (p->stage == PUBLISH_SHELL && p->function->deleted) {
			publish_fail(p, 404, "ResourceNotFoundException",
				     "the function was deleted");
		} else if (p->stage == PUBLISH_SHELL &&
			   kernel_guests_trouble(&p->version->settings)) {
			publish_fail(p, 400, "InvalidParameterValueException",
				     kernel_guests_trouble(&p->version->settings));
		} else if (p->stage == PUBLISH_SHELL) {
			if (!scheduler_has_room(p->version))
				continue;
			inst = shell_pool_take(scheduler_ram_class(&p->version->settings), 1);
			if (inst)
				use_shell(p, inst);
		}
	}
}
