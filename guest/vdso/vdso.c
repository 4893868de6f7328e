/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vdso.c - clocks of a process guest without a system call
 *
 * Freestanding, one loadable segment, no data of its own and no relocations. The names are those of
 * Linux's vDSO for x86-64 (vdso(7)), so that C libraries and runtimes find them.
 */
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "guest/vdso/vvar.h"

#define NSEC_PER_SEC 1000000000ull

int __vdso_clock_gettime(clockid_t id, struct timespec *ts);
int __vdso_clock_getres(clockid_t id, struct timespec *ts);
int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz);
time_t __vdso_time(time_t *t);
long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused);

static long syscall2(long nr, long a, long b)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return ret;
}

static uint64_t read_tsc(void)
{
	uint32_t low, high;

	/* Not before the loads above it, as Linux does it. */
	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/*
 * read_clocks() - both clocks at one moment.
 * There is one vCPU and the vmm writes while it is stopped: the compiler is all that could reorder,
 * and volatile forbids it. Return: 0: make the system call.
 */
static int read_clocks(uint64_t *ret_mono, uint64_t *ret_real)
{
	const volatile struct vvar *v = (const volatile struct vvar *)VVAR_GVA;
	uint32_t seq;

	do {
		seq = v->seq;
		if (v->mode != VVAR_TSC)
			return 0;
		*ret_mono = vvar_mono_ns(v, read_tsc());
		*ret_real = *ret_mono + v->real_offset_ns;
	} while ((seq & 1) || v->seq != seq);
	return 1;
}

int __vdso_clock_gettime(clockid_t id, struct timespec *ts)
{
	uint64_t mono, real, ns;

	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_BOOTTIME:
		break;
	default:
		return (int)syscall2(SYS_clock_gettime, id, (long)ts);
	}
	if (!read_clocks(&mono, &real))
		return (int)syscall2(SYS_clock_gettime, id, (long)ts);
	ns = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? real : mono;
	ts->tv_sec = (time_t)(ns / NSEC_PER_SEC);
	ts->tv_nsec = (long)(ns % NSEC_PER_SEC);
	return 0;
}

int __vdso_clock_getres(clockid_t id, struct timespec *ts)
{
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_BOOTTIME:
		if (ts) {
			ts->tv_sec = 0;
			ts->tv_nsec = 1;
		}
		return 0;
	default:
		return (int)syscall2(SYS_clock_getres, id, (long)ts);
	}
}

int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz)
{
	uint64_t mono, real;

	if (!read_clocks(&mono, &real))
		return (int)syscall2(SYS_gettimeofday, (long)tv, (long)tz);
	if (tv) {
		tv->tv_sec = (time_t)(real / NSEC_PER_SEC);
		tv->tv_usec = (suseconds_t)(real % NSEC_PER_SEC / 1000);
	}
	if (tz) {
		tz->tz_minuteswest = 0;
		tz->tz_dsttime = 0;
	}
	return 0;
}

time_t __vdso_time(time_t *t)
{
	uint64_t mono, real;
	time_t now;

	if (!read_clocks(&mono, &real))
		return syscall2(SYS_time, (long)t, 0);
	now = (time_t)(real / NSEC_PER_SEC);
	if (t)
		*t = now;
	return now;
}

/* One vCPU, one node. */
long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
	(void)unused;
	if (cpu)
		*cpu = 0;
	if (node)
		*node = 0;
	return 0;
}

#define ALIAS(name) __attribute__((weak, alias("__vdso_" #name)))
int clock_gettime(clockid_t id, struct timespec *ts) ALIAS(clock_gettime);
int clock_getres(clockid_t id, struct timespec *ts) ALIAS(clock_getres);
/* <sys/time.h> and <unistd.h> give these other prototypes: aliases by the assembler. */
__asm__(".weak gettimeofday\n gettimeofday = __vdso_gettimeofday\n"
	".weak time\n time = __vdso_time\n"
	".weak getcpu\n getcpu = __vdso_getcpu");
