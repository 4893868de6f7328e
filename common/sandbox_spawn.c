/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_spawn.c - start, limit and reap jailed processes
 *
 * Theory of operation. One spawner thread starts all jails. It lives in a mount namespace that
 * holds one empty read-only tmpfs: a child's new mount namespace is a copy of that one, so there is
 * nothing to pivot away from and nothing of the host was ever in it (and copying one mount costs
 * less than copying thirty). The parent-death signal of every child is tied to this thread, which
 * ends only with the process. Blocking for a millisecond here does not stop snapd's event loop.
 *
 * The other half of the story, what the child does, is in sandbox_child.c.
 */
#include <assert.h>
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/sandbox_internal.h"
#include "common/thread.h"
#include "common/util.h"

enum { CHILD_STACK_BYTES = 64 * 1024 };

static const char *const sandbox_step_names[] = {
	[SANDBOX_STEP_CLONE] = "create namespaces",
	[SANDBOX_STEP_MAP_IDS] = "map user ids",
	[SANDBOX_STEP_WAIT] = "wait for user ids",
	[SANDBOX_STEP_CGROUP] = "join the cgroup",
	[SANDBOX_STEP_IDENTITY] = "become an unprivileged user",
	[SANDBOX_STEP_PDEATHSIG] = "tie its life to this process",
	[SANDBOX_STEP_RLIMITS] = "set resource limits",
	[SANDBOX_STEP_CAPABILITIES] = "drop capabilities",
	[SANDBOX_STEP_NO_NEW_PRIVS] = "set no_new_privs",
	[SANDBOX_STEP_DESCRIPTORS] = "place descriptors",
	[SANDBOX_STEP_SIGNALS] = "reset signals",
	[SANDBOX_STEP_EXEC] = "execute the program",
};
static_assert(ARRAY_SIZE(sandbox_step_names) == SANDBOX_STEP_COUNT, "a name for each step");

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct sandbox_job *first, **last; /* queue, under lock */
	int ready;			   /* under lock: 0 starting, 1 serving, -errno failed */
	bool started;
	int null_fd, proc_fd, self_fd;
	int cap_last;
	uint8_t *stack;
} spawner = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.null_fd = -1,
	.proc_fd = -1,
	.self_fd = -1,
};

/* ---- one spawn, in the spawner thread -------------------------------------------------------- */

static void plan_rlimit(struct sandbox_plan *plan, int resource, uint64_t value)
{
	struct rlimit now;
	rlim_t limit = (rlim_t)value;

	/* Without cap_sys_resource a hard limit only goes down. */
	if (!getrlimit((__rlimit_resource_t)resource, &now) && limit > now.rlim_max)
		limit = now.rlim_max;
	plan->rlimits[plan->rlimit_count].resource = resource;
	plan->rlimits[plan->rlimit_count].limit = (struct rlimit){limit, limit};
	plan->rlimit_count++;
}

static void plan_rlimits(struct sandbox_plan *plan, const struct sandbox_limits *l)
{
	plan_rlimit(plan, RLIMIT_AS, l->address_bytes ? l->address_bytes : GIB(16));
	plan_rlimit(plan, RLIMIT_FSIZE, l->file_bytes ? l->file_bytes : GIB(8));
	plan_rlimit(plan, RLIMIT_NOFILE, l->fds ? l->fds : 1024);
	plan_rlimit(plan, RLIMIT_NPROC, l->threads ? l->threads : 32);
	plan_rlimit(plan, RLIMIT_CORE, 0);
	plan_rlimit(plan, RLIMIT_MEMLOCK, 0);
	plan_rlimit(plan, RLIMIT_MSGQUEUE, 0);
	plan_rlimit(plan, RLIMIT_SIGPENDING, 64);
	plan_rlimit(plan, RLIMIT_RTPRIO, 0);
	plan_rlimit(plan, RLIMIT_NICE, 0);
}

static int write_id_map(pid_t pid, const char *which)
{
	CLEANUP_FD int fd = -1;
	char text[64];
	int n;

	snprintf(text, sizeof(text), "%d/%s", (int)pid, which);
	fd = openat(spawner.proc_fd, text, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = snprintf(text, sizeof(text), "%u %u 1\n", SANDBOX_UID_INSIDE,
		     SANDBOX_UID_BASE + (unsigned)pid);
	return write_full(fd, text, (size_t)n);
}

static int map_ids(struct sandbox_plan *plan, pid_t pid)
{
	int err = write_id_map(pid, "gid_map");

	if (!err)
		err = write_id_map(pid, "uid_map");
	if (err)
		return err;
	atomic_store_explicit(&plan->ids_mapped, 1, memory_order_release);
	syscall(SYS_futex, &plan->ids_mapped, FUTEX_WAKE, 1, NULL, NULL, 0);
	return 0;
}

/* Until the child has left our memory, by exec or by exit. */
static void wait_for_exec(struct sandbox_plan *plan)
{
	uint32_t alive;

	while ((alive = atomic_load_explicit(&plan->alive, memory_order_acquire)))
		syscall(SYS_futex, &plan->alive, FUTEX_WAIT, alive, NULL, NULL, 0);
}

/* The child has gone from our memory: is it the program now, or did it fail? */
static int spawn_outcome(const struct sandbox_plan *plan, int pidfd)
{
	siginfo_t info = {0};

	if (plan->err)
		return plan->err;
	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
		return 0;
	/* Killed on the way. An exec that fails past its point of no return ends like this too;
	 * a program that ran and has already ended does not (it died of no signal of ours). */
	return info.si_code == CLD_KILLED && info.si_status == SIGKILL ? -ENOEXEC : 0;
}

static void log_spawn_error(const char *id, const struct sandbox_plan *plan, int err)
{
	const char *step = sandbox_step_names[plan->step];

	if (plan->step == SANDBOX_STEP_CLONE)
		log_error(
			"jail %s: cannot %s: %s: every guest runs in user, mount, pid, net, ipc, "
			"uts and cgroup namespaces of its own: run as root, outside of containers "
			"that forbid them, with user.max_user_namespaces and its siblings above 0",
			id, step, strerror(-err));
	else if (plan->step == SANDBOX_STEP_EXEC && (err == -ENOENT || err == -ELIBBAD))
		log_error("jail %s: cannot %s: %s: the jail has no files, so the program must be "
			  "linked statically (static-pie)",
			  id, step, strerror(-err));
	else if (plan->step == SANDBOX_STEP_EXEC && err == -EACCES)
		log_error("jail %s: cannot %s: %s: it must be executable by every user and not on "
			  "a noexec mount",
			  id, step, strerror(-err));
	else
		log_error("jail %s: cannot %s: %s", id, step, strerror(-err));
}

static int run_child(struct sandbox_plan *plan, int cgroup_fd, struct sandbox_child *ret)
{
	int pidfd = -1;
	pid_t pid;
	int err;

	plan->step = SANDBOX_STEP_CLONE;
	pid = sandbox_child_start(plan, spawner.stack, CHILD_STACK_BYTES, cgroup_fd, &pidfd);
	if (pid < 0)
		return pid;
	err = map_ids(plan, pid);
	if (err)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	wait_for_exec(plan);
	if (err)
		plan->step = SANDBOX_STEP_MAP_IDS;
	else
		err = spawn_outcome(plan, pidfd);
	if (err) {
		waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED);
		close(pidfd);
		return err;
	}
	ret->pid = pid;
	ret->pidfd = pidfd;
	return 0;
}

/* One jail without a program: start-up says what is wrong, not the first invocation. */
static int spawn_trial(void)
{
	struct sandbox_plan plan = {
		.null_fd = spawner.null_fd,
		.log_fd = STDERR_FILENO,
		.exe_fd = spawner.null_fd,
		.tasks_fd = -1,
		.parent_fd = spawner.self_fd,
		.cap_last = spawner.cap_last,
		.trial = true,
		.alive = 1,
	};
	struct sandbox_child child = SANDBOX_CHILD_INIT;
	int err;

	plan_rlimits(&plan, &(struct sandbox_limits){0});
	err = run_child(&plan, -1, &child);
	if (err) {
		log_spawn_error("trial", &plan, err);
		return err;
	}
	waitid(P_PIDFD, (id_t)child.pidfd, &(siginfo_t){0}, WEXITED);
	close(child.pidfd);
	return 0;
}

static bool id_is_valid(const char *id)
{
	size_t n = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

	return n > 0 && n <= SANDBOX_ID_MAX && !id[n];
}

static int spawn(const struct sandbox_spec *spec, struct sandbox_child *ret)
{
	struct sandbox_plan plan = {
		.fd_count = spec->fd_count,
		.null_fd = spawner.null_fd,
		.log_fd = spec->log_fd,
		.exe_fd = spec->exe_fd,
		.tasks_fd = -1,
		.parent_fd = spawner.self_fd,
		.outlives = spec->outlives,
		.cap_last = spawner.cap_last,
		.argv = spec->argv,
		.envp = spec->envp,
		.alive = 1,
	};
	CLEANUP_FD int cgroup_fd = -1;
	CLEANUP_FD int tasks_fd = -1;
	uint64_t start = clock_mono_ns();
	int err;

	*ret = (struct sandbox_child)SANDBOX_CHILD_INIT;
	if (spec->fd_count < 0 || spec->fd_count > SANDBOX_FDS_MAX || !id_is_valid(spec->id))
		return -EINVAL;
	if (spec->fd_count)
		memcpy(plan.fds, spec->fds, sizeof(int) * (size_t)spec->fd_count);
	plan_rlimits(&plan, &spec->limits);
	err = sandbox_cgroup_new(spec->id, spec->limits.memory_bytes, &tasks_fd, &cgroup_fd);
	if (err) {
		log_error("jail %s: cannot create its cgroup: %s", spec->id, strerror(-err));
		return err;
	}
	plan.tasks_fd = tasks_fd;
	err = run_child(&plan, cgroup_fd, ret);
	if (err) {
		log_spawn_error(spec->id, &plan, err);
		sandbox_cgroup_remove(spec->id);
		return err;
	}
	snprintf(ret->id, sizeof(ret->id), "%s", spec->id);
	ret->spawn_ns = (uint32_t)(clock_mono_ns() - start);
	return 0;
}

/* ---- the spawner thread ---------------------------------------------------------------------- */

static void job_run(struct sandbox_job *job)
{
	uint64_t one = 1;
	int event_fd = job->event_fd;

	job->err = spawn(&job->spec, &job->child);
	/* From here on the job belongs to its owner, who may free it. */
	atomic_store_explicit(&job->done, true, memory_order_release);
	if (event_fd >= 0 && write(event_fd, &one, sizeof(one)) < 0)
		log_error("cannot signal the end of a spawn: %s", strerror(errno));
}

static void *spawner_main(void *arg)
{
	int err = sandbox_empty_root_enter();

	(void)arg;
	if (err)
		log_error("cannot make an empty root for jails: %s", strerror(-err));
	else
		err = spawn_trial();
	pthread_mutex_lock(&spawner.lock);
	spawner.ready = err ? err : 1;
	pthread_cond_broadcast(&spawner.wake);
	while (!err) {
		struct sandbox_job *job = spawner.first;

		if (!job) {
			pthread_cond_wait(&spawner.wake, &spawner.lock);
			continue;
		}
		spawner.first = job->next;
		if (!spawner.first)
			spawner.last = &spawner.first;
		pthread_mutex_unlock(&spawner.lock);
		job_run(job);
		pthread_mutex_lock(&spawner.lock);
	}
	pthread_mutex_unlock(&spawner.lock);
	return NULL;
}

/* The thread gets no signals: it must not run a handler while a child shares its stack's memory. */
static int spawner_start(void)
{
	pthread_t thread;
	int err;

	spawner.last = &spawner.first;
	err = thread_start(&thread, NULL, spawner_main, NULL);
	if (err)
		return err;
	pthread_detach(thread);
	pthread_mutex_lock(&spawner.lock);
	while (!spawner.ready)
		pthread_cond_wait(&spawner.wake, &spawner.lock);
	err = spawner.ready < 0 ? spawner.ready : 0;
	pthread_mutex_unlock(&spawner.lock);
	return err;
}

/* ---- start-up -------------------------------------------------------------------------------- */

/* What making a jail takes, and for what. */
static const struct {
	unsigned int cap;
	const char *use;
} caps_needed[] = {
	{CAP_SYS_ADMIN, "namespaces and mounts"},
	{CAP_SETUID, "user id maps"},
	{CAP_SETGID, "group id maps"},
};

static int check_privileges(void)
{
	if (capng_get_caps_process())
		return -EPERM;
	for (size_t i = 0; i < ARRAY_SIZE(caps_needed); i++) {
		if (capng_have_capability(CAPNG_EFFECTIVE, caps_needed[i].cap))
			continue;
		log_error("no cap_%s, needed for the %s of each guest's jail: run as root (sudo)",
			  capng_capability_to_name(caps_needed[i].cap), caps_needed[i].use);
		return -EPERM;
	}
	return 0;
}

static int read_cap_last(void)
{
	int cap = 0;

	while (prctl(PR_CAPBSET_READ, cap + 1) >= 0)
		cap++;
	return cap;
}

static int spawner_open(void)
{
	uint8_t *stack;

	spawner.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	spawner.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	spawner.self_fd = pidfd_open(getpid(), 0);
	if (spawner.null_fd < 0 || spawner.proc_fd < 0 || spawner.self_fd < 0)
		return -errno;
	spawner.cap_last = read_cap_last();
	/* A guard page below: the child must not run into what else is mapped. */
	stack = mmap(NULL, CHILD_STACK_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED || mprotect(stack, PAGE_BYTES, PROT_NONE))
		return -errno;
	spawner.stack = stack + PAGE_BYTES;
	return 0;
}

int sandbox_init(void)
{
	int err;

	if (spawner.started)
		return -EALREADY;
	err = check_privileges();
	if (err)
		return err;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) {
		err = -errno;
		log_error("cannot enter a mount namespace: %s: the file tree of guests is built in "
			  "a private one: run as root, outside of containers that forbid it",
			  strerror(-err));
		return err;
	}
	err = spawner_open();
	if (err) {
		log_error("cannot prepare jails: %s: they need /proc, /dev/null and pidfds",
			  strerror(-err));
		return err;
	}
	err = spawner_start();
	if (!err)
		err = sandbox_cgroup_init();
	if (!err)
		spawner.started = true;
	return err;
}

void sandbox_finish(void)
{
	sandbox_cgroup_finish();
}

/* ---- the interface --------------------------------------------------------------------------- */

void sandbox_spawn_queue(struct sandbox_job *job)
{
	job->next = NULL;
	atomic_store_explicit(&job->done, false, memory_order_relaxed);
	pthread_mutex_lock(&spawner.lock);
	*spawner.last = job;
	spawner.last = &job->next;
	pthread_cond_broadcast(&spawner.wake);
	pthread_mutex_unlock(&spawner.lock);
}

int sandbox_spawn(const struct sandbox_spec *spec, struct sandbox_child *ret)
{
	CLEANUP_FD int event_fd = eventfd(0, EFD_CLOEXEC);
	struct sandbox_job job = {.spec = *spec, .event_fd = event_fd};
	uint64_t count;

	*ret = (struct sandbox_child)SANDBOX_CHILD_INIT;
	if (event_fd < 0)
		return -errno;
	if (!spawner.started)
		return -EINVAL;
	sandbox_spawn_queue(&job);
	if (read_full(event_fd, &count, sizeof(count)) < 0)
		log_error("cannot wait for a spawn: %s", strerror(errno));
	while (!atomic_load_explicit(&job.done, memory_order_acquire))
		sched_yield();
	*ret = job.child;
	return job.err;
}

int sandbox_set_memory(const struct sandbox_child *child, uint64_t memory_bytes)
{
	return sandbox_cgroup_set_memory(child->id, memory_bytes);
}

bool sandbox_oom_killed(const struct sandbox_child *child)
{
	return sandbox_cgroup_oom_killed(child->id);
}

int sandbox_kill(const struct sandbox_child *child)
{
	if (child->pidfd < 0)
		return -ESRCH;
	return pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0) ? -errno : 0;
}

/** Wait for the end of a process. Its parent alone can reap it and learns its status. */
static int wait_for_end(const struct sandbox_child *child, int *ret_status)
{
	struct pollfd gone = {.fd = child->pidfd, .events = POLLIN};

	for (;;) {
		int ret = child->adopted ? poll(&gone, 1, -1)
					 : (int)waitpid(child->pid, ret_status, 0);

		if (ret >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

int sandbox_reap(struct sandbox_child *child, int *ret_status)
{
	int status = 0;
	int err = 0;

	if (child->pid > 0) {
		err = wait_for_end(child, &status);
		if (sandbox_cgroup_remove(child->id))
			log_warn("jail %s: its cgroup stays behind until the next start",
				 child->id);
	}
	if (child->pidfd >= 0)
		close(child->pidfd);
	*child = (struct sandbox_child)SANDBOX_CHILD_INIT;
	if (ret_status)
		*ret_status = status;
	return err;
}
