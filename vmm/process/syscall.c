/* SPDX-License-Identifier: Apache-2.0 */
/* syscall.c - from a system call number to its table entry */
#include "vmm/process/syscall.h"

#include <errno.h>
#include <stdbool.h>

#include "common/log.h"
#include "common/util.h"

enum { SYSCALL_MAX = 512 };

static const char *const names[SYSCALL_MAX] = {
#include "common/syscall_names.inc"
};

static const struct syscall_entry *const topics[] = {
	syscalls_mem,	 syscalls_file, syscalls_path,	 syscalls_event,  syscalls_task,
	syscalls_signal, syscalls_time, syscalls_socket, syscalls_system,
};

static const struct syscall_entry *by_number[SYSCALL_MAX];
/* How often each call without an entry was made; the last one counts all beyond the table. */
static uint64_t unknown_count[SYSCALL_MAX + 1];

void syscall_init(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
		for (const struct syscall_entry *e = topics[i]; e->fn; e++) {
			if (e->nr >= SYSCALL_MAX)
				die("system call %s has number %u: raise SYSCALL_MAX", e->name,
				    e->nr);
			if (by_number[e->nr] && by_number[e->nr] != e)
				die("system call %s has two table entries", e->name);
			by_number[e->nr] = e;
		}
	}
}

const char *syscall_name(uint64_t nr)
{
	return nr < SYSCALL_MAX && names[nr] ? names[nr] : "unknown";
}

int64_t syscall_dispatch(struct proc *p, struct task *t, uint64_t nr, const uint64_t a[6])
{
	uint64_t index = MIN(nr, (uint64_t)SYSCALL_MAX);

	if (index < SYSCALL_MAX && by_number[index])
		return by_number[index]->fn(p, t, a);
	if (!unknown_count[index]++)
		log_warn("system call %s (%llu) is not supported: ENOSYS", syscall_name(nr),
			 (unsigned long long)nr);
	return -ENOSYS;
}

uint64_t syscall_unknown_count(uint64_t nr)
{
	return unknown_count[MIN(nr, (uint64_t)SYSCALL_MAX)];
}
