/* SPDX-License-Identifier: Apache-2.0 */
/* control_process.c - a shell that becomes a process guest */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "vmm/control.h"
#include "vmm/control_internal.h"
#include "vmm/cpu_features.h"
#include "vmm/device.h"
#include "vmm/process/mm.h"
#include "vmm/process/neighbours.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"
#include "vmm/vm.h"
#include "vmm/working_set.h"

/** struct process_guest - the guest of this shell. */
struct process_guest {
	struct control control;
	struct vm *vm;
	struct proc proc;
};

static struct process_guest *guest_of(struct control *c)
{
	return container_of(c, struct process_guest, control);
}

static void hello(struct control *c, struct proto_hello *ret)
{
	const struct vm *vm = guest_of(c)->vm;

	ret->guest_kind = GUEST_KIND_PROCESS;
	ret->vcpus = 1;
	ret->host_kind = vm->host_kind;
	ret->ram_base = (uint64_t)(uintptr_t)vm->mem.ram;
	ret->ram_bytes = vm->mem.ram_bytes;
	ret->state_version = devices_version(&process_devices);
	memcpy(ret->cpu_features, vm->cpu_have, sizeof(ret->cpu_features));
}

static void on_stdio(struct proc *p, int stream, const void *data, size_t n)
{
	control_log(p->control, stream, data, n);
}

static struct guest_wiring make_wiring(int *fds)
{
	struct guest_wiring wiring = {.events = &control_api_events, .stdio = on_stdio};

	for (int i = 0; i < PROTO_DIR_COUNT; i++)
		wiring.dirs[i] = steal_fd(&fds[i]);
	return wiring;
}

static int boot(struct control *c, const struct proto_boot *body, struct control_program *program,
		int *fds)
{
	struct process_guest *g = guest_of(c);
	struct guest_wiring wiring;
	int ret;

	for (char *const *extra = cpu_baseline_env(g->vm); *extra; extra++) {
		if (program->envc == CONTROL_ARGS_MAX)
			return -E2BIG;
		program->envp[program->envc++] = *extra;
	}
	program->envp[program->envc] = NULL;
	g->proc.memory_bytes = body->memory_bytes;
	g->proc.tmp_bytes = body->tmp_bytes;
	wiring = make_wiring(fds);
	ret = guest_boot(&g->proc, g->vm, &wiring, program->argv, program->envp);
	c->api = g->proc.api;
	return ret;
}

static int restore(struct control *c, const struct guest_image *image, int *fds)
{
	struct process_guest *g = guest_of(c);
	struct guest_wiring wiring = make_wiring(fds);
	int ret = guest_restore(&g->proc, g->vm, &wiring, image);

	c->api = g->proc.api;
	return ret;
}

static void on_readable(struct proc *p, int fd, short revents)
{
	(void)fd;
	(void)revents;
	control_read(p->control);
}

static void run(struct control *c)
{
	struct proc *p = &guest_of(c)->proc;

	sched_set_control(p, c->sock, on_readable);
	sched_run(p, NULL);
}

static void stop(struct control *c, const char *text)
{
	proc_finish(&guest_of(c)->proc, PROC_BROKEN, 0, "%s", text);
}

static void capture(struct control *c, const struct control_capture *capture)
{
	const struct capture_target target = {
		.fd = *capture->file_fd,
		.pagemap_fd = *capture->pagemap_fd,
		.metadata = capture->metadata,
		.metadata_bytes = capture->metadata_bytes,
	};
	struct capture_stats stats = {0};
	int ret = -ENOTSUP; /* as a diff: by nobody asked for */

	if (!capture->base_fd)
		ret = capture_write(&guest_of(c)->proc, &target, &stats);
	control_captured(c, ret, &stats);
}

static int trace(struct control *c, int pagemap_fd, uint8_t *ret_marks)
{
	struct process_guest *g = guest_of(c);
	int ret = working_set_read(&g->vm->mem, pagemap_fd, ret_marks);

	if (!ret && g->vm->faults_dear)
		ret = neighbours_mark(&g->proc, ret_marks, g->vm->mem.template_pages);
	return ret;
}

static uint64_t resident_pages(struct control *c)
{
	return mm_resident_pages(&guest_of(c)->proc);
}

static uint64_t take_exits(struct control *c)
{
	struct vcpu *vcpu = &guest_of(c)->vm->vcpu;
	uint64_t exits = vcpu->exits;

	vcpu->exits = 0;
	return exits;
}

static void end(struct control *c, struct control_end *ret)
{
	static const enum proto_failure reasons[] = {
		[PROC_RUNS] = PROTO_FAILED_VMM,	       [PROC_EXITED] = PROTO_FAILED_EXIT,
		[PROC_SIGNALED] = PROTO_FAILED_SIGNAL, [PROC_OUT_OF_MEMORY] = PROTO_FAILED_MEMORY,
		[PROC_BROKEN] = PROTO_FAILED_VMM,
	};
	const struct proc *p = &guest_of(c)->proc;

	*ret = (struct control_end){reasons[p->end], p->end_code, p->end_text};
}

static const struct control_ops process_ops = {
	.file_count = PROTO_DIR_COUNT,
	.boot_fd_count = PROTO_DIR_COUNT,
	.base_fd_count = -1,
	.hello = hello,
	.boot = boot,
	.restore = restore,
	.run = run,
	.stop = stop,
	.capture = capture,
	.trace = trace,
	.resident_pages = resident_pages,
	.take_exits = take_exits,
	.end = end,
};

int control_serve_process(struct vm *vm, int sock, int uffd)
{
	static struct process_guest guest;
	struct process_guest *g = &guest;

	g->vm = vm;
	g->control = (struct control){
		.ops = &process_ops, .mem = &vm->mem, .cpu_features = vm->cpu_features};
	g->proc.control = &g->control;
	return control_serve(&g->control, sock, uffd);
}
