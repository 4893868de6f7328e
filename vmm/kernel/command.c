/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - one kernel guest from the command line, without snapd: boot, capture, restore */
#include "vmm/kernel/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "vmm/console_call.h"
#include "vmm/kernel/agent_link.h"
#include "vmm/kernel/machine.h"

enum { READY_TIMEOUT_S = 60 };

/** struct command - what the guest of this process has to do next. */
static struct command {
	const struct kernel_options *options;
	struct agent_link agent;
	struct file_pager pager; /**< of a guest that was restored */
	bool parked;		 /**< the runtime waits for work */
	bool answered;		 /**< the last invocation has its result */
	int status;
} command;

/* ---- events of the Runtime API ---- */

static void on_parked(void *guest, bool restore)
{
	(void)restore;
	if (!command.parked)
		log_info("the guest's program asks for work");
	command.parked = true;
	machine_wake(guest);
}

static void on_result(void *guest, enum proto_result_kind kind, const void *payload, size_t n)
{
	command.answered = true;
	command.status |= console_call_result(kind, payload, n);
	machine_wake(guest);
}

static void on_failed(void *guest, enum proto_failure kind, const void *json, size_t n)
{
	console_call_failed(kind, json, n);
	((struct machine *)guest)->end_code = 1;
	machine_finish(guest, MACHINE_EXITED, "the runtime reported an error");
}

static const struct runtime_api_events api_events = {
	.parked = on_parked,
	.result = on_result,
	.failed = on_failed,
};

/* ---- two ways to life ---- */

static int open_image(const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (path && fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static int boot(struct machine *m, const struct kernel_options *o)
{
	CLEANUP_FD int kernel = open_image(o->kernel);
	CLEANUP_FD int initrd = open_image(o->initrd);
	const struct boot_linux images = {
		.kernel_fd = kernel,
		.kernel_name = o->kernel,
		.initrd_fd = initrd,
		.initrd_name = o->initrd,
		.cmdline = o->cmdline,
	};
	int ret = machine_boot(m, &images);

	return ret ? ret : machine_start(m);
}

/** How it ended, for people and for the shell. */
static int exit_status(const struct machine *m)
{
	switch (m->end) {
	case MACHINE_RUNS:
		return 0;
	case MACHINE_OFF:
	case MACHINE_RESET:
		log_info("%s", m->end_text);
		return 0;
	case MACHINE_EXITED:
		if (m->end_code)
			log_error("%s", m->end_text);
		return m->end_code;
	case MACHINE_PANIC:
	case MACHINE_CRASHED:
	case MACHINE_BROKEN:
		log_error("%s", m->end_text);
		return 1;
	}
	return 1;
}

static int restore(struct machine *m, const struct kernel_options *o)
{
	/* What is captured again has to be there as a whole. */
	struct file_pager *pager = o->capture ? NULL : &command.pager;
	struct guest_image image;
	int ret = snapshot_file_image(o->restore, m->cpu_have, pager, m->mem.ram, &image);

	if (ret)
		return ret;
	ret = machine_restore(m, &image);
	close(image.memfd);
	if (ret) {
		log_error("restore: %s: %s", o->restore->path,
			  m->end_text[0] ? m->end_text : strerror(-ret));
		return ret;
	}
	return machine_start(m);
}

static int write_snapshot(void *guest, const struct capture_target *target,
			  struct capture_stats *ret_stats)
{
	return machine_capture(guest, target, ret_stats);
}

/** With a program, once that asks for work; without, once anybody inside says so. */
static bool until_ready(struct machine *m)
{
	return command.parked || (!command.options->argv && (m->signalled || command.agent.ready));
}

static bool until_prepared(struct machine *m)
{
	(void)m;
	return !command.agent.preparing;
}

static bool until_resumed(struct machine *m)
{
	(void)m;
	return !command.agent.resuming;
}

static bool until_answered(struct machine *m)
{
	(void)m;
	return command.answered && runtime_api_parked(command.agent.api);
}

/** Until the guest says that it is ready. Return: 0, or -errno with a log line. */
static int get_ready(struct machine *m, const struct kernel_options *o)
{
	uint64_t seconds = o->timeout_s ? o->timeout_s : READY_TIMEOUT_S;

	if (machine_run(m, until_ready, clock_mono_ns() + seconds * NSEC_PER_SEC)) {
		log_error("the guest was not ready within %llu s: look at its console, or give it "
			  "more with --timeout",
			  (unsigned long long)seconds);
		return -ETIMEDOUT;
	}
	if (m->end) {
		log_error("the guest was not ready before its end");
		return -ESHUTDOWN;
	}
	return 0;
}

/** Run until @until. Return: 0, or -errno with a log line that says what did not come. */
static int run_until(struct machine *m, bool (*until)(struct machine *m), const char *what)
{
	uint64_t seconds = command.options->timeout_s ?: READY_TIMEOUT_S;
	int ret = machine_run(m, until, clock_mono_ns() + seconds * NSEC_PER_SEC);

	if (ret)
		log_error("%s: nothing within %llu s", what, (unsigned long long)seconds);
	return ret ? ret : m->end ? -ESHUTDOWN : 0;
}

/** A guest without an agent, which runs no program, is captured as it is. */
static int capture(struct machine *m, const struct kernel_options *o)
{
	bool there;
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	there = !agent_link_prepare(&command.agent);
	pthread_mutex_unlock(&m->lock);
	if (there || command.parked)
		ret = run_until(m, until_prepared, "capture: the agent gets ready for it");
	if (ret)
		return ret;
	return snapshot_file_write(o->capture, "{\"made_by\":\"vmm boot\"}",
				   o->diff ? o->restore : NULL, write_snapshot, m);
}

/** Is there something to be done in the clone that only an agent does, or that waits for it? */
static bool needs_agent(const struct kernel_options *o)
{
	return o->argv || o->invoke_count || !agent_identity_empty(&command.agent.identity);
}

/** The clones' agent sets the clock and reseeds; nothing is invoked before it has. One that is not
 * connected may still connect. */
static int resume(struct machine *m, const struct kernel_options *o)
{
	bool there;
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	there = !agent_link_resume(&command.agent);
	command.parked = runtime_api_parked(command.agent.api);
	pthread_mutex_unlock(&m->lock);
	if (there || needs_agent(o))
		ret = run_until(m, until_resumed, "restore: the agent sets the clock");
	if (ret && !command.agent.ready)
		log_error("restore: no agent is connected: without one the guest cannot be given a "
			  "program, invocations, a name or addresses (--hostname, "
			  "--net TAP,mac=...,ip=...)");
	return ret;
}

/** A clone of a guest without a program gets one. Return: 0, or -errno with a log line. */
static int start_program(struct machine *m, const struct kernel_options *o)
{
	if (command.parked) {
		log_error("restore: %s: its guest runs a program already: give no other",
			  o->restore->path);
		return -EBUSY;
	}
	pthread_mutex_lock(&m->lock);
	agent_link_start(&command.agent, o->argv, o->envp);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/** Invoke once and run until the result is out and the guest waits again. */
static int invoke(struct machine *m, int number, const char *payload)
{
	struct console_call call;
	int ret;

	console_call_make(&call, number, payload);
	command.answered = false;
	pthread_mutex_lock(&m->lock);
	ret = runtime_api_invoke(command.agent.api, &call.invocation);
	if (!ret)
		runtime_api_continue_restore(command.agent.api);
	pthread_mutex_unlock(&m->lock);
	if (ret) {
		log_error("invoke: %s", strerror(-ret));
		return ret;
	}
	return run_until(m, until_answered, "invoke: the function's answer");
}

/** What was asked for, one after the other. */
static int do_all(struct machine *m, const struct kernel_options *o)
{
	int ret = o->restore ? resume(m, o) : 0;

	if (!ret && o->restore && o->argv)
		ret = start_program(m, o);
	if (!ret && !command.parked && (o->capture || o->invoke_count))
		ret = get_ready(m, o);
	if (!ret && o->capture && !o->restore)
		ret = capture(m, o);
	for (int i = 0; !ret && i < o->invoke_count; i++)
		ret = invoke(m, i, o->invokes[i]);
	if (!ret && o->capture && o->restore)
		ret = capture(m, o);
	return ret;
}

static int serve(struct machine *m, const struct kernel_options *o)
{
	uint64_t deadline_ns = UINT64_MAX;

	if (do_all(m, o))
		return exit_status(m) ?: 1;
	if (o->capture || o->invoke_count)
		return command.status;
	if (o->timeout_s)
		deadline_ns = clock_mono_ns() + o->timeout_s * NSEC_PER_SEC;
	if (machine_run(m, NULL, deadline_ns)) {
		log_error("the guest was not done within %llu s: stopped",
			  (unsigned long long)o->timeout_s);
		return 1;
	}
	return exit_status(m);
}

static bool fits(const struct machine_config *c)
{
	return c->ram_bytes >= KERNEL_RAM_BYTES_MIN && c->ram_bytes <= KERNEL_RAM_BYTES_MAX &&
	       c->ram_bytes % PAGE_BYTES == 0 && c->vcpus && c->vcpus <= KERNEL_VCPUS_MAX;
}

/** What the machine is made of: as the command line says, or as it was captured. */
static int configure(const struct kernel_options *o, struct machine_config *ret)
{
	const void *state;
	size_t n;

	*ret = (struct machine_config){
		.ram_bytes = o->memory_bytes, .vcpus = o->vcpus, .serial_fd = o->serial_fd};
	if (!o->restore) {
		if (!fits(ret))
			die("--memory: a kernel guest has %llu to %llu MiB",
			    (unsigned long long)(KERNEL_RAM_BYTES_MIN >> 20),
			    (unsigned long long)(KERNEL_RAM_BYTES_MAX >> 20));
		return 0;
	}
	state = snapshot_reader_section(o->restore->reader, SNAPSHOT_SECTION_STATE, &n);
	if (state && !machine_config_peek(state, n, ret) && fits(ret))
		return 0;
	log_error("restore: %s: its state is not that of a kernel guest: damaged snapshot",
		  o->restore->path);
	return -EBADMSG;
}

int kernel_command(int kvm_fd, const struct kernel_options *options)
{
	static struct machine m;
	struct machine_config config;
	struct agent_identity who;
	struct virtio_device *vsock;
	int ret;

	/* Whoever reads the console, the results or a stream socket in a TAP's place may go away
	 * before the guest does: that is an error of a write, and the end of nothing else. */
	signal(SIGPIPE, SIG_IGN);
	ret = configure(options, &config);
	if (ret)
		return 1;
	if (machine_new(&m, kvm_fd, &config))
		return 2;
	command.options = options;
	ret = wiring_add(&m, &options->wiring, &vsock, &who);
	if (!ret)
		ret = agent_link_new(&command.agent, &m, vsock, &api_events, &m);
	command.agent.identity = who;
	if (!options->restore) /* a clone's agent is given it once it is up to date */
		agent_link_start(&command.agent, options->argv, options->envp);
	if (!ret)
		ret = options->restore ? restore(&m, options) : boot(&m, options);
	ret = ret ? 1 : serve(&m, options);
	machine_free(&m);
	file_pager_stop(&command.pager);
	agent_link_free(&command.agent);
	return ret;
}
