/* SPDX-License-Identifier: Apache-2.0 */
/* shell_pool.h - jailed microVMs made ahead of time, waiting for a snapshot or a program */
#ifndef QUICKTHAW_SNAPD_SHELL_POOL_H
#define QUICKTHAW_SNAPD_SHELL_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/kernel_guests.h"
#include "snapd/session.h"

/** Sizes of process guests, then those of kernel guests. */
enum {
	SHELL_POOL_PROCESS_CLASSES = 5,
	SHELL_POOL_CLASSES = SHELL_POOL_PROCESS_CLASSES + 1 +
			     (KERNEL_GUEST_MEMORY_MAX_MIB - KERNEL_GUEST_MEMORY_MIN_MIB) /
				     KERNEL_GUEST_MEMORY_STEP_MIB,
};

/** struct shell_pool_params - what a shell is made of. Descriptors stay the caller's. */
struct shell_pool_params {
	unsigned ready_per_class; /**< how many to keep of each class that is in use */
	int vmm_fd;
	int kvm_fd;
	int uffd_fd;			   /**< /dev/userfaultfd */
	int seccomp_fd, kernel_seccomp_fd; /**< filters of both kinds */
	int cpuid_fd;			   /**< of host_cpuid_export() */
	bool kernel_guests;		   /**< this node runs them */
	bool outlives;			   /**< instances go on when snapd ends (handover.h) */
	const char *cpu_baseline;	   /**< as in vmm shell --cpu-baseline */
};

int shell_pool_init(const struct shell_pool_params *params);

/**
 * shell_pool_class() - the class of shells for a guest of this kind with so much RAM.
 * Sizes are rounded up: for process guests to the next of a few, for kernel guests to the next 64
 * MiB. Return: its number, -ERANGE, or -ENOTSUP: this node runs no kernel guests.
 */
int shell_pool_class(enum guest_kind kind, uint64_t ram_mib);
/** shell_pool_ram_mib() - what its shells have. */
uint32_t shell_pool_ram_mib(int class);
/** shell_pool_want_class() - functions of this class exist: keep shells ready. Negative: of none.
 */
void shell_pool_want_class(int class);

/** shell_pool_keep_classes() - those that no function has any more keep no shells ready. */
void shell_pool_keep_classes(const bool in_use[SHELL_POOL_CLASSES]);

/** shell_pool_take() - a shell of this class, or NULL: none is ready; up to @waiting are being made
 * then, and the hook session_hooks.shell will tell. It stays the pool's until it leaves SHELL. */
struct instance *shell_pool_take(int class, unsigned waiting);

/** shell_pool_refill() - once per turn of the loop. @busy: an invocation is under way, so make only
 * what somebody waits for. */
void shell_pool_refill(bool busy, uint64_t now_ns);
/** shell_pool_next_ns() - when refilling should be tried again, UINT64_MAX: nothing is missing. */
uint64_t shell_pool_next_ns(void);

/** shell_pool_moved() - a shell, or one that was to be one, has left state @from. */
void shell_pool_moved(struct instance *inst, enum instance_state from);
/** shell_pool_make_ns() - what making one takes here, from the request to HELLO; an average. */
uint64_t shell_pool_make_ns(enum guest_kind kind);
/** shell_pool_on_shell() - HELLO arrived. */
void shell_pool_on_shell(struct instance *inst);
/** shell_pool_ready() - shells of a class that are ready. */
unsigned shell_pool_ready(int class);
unsigned shell_pool_target(int class);
/** shell_pool_trouble() - why there is no shell of some kind to be had, for people; NULL: there is,
 * or will be in a moment. */
const char *shell_pool_trouble(void);

#endif
