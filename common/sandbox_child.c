/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_child.c - the steps from a clone of snapd to a jailed program
 *
 * Theory of operation. The child shares snapd's memory until it calls execveat (CLONE_VM: copying
 * page tables would cost more than the jail), and runs beside the spawner thread, whose thread
 * pointer it also shares. So nothing here may use libc: no errno, no malloc, no locks; only raw
 * system calls and the struct sandbox_plan. It has descriptors, signal handlers, credentials and
 * namespaces of its own from the start.
 *
 *   spawner thread                           child
 *   clone3(namespaces) -------------------->  waits on plan->ids_mapped
 *   writes its uid_map and gid_map
 *   ids_mapped = 1, wake ------------------>  cgroup, identity, pdeathsig, rlimits, capabilities,
 *   waits on plan->alive                      no_new_privs, descriptors, signals, execveat
 *       <----- kernel: alive = 0, wake -----  (exec or exit: CLONE_CHILD_CLEARTID)
 *   looks at plan->err
 *
 * Order matters: the parent-death signal is cleared by any change of identity, so it comes after;
 * capabilities go after the rlimits and identity that need them; the bounding set goes before
 * the effective set, which it needs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/sandbox_internal.h"
#include "common/util.h"

/* Where source descriptors are parked while the fixed numbers are filled. */
enum { PARK_FD_MIN = 128 };

static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define RAW(nr, a, b, c) raw6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)

static int wait_for_ids(struct sandbox_plan *p)
{
	/* A parent that died before it wrote the maps must not leave us here. */
	struct timespec timeout = {.tv_sec = 10};

	while (!atomic_load_explicit(&p->ids_mapped, memory_order_acquire)) {
		long ret =
			raw6(SYS_futex, (long)&p->ids_mapped, FUTEX_WAIT, 0, (long)&timeout, 0, 0);

		if (ret < 0 && ret != -EAGAIN && ret != -EINTR)
			return (int)ret;
	}
	return 0;
}

/* A version 1 group is joined by the thread itself through `tasks`: that way the kernel takes no
 * global lock, which would wait for an RCU grace period (8 ms). */
static int join_cgroup(const struct sandbox_plan *p)
{
	long ret;

	if (p->tasks_fd < 0)
		return 0;
	ret = RAW(SYS_write, p->tasks_fd, "0", 1);
	return ret < 0 ? (int)ret : 0;
}

static int take_identity(void)
{
	long ret = RAW(SYS_setgroups, 0, NULL, 0);

	if (!ret)
		ret = RAW(SYS_setresgid, SANDBOX_UID_INSIDE, SANDBOX_UID_INSIDE,
			  SANDBOX_UID_INSIDE);
	if (!ret)
		ret = RAW(SYS_setresuid, SANDBOX_UID_INSIDE, SANDBOX_UID_INSIDE,
			  SANDBOX_UID_INSIDE);
	if (!ret)
		ret = RAW(SYS_setsid, 0, 0, 0);
	return ret < 0 ? (int)ret : 0;
}

static int die_with_parent(const struct sandbox_plan *p)
{
	struct pollfd parent = {.fd = p->parent_fd, .events = POLLIN};
	struct timespec now = {0};
	long ret = RAW(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);

	if (ret < 0)
		return (int)ret;
	/* It may have died before the signal was asked for. */
	ret = raw6(SYS_ppoll, (long)&parent, 1, (long)&now, 0, 0, 0);
	if (ret > 0)
		return -ESRCH;
	return ret < 0 ? (int)ret : 0;
}

static int set_rlimits(const struct sandbox_plan *p)
{
	for (int i = 0; i < p->rlimit_count; i++) {
		long ret = raw6(SYS_prlimit64, 0, p->rlimits[i].resource,
				(long)&p->rlimits[i].limit, 0, 0, 0);

		if (ret < 0)
			return (int)ret;
	}
	return 0;
}

/* libcap-ng would read /proc and allocate; both are out of the question here. */
static int drop_capabilities(const struct sandbox_plan *p)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
	long ret = raw6(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0);

	for (int cap = 0; !ret && cap <= p->cap_last; cap++)
		ret = raw6(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0, 0);
	if (!ret)
		ret = RAW(SYS_capset, &header, none, 0);
	return ret < 0 ? (int)ret : 0;
}

static long park(int fd)
{
	return fd < 0 ? -1 : RAW(SYS_fcntl, fd, F_DUPFD_CLOEXEC, PARK_FD_MIN);
}

static int place_given(const struct sandbox_plan *p)
{
	long parked[SANDBOX_FDS_MAX];
	long ret = 0;

	for (int i = 0; i < p->fd_count; i++) {
		parked[i] = park(p->fds[i]);
		if (p->fds[i] >= 0 && parked[i] < 0)
			return (int)parked[i];
	}
	for (int i = 0; i < p->fd_count && ret >= 0; i++) {
		int fd = SANDBOX_FD_FIRST + i;

		if (parked[i] >= 0)
			ret = RAW(SYS_dup3, parked[i], fd, 0);
		else
			ret = RAW(SYS_close_range, fd, fd, 0);
	}
	return ret < 0 ? (int)ret : 0;
}

/* Sources may sit on the numbers that are to be filled, so all of them are first moved up. */
static int place_descriptors(const struct sandbox_plan *p, int *ret_exe_fd)
{
	int exe_fd = SANDBOX_FD_FIRST + p->fd_count;
	long exe = park(p->exe_fd);
	long null = park(p->null_fd);
	long log = park(p->log_fd);
	long ret;

	if (exe < 0 || null < 0 || log < 0)
		return -EBADF;
	ret = place_given(p);
	if (ret >= 0)
		ret = RAW(SYS_dup3, exe, exe_fd, O_CLOEXEC);
	if (ret >= 0)
		ret = RAW(SYS_dup3, null, STDIN_FILENO, 0);
	if (ret >= 0)
		ret = RAW(SYS_dup3, log, STDOUT_FILENO, 0);
	if (ret >= 0)
		ret = RAW(SYS_dup3, log, STDERR_FILENO, 0);
	if (ret >= 0)
		ret = RAW(SYS_close_range, exe_fd + 1, ~0u, 0);
	*ret_exe_fd = exe_fd;
	return ret < 0 ? (int)ret : 0;
}

/* CLONE_CLEAR_SIGHAND leaves ignored signals ignored, and exec would hand them on. */
static int reset_signals(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} by_default = {0};
	uint64_t none = 0;

	for (int sig = 1; sig < _NSIG; sig++)
		raw6(SYS_rt_sigaction, sig, (long)&by_default, 0, sizeof(none), 0, 0);
	return (int)raw6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof(none), 0, 0);
}

static int child_steps(struct sandbox_plan *p)
{
	int exe_fd = -1;
	int err;

	p->step = SANDBOX_STEP_WAIT;
	err = wait_for_ids(p);
	if (!err) {
		p->step = SANDBOX_STEP_CGROUP;
		err = join_cgroup(p);
	}
	if (!err) {
		p->step = SANDBOX_STEP_IDENTITY;
		err = take_identity();
	}
	if (!err) {
		p->step = SANDBOX_STEP_PDEATHSIG;
		err = p->outlives ? 0 : die_with_parent(p);
	}
	if (!err) {
		p->step = SANDBOX_STEP_CAPABILITIES;
		err = drop_capabilities(p);
	}
	if (!err) {
		p->step = SANDBOX_STEP_NO_NEW_PRIVS;
		err = (int)raw6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	}
	if (!err) {
		p->step = SANDBOX_STEP_DESCRIPTORS;
		err = place_descriptors(p, &exe_fd);
	}
	if (!err) {
		p->step = SANDBOX_STEP_RLIMITS;
		err = set_rlimits(p);
	}
	if (!err) {
		p->step = SANDBOX_STEP_SIGNALS;
		err = reset_signals();
	}
	if (!err && !p->trial) {
		p->step = SANDBOX_STEP_EXEC;
		err = (int)raw6(SYS_execveat, exe_fd, (long)"", (long)p->argv, (long)p->envp,
				AT_EMPTY_PATH, 0);
	}
	return err;
}

static _Noreturn __attribute__((used)) void child_main(struct sandbox_plan *p)
{
	p->err = child_steps(p);
	for (;;)
		RAW(SYS_exit_group, 0, 0, 0);
}

pid_t sandbox_child_start(struct sandbox_plan *plan, void *stack, size_t stack_bytes, int cgroup_fd,
			  int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND |
			 CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
			 CLONE_NEWUTS | CLONE_NEWCGROUP,
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.child_tid = (uint64_t)(uintptr_t)&plan->alive,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = stack_bytes,
	};
	register struct sandbox_plan *child_plan __asm__("r12") = plan;
	long ret;

	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup_fd;
	}
	/* The child wakes up on an empty stack: it cannot return from here, so it calls. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r12, %%rdi\n\t"
			 "call %P[main]\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(ret)
			 : "a"((long)SYS_clone3), "D"(&args), "S"(sizeof(args)),
			   "r"(child_plan), [main] "i"(child_main)
			 : "rcx", "r11", "memory");
	return (pid_t)ret;
}
