/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - guest time, and the vDSO page that serves it without an exit
 *
 * Monotonic time starts at boot and never goes back nor jumps over a restore: it goes on from where
 * the capture stopped. Wall time is the host's at once.
 */
#ifndef QUICKTHAW_PROCESS_CLOCK_H
#define QUICKTHAW_PROCESS_CLOCK_H

#include <stdint.h>

#include "common/state.h"

struct proc;

int guest_clock_new(struct proc *p);
void guest_clock_free(struct proc *p);
int guest_clock_save(struct proc *p, struct state_writer *w);
int guest_clock_load(struct proc *p, struct state_reader *r);

uint64_t guest_mono_ns(struct proc *p);
uint64_t guest_real_ns(struct proc *p);
/** guest_cpu_ns() - CPU time of the guest: CLOCK_PROCESS_CPUTIME_ID (thread clocks are approximated
 * by the same accounting). */
uint64_t guest_cpu_ns(struct proc *p);
/** guest_mono_to_host_ns() - the host's CLOCK_MONOTONIC at which guest monotonic time is @guest_ns.
 */
uint64_t guest_mono_to_host_ns(struct proc *p, uint64_t guest_ns);

/** vdso_map() - map the vDSO image into the guest at exec. @ret_base: AT_SYSINFO_EHDR. */
int vdso_map(struct proc *p, uint64_t *ret_base);

#endif
