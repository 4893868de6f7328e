/* SPDX-License-Identifier: Apache-2.0 */
/* vdso.c - map the vDSO image into a program */
#include "vmm/process/vdso.h"

#include <sys/mman.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/mm.h"

/*
 * The image is ordinary memory of the program, and in its snapshots: functions whose addresses the
 * program has kept do not move when a newer vmm restores it. The data that they read is the page at
 * VVAR_GVA, which belongs to the vmm.
 */
int vdso_map(struct proc *p, uint64_t *ret_base)
{
	uint64_t bytes = align_up(vdso_image_bytes, PAGE_BYTES);
	int64_t base =
		mm_map(p, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);
	int err;

	if (base < 0) {
		log_error("no room in the address space for the vdso");
		return (int)base;
	}
	err = mm_copy_out(p, (uint64_t)base, vdso_image, vdso_image_bytes);
	err = err ? err : mm_protect(p, (uint64_t)base, bytes, PROT_READ | PROT_EXEC);
	if (err) {
		mm_unmap(p, (uint64_t)base, bytes);
		return err;
	}
	*ret_base = (uint64_t)base;
	return 0;
}
