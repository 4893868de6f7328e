/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_service.h - kernel guests as users get them: from a snapd, lazily and with shared memory
 */
#ifndef QUICKTHAW_BENCH_KERNEL_SERVICE_H
#define QUICKTHAW_BENCH_KERNEL_SERVICE_H

#include "bench/cases.h"

/**
 * kernel_service_run() - b->colds restores with no template and with a resident one, and @clones
 * alive at once, of hello-python in a guest of @memory_mib, from a snapd of its own.
 * Return: 0 or -errno, explained on stderr.
 */
int kernel_service_run(struct bench *b, unsigned memory_mib, unsigned clones);

#endif
