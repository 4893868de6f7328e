/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_internal.h - what the sandbox_*.c files share */
#ifndef QUICKTHAW_COMMON_SANDBOX_INTERNAL_H
#define QUICKTHAW_COMMON_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "common/sandbox.h"

/** A child's user on the host is this plus its pid: no two live jails share one. */
#define SANDBOX_UID_BASE 0x70000000u
/** The user and group as the jailed process sees itself. */
#define SANDBOX_UID_INSIDE 1000u

/** Steps of a jail that can fail; sandbox_step_names has the words for the log. */
enum sandbox_step {
	SANDBOX_STEP_CLONE,
	SANDBOX_STEP_MAP_IDS,
	SANDBOX_STEP_WAIT,
	SANDBOX_STEP_CGROUP,
	SANDBOX_STEP_IDENTITY,
	SANDBOX_STEP_PDEATHSIG,
	SANDBOX_STEP_RLIMITS,
	SANDBOX_STEP_CAPABILITIES,
	SANDBOX_STEP_NO_NEW_PRIVS,
	SANDBOX_STEP_DESCRIPTORS,
	SANDBOX_STEP_SIGNALS,
	SANDBOX_STEP_EXEC,
	SANDBOX_STEP_COUNT
};

enum { SANDBOX_RLIMITS_MAX = 12 };

/**
 * struct sandbox_plan - everything the child needs, worked out by the parent beforehand, because
 * the child runs in the parent's memory beside it and may only make raw system calls.
 */
struct sandbox_plan {
	/* parent to child */
	int fds[SANDBOX_FDS_MAX];
	int fd_count;
	int null_fd;
	int log_fd;
	int exe_fd;
	int tasks_fd;  /**< cgroup v1: write "0" here to join; -1 where it is not needed */
	int parent_fd; /**< pidfd of the parent process, to see whether it is still there */
	int cap_last;
	bool outlives; /**< no signal when the parent dies */
	bool trial;    /**< exit instead of the exec: only see whether jails can be made */
	const char *const *argv;
	const char *const *envp;
	struct {
		int resource;
		struct rlimit limit;
	} rlimits[SANDBOX_RLIMITS_MAX];
	int rlimit_count;
	_Atomic uint32_t ids_mapped; /**< futex: 1 once the parent wrote the id maps */
	/* child to parent */
	_Atomic uint32_t alive; /**< futex: the kernel clears it and wakes at exec or exit */
	enum sandbox_step step; /**< where the child is, or failed */
	int err;		/**< -errno of the failed step, 0 if none failed */
};

/** sandbox_child_start() - clone3 a child that runs sandbox_child.c's steps on @stack.
 * @cgroup_fd: cgroup v2 directory to be born in, or -1. Return: pid or -errno. */
pid_t sandbox_child_start(struct sandbox_plan *plan, void *stack, size_t stack_bytes, int cgroup_fd,
			  int *ret_pidfd);

/** sandbox_cgroup_init() - find the memory controller, remove what earlier runs left, make our
 * parent group. Return: 0 (also where there is no controller: logged) or -errno. */
int sandbox_cgroup_init(void);
/**
 * sandbox_cgroup_new() - the group of one jail.
 * @memory_bytes: 0 for no limit
 * @ret_tasks_fd: for version 1, to write "0" to from inside; else -1
 * @ret_cgroup_fd: for version 2, for CLONE_INTO_CGROUP; else -1
 * Return: 0 (with both -1 where there is no controller) or -errno.
 */
int sandbox_cgroup_new(const char *id, uint64_t memory_bytes, int *ret_tasks_fd,
		       int *ret_cgroup_fd);
int sandbox_cgroup_set_memory(const char *id, uint64_t memory_bytes);
bool sandbox_cgroup_oom_killed(const char *id);
/** sandbox_cgroup_remove() - the group must be empty of live processes. */
int sandbox_cgroup_remove(const char *id);
void sandbox_cgroup_finish(void);

/** sandbox_empty_root_enter() - give the calling thread a mount namespace of its own that holds one
 * empty, read-only tmpfs and nothing else. Return: 0 or -errno. */
int sandbox_empty_root_enter(void);

/** struct sandbox_arg - a check of one argument: (value & mask) == want. */
struct sandbox_arg {
	int8_t index; /**< 1 to 6; 0: no check */
	uint64_t mask;
	uint64_t want;
};

/** struct sandbox_rule - one line of an allow-list. Several lines for one call: any of them. */
struct sandbox_rule {
	int nr;
	struct sandbox_arg args[2];
	const char *reason;
};

/** The list of a vmm with a kernel guest (sandbox_rules_kernel.c). */
extern const struct sandbox_rule sandbox_kernel_rules[];

/** sandbox_rules() - a stage's allow-list, ended by a rule without a reason. */
const struct sandbox_rule *sandbox_rules(enum sandbox_stage stage);

/** sandbox_syscall_name() - Linux's name of system call @nr, or "unknown". */
const char *sandbox_syscall_name(int nr);

/** sandbox_filter_install() - SIGSYS handler, NO_NEW_PRIVS, then the filter for all threads.
 * Return: 0 or -errno. */
int sandbox_filter_install(const struct sock_fprog *program);

#endif
