/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - snapd: the daemon that serves functions */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/cpu_feature.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "common/version.h"
#include "snapd/api.h"
#include "snapd/base.h"
#include "snapd/budget.h"
#include "snapd/code_unpacker.h"
#include "snapd/event_loop.h"
#include "snapd/event_queue.h"
#include "snapd/fd_store.h"
#include "snapd/front.h"
#include "snapd/function_store.h"
#include "snapd/handover.h"
#include "snapd/host.h"
#include "snapd/http_api.h"
#include "snapd/keep.h"
#include "snapd/kernel_guests.h"
#include "snapd/layer_store.h"
#include "snapd/options.h"
#include "snapd/page_in.h"
#include "snapd/prewarm.h"
#include "snapd/provision.h"
#include "snapd/publish.h"
#include "snapd/readiness.h"
#include "snapd/recapture.h"
#include "snapd/relief.h"
#include "snapd/retention.h"
#include "snapd/scheduler.h"
#include "snapd/scheduler_internal.h"
#include "snapd/service_manager.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"
#include "snapd/takeover.h"
#include "snapd/worker.h"

/** struct resources - what lives as long as the daemon. */
struct resources {
	int kvm_fd, uffd_fd, vmm_fd, seccomp_fd, kernel_seccomp_fd, cpuid_fd, root_fd, runtime_fd;
};

/** LEAVE_S: how long an answer is waited for when snapd ends and its instances do not. */
enum { LEAVE_S = 30, LOOP_NICE = -10 };

static bool backlog; /* work is left from this turn */
static int signal_fd = -1;
static uint64_t leave_ns = UINT64_MAX; /* when it ends at the latest */

/* ---- one turn of the loop -------------------------------------------------------------------- */

/** Another snapd serves: only what is under way is still ours. */
static void turn_after_takeover(uint64_t now)
{
	/* What is made is for invocations that wait here for it. */
	shell_pool_refill(true, now);
	if (!http_waiting() && !session_count(INSTANCE_RESTORING) &&
	    !session_count(INSTANCE_INVOKING))
		event_loop_stop();
}

static void turn(void)
{
	uint64_t now;

	http_turn(); /* replies first: somebody waits for them */
	backlog = page_in_work();
	backlog |= session_work();
	now = clock_mono_ns();
	session_check_deadlines(now);
	scheduler_turn(now);
	takeover_turn(now);
	if (takeover_is_given()) {
		if (takeover_is_over())
			turn_after_takeover(now);
		return;
	}
	provision_turn(now);
	prewarm_turn(now);
	backlog |= relief_turn(now, !scheduler_stats.under_way);
	publish_pump();
	publish_turn(now);
	recapture_turn(now);
	retention_turn(now);
	event_queue_turn(now);
	shell_pool_refill(scheduler_is_busy(now), now);
	service_manager_turn(now);
	fd_store_turn(now);
	if (leave_ns != UINT64_MAX && (!http_waiting() || now >= leave_ns))
		event_loop_stop();
}

static uint64_t wait_ns(void)
{
	uint64_t now = clock_mono_ns(), http_ns = http_wait_ns();
	uint64_t next = MIN(session_next_deadline_ns(), scheduler_next_ns());

	next = MIN(next, shell_pool_next_ns());
	next = MIN(next, event_queue_next_ns());
	next = MIN(next, service_manager_next_ns());
	next = MIN(next, fd_store_next_ns());
	next = MIN(next, takeover_next_ns());
	if (takeover_is_given()) /* of the rest nothing is done any more */
		next = now + 10 * NSEC_PER_MSEC;
	next = MIN(next, leave_ns);
	next = MIN(next, relief_next_ns());
	next = MIN(next, provision_next_ns());
	next = MIN(next, prewarm_next_ns());
	next = MIN(next, publish_next_ns());
	next = MIN(next, recapture_next_ns());
	next = MIN(next, retention_next_ns());
	if (backlog || next <= now)
		return 0;
	return MIN(http_ns, next == UINT64_MAX ? UINT64_MAX : next - now);
}

static void on_signal(const struct loop_event *event)
{
	struct signalfd_siginfo info = {0};

	(void)event;
	if (read(signal_fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGHUP) {
		front_reload();
		event_loop_poll_once(LOOP_SIGNAL, 0, 0, signal_fd);
		return;
	}
	log_info("stopping");
	service_manager_stopping();
	readiness_stop();
	if (!handover_is_kept() || leave_ns != UINT64_MAX) {
		event_loop_stop();
		return;
	}
	/* Instances stay. Who waits for an answer has it first; a second signal ends that. */
	http_quiesce();
	leave_ns = clock_mono_ns() + LEAVE_S * NSEC_PER_SEC;
	event_loop_poll_once(LOOP_SIGNAL, 0, 0, signal_fd);
}

/** Who has it in a list, or counts it, lets go of it. */
static void on_moved(struct instance *inst, enum instance_state from)
{
	if (from == INSTANCE_IDLE)
		keep_left(inst);
	else if (from == INSTANCE_SPAWNING || from == INSTANCE_SHELL)
		shell_pool_moved(inst, from);
	if (inst->state != INSTANCE_ENDING)
		return;
	budget_charge(inst, 0);
	if (inst->provisioned)
		provision_ended(inst);
}

static void on_shell(struct instance *inst)
{
	shell_pool_on_shell(inst);
	recapture_on_shell(inst);
	base_on_shell(inst);
	publish_pump();
	scheduler_pump();
}

/* ---- start ----------------------------------------------------------------------------------- */

static void block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		die("signalfd: %m");
	event_loop_handle(LOOP_SIGNAL, on_signal);
	event_loop_poll_once(LOOP_SIGNAL, 0, 0, signal_fd);
}

enum { DESCRIPTORS_MIN = 4096 };

/** An instance takes three, a template seven, a connection one. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max < DESCRIPTORS_MIN)
		log_warn("start: %llu descriptors at most: hundreds of instances need more "
			 "(ulimit -n)",
			 (unsigned long long)limit.rlim_max);
}

/** The directory of a file that is to be made: /run/quickthaw on a fresh machine. */
static void make_parent(const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	if (mkdir(dirname(copy), 0755) && errno != EEXIST)
		die("%s: %m: choose another place with --socket or --state", path);
}

static void open_store(const struct options *o)
{
	int ret;

	make_parent(o->state);
	ret = store_open(o->state);
	if (ret == -EBUSY)
		die("%s: another snapd serves from this directory: stop it, or choose another with "
		    "--state",
		    o->state);
	if (!ret)
		ret = store_load();
	if (!ret)
		ret = layer_store_open(o->state);
	if (ret)
		die("%s: %s: functions and snapshots are kept there: make it writable, or choose "
		    "another with --state",
		    o->state, strerror(-ret));
}

static void open_files(const struct options *o, struct resources *res)
{
	char path[PATH_MAX + 32], state[PATH_MAX];
	int ret;

	res->vmm_fd = open(o->vmm, O_PATH | O_CLOEXEC);
	if (res->vmm_fd < 0)
		die("%s: %m: it runs the virtual machines: say where it is with --vmm", o->vmm);
	if (!*o->unpacker)
		die("unpacker: not found beside snapd: it belongs where the vmm program is: "
		    "install it again");
	ret = code_unpacker_init(o->unpacker);
	if (ret)
		die("%s: %s: it reads uploaded code", o->unpacker, strerror(-ret));
	snprintf(path, sizeof(path), "%s/bootstrap.py", o->runtime_dir);
	if (access(path, R_OK))
		die("%s: %m: it starts functions: say where it is with --runtime-dir", path);
	ret = sandbox_dir_open(o->runtime_dir, &res->runtime_fd);
	if (ret)
		die("%s: %s: choose another with --runtime-dir", o->runtime_dir, strerror(-ret));
	if (!realpath(o->state, state))
		die("%s: %m", o->state);
	snprintf(path, sizeof(path), "%s/root", state);
	ret = sandbox_root_build(path, NULL, &res->root_fd);
	if (ret)
		die("%s: the guests' file tree: %s", path, strerror(-ret));
	ret = sandbox_seccomp_export(SANDBOX_STAGE_GUEST, &res->seccomp_fd);
	if (!ret)
		ret = sandbox_seccomp_export(SANDBOX_STAGE_KERNEL, &res->kernel_seccomp_fd);
	if (ret)
		die("seccomp: %s: guests are not run without a filter", strerror(-ret));
}

static void open_kernel_guests(const struct options *o, const struct resources *res)
{
	const struct base_store_params bases = {
		.state_dir = o->state, .vmm_fd = res->vmm_fd, .cpu_baseline = o->cpu_baseline};
	int ret = kernel_guests_init(o->kernel_guests, o->state, cpu_host_runs_kernels());

	if (ret)
		die("%s: %s: functions with GuestKind kernel boot from there: see "
		    "--kernel-guests",
		    o->kernel_guests, strerror(-ret));
	ret = kernel_guests_run_here() ? base_init(&bases, o->init_timeout_s * NSEC_PER_SEC) : 0;
	if (ret)
		die("%s/bases: %s: what kernel guests are restored from at their publication is "
		    "kept there",
		    o->state, strerror(-ret));
}

static void start_events(const struct options *o)
{
	char path[PATH_MAX + 16];
	const struct event_queue_params params = {
		.path = path,
		.destination_dir = o->destination_dir,
		.events_max = o->event_queue,
		.bytes_max = EVENT_BYTES_MAX,
		.concurrency = o->event_concurrency,
		.retry_delay_ns = o->event_retry_delay_s * NSEC_PER_SEC,
	};

	if (*o->destination_dir && o->destination_dir[0] != '/')
		die("--destination-dir %s: give an absolute path", o->destination_dir);
	snprintf(path, sizeof(path), "%s/events.db", o->state);
	if (event_queue_init(&params)) /* it has said why */
		die("%s: accepted events are kept there, so snapd does not start without it", path);
}

static const struct options *events_options;

static void pause_events(void)
{
	event_queue_stop();
	event_queue_finish();
}

static void resume_events(void)
{
	if (worker_restart(WORKER_EVENTS))
		die("take-over: no thread for events");
	start_events(events_options);
}

static void take_back(struct instance *inst)
{
	if (inst->state == INSTANCE_SHELL)
		on_shell(inst);
	else
		scheduler_release(inst);
}

static const struct takeover_hooks takeover_hooks = {
	.pause = pause_events,
	.take_back = take_back,
	.resume = resume_events,
};

static void start(const struct options *o, struct resources *res)
{
	static const struct session_hooks hooks = {.shell = on_shell,
						   .moved = on_moved,
						   .gone = scheduler_pump,
						   .changed = handover_changed};
	const struct scheduler_params scheduler = {
		.keep_warm_ns = o->keep_warm_s * NSEC_PER_SEC,
		.init_timeout_ns = o->init_timeout_s * NSEC_PER_SEC,
		.queue_timeout_ns = o->queue_timeout_s * NSEC_PER_SEC,
		.queue_max = o->queue_max,
		.account_concurrency = o->account_concurrency,
		.max_instances = o->max_instances,
		.memory_budget_bytes = MIB(o->memory_budget_mib),
	};
	struct shell_pool_params pool = {
		.ready_per_class = o->shells,
		.cpu_baseline = o->cpu_baseline,
		.outlives = handover_is_kept(),
	};
	const struct retention_params retention = {
		.keep_versions = o->keep_versions,
		.disk_bytes = MIB(o->disk_budget_mib),
	};
	const struct recapture_params recapture = {
		.runtime_dir = o->runtime_dir,
		.check_ns = o->check_runtime_s * NSEC_PER_SEC,
	};
	int ret;

	res->kvm_fd = host_open_kvm();
	res->cpuid_fd = host_read_cpuid(res->kvm_fd);
	res->uffd_fd = host_open_userfaultfd();
	ret = event_loop_init();
	if (ret)
		host_die_io_uring(ret);
	if (o->take_over)
		takeover_request(o->state);
	if (sandbox_init()) /* it has said why */
		exit(2);
	make_parent(o->socket);
	open_store(o);
	ret = readiness_init(o->state);
	if (ret)
		die("%s: %s", o->state, strerror(-ret));
	open_files(o, res);
	open_kernel_guests(o, res);
	pool.vmm_fd = res->vmm_fd;
	pool.kvm_fd = res->kvm_fd;
	pool.uffd_fd = res->uffd_fd;
	pool.seccomp_fd = res->seccomp_fd;
	pool.kernel_seccomp_fd = res->kernel_seccomp_fd;
	pool.kernel_guests = kernel_guests_run_here();
	pool.cpuid_fd = res->cpuid_fd;
	ret = session_init(&hooks, res->root_fd, res->runtime_fd);
	if (!ret)
		ret = worker_init();
	if (!ret)
		ret = shell_pool_init(&pool);
	if (!ret)
		ret = scheduler_init(&scheduler);
	for (struct function *f = functions_first(); f; f = f->next)
		shell_pool_want_class(scheduler_ram_class(&f->latest.settings));
	if (ret)
		die("start: %s", strerror(-ret));
	ret = recapture_init(&recapture);
	if (ret)
		die("%s: %s: choose another with --runtime-dir", o->runtime_dir, strerror(-ret));
	retention_init(&retention);
	publish_init(scheduler.init_timeout_ns, o->publish_wait_s * NSEC_PER_SEC);
	events_options = o;
	start_events(o);
	open_signals();
	handover_begin(on_shell);
	scheduler_sizes_changed();
	front_open(o);
	http_inherit_end();
	takeover_done();
	ret = takeover_listen(o->state, &takeover_hooks);
	if (ret)
		log_warn("%s/handover.sock: %s: no other snapd can take over", o->state,
			 strerror(-ret));
}

/** Guests must not make each other wait for the loop: it takes microseconds for each of them, and
 * they may have all CPUs. Its other threads, and so the guests, stay as they are. */
static void go_before_guests(void)
{
	if (setpriority(PRIO_PROCESS, 0, LOOP_NICE))
		log_debug("the loop runs at the usual priority: %m");
}

/** Whoever still waits gets an answer. */
static void stop_instances(void)
{
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->state > INSTANCE_SPAWNING && inst->state != INSTANCE_ENDING)
			session_stop(inst);
	}
}

int main(int argc, char **argv)
{
	static struct options options;
	static const struct loop_hooks hooks = {.turn = turn, .wait_ns = wait_ns};
	struct resources res = {-1, -1, -1, -1, -1, -1, -1, -1};
	int ret;

	log_init("snapd", NULL);
	if (version_asked("snapd", argc, argv))
		return 0;
	options_parse(&options, argc, argv);
	if (!strcmp(options.log_format, "json"))
		log_set_format(LOG_FORMAT_JSON);
	front_check(&options);
	mallopt(M_ARENA_MAX, 1); /* the worker allocates little: one heap is smaller */
	ret = service_manager_init();
	if (ret)
		die("descriptors passed by the service manager: %s", strerror(-ret));
	block_signals();
	raise_descriptors();
	handover_find();
	start(&options, &res);
	go_before_guests();
	service_manager_close_rest();
	service_manager_ready("serving on %s", options.socket);
	ret = event_loop_run(&hooks);
	if (ret)
		log_error("event loop: %s", strerror(-ret));
	if (!takeover_is_given())
		event_queue_stop();
	if (!handover_is_kept())
		stop_instances();
	if (!takeover_is_given())
		event_queue_finish();
	prewarm_finish();
	http_finish();
	code_unpacker_stop(); /* the workers wait for them */
	worker_finish();
	if (handover_is_kept()) {
		handover_leave();
	} else {
		session_finish();
		if (!takeover_is_over())
			sandbox_finish();
	}
	base_finish();
	kernel_guests_finish();
	layer_store_close();
	store_close();
	if (takeover_is_over())
		takeover_guard();
	return ret ? 1 : 0;
}
