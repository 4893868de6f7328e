/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell.c - a kernel guest's machine, made ahead of time, and its conversation with snapd
 *
 * Theory of operation
 *
 * One thread serves devices and the control socket: it is in machine_run(), and control_read() is a
 * watch of the machine. So every message finds the machine's lock held, and the Runtime API, whose
 * streams that thread carries, at rest. vCPUs go on meanwhile.
 *
 * Two things need the agent first. A capture: PREPARE is sent when CAPTURE comes, and the file is
 * written once PREPARED has, outside of the lock, since that stops the vCPUs. A restore: until the
 * agent has said RESUMED_DONE the socket is left unread, so no invocation meets a guest with an old
 * clock or another clone's random numbers. An agent that is not connected, or loses its connection,
 * is asked as soon as it connects. One that does not answer in time makes the capture fail, and
 * ends a guest that was restored.
 *
 * A base is a guest that is captured before anything was started in it, with empty drives for code
 * and layers. Its boot is over when its agent is there; a restore of it gives the drives their
 * images, and START the agent its program. Then it is a function like any other, and what it is
 * captured as is a diff on the base.
 *
 * Page faults. vCPUs, and the device code with the lock held, may touch a page of the template that
 * is not there. Whoever does sleeps in the kernel until snapd has filled it. For that snapd needs
 * nothing of this process: it reads the userfaultfd, writes into the template and wakes. So a fault
 * under the lock delays this guest, and cannot deadlock.
 *
 * Invariants
 *  1. No thread, device or eventfd is made after kernel_shell_new(): the system call filter that
 *     follows lets through nothing of that kind.
 *  2. Nothing is invoked before the agent of a restored guest has said RESUMED_DONE.
 *  3. Which devices there are, and in which order, is the same in every shell: snapshots have it.
 */
#include "vmm/kernel/shell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapshot-format/snapshot.h"
#include "vmm/control_internal.h"
#include "vmm/device.h"
#include "vmm/kernel/agent_link.h"
#include "vmm/kernel/machine.h"
#include "vmm/kernel/virtio_blk.h"
#include "vmm/kernel/wiring.h"
#include "vmm/working_set.h"

/* Behind the disks of a BOOT; a base has the first of them alone. */
enum { FD_KERNEL, FD_INITRD, IMAGE_FDS };
enum { BASE_DISKS = PROTO_DISK_ROOT + 1 };

/* How long the agent may take: far more than it does. snapd's patience with a capture is longer, so
 * that it gets an answer. */
enum { PREPARE_TIMEOUT_S = 90, RESUME_TIMEOUT_S = 60 };

/* Quiet, for every byte of the console is an exit; a panic is still told. */
static const char cmdline[] = "console=ttyS0 quiet panic=-1 pci=off agent.root=/dev/vda "
			      "agent.task=/dev/vdb agent.opt=/dev/vdc";

static const char *const disk_names[PROTO_DISK_COUNT] = {
	[PROTO_DISK_ROOT] = "root",
	[PROTO_DISK_TASK] = "task",
	[PROTO_DISK_OPT] = "opt",
};

/** struct pending_capture - a CAPTURE that waits for the agent. */
struct pending_capture {
	bool wanted;
	int file_fd, pagemap_fd;
	int base_fd; /**< -1: it is no diff */
	char *base_name;
	void *metadata;
	size_t metadata_bytes;
};

/** struct kernel_guest - the guest of this shell. */
struct kernel_guest {
	struct control control;
	struct machine machine;
	struct agent_link agent;
	struct virtio_device *disks[PROTO_DISK_COUNT];
	struct pending_capture capture;
};

static struct kernel_guest guest;

static struct kernel_guest *guest_of(struct control *c)
{
	return container_of(c, struct kernel_guest, control);
}

/* ---- the machine ----------------------------------------------------------------------------- */

static int add_disk(struct kernel_guest *g, int disk)
{
	/* A jail has no io_uring: it is a way past the filter. Images are in the page cache. */
	const struct virtio_blk_options o = {
		.disk = {.base_fd = -1, .overlay_fd = -1},
		.serial = disk_names[disk],
		.no_io_uring = true,
	};
	struct virtio_wiring w;
	int ret = machine_virtio_wiring(&g->machine, &w);

	if (!ret)
		ret = virtio_blk_new(&w, &o, &g->disks[disk]);
	return ret ? ret : machine_virtio_add(&g->machine, g->disks[disk]);
}

static void on_log(void *arg, int stream, const void *data, size_t n)
{
	control_log(arg, stream, data, n);
}

static int add_devices(struct kernel_guest *g)
{
	const struct wiring_options none = {.vsock = NULL};
	struct agent_identity nobody;
	struct virtio_device *vsock;
	int ret = wiring_add(&g->machine, &none, &vsock, &nobody);

	for (int i = 0; !ret && i < PROTO_DISK_COUNT; i++)
		ret = add_disk(g, i);
	if (!ret)
		ret = agent_link_new(&g->agent, &g->machine, vsock, &control_api_events, g);
	g->agent.log = on_log;
	g->agent.log_arg = &g->control;
	return ret;
}

int kernel_shell_new(int kvm_fd, uint64_t ram_bytes, unsigned vcpus)
{
	const struct machine_config config = {
		.ram_bytes = ram_bytes,
		.vcpus = vcpus,
		.serial_fd = log_level() >= LOG_LEVEL_DEBUG ? STDERR_FILENO : -1,
	};
	int ret = machine_new(&guest.machine, kvm_fd, &config);

	if (!ret)
		ret = add_devices(&guest);
	if (!ret)
		ret = machine_make_threads(&guest.machine);
	if (ret)
		log_error("shell: no machine of %llu MiB with %u vCPUs: %s",
			  (unsigned long long)(ram_bytes >> 20), vcpus, strerror(-ret));
	return ret;
}

/* ---- coming to life -------------------------------------------------------------------------- */

static void hello(struct control *c, struct proto_hello *ret)
{
	const struct machine *m = &guest_of(c)->machine;

	ret->guest_kind = GUEST_KIND_KERNEL;
	ret->vcpus = m->vcpu_count;
	ret->host_kind = PROTO_HOST_HARDWARE;
	ret->ram_base = (uint64_t)(uintptr_t)m->mem.ram;
	ret->ram_bytes = m->mem.ram_bytes;
	ret->state_version = devices_version(&kernel_devices);
	memcpy(ret->cpu_features, m->cpu_have, sizeof(ret->cpu_features));
}

/** The drives behind the first @count stay empty. */
static int attach_disks(struct kernel_guest *g, int *fds, int count)
{
	int ret = 0;

	for (int i = 0; !ret && i < PROTO_DISK_COUNT; i++) {
		const struct disk_options o = {
			.name = disk_names[i],
			.base_fd = i < count ? steal_fd(&fds[i]) : -1,
			.read_only = true,
			.overlay_fd = -1,
		};

		ret = virtio_blk_attach(g->disks[i], &o);
	}
	return ret;
}

/** The message that they came with is gone by the time the agent is told of them. They live as long
 * as the process. Return: a list that ends with NULL, or NULL without memory. */
static char **keep_strings(char *const *list, uint32_t count)
{
	char **ret = calloc(count + 1, sizeof(*ret));

	for (uint32_t i = 0; ret && i < count; i++) {
		ret[i] = strdup(list[i]);
		if (!ret[i])
			return NULL;
	}
	return ret;
}

/** Have the agent start it, now or as soon as it is connected. */
static int start(struct control *c, const struct control_program *program)
{
	struct kernel_guest *g = guest_of(c);
	char **argv, **envp;

	if (g->agent.argv)
		return -EBUSY;
	argv = keep_strings(program->argv, program->argc);
	envp = keep_strings(program->envp, program->envc);
	if (!argv || !envp)
		return -ENOMEM;
	agent_link_start(&g->agent, argv, envp);
	return 0;
}

static int boot(struct control *c, const struct proto_boot *body, struct control_program *program,
		int *fds)
{
	struct kernel_guest *g = guest_of(c);
	int disks = c->is_base ? BASE_DISKS : PROTO_DISK_COUNT;
	const struct boot_linux images = {
		.kernel_fd = fds[disks + FD_KERNEL],
		.kernel_name = "vmlinuz",
		.initrd_fd = fds[disks + FD_INITRD],
		.initrd_name = "initramfs",
		.cmdline = cmdline,
	};
	int ret = attach_disks(g, fds, disks);

	(void)body;
	if (!ret && !c->is_base)
		ret = start(c, program);
	c->api = g->agent.api;
	if (!ret)
		ret = machine_boot(&g->machine, &images);
	return ret ? ret : machine_start(&g->machine);
}

static int restore(struct control *c, const struct guest_image *image, int *fds)
{
	struct kernel_guest *g = guest_of(c);
	struct machine *m = &g->machine;
	int ret = attach_disks(g, fds, PROTO_DISK_COUNT), told;

	c->api = g->agent.api;
	if (!ret)
		ret = machine_restore(m, image);
	if (ret)
		return ret;
	pthread_mutex_lock(&m->lock);
	told = agent_link_resume(&g->agent);
	pthread_mutex_unlock(&m->lock);
	if (told && told != -ENOTCONN) /* one that is not connected is told later */
		return told;
	return machine_start(m);
}

/* ---- serving --------------------------------------------------------------------------------- */

static bool until_resumed(struct machine *m)
{
	(void)m;
	return !guest.agent.resuming || guest.control.over;
}

static bool until_agent(struct machine *m)
{
	(void)m;
	return guest.agent.ready || guest.control.over;
}

static bool until_capture(struct machine *m)
{
	(void)m;
	return guest.capture.wanted || guest.control.over;
}

static bool until_prepared(struct machine *m)
{
	(void)m;
	return !guest.agent.preparing || guest.control.over;
}

static uint64_t seconds_from_now_ns(unsigned seconds)
{
	return clock_mono_ns() + seconds * NSEC_PER_SEC;
}

static bool is_over(const struct kernel_guest *g)
{
	return g->machine.end || g->control.over;
}

static const char *agent_is(const struct kernel_guest *g)
{
	return g->agent.ready ? "connected" : "not connected";
}

/** Serve the guest, and not the socket, until the agent has brought it up to date. */
static void wait_for_resumed(struct kernel_guest *g)
{
	struct machine *m = &g->machine;

	if (!machine_run(m, until_resumed, seconds_from_now_ns(RESUME_TIMEOUT_S)))
		return;
	pthread_mutex_lock(&m->lock);
	machine_finish(m, MACHINE_BROKEN,
		       "the guest's agent, %s, has not set clock and random numbers within %d s of "
		       "the restore",
		       agent_is(g), RESUME_TIMEOUT_S);
	pthread_mutex_unlock(&m->lock);
}

/** Serve the guest, and not the socket, until it can be captured. How long that may take is snapd's
 * affair, as with every boot. */
static void wait_for_base(struct kernel_guest *g)
{
	if (g->control.is_base && !machine_run(&g->machine, until_agent, UINT64_MAX) && !is_over(g))
		control_ready(&g->control, false);
}

/** Write the file, as a diff if there is a base. */
static int write_capture(struct kernel_guest *g, struct capture_stats *ret_stats)
{
	struct pending_capture *p = &g->capture;
	struct capture_base base = {.name = p->base_name};
	struct capture_target target = {.fd = p->file_fd,
					.pagemap_fd = p->pagemap_fd,
					.metadata = p->metadata,
					.metadata_bytes = p->metadata_bytes};
	struct snapshot_reader *reader = NULL;
	struct snapshot_error error;
	int ret;

	if (p->base_fd < 0)
		return machine_capture(&g->machine, &target, ret_stats);
	ret = snapshot_reader_open_alone(p->base_fd, p->base_name, &reader, &error);
	if (ret) {
		log_error("capture: its base: %s", error.text);
		return ret;
	}
	base.reader = reader;
	target.base = &base;
	ret = machine_capture(&g->machine, &target, ret_stats);
	snapshot_reader_free(reader);
	return ret;
}

/** Do it, unless there is an @err already, and answer. */
static void finish_capture(struct kernel_guest *g, int err)
{
	struct pending_capture *p = &g->capture;
	struct capture_stats stats = {0};
	int ret = err ? err : write_capture(g, &stats);

	p->wanted = false;
	cleanup_fd(&p->file_fd);
	cleanup_fd(&p->pagemap_fd);
	cleanup_fd(&p->base_fd);
	free(p->base_name);
	free(p->metadata);
	control_captured(&g->control, ret, &stats);
}

/** Serve the guest until the agent is ready for the capture, and do that. */
static void serve_capture(struct kernel_guest *g)
{
	int ret = machine_run(&g->machine, until_prepared, seconds_from_now_ns(PREPARE_TIMEOUT_S));

	if (ret)
		log_error("capture: the guest's agent, %s, has not prepared the guest within %d s",
			  agent_is(g), PREPARE_TIMEOUT_S);
	if (!is_over(g))
		finish_capture(g, ret);
}

static void on_socket(void *arg, int fd, uint32_t events)
{
	(void)fd;
	(void)events;
	control_read(arg);
}

static void run(struct control *c)
{
	struct kernel_guest *g = guest_of(c);
	struct machine *m = &g->machine;
	int ret;

	wait_for_resumed(g);
	wait_for_base(g);
	pthread_mutex_lock(&m->lock);
	ret = is_over(g) ? 0 : machine_watch(m, c->sock, EPOLLIN, on_socket, c);
	if (ret)
		control_breach(c, "the control socket cannot be waited for: %s", strerror(-ret));
	pthread_mutex_unlock(&m->lock);
	while (!is_over(g)) {
		machine_run(m, until_capture, UINT64_MAX);
		if (!is_over(g))
			serve_capture(g);
	}
}

static void stop(struct control *c, const char *text)
{
	machine_finish(&guest_of(c)->machine, MACHINE_BROKEN, "%s", text);
}

static void capture(struct control *c, const struct control_capture *capture)
{
	struct kernel_guest *g = guest_of(c);
	struct pending_capture *p = &g->capture;

	if (p->wanted) {
		control_breach(c, "CAPTURE while one is under way");
		return;
	}
	p->metadata = malloc(capture->metadata_bytes + 1);
	p->base_name = strdup(capture->base_name ?: "");
	if (!p->metadata || !p->base_name) {
		free(p->metadata);
		free(p->base_name);
		control_captured(c, -ENOMEM, NULL);
		return;
	}
	memcpy(p->metadata, capture->metadata, capture->metadata_bytes);
	p->metadata_bytes = capture->metadata_bytes;
	p->file_fd = steal_fd(capture->file_fd);
	p->pagemap_fd = steal_fd(capture->pagemap_fd);
	p->base_fd = capture->base_fd ? steal_fd(capture->base_fd) : -1;
	p->wanted = true;
	agent_link_prepare(&g->agent);
}

static int trace(struct control *c, int pagemap_fd, uint8_t *ret_marks)
{
	return working_set_read(&guest_of(c)->machine.mem, pagemap_fd, ret_marks);
}

static uint64_t resident_pages(struct control *c)
{
	(void)c;
	return 0; /* as the protocol has it: the page map is the host's */
}

static uint64_t take_exits(struct control *c)
{
	struct machine *m = &guest_of(c)->machine;
	uint64_t exits = m->exits;

	m->exits = 0;
	return exits;
}

static void end(struct control *c, struct control_end *ret)
{
	static const enum proto_failure reasons[] = {
		[MACHINE_RUNS] = PROTO_FAILED_VMM,	 [MACHINE_OFF] = PROTO_FAILED_KERNEL,
		[MACHINE_RESET] = PROTO_FAILED_KERNEL,	 [MACHINE_PANIC] = PROTO_FAILED_KERNEL,
		[MACHINE_CRASHED] = PROTO_FAILED_KERNEL, [MACHINE_EXITED] = PROTO_FAILED_EXIT,
		[MACHINE_BROKEN] = PROTO_FAILED_VMM,
	};
	const struct machine *m = &guest_of(c)->machine;

	*ret = (struct control_end){reasons[m->end], m->end_code, m->end_text};
	if (m->end == MACHINE_EXITED && m->end_signal) {
		ret->reason = PROTO_FAILED_SIGNAL;
		ret->code = m->end_signal;
	}
}

static const struct control_ops kernel_ops = {
	.file_count = PROTO_DISK_COUNT,
	.boot_fd_count = PROTO_DISK_COUNT + IMAGE_FDS,
	.base_fd_count = BASE_DISKS + IMAGE_FDS,
	.hello = hello,
	.boot = boot,
	.restore = restore,
	.start = start,
	.run = run,
	.stop = stop,
	.capture = capture,
	.trace = trace,
	.resident_pages = resident_pages,
	.take_exits = take_exits,
	.end = end,
};

int kernel_shell_serve(int sock, int uffd)
{
	struct kernel_guest *g = &guest;

	g->control.ops = &kernel_ops;
	g->control.mem = &g->machine.mem;
	g->control.cpu_features = g->machine.cpu_features;
	return control_serve(&g->control, sock, uffd);
}
