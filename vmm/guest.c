/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - a guest comes to life in a vm: by cold boot or from a snapshot */
#include "vmm/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "vmm/device.h"
#include "vmm/populate.h"
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
		ret = runtime_sock_new(p, wiring->events);
	if (!ret)
		vfs_set_stdio_sink(p, wiring->stdio);
	return ret;
}

void guest_free(struct proc *p)
{
	runtime_api_free(p->api);
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

int guest_boot(struct proc *p, struct vm *vm, const struct guest_wiring *wiring, char *const argv[],
	       char *const envp[])
{
	struct user_state user;
	struct task *task = NULL;
	int ret = parts_new(p, vm, wiring);

	if (!ret)
		ret = mm_new(p);
	if (!ret)
		ret = vfs_open_stdio(p);
	if (!ret)
		ret = exec_load(p, argv[0], argv, envp, &user);
	if (!ret && !(task = task_new(p, &user)))
		ret = -ENOMEM;
	if (!ret)
		snprintf(task->name, sizeof(task->name), "%s", basename(argv[0]));
	if (ret)
		log_error("boot: %s: %s", argv[0], strerror(-ret));
	return ret;
}

int guest_restore(struct proc *p, struct vm *vm, const struct guest_wiring *wiring,
		  const struct guest_image *image)
{
	int ret = parts_new(p, vm, wiring);

	if (!ret)
		ret = guest_mem_map_template(&vm->mem, image->memfd, image->template_pages,
					     image->uffd);
	if (!ret)
		ret = populate_start(&vm->mem, image->populate, image->populate_count);
	if (!ret)
		ret = devices_load(&process_devices, p, image->state, image->state_bytes,
				   p->end_text, sizeof(p->end_text));
	if (!ret && vm->faults_dear)
		populate_help();
	if (ret && !*p->end_text)
		snprintf(p->end_text, sizeof(p->end_text), "restore failed: %s", strerror(-ret));
	return ret;
}
