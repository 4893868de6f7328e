/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell_pool.c - jailed microVMs made ahead of time, waiting for a snapshot or a program
 *
 * A shell has everything but a guest: jail, VM, vCPU, memory slots, userfaultfd. Making one takes
 * milliseconds of a CPU, so shells are made when no invocation is under way, unless somebody waits
 * for one. KVM's cost of a memory slot grows with its size, hence classes of RAM: five for process
 * guests, of which unused RAM is never touched, and one for each 64 MiB for kernel guests, which
 * sooner or later use all that they see. Which class a guest needs is arithmetic: a question
 * changes nothing.
 *
 * A class is wanted from the first time that somebody needs it until no function has it any more.
 * Refilling serves those who wait first, class by class in turn, so that no class can keep the
 * others from theirs; what is kept ready beyond that leaves some slots free, and makes room when
 * all are taken.
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
#include "snapd/kernel_guests.h"

enum {
	CLASS_COUNT = SHELL_POOL_CLASSES,
	PROCESS_CLASSES = SHELL_POOL_PROCESS_CLASSES,
	SPAWNS_AT_ONCE = 2,
	SLOTS_KEPT = 32, /* of instances: not for what nobody waits for */
	SLOTS_RETRY_MS = 1000,
	BACKOFF_MAX_MS = 10000,
	QUIET_MS = 3,
	FDS = 5,
};

TAILQ_HEAD(shell_list, instance);

static const uint32_t process_mib[PROCESS_CLASSES] = {1024, 2048, 4096, 8192, 16384};

/**
 * struct shell_class - shells that are alike.
 * @wanted: keep some ready, for functions of this class exist
 * @shells: the one that has waited longest first
 * @waiting: how many wait for want of one, since the last refill
 * @failures: in a row: wait longer each time
 */
struct shell_class {
	enum guest_kind kind;
	uint32_t ram_mib;
	bool wanted;
	struct shell_list shells;
	unsigned ready, spawning, waiting;
	unsigned failures;
	uint64_t backoff_until_ns;
};

static struct {
	struct shell_pool_params params;
	int event_fd;
	struct shell_class classes[CLASS_COUNT];
	int next; /* whose turn it is to be refilled */
	uint64_t make_ns[GUEST_KIND_KERNEL + 1];
	bool made;	   /* one has been ready */
	uint64_t busy_ns;  /* an invocation was last under way */
	uint64_t retry_ns; /* when to look again whether all is quiet */
	bool missing;	   /* there are fewer shells than there should be */
	const char *envp[3];
	char env_log[64], env_format[32];
} pool = {.event_fd = -1};

static void on_spawned(const struct loop_event *event);

uint32_t shell_pool_ram_mib(int class)
{
	if (class < PROCESS_CLASSES)
		return process_mib[class];
	return KERNEL_GUEST_MEMORY_MIN_MIB +
	       (uint32_t)(class - PROCESS_CLASSES) * KERNEL_GUEST_MEMORY_STEP_MIB;
}

int shell_pool_init(const struct shell_pool_params *params)
{
	const char *level = getenv("QUICKTHAW_LOG");

	pool.params = *params;
	for (int class = 0; class < CLASS_COUNT; class ++) {
		bool process = class < PROCESS_CLASSES;

		pool.classes[class] = (struct shell_class){
			.kind = process ? GUEST_KIND_PROCESS : GUEST_KIND_KERNEL,
			.ram_mib = shell_pool_ram_mib(class),
		};
		TAILQ_INIT(&pool.classes[class].shells);
	}
	pool.classes[0].wanted = true;
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

int shell_pool_class(enum guest_kind kind, uint64_t ram_mib)
{
	bool kernel = kind == GUEST_KIND_KERNEL;
	int end = kernel ? CLASS_COUNT : PROCESS_CLASSES;

	if (kernel && !pool.params.kernel_guests)
		return -ENOTSUP;
	if (!ram_mib || (!kernel && kind != GUEST_KIND_PROCESS))
		return -ERANGE;
	for (int class = kernel ? PROCESS_CLASSES : 0; class < end; class ++)
		if (ram_mib <= shell_pool_ram_mib(class))
			return class;
	return -ERANGE;
}

void shell_pool_want_class(int class)
{
	if (class < 0)
		return;
	pool.missing |= !pool.classes[class].wanted;
	pool.classes[class].wanted = true;
}

void shell_pool_keep_classes(const bool in_use[SHELL_POOL_CLASSES])
{
	struct instance *inst;

	for (int class = 1; class < CLASS_COUNT; class ++) {
		struct shell_class *c = &pool.classes[class];

		if (in_use[class])
			continue;
		c->wanted = false;
		while ((inst = TAILQ_FIRST(&c->shells)))
			session_end(inst);
	}
}

unsigned shell_pool_ready(int class)
{
	return pool.classes[class].ready;
}

uint64_t shell_pool_make_ns(enum guest_kind kind)
{
	return pool.make_ns[kind];
}

/** Wait a while before the next of this class. */
static void note_failure(struct shell_class *c)
{
	unsigned backoff_ms;

	c->failures = MIN(c->failures + 1, 8u);
	backoff_ms = MIN(50u << c->failures, (unsigned)BACKOFF_MAX_MS);
	c->backoff_until_ns = clock_mono_ns() + backoff_ms * NSEC_PER_MSEC;
	pool.missing = true;
}

void shell_pool_moved(struct instance *inst, enum instance_state from)
{
	struct shell_class *c;

	if (from != INSTANCE_SPAWNING && from != INSTANCE_SHELL)
		return; /* what was taken over in another state may have no class here */
	c = &pool.classes[inst->ram_class];
	if (from == INSTANCE_SPAWNING) {
		c->spawning--;
		if (inst->state != INSTANCE_SHELL)
			note_failure(c);
	} else {
		TAILQ_REMOVE(&c->shells, inst, list_link);
		c->ready--;
	}
}

/** Are there none of this kind, because they fail? */
static bool kind_fails(enum guest_kind kind)
{
	bool fails = false;

	for (int class = 0; class < CLASS_COUNT; class ++) {
		const struct shell_class *c = &pool.classes[class];

		if (c->kind == kind && c->ready)
			return false;
		fails |= c->kind == kind && c->failures;
	}
	return fails;
}

const char *shell_pool_trouble(void)
{
	if (kind_fails(GUEST_KIND_PROCESS))
		return "microVMs cannot be made: the log says why";
	if (kind_fails(GUEST_KIND_KERNEL))
		return "microVMs for kernel guests cannot be made: the log says why";
	return pool.made ? NULL : "starting: no microVM is ready yet";
}

unsigned shell_pool_target(int class)
{
	return pool.classes[class].wanted ? pool.params.ready_per_class : 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

/** What goes with the least memory that a function of the class has. */
static unsigned kernel_vcpus(uint32_t ram_mib)
{
	return kernel_guests_vcpus(ram_mib - KERNEL_GUEST_MEMORY_STEP_MIB + 1);
}

static void make_argv(struct instance *inst)
{
	int n = 0;

	snprintf(inst->ram_text, sizeof(inst->ram_text), "%u", inst->ram_mib);
	snprintf(inst->vcpu_text, sizeof(inst->vcpu_text), "%u",
		 inst->kind == GUEST_KIND_KERNEL ? kernel_vcpus(inst->ram_mib) : 1);
	inst->argv[n++] = "vmm";
	inst->argv[n++] = "shell";
	inst->argv[n++] = "--id";
	inst->argv[n++] = inst->id;
	inst->argv[n++] = "--kind";
	inst->argv[n++] = guest_kind_name(inst->kind);
	inst->argv[n++] = "--ram-mib";
	inst->argv[n++] = inst->ram_text;
	inst->argv[n++] = "--vcpus";
	inst->argv[n++] = inst->vcpu_text;
	inst->argv[n++] = "--cpu-baseline";
	inst->argv[n++] = pool.params.cpu_baseline;
	inst->argv[n] = NULL;
}

static int start_spawn(struct instance *inst)
{
	CLEANUP_FD int ours = -1;
	struct sandbox_job *job = &inst->job;
	int pair[2];
	/* The job's descriptors must stay valid until it is done: they are the pool's, but for one.
	 */
	static int fds[INSTANCES_MAX][FDS];
	int *f = fds[inst->slot];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ours = pair[0];
	inst->child_end = pair[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK)) /* only our end: the vmm's sends block */
		return -errno;
	make_argv(inst);
	f[0] = inst->child_end;
	f[1] = pool.params.kvm_fd;
	f[2] = pool.params.uffd_fd;
	f[3] = inst->kind == GUEST_KIND_KERNEL ? pool.params.kernel_seccomp_fd
					       : pool.params.seccomp_fd;
	f[4] = pool.params.cpuid_fd;
	*job = (struct sandbox_job){
		.spec = {.id = inst->id,
			 .exe_fd = pool.params.vmm_fd,
			 .argv = inst->argv,
			 .envp = pool.envp,
			 .fds = f,
			 .fd_count = FDS,
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
	cleanup_fd(&inst->child_end);
	cleanup_fd(&inst->control);
	inst->child_end = inst->control = -1;
	session_spawn_failed(inst); /* shell_pool_moved() counts it */
}

static bool make_shell(int class)
{
	struct instance *inst = session_new();
	int ret;

	if (!inst)
		return false;
	inst->kind = pool.classes[class].kind;
	inst->ram_class = class;
	inst->ram_mib = pool.classes[class].ram_mib;
	pool.classes[class].spawning++;
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
	struct shell_class *c = &pool.classes[inst->ram_class];

	TAILQ_INSERT_TAIL(&c->shells, inst, list_link);
	c->ready++;
	c->failures = 0;
	average_add(&pool.make_ns[inst->kind], inst->changed_ns - inst->requested_ns);
	pool.made = true;
	pool.missing = true; /* perhaps: the next refill finds out */
}

/* ---- giving and refilling -------------------------------------------------------------------- */

struct instance *shell_pool_take(int class, unsigned waiting)
{
	struct shell_class *c = &pool.classes[MAX(class, 0)];
	/* The one that has waited longest: its VM is past the age at which ending is slow. */
	struct instance *inst = class < 0 ? NULL : TAILQ_FIRST(&c->shells);

	pool.missing = true;
	if (!inst && class >= 0) {
		c->waiting = MAX(c->waiting, waiting);
		c->wanted = true;
	}
	return inst;
}

/** All slots are taken, and somebody waits for a shell: one of another class ends. */
static void make_room(const struct shell_class *wanted)
{
	struct shell_class *most = NULL;

	if (session_count(INSTANCE_FREE) || session_count(INSTANCE_ENDING))
		return;
	for (int class = 0; class < CLASS_COUNT; class ++) {
		struct shell_class *c = &pool.classes[class];

		if (c != wanted && c->ready && (!most || c->ready > most->ready))
			most = c;
	}
	if (most)
		session_end(TAILQ_FIRST(&most->shells));
}

/** Make shells of a class until it has @want. Return: whether it has, or will have. */
static bool make_shells(int class, unsigned want)
{
	struct shell_class *c = &pool.classes[class];

	while (c->spawning + c->ready < want && session_count(INSTANCE_SPAWNING) < SPAWNS_AT_ONCE &&
	       make_shell(class))
		pool.next = (class + 1) % CLASS_COUNT;
	return c->spawning + c->ready >= want;
}

/** Make what somebody waits for. Whoever still does after that asks again when something changes.
 * Return: when to go on with it; UINT64_MAX: it is done. */
static uint64_t serve_waiting(int class, uint64_t now_ns)
{
	struct shell_class *c = &pool.classes[class];
	unsigned want = c->waiting;

	if (!want)
		return UINT64_MAX;
	if (now_ns < c->backoff_until_ns)
		return c->backoff_until_ns;
	c->waiting = 0;
	make_room(c);
	return make_shells(class, want) ? UINT64_MAX : now_ns + QUIET_MS * NSEC_PER_MSEC;
}

/** The same of what is to be ready before anybody waits for it. */
static uint64_t keep_ready(int class, bool quiet, uint64_t now_ns)
{
	struct shell_class *c = &pool.classes[class];
	unsigned target = shell_pool_target(class);

	if (c->spawning + c->ready >= target)
		return UINT64_MAX;
	if (now_ns < c->backoff_until_ns)
		return c->backoff_until_ns;
	if (session_count(INSTANCE_FREE) <= SLOTS_KEPT)
		return now_ns + SLOTS_RETRY_MS * NSEC_PER_MSEC;
	return quiet && make_shells(class, target) ? UINT64_MAX : now_ns + QUIET_MS * NSEC_PER_MSEC;
}

void shell_pool_refill(bool busy, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	int first = pool.next;
	bool quiet;

	if (busy)
		pool.busy_ns = now_ns;
	if (!pool.missing)
		return;
	quiet = now_ns - pool.busy_ns >= QUIET_MS * NSEC_PER_MSEC;
	for (int i = 0; i < CLASS_COUNT; i++)
		next_ns = MIN(next_ns, serve_waiting((first + i) % CLASS_COUNT, now_ns));
	for (int i = 0; i < CLASS_COUNT; i++)
		next_ns = MIN(next_ns, keep_ready((first + i) % CLASS_COUNT, quiet, now_ns));
	pool.missing = next_ns != UINT64_MAX;
	pool.retry_ns = pool.missing ? next_ns : 0;
}

uint64_t shell_pool_next_ns(void)
{
	return pool.missing ? pool.retry_ns : UINT64_MAX;
}
