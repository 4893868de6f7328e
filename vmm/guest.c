/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - a guest comes to life in a vm: by cold boot or from a snapshot */
#include "vmm/guest.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log.h"
#include "vmm/device.h"
#include "vmm/process/clock.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/signal.h"
#include "vmm/process/sock.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"

/** The parts in the order in which they need each other. */
static int parts_new(struct proc *p, struct vm *vm, const struct guest_wiring *wiring)
{
	int ret;

	p->vm = vm;
	syscall_init();
	ret = sched_new(p);
	if (!ret)
		ret = guest_clock_new(p);
	if (!ret)
		ret = signals_new(p);
	if (!ret)
		ret = files_new(p);
	if (!ret)
		ret = vfs_new(p, wiring->dirs);
	if (!ret)
		ret = net_new(p);
	if (!ret)
		ret = runtime_api_new(p, wiring->events);
	if (!ret)
		vfs_set_stdio_sink(p, wiring->stdio);
	return ret;
}

void guest_free(struct proc *p)
{
	runtime_api_free(p);
	if (p->mm)
		mm_free(p);
	if (p->files)
		files_free(p);
	if (p->net)
		net_free(p);
	if (p->vfs)
		vfs_free(p);
	if (p->signals)
		signals_free(p);
	if (p->clock)
		guest_clock_free(p);
	if (p->sched)
		sched_free(p);
}

int guest_boot(struct proc *p, struct vm *vm, const struct guest_wiring *wiring,
	       char *const argv[], char *const envp[])
{
	struct user_state user;
	int ret = parts_new(p, vm, wiring);

	if (!ret)
		ret = mm_new(p);
	if (!ret)
		ret = vfs_open_stdio(p);
	if (!ret)
		ret = exec_load(p, argv[0], argv, envp, &user);
	if (!ret && !task_new(p, &user))
		ret = -ENOMEM;
	if (ret)
		log_error("boot: %s: %s", argv[0], strerror(-ret));
	return ret;
}

/**
 * Bring the working set in before the guest runs: a run that was only read is mapped from the
 * template, one that was written is copied now, so that neither costs a fault later. A failure here
 * costs only time: the pages would come in one by one.
 */
static int populate(struct vm *vm, const struct guest_image *image)
{
	for (uint32_t i = 0; i < image->populate_count; i++) {
		uint64_t count = image->populate[i].count_flags & ~PROTO_POPULATE_WRITE;
		uint64_t page = image->populate[i].page;
		bool write = image->populate[i].count_flags & PROTO_POPULATE_WRITE;

		if (page > image->template_pages || count > image->template_pages - page)
			return -EBADMSG;
		if (madvise(guest_page_ptr(&vm->mem, (uint32_t)page), count * PAGE_BYTES,
			    write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) < 0)
			log_debug("restore: populate %u pages at %u: %s", (unsigned)count,
				  (unsigned)page, strerror(errno));
	}
	return 0;
}

int guest_restore(struct proc *p, struct vm *vm, const struct guest_wiring *wiring,
		  const struct guest_image *image)
{
	int ret = parts_new(p, vm, wiring);

	if (!ret)
		ret = guest_mem_map_template(&vm->mem, image->memfd, image->template_pages,
					     image->uffd);
	if (!ret)
		ret = populate(vm, image);
	if (!ret)
		ret = devices_load(p, image->state, image->state_bytes);
	if (ret)
		log_error("restore: %s", strerror(-ret));
	return ret;
}
