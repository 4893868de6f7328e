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
#include "vmm/cpu_features.h"
#include "vmm/kernel/machine.h"

enum { READY_TIMEOUT_S = 60 };

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

static int restore(struct machine *m, const struct kernel_options *o)
{
	const struct snapshot_params *params = snapshot_reader_params(o->restore->reader);
	struct guest_image image = {.uffd = -1, .template_pages = params->template_pages};
	CLEANUP_FD int memfd = -1;
	char missing[128];
	int ret;

	if (cpu_features_missing(params->cpu_features, m->cpu_have, missing, sizeof(missing))) {
		log_error("restore: this host's CPU lacks %s, which the snapshot needs: capture on "
			  "such a host, or with --cpu-baseline",
			  missing);
		return -ENOTSUP;
	}
	memfd = snapshot_file_template(o->restore);
	if (memfd < 0)
		return memfd;
	image.memfd = memfd;
	image.state = snapshot_reader_section(o->restore->reader, SNAPSHOT_SECTION_STATE,
					      &image.state_bytes);
	ret = machine_restore(m, &image);
	if (ret) {
		log_error("restore: %s: %s", o->restore->path,
			  m->end_text[0] ? m->end_text : strerror(-ret));
		return ret;
	}
	return machine_start(m);
}

static int write_snapshot(void *guest, int fd, struct capture_stats *ret_stats)
{
	static const char metadata[] = "{\"made_by\":\"vmm boot\"}";

	return machine_capture(guest, fd, metadata, sizeof(metadata) - 1, ret_stats);
}

static bool until_ready(struct machine *m)
{
	return m->signalled;
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

static int serve(struct machine *m, const struct kernel_options *o)
{
	uint64_t deadline_ns = UINT64_MAX;

	if (o->capture) {
		if (get_ready(m, o) || snapshot_file_write(o->capture, write_snapshot, m))
			return exit_status(m) ?: 1;
		return 0;
	}
	if (o->timeout_s)
		deadline_ns = clock_mono_ns() + o->timeout_s * NSEC_PER_SEC;
	if (machine_run(m, NULL, deadline_ns)) {
		log_error("the guest was not done within %llu s: stopped",
			  (unsigned long long)o->timeout_s);
		return 1;
	}
	return exit_status(m);
}

/** What the machine is made of: as the command line says, or as it was captured. */
static int configure(const struct kernel_options *o, struct machine_config *ret)
{
	const void *state;
	size_t n;

	*ret = (struct machine_config){
		.ram_bytes = o->memory_bytes, .vcpus = o->vcpus, .serial_fd = o->serial_fd};
	if (!o->restore)
		return 0;
	state = snapshot_reader_section(o->restore->reader, SNAPSHOT_SECTION_STATE, &n);
	if (state && !machine_config_peek(state, n, ret))
		return 0;
	log_error("restore: %s: its state is not that of a kernel guest: damaged snapshot",
		  o->restore->path);
	return -EBADMSG;
}

int kernel_command(int kvm_fd, const struct kernel_options *options)
{
	static struct machine m;
	struct machine_config config;
	struct virtio_device *vsock;
	int ret = configure(options, &config);

	if (ret)
		return 1;
	if (config.ram_bytes < KERNEL_RAM_BYTES_MIN || config.ram_bytes > KERNEL_RAM_BYTES_MAX)
		die("--memory: a kernel guest has %llu to %llu MiB",
		    (unsigned long long)(KERNEL_RAM_BYTES_MIN >> 20),
		    (unsigned long long)(KERNEL_RAM_BYTES_MAX >> 20));
	if (machine_new(&m, kvm_fd, &config))
		return 2;
	ret = wiring_add(&m, &options->wiring, &vsock);
	if (!ret)
		ret = options->restore ? restore(&m, options) : boot(&m, options);
	ret = ret ? 1 : serve(&m, options);
	machine_free(&m);
	return ret;
}
