/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quickthaw.c - kernel guests in this tree's vmm, from the command line
 *
 * The vmm serves the agent and the Runtime API itself, so what is waited for here are the lines in
 * which it says so. It captures by itself once the runtime waits for work. A restore from the
 * command line reads the whole snapshot first and shares no memory with others: that is what snapd
 * is for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/kernel_guest.h"

enum { PATH_BYTES = 512 };

#define SNAPSHOT "snapshot.qt"

static const char *missing(const struct kernel_images *images)
{
	static char vmm[PATH_BYTES];

	if (images->tcg)
		return "it needs KVM";
	snprintf(vmm, sizeof(vmm), "%s/vmm host | grep -q hardware", images->bin_dir);
	return system(vmm) ? "this host has no hardware KVM" : NULL;
}

static int boot(struct kernel_guest *g, const struct kernel_images *images)
{
	char vmm[PATH_BYTES], memory[16], root[PATH_BYTES], task[PATH_BYTES], snapshot[PATH_BYTES];
	const char *const argv[] = {
		vmm,
		"boot",
		"--kernel",
		images->kernel,
		"--initrd",
		images->initramfs,
		"--cmdline",
		KERNEL_CMDLINE,
		"--memory",
		memory,
		"--disk",
		root,
		"--disk",
		task,
		"--serial",
		"none",
		"--timeout",
		"300",
		"--capture",
		snapshot,
		"--env",
		"PATH=/usr/bin:/bin",
		"--env",
		"AWS_LAMBDA_FUNCTION_NAME=hello-python",
		"--env",
		"LAMBDA_TASK_ROOT=/var/task",
		"--env",
		"_HANDLER=app.handler",
		"--",
		"/usr/bin/python3",
		"/var/runtime/bootstrap.py",
		NULL,
	};

	snprintf(vmm, sizeof(vmm), "%s/vmm", images->bin_dir);
	snprintf(memory, sizeof(memory), "%u", images->memory_mib);
	snprintf(root, sizeof(root), "%s:ro", images->root);
	snprintf(task, sizeof(task), "%s:ro", images->task);
	snprintf(snapshot, sizeof(snapshot), "%s/" SNAPSHOT, g->dir);
	return kernel_guest_spawn(g, argv, &(struct kernel_spawn){.read_output = true});
}

static int await_ready(struct kernel_guest *g)
{
	return kernel_guest_await_line(g, "the guest's agent is ready");
}

static int await_next(struct kernel_guest *g)
{
	return kernel_guest_await_line(g, "the guest's program asks for work");
}

static int capture(struct kernel_guest *g, const char *dir, double *ret_bytes)
{
	char from[PATH_BYTES], to[PATH_BYTES];
	struct stat st;
	int err = kernel_guest_await_exit(g);

	snprintf(from, sizeof(from), "%s/" SNAPSHOT, g->dir);
	snprintf(to, sizeof(to), "%s/" SNAPSHOT, dir);
	if (err)
		return err;
	if (rename(from, to) || stat(to, &st))
		return -errno;
	*ret_bytes = (double)st.st_size;
	return 0;
}

static void discard(const char *dir)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT, dir);
	unlink(path);
}

static int restore(struct kernel_guest *g, const struct kernel_images *images, const char *dir,
		   const char *event)
{
	char vmm[PATH_BYTES], root[PATH_BYTES], task[PATH_BYTES], snapshot[PATH_BYTES];
	const char *const argv[] = {
		vmm,	    "restore", "--disk",   root,  "--disk", task,
		"--serial", "none",    "--invoke", event, snapshot, NULL,
	};
	int err;

	snprintf(vmm, sizeof(vmm), "%s/vmm", images->bin_dir);
	snprintf(root, sizeof(root), "%s:ro", images->root);
	snprintf(task, sizeof(task), "%s:ro", images->task);
	snprintf(snapshot, sizeof(snapshot), "%s/" SNAPSHOT, dir);
	err = kernel_guest_spawn(g, argv, &(struct kernel_spawn){.read_output = true});
	return err ? err : kernel_guest_await_line(g, "Hello, ");
}

const struct kernel_system kernel_system_quickthaw = {
	.name = "quickthaw",
	.missing = missing,
	.boot = boot,
	.await_ready = await_ready,
	.await_next = await_next,
	.capture = capture,
	.discard = discard,
	.restore = restore,
};
