/* SPDX-License-Identifier: Apache-2.0 */
/* console.c - one guest from the command line, without snapd: run, capture, restore */
#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "vmm/capture.h"
#include "vmm/console_call.h"
#include "vmm/guest.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"
#include "vmm/vm.h"

/** struct console - the run of one guest. */
static struct console {
	const struct console_options *options;
	int next_invoke;
	bool parked; /**< the guest waits for work */
	bool waits_restore;
	bool answered; /**< the last invocation has its result */
	int status;
} console;

/* ---- events ---- */

static void on_parked(void *guest, bool restore)
{
	(void)guest;
	console.parked = true;
	console.waits_restore = restore;
}

static void on_result(void *guest, enum proto_result_kind kind, const void *payload, size_t n)
{
	(void)guest;
	console.answered = true;
	console.status |= console_call_result(kind, payload, n);
}

static void on_failed(void *guest, enum proto_failure kind, const void *json, size_t n)
{
	console_call_failed(kind, json, n);
	proc_finish(guest, PROC_EXITED, 1, "the runtime reported an error");
}

static const struct runtime_api_events api_events = {
	.parked = on_parked,
	.result = on_result,
	.failed = on_failed,
};

static void on_stdio(struct proc *p, int stream, const void *data, size_t n)
{
	(void)p;
	if (write_full(stream, data, n))
		log_debug("stdio: %s", strerror(errno));
}

static bool until_parked(struct proc *p)
{
	(void)p;
	return console.parked;
}

static bool until_answered(struct proc *p)
{
	(void)p;
	return console.answered && runtime_api_parked(p->api);
}

/* ---- steps ---- */

static int open_dir(const char *path)
{
	int fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (path && fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

/** Invoke once and run until the result is out and the guest waits again. */
static void invoke(struct proc *p, const char *payload)
{
	struct console_call call;
	int ret;

	console_call_make(&call, console.next_invoke, payload);
	console.answered = false;
	ret = runtime_api_invoke(p->api, &call.invocation);
	if (ret) {
		log_error("invoke: %s", strerror(-ret));
		console.status = 1;
		return;
	}
	if (console.waits_restore) {
		console.waits_restore = false;
		runtime_api_continue_restore(p->api);
	}
	sched_run(p, until_answered);
}

static int write_snapshot(void *guest, const struct capture_target *target,
			  struct capture_stats *ret_stats)
{
	return capture_write(guest, target, ret_stats);
}

static int restore(struct proc *p, struct vm *vm, const struct guest_wiring *wiring,
		   const struct snapshot_file *file)
{
	struct guest_image image;
	int ret = snapshot_file_image(file, vm->cpu_have, NULL, NULL, &image);

	if (ret)
		return ret;
	console.parked = true;
	console.waits_restore = true;
	ret = guest_restore(p, vm, wiring, &image);
	close(image.memfd);
	if (ret)
		log_error("restore: %s: %s", file->path, p->end_text);
	return ret;
}

/** Write the snapshot that was asked for, if any. Return: 0 or -errno with a log line. */
static int capture(struct proc *p, const struct console_options *o)
{
	if (p->end || !o->capture)
		return 0;
	return snapshot_file_write(o->capture, "{\"made_by\":\"vmm run\"}",
				   o->diff ? o->restore : NULL, write_snapshot, p);
}

static int exit_status(const struct proc *p)
{
	switch (p->end) {
	case PROC_RUNS:
		return console.status;
	case PROC_EXITED:
		return p->end_code;
	case PROC_SIGNALED:
		log_error("%s", p->end_text);
		return 128 + p->end_code;
	case PROC_OUT_OF_MEMORY:
	case PROC_BROKEN:
		log_error("%s", p->end_text);
		return 1;
	}
	return 1;
}

int console_run(struct vm *vm, const struct console_options *options)
{
	static struct proc proc;
	struct guest_wiring wiring = {.events = &api_events, .stdio = on_stdio};
	int ret;

	console.options = options;
	proc.memory_bytes = options->memory_bytes;
	proc.tmp_bytes = options->tmp_bytes;
	wiring.dirs[PROTO_DIR_ROOT] = open_dir(options->root);
	wiring.dirs[PROTO_DIR_TASK] = open_dir(options->task);
	wiring.dirs[PROTO_DIR_RUNTIME] = open_dir(options->runtime);
	wiring.dirs[PROTO_DIR_OPT] = open_dir(options->opt);
	if (options->restore)
		ret = restore(&proc, vm, &wiring, options->restore);
	else
		ret = guest_boot(&proc, vm, &wiring, options->argv, options->envp);
	if (ret)
		return 1;
	if (options->pages) {
		mm_print_pages(&proc, stdout);
		return 0;
	}
	if (!console.parked)
		sched_run(&proc, until_parked);
	if (!options->restore && capture(&proc, options))
		return 1;
	while (!proc.end && console.next_invoke < options->invoke_count)
		invoke(&proc, options->invokes[console.next_invoke++]);
	if (options->restore && capture(&proc, options))
		return 1;
	return exit_status(&proc);
}
