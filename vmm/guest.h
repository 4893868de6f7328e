/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - a guest comes to life in a vm: by cold boot or from a snapshot */
#ifndef QUICKTHAW_VMM_GUEST_H
#define QUICKTHAW_VMM_GUEST_H

#include <stddef.h>
#include <stdint.h>

#include "include/snapd_proto.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/vfs.h"

struct proc;
struct vm;

/** struct guest_wiring - what both ways to life have in common. */
struct guest_wiring {
	int dirs[PROTO_DIR_COUNT]; /**< become the guest's */
	const struct runtime_api_events *events;
	stdio_sink stdio;
};

/**
 * guest_boot() - cold boot: load @argv[0] and make its first task ready to run.
 * @p: zeroed but for memory_bytes, tmp_bytes and control
 * Return: 0 or -errno with a log line.
 */
int guest_boot(struct proc *p, struct vm *vm, const struct guest_wiring *wiring, char *const argv[],
	       char *const envp[]);

/** struct guest_image - a snapshot as a restore needs it. */
struct guest_image {
	int memfd;		 /**< template; stays the caller's */
	uint64_t template_pages; /**< of @memfd */
	int uffd;		 /**< serves holes of the template, or -1: it has none */
	const void *state;	 /**< STATE section */
	size_t state_bytes;
	const struct proto_populate *populate; /**< runs to bring in; kept until the process ends */
	uint32_t populate_count;
};

/**
 * guest_restore() - the counterpart: map the template, load all device states. The populate runs
 * are left to the helper thread of populate_init(). The limits come from the snapshot. Return: 0 or
 * -errno with a report in
 * @p->end_text.
 */
int guest_restore(struct proc *p, struct vm *vm, const struct guest_wiring *wiring,
		  const struct guest_image *image);

/** guest_free() - everything but the vm. */
void guest_free(struct proc *p);

#endif
