/* SPDX-License-Identifier: Apache-2.0 */
/* syscall_system.c - system calls about the machine and the user: uname, limits, ids, randomness */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "common/clock.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal_internal.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/process/timer.h"

enum { RANDOM_CHUNK_BYTES = 4096, STACK_LIMIT_BYTES = 8 << 20 };

static int64_t sys_uname(struct proc *p, struct task *t, const uint64_t a[6])
{
	/* The kernel whose system calls are served; libraries compare the number. */
	static const struct utsname name = {
		.sysname = "Linux",
		.nodename = "quickthaw",
		.release = "6.1.0",
		.version = "#1 quickthaw",
		.machine = "x86_64",
		.domainname = "(none)",
	};

	(void)t;
	return mm_copy_out(p, a[0], &name, sizeof(name));
}

static int64_t sys_sysinfo(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t used = mm_resident_pages(p) * PAGE_BYTES;
	struct sysinfo info = {
		.uptime = (long)(guest_mono_ns(p) / NSEC_PER_SEC),
		.totalram = p->memory_bytes,
		.freeram = p->memory_bytes - MIN(used, p->memory_bytes),
		.procs = 1,
		.mem_unit = 1,
	};

	(void)t;
	return mm_copy_out(p, a[0], &info, sizeof(info));
}

/** From the host at every call: clones of one snapshot must differ. */
static int64_t sys_getrandom(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint8_t bytes[RANDOM_CHUNK_BYTES];
	uint64_t done = 0, want = MIN(a[1], (uint64_t)INT32_MAX);

	(void)t;
	if (a[2] & ~(uint64_t)(GRND_NONBLOCK | GRND_RANDOM | 4 /* GRND_INSECURE */))
		return -EINVAL;
	while (done < want) {
		ssize_t n = getrandom(bytes, MIN(want - done, sizeof(bytes)), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (mm_copy_out(p, a[0] + done, bytes, (size_t)n))
			return done ? (int64_t)done : -EFAULT;
		done += (uint64_t)n;
	}
	return (int64_t)done;
}

/* ---- limits ---- */

static int limit_of(const struct proc *p, unsigned resource, struct rlimit *ret)
{
	uint64_t v = RLIM_INFINITY;

	switch (resource) {
	case RLIMIT_NOFILE:
		v = FILES_MAX;
		break;
	case RLIMIT_STACK:
		*ret = (struct rlimit){STACK_LIMIT_BYTES, RLIM_INFINITY};
		return 0;
	case RLIMIT_NPROC:
		v = TASKS_MAX;
		break;
	case RLIMIT_CORE:
		v = 0;
		break;
	case RLIMIT_SIGPENDING:
		v = SIGNAL_QUEUE_MAX;
		break;
	case RLIMIT_MEMLOCK:
		v = p->memory_bytes;
		break;
	case RLIMIT_NICE:
	case RLIMIT_RTPRIO:
		v = 0;
		break;
	default:
		if (resource >= RLIM_NLIMITS)
			return -EINVAL;
	}
	*ret = (struct rlimit){v, v};
	return 0;
}

/** Limits are what the function was given; a program may lower one, which changes nothing. */
static int64_t limit_call(struct proc *p, unsigned resource, uint64_t new_addr, uint64_t old_addr)
{
	struct rlimit limit, fresh;
	int ret = limit_of(p, resource, &limit);

	if (ret)
		return ret;
	if (new_addr) {
		if (mm_copy_in(p, &fresh, new_addr, sizeof(fresh)))
			return -EFAULT;
		if (fresh.rlim_cur > fresh.rlim_max)
			return -EINVAL;
		if (fresh.rlim_max > limit.rlim_max)
			return -EPERM;
	}
	return old_addr ? mm_copy_out(p, old_addr, &limit, sizeof(limit)) : 0;
}

static int64_t sys_prlimit64(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	if (a[0] && a[0] != GUEST_PID)
		return -ESRCH;
	return limit_call(p, (unsigned)a[1], a[2], a[3]);
}

static int64_t sys_getrlimit(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return a[1] ? limit_call(p, (unsigned)a[0], 0, a[1]) : -EFAULT;
}

static int64_t sys_setrlimit(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)t;
	return a[1] ? limit_call(p, (unsigned)a[0], a[1], 0) : -EFAULT;
}

static int64_t sys_getrusage(struct proc *p, struct task *t, const uint64_t a[6])
{
	uint64_t cpu_ns = guest_cpu_ns(p);
	struct rusage usage = {0};

	(void)t;
	switch ((int)a[0]) {
	case RUSAGE_SELF:
	case RUSAGE_THREAD:
		usage.ru_utime.tv_sec = (time_t)(cpu_ns / NSEC_PER_SEC);
		usage.ru_utime.tv_usec = (suseconds_t)(cpu_ns % NSEC_PER_SEC / 1000);
		usage.ru_maxrss = (long)(mm_resident_pages(p) * (PAGE_BYTES / 1024));
		break;
	case RUSAGE_CHILDREN:
		break;
	default:
		return -EINVAL;
	}
	return mm_copy_out(p, a[1], &usage, sizeof(usage));
}

/* ---- ids: root without a single capability, as in a container's user namespace ---- */

static int64_t sys_id(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return 0;
}

static int64_t sys_set_id(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t;
	return a[0] ? -EPERM : 0;
}

static int64_t sys_set_res_id(struct proc *p, struct task *t, const uint64_t a[6])
{
	int count = t->nr == SYS_setreuid || t->nr == SYS_setregid ? 2 : 3;

	(void)p;
	for (int i = 0; i < count; i++)
		if ((int32_t)a[i] > 0)
			return -EPERM;
	return 0;
}

static int64_t sys_get_res_id(struct proc *p, struct task *t, const uint64_t a[6])
{
	static const uint32_t zero;

	(void)t;
	for (int i = 0; i < 3; i++)
		if (mm_copy_out(p, a[i], &zero, sizeof(zero)))
			return -EFAULT;
	return 0;
}

static int64_t sys_capget(struct proc *p, struct task *t, const uint64_t a[6])
{
	struct __user_cap_header_struct header;
	static const struct __user_cap_data_struct none[2];

	(void)t;
	if (mm_copy_in(p, &header, a[0], sizeof(header)))
		return -EFAULT;
	if (header.version != _LINUX_CAPABILITY_VERSION_3) {
		header.version = _LINUX_CAPABILITY_VERSION_3;
		if (mm_copy_out(p, a[0], &header, sizeof(header)))
			return -EFAULT;
		return a[1] ? -EINVAL : 0;
	}
	return a[1] ? mm_copy_out(p, a[1], none, sizeof(none)) : 0;
}

static int64_t sys_not_permitted(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return -EPERM;
}

static int64_t sys_personality(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return 0; /* PER_LINUX, whatever is asked for */
}

/** rseq, protection keys, io_uring: libraries ask, and do without. */
static int64_t sys_none(struct proc *p, struct task *t, const uint64_t a[6])
{
	(void)p, (void)t, (void)a;
	return -ENOSYS;
}

const struct syscall_entry syscalls_system[] = {
	SYSCALL_ENTRY(uname, sys_uname),
	SYSCALL_ENTRY(sysinfo, sys_sysinfo),
	SYSCALL_ENTRY(getrandom, sys_getrandom),
	SYSCALL_ENTRY(prlimit64, sys_prlimit64),
	SYSCALL_ENTRY(getrlimit, sys_getrlimit),
	SYSCALL_ENTRY(setrlimit, sys_setrlimit),
	SYSCALL_ENTRY(getrusage, sys_getrusage),
	SYSCALL_ENTRY(getuid, sys_id),
	SYSCALL_ENTRY(geteuid, sys_id),
	SYSCALL_ENTRY(getgid, sys_id),
	SYSCALL_ENTRY(getegid, sys_id),
	SYSCALL_ENTRY(getgroups, sys_id),
	SYSCALL_ENTRY(setgroups, sys_not_permitted),
	SYSCALL_ENTRY(setuid, sys_set_id),
	SYSCALL_ENTRY(setgid, sys_set_id),
	SYSCALL_ENTRY(setfsuid, sys_id),
	SYSCALL_ENTRY(setfsgid, sys_id),
	SYSCALL_ENTRY(setreuid, sys_set_res_id),
	SYSCALL_ENTRY(setregid, sys_set_res_id),
	SYSCALL_ENTRY(setresuid, sys_set_res_id),
	SYSCALL_ENTRY(setresgid, sys_set_res_id),
	SYSCALL_ENTRY(getresuid, sys_get_res_id),
	SYSCALL_ENTRY(getresgid, sys_get_res_id),
	SYSCALL_ENTRY(capget, sys_capget),
	SYSCALL_ENTRY(capset, sys_not_permitted),
	SYSCALL_ENTRY(personality, sys_personality),
	SYSCALL_ENTRY(rseq, sys_none),
	SYSCALL_ENTRY(pkey_alloc, sys_none),
	SYSCALL_ENTRY(io_uring_setup, sys_none),
	SYSCALL_ENTRY(sethostname, sys_not_permitted),
	SYSCALL_ENTRY(setdomainname, sys_not_permitted),
	{0},
};
