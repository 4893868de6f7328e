/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_case.h - kernel guests of several systems side by side: cold boot, restore, size, memory
 */
#ifndef QUICKTHAW_BENCH_KERNEL_CASE_H
#define QUICKTHAW_BENCH_KERNEL_CASE_H

#include <stdbool.h>

#include "bench/cases.h"

/**
 * kernel_case_run() - measure every system that can run here with the images below BUILD/kernel
 * (`make guest-images`), b->boots cold boots and b->colds restores of each.
 * @tcg: QEMU emulates the CPU, where there is no KVM for kernel guests; such times mean nothing
 * Return: 0, or -errno explained on stderr; -ENOTSUP when no system can run here.
 */
int kernel_case_run(struct bench *b, unsigned memory_mib, unsigned clones, bool tcg);

#endif
