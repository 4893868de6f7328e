/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - guest time
 *
 * Theory of operation
 *
 * Where the TSC can be trusted, guest monotonic time is one function of it (struct vvar), which the
 * vDSO evaluates in the guest and guest_mono_ns() here: both always agree. The function is a line;
 * the host's clock is disciplined and bends. So once a second the line is replaced by one that
 * starts where the old one is now and is tilted to meet the host's clock a second later: time is
 * continuous, never goes back, and stays within microseconds of the host's.
 *
 * Where it cannot be trusted (the host itself does not use it, it does not tick at a constant rate,
 * or the guest's is another one), the vDSO makes system calls and guest time is the host's
 * CLOCK_MONOTONIC plus an offset.
 *
 * Invariants
 *  1. guest_mono_ns() never returns less than before, over changes of the line and over restores.
 *  2. host monotonic + offset_ns = what guest monotonic time should be.
 */
#include "vmm/process/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <x86intrin.h>

#include "common/clock.h"
#include "common/host_cpuid.h"
#include "common/log.h"
#include "guest/vdso/vvar.h"
#include "vmm/process/proc.h"
#include "vmm/system_slot.h"

_Static_assert(VVAR_GVA == SYSTEM_VVAR_GVA, "the vdso looks where the page is");

enum {
	RATE_ERROR_PPM = 1000, /* NTP bends a clock by up to 500 */
	TILT_MAX = 20,	       /* 1/20 */
};
#define STEP_NS	 10000000ll /* further behind the host than this: jump instead of catching up */
#define START_NS NSEC_PER_SEC

/**
 * struct guest_clock - time of one guest.
 * @offset_ns: see invariant 2
 * @floor_ns: the latest monotonic time handed out
 * @line_tsc, @line_host_ns: host readings of one moment: when the line was made
 * @nominal: nanoseconds per tick, 32.32, by the TSC's frequency
 * @cpu_base_ns: CPU time of the guest before this process, minus what this thread had used then
 */
struct guest_clock {
	volatile struct vvar *vvar;
	uint64_t offset_ns;
	uint64_t floor_ns;
	uint64_t line_tsc;
	uint64_t line_host_ns;
	uint64_t nominal;
	uint64_t cpu_base_ns;
};

struct reading {
	uint64_t tsc, mono_ns, real_ns;
};

/* The TSC and the clocks at one moment, as near as a few tries get. */
static struct reading read_host(struct vm *vm)
{
	struct reading best = {0};
	uint64_t best_ticks = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t before = vcpu_guest_tsc(vm), mono = clock_mono_ns();
		uint64_t after = vcpu_guest_tsc(vm);

		if (after - before >= best_ticks)
			continue;
		best_ticks = after - before;
		best.tsc = before + best_ticks / 2;
		best.mono_ns = mono;
	}
	/* The two clocks differ by an offset only, which needs no common moment. */
	best.real_ns = clock_real_ns();
	best.real_ns -= clock_mono_ns() - best.mono_ns;
	return best;
}

/*
 * Does the host keep time by the TSC? Its sysfs is not to be seen in a jail; but a clock that is
 * read without a system call is read from the TSC, and constant rate is in CPUID.
 */
static bool tsc_is_good(const struct vm *vm)
{
	uint64_t best = UINT64_MAX;

	if (!vm->tsc_khz || !(host_cpuid(0x80000007, 0).edx & 1u << 8))
		return false;
	for (int i = 0; i < 8; i++) {
		uint64_t start = __rdtsc();

		(void)clock_mono_ns();
		best = MIN(best, __rdtsc() - start);
	}
	return best * 1000000 / vm->tsc_khz < 250;
}

static void write_line(struct guest_clock *c, const struct reading *now, uint64_t mono_ns,
		       uint64_t real_offset_ns, uint64_t mult)
{
	volatile struct vvar *v = c->vvar;

	v->seq++;
	v->tsc_base = now->tsc;
	v->mult = mult;
	v->mono_ns = mono_ns;
	v->real_offset_ns = real_offset_ns;
	v->mode = VVAR_TSC;
	v->seq++;
	c->line_tsc = now->tsc;
	c->line_host_ns = now->mono_ns;
}

static void leave_tsc(struct guest_clock *c)
{
	c->vvar->seq++;
	c->vvar->mode = VVAR_SYSCALL;
	c->vvar->seq++;
}

/* A new line from where the old one is now; see the theory above. */
static void renew_line(struct proc *p)
{
	struct guest_clock *c = p->clock;
	struct reading now = read_host(p->vm);
	uint64_t here = vvar_mono_ns(c->vvar, now.tsc);
	int64_t behind = (int64_t)(now.mono_ns + c->offset_ns - here);
	int64_t real_error =
		(int64_t)(now.real_ns - (now.mono_ns + c->offset_ns) - c->vvar->real_offset_ns);
	uint64_t rate, real_offset = c->vvar->real_offset_ns;
	int64_t tilt;

	rate = (uint64_t)(((unsigned __int128)(now.mono_ns - c->line_host_ns) << 32) /
			  (now.tsc > c->line_tsc ? now.tsc - c->line_tsc : 1));
	if (rate > c->nominal + c->nominal / (1000000 / RATE_ERROR_PPM) ||
	    rate < c->nominal - c->nominal / (1000000 / RATE_ERROR_PPM)) {
		log_warn(
			"the TSC does not keep time with the host's clock: guest clocks are served "
			"by system calls from now on");
		if (behind < 0)
			c->offset_ns -= (uint64_t)behind;
		leave_tsc(c);
		return;
	}
	if (behind > STEP_NS) {
		here += (uint64_t)behind;
		behind = 0;
	}
	/* Wall time goes with monotonic time, unless the host's was set. */
	if (llabs(real_error) > 1000000)
		real_offset += (uint64_t)real_error;
	tilt = (int64_t)((__int128)rate * behind / (int64_t)NSEC_PER_SEC);
	tilt = MAX(MIN(tilt, (int64_t)rate / TILT_MAX), -(int64_t)rate / TILT_MAX);
	write_line(c, &now, here, real_offset, (uint64_t)((int64_t)rate + tilt));
}

/* Guest time is @mono_ns now. */
static void start_at(struct proc *p, uint64_t mono_ns, uint64_t cpu_ns)
{
	struct guest_clock *c = p->clock;
	struct reading now = read_host(p->vm);

	c->offset_ns = mono_ns - now.mono_ns;
	c->floor_ns = mono_ns;
	c->cpu_base_ns = cpu_ns - clock_get_ns(CLOCK_THREAD_CPUTIME_ID);
	if (!tsc_is_good(p->vm)) {
		leave_tsc(c);
		return;
	}
	c->nominal = (1000000ull << 32) / p->vm->tsc_khz;
	write_line(c, &now, mono_ns, now.real_ns - mono_ns, c->nominal);
}

int guest_clock_new(struct proc *p)
{
	p->clock = calloc(1, sizeof(*p->clock));
	if (!p->clock)
		return -ENOMEM;
	p->clock->vvar = system_page_ptr(&p->vm->mem, SYSTEM_PAGE_VVAR);
	start_at(p, START_NS, 0);
	return 0;
}

void guest_clock_free(struct proc *p)
{
	free(p->clock);
	p->clock = NULL;
}

int guest_clock_save(struct proc *p, struct state_writer *w)
{
	state_put_u64(w, guest_mono_ns(p));
	state_put_u64(w, guest_cpu_ns(p));
	return w->err;
}

int guest_clock_load(struct proc *p, struct state_reader *r)
{
	uint64_t mono_ns = state_get_u64(r), cpu_ns = state_get_u64(r);

	if (r->err)
		return r->err;
	/* A century of either is no guest's. Sums with timeouts stay far from overflow. */
	if (mono_ns > 100ull * 366 * 86400 * NSEC_PER_SEC || cpu_ns > mono_ns * 1024)
		return -EBADMSG;
	start_at(p, mono_ns, cpu_ns);
	return 0;
}

static uint64_t mono_at(struct proc *p, uint64_t *ret_host_ns)
{
	struct guest_clock *c = p->clock;
	uint64_t tsc, ns;

	if (c->vvar->mode == VVAR_TSC) {
		tsc = vcpu_guest_tsc(p->vm);
		if (tsc - c->line_tsc > p->vm->tsc_khz * 1000)
			renew_line(p);
	}
	if (ret_host_ns)
		*ret_host_ns = clock_mono_ns();
	if (c->vvar->mode == VVAR_TSC)
		ns = vvar_mono_ns(c->vvar, vcpu_guest_tsc(p->vm));
	else
		ns = (ret_host_ns ? *ret_host_ns : clock_mono_ns()) + c->offset_ns;
	c->floor_ns = MAX(c->floor_ns, ns);
	return c->floor_ns;
}

uint64_t guest_mono_ns(struct proc *p)
{
	return mono_at(p, NULL);
}

uint64_t guest_real_ns(struct proc *p)
{
	uint64_t mono = guest_mono_ns(p);

	if (p->clock->vvar->mode == VVAR_TSC)
		return mono + p->clock->vvar->real_offset_ns;
	return clock_real_ns();
}

uint64_t guest_cpu_ns(struct proc *p)
{
	return p->clock->cpu_base_ns + clock_get_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t guest_mono_to_host_ns(struct proc *p, uint64_t guest_ns)
{
	uint64_t host, now = mono_at(p, &host);
	uint64_t ret;

	if (guest_ns <= now)
		return host - MIN(host, now - guest_ns);
	return checked_add(host, guest_ns - now, &ret) ? ret : UINT64_MAX;
}
