/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - one kernel guest from the command line, without snapd: boot, capture, restore */
#include "vmm/kernel/command.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "vmm/kernel/machine.h"

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
	case MACHINE_PANIC:
	case MACHINE_CRASHED:
	case MACHINE_BROKEN:
		log_error("%s", m->end_text);
		return 1;
	}
	return 1;
}

static int serve(struct machine *m, const struct kernel_options *o)
{
	uint64_t deadline_ns = UINT64_MAX;

	if (o->timeout_s)
		deadline_ns = clock_mono_ns() + o->timeout_s * NSEC_PER_SEC;
	if (machine_run(m, NULL, deadline_ns)) {
		log_error("the guest was not done within %llu s: stopped",
			  (unsigned long long)o->timeout_s);
		return 1;
	}
	return exit_status(m);
}

int kernel_command(int kvm_fd, const struct kernel_options *options)
{
	static struct machine m;
	const struct machine_config config = {
		.ram_bytes = options->memory_bytes,
		.vcpus = options->vcpus,
		.serial_fd = options->serial_fd,
	};
	int status;

	if (config.ram_bytes < KERNEL_RAM_BYTES_MIN || config.ram_bytes > KERNEL_RAM_BYTES_MAX)
		die("--memory: a kernel guest has %llu to %llu MiB",
		    (unsigned long long)(KERNEL_RAM_BYTES_MIN >> 20),
		    (unsigned long long)(KERNEL_RAM_BYTES_MAX >> 20));
	if (machine_new(&m, kvm_fd, &config))
		return 2;
	status = boot(&m, options) ? 1 : serve(&m, options);
	machine_free(&m);
	return status;
}
