/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell_pool.c - jailed microVMs made ahead of time, waiting for a snapshot or a program
 *
 * A shell has everything but a guest: jail, VM, vCPU, memory slots, userfaultfd. Making one takes
 * milliseconds of a CPU, so shells are made when no invocation is under way, unless somebody waits
 * for one. KVM's cost of a memory slot grows with its size, hence classes of RAM.
 */
#include "snapd/shell_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/admission.h"
#include "snapd/event_loop.h"

enum { CLASS_COUNT = SHELL_POOL_CLASSES, SPAWNS_AT_ONCE = 2, BACKOFF_MAX_MS = 10000, QUIET_MS = 3 };

TAILQ_HEAD(shell_list, instance);

static const uint32_t class_mib[CLASS_COUNT] = {1024, 2048, 4096, 8192, 16384};

static struct {
	struct shell_pool_params params;
	int event_fd;
	bool wanted[CLASS_COUNT];
	struct shell_list shells[CLASS_COUNT]; /* the one that has waited longest first */
	unsigned ready[CLASS_COUNT], spawning[CLASS_COUNT];
	unsigned waiting[CLASS_COUNT]; /* for want of one, since the last refill */
	uint64_t make_ns;
	unsigned failures; /* in a row: wait longer each time */
	bool made;	   /* one has been ready */
	uint64_t backoff_until_ns;
	uint64_t busy_ns;  /* an invocation was last under way */
	uint64_t retry_ns; /* when to look again whether all is quiet */
	bool missing;	   /* there are fewer shells than there should be */
	const char *envp[3];
	char env_log[64], env_format[32];
} pool = {.event_fd = -1};

static void on_spawned(const struct loop_event *event);

int shell_pool_init(const struct shell_pool_params *params)
{
	const char *level = getenv("QUICKTHAW_LOG");

	pool.params = *params;
	for (int class = 0; class < CLASS_COUNT; class ++)
		TAILQ_INIT(&pool.shells[class]);
	pool.wanted[0] = true;
	pool.missing = true;
	pool.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool.event_fd < 0)
		return -errno;
	snprintf(pool.env_format, sizeof(pool.env_format), "QUICKTHAW_LOG_FORMAT=%s",
		 log_format() == LOG_FORMAT_JSON ? "json" : "text");
	pool.envp[0] = pool.env_format;
	if (level) {
		snprintf(pool.env_log, sizeof(pool.env_log), "QUICKTHAW_LOG=%s", level);
		pool.envp[1] = pool.env_log;
	}
	event_loop_handle(LOOP_SPAWNED, on_spawned);
	event_loop_poll(LOOP_SPAWNED, 0, 0, pool.event_fd);
	return 0;
}

int shell_pool_class(uint64_t ram_mib)
{
	for (int i = 0; i < CLASS_COUNT; i++)
		if (ram_mib <= class_mib[i])
			return i;
	return -ERANGE;
}

void shell_pool_want_class(int class)
{
	pool.missing |= !pool.wanted[class];
	pool.wanted[class] = true;
}

unsigned shell_pool_ready(int class)
{
	return pool.ready[class];
}

uint64_t shell_pool_make_ns(void)
{
	return pool.make_ns;
}

void shell_pool_moved(struct instance *inst, enum instance_state from)
{
	if (from == INSTANCE_SPAWNING) {
		pool.spawning[inst->ram_class]--;
	} else if (from == INSTANCE_SHELL) {
		TAILQ_REMOVE(&pool.shells[inst->ram_class], inst, list_link);
		pool.ready[inst->ram_class]--;
	}
}

const char *shell_pool_trouble(void)
{
	if (session_count(INSTANCE_SHELL))
		return NULL;
	if (pool.failures)
		return "microVMs cannot be made: the log says why";
	return pool.made ? NULL : "starting: no microVM is ready yet";
}

unsigned shell_pool_target(int class)
{
	return pool.wanted[class] ? pool.params.ready_per_class : 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

static int start_spawn(struct instance *inst)
{
	CLEANUP_FD int ours = -1;
	struct sandbox_job *job = &inst->job;
	int pair[2], n = 0;
	/* The job's descriptors must stay valid until it is done: they are the pool's, but for one.
	 */
	static int fds[INSTANCES_MAX][4];
	int *f = fds[inst->slot];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ours = pair[0];
	inst->child_end = pair[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK)) /* only our end: the vmm's sends block */
		return -errno;
	snprintf(inst->ram_text, sizeof(inst->ram_text), "%u", inst->ram_mib);
	inst->argv[n++] = "vmm";
	inst->argv[n++] = "shell";
	inst->argv[n++] = "--id";
	inst->argv[n++] = inst->id;
	inst->argv[n++] = "--ram-mib";
	inst->argv[n++] = inst->ram_text;
	inst->argv[n++] = "--cpu-baseline";
	inst->argv[n++] = pool.params.cpu_baseline;
	inst->argv[n] = NULL;
	f[0] = inst->child_end;
	f[1] = pool.params.kvm_fd;
	f[2] = pool.params.uffd_fd;
	f[3] = pool.params.seccomp_fd;
	*job = (struct sandbox_job){
		.spec = {.id = inst->id,
			 .exe_fd = pool.params.vmm_fd,
			 .argv = inst->argv,
			 .envp = pool.envp,
			 .fds = f,
			 .fd_count = 4,
			 .log_fd = STDERR_FILENO,
			 .outlives = pool.params.outlives,
			 .limits = {.address_bytes = MIB(inst->ram_mib) + GIB(4),
				    .memory_bytes = MIB(inst->ram_mib + SESSION_EXTRA_MIB)}},
		.event_fd = pool.event_fd,
		.child = SANDBOX_CHILD_INIT,
	};
	inst->control = steal_fd(&ours);
	sandbox_spawn_queue(job);
	return 0;
}

static void spawn_failed(struct instance *inst)
{
	unsigned backoff_ms;

	pool.failures = MIN(pool.failures + 1, 8u);
	backoff_ms = MIN(50u << pool.failures, (unsigned)BACKOFF_MAX_MS);
	pool.backoff_until_ns = clock_mono_ns() + backoff_ms * 1000000ull;
	pool.missing = true;
	cleanup_fd(&inst->child_end);
	cleanup_fd(&inst->control);
	inst->child_end = inst->control = -1;
	session_spawn_failed(inst);
}

static bool make_shell(int class)
{
	struct instance *inst = session_new();
	int ret;

	if (!inst)
		return false;
	inst->kind = GUEST_KIND_PROCESS;
	inst->ram_class = class;
	inst->ram_mib = class_mib[class];
	pool.spawning[class]++;
	ret = start_spawn(inst);
	if (ret) {
		log_error("shell: %s", strerror(-ret));
		spawn_failed(inst);
		return false;
	}
	return true;
}

static void on_spawned(const struct loop_event *event)
{
	uint64_t count;

	if (read(pool.event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("shell: eventfd: %m");
	if (!event->more)
		event_loop_poll(LOOP_SPAWNED, 0, 0, pool.event_fd);
	for (uint32_t i = 0; i < INSTANCES_MAX; i++) {
		struct instance *inst = session_instance(i);

		if (inst->state != INSTANCE_SPAWNING || inst->child_end < 0 ||
		    !atomic_load_explicit(&inst->job.done, memory_order_acquire))
			continue;
		if (inst->job.err) {
			spawn_failed(inst);
			continue;
		}
		cleanup_fd(&inst->child_end);
		inst->child_end = -1;
		session_spawned(inst, inst->control);
	}
}

void shell_pool_on_shell(struct instance *inst)
{
	TAILQ_INSERT_TAIL(&pool.shells[inst->ram_class], inst, list_link);
	pool.ready[inst->ram_class]++;
	average_add(&pool.make_ns, inst->changed_ns - inst->requested_ns);
	pool.failures = 0;
	pool.made = true;
	pool.missing = true; /* perhaps: the next refill finds out */
}

/* ---- giving and refilling -------------------------------------------------------------------- */

struct instance *shell_pool_take(int class, unsigned waiting)
{
	/* The one that has waited longest: its VM is past the age at which ending is slow. */
	struct instance *inst = TAILQ_FIRST(&pool.shells[class]);

	pool.missing = true;
	if (!inst) {
		pool.waiting[class] = MAX(pool.waiting[class], waiting);
		pool.wanted[class] = true;
	}
	return inst;
}

void shell_pool_refill(bool busy, uint64_t now_ns)
{
	bool quiet, missing = false;

	if (busy)
		pool.busy_ns = now_ns;
	if (!pool.missing || now_ns < pool.backoff_until_ns)
		return;
	quiet = now_ns - pool.busy_ns >= QUIET_MS * 1000000ull;
	for (int class = 0; class < CLASS_COUNT; class ++) {
		unsigned target = shell_pool_target(class), want = pool.waiting[class];
		unsigned have = pool.spawning[class] + pool.ready[class];

		pool.waiting[class] = 0;
		if (quiet)
			want = MAX(want, target);
		while (have < want && session_count(INSTANCE_SPAWNING) < SPAWNS_AT_ONCE &&
		       make_shell(class))
			have++;
		missing |= have < MAX(want, target);
	}
	pool.missing = missing;
	pool.retry_ns = now_ns + QUIET_MS * 1000000ull;
}

uint64_t shell_pool_next_ns(void)
{
	return pool.missing ? MAX(pool.retry_ns, pool.backoff_until_ns) : UINT64_MAX;
}
