/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu.c - kernel guests in QEMU's microvm, captured and restored by migration through a file
 *
 * The streams are ports of virtio-serial: unlike vhost-vsock's connections they survive a
 * migration, so the guest goes on exactly where it was. The machine is as QEMU's documentation has
 * it for fast boots (docs/system/i386/microvm.rst). Its snapshot is a plain migration stream:
 * Debian 12's QEMU, 7.2, has no mapped-ram (9.0), and reads a file by descriptor.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/kernel_agent.h"
#include "bench/kernel_guest.h"
#include "common/clock.h"
#include "common/io.h"

enum { ARGS_MAX = 64, TEXT_MAX = 512, MIGRATE_WAIT_S = 300 };

#define QEMU	 "qemu-system-x86_64"
#define SNAPSHOT "qemu.migration"

static const char *missing(const struct kernel_images *images)
{
	if (system("command -v " QEMU " >/dev/null") != 0)
		return "it is not installed: scripts/setup hwkvm";
	if (!images->tcg && access("/dev/kvm", R_OK | W_OK))
		return "/dev/kvm cannot be opened";
	return NULL;
}

/** struct command - arguments, and room for those that are put together. */
struct command {
	const char *argv[ARGS_MAX];
	char text[16][TEXT_MAX];
	int argc, texts;
};

static void add(struct command *c, const char *arg)
{
	c->argv[c->argc++] = arg;
	c->argv[c->argc] = NULL;
}

/** An option and its value, put together. */
__attribute__((format(printf, 3, 4))) static void add_value(struct command *c, const char *option,
							    const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(c->text[c->texts], TEXT_MAX, fmt, args);
	va_end(args);
	add(c, option);
	add(c, c->text[c->texts++]);
}

static void add_disk(struct command *c, const char *name, const char *path)
{
	add_value(c, "-drive", "id=%s,file=%s,format=raw,if=none,readonly=on", name, path);
	add_value(c, "-device", "virtio-blk-device,drive=%s", name);
}

/** QEMU waits for both streams before it lets the guest run. */
static void add_port(struct command *c, const char *dir, const char *name, int number)
{
	add_value(c, "-chardev", "socket,id=%s,path=%s/%s,server=on,wait=%s", name, dir, name,
		  number == 1 ? "on" : "off");
	add_value(c, "-device", "virtserialport,nr=%d,chardev=%s", number, name);
}

static void build_command(struct command *c, const struct kernel_guest *g,
			  const struct kernel_images *images)
{
	static const char *const fixed[] = {
		"-smp",	      "1",	  "-nodefaults", "-no-user-config",
		"-no-reboot", "-display", "none",	 NULL,
	};

	c->argc = c->texts = 0;
	add(c, QEMU);
	add_value(c, "-M", "microvm,accel=%s,x-option-roms=off,rtc=off",
		  images->tcg ? "tcg" : "kvm");
	add_value(c, "-cpu", "%s", images->tcg ? "max" : "host");
	for (size_t i = 0; fixed[i]; i++)
		add(c, fixed[i]);
	add_value(c, "-m", "%u", images->memory_mib);
	add_value(c, "-serial", "file:%s/console", g->dir);
	add_value(c, "-qmp", "unix:%s/monitor,server=on,wait=off", g->dir);
	add_value(c, "-kernel", "%s", images->kernel);
	add_value(c, "-initrd", "%s", images->initramfs);
	add_value(c, "-append",
		  KERNEL_CMDLINE " agent.control=/dev/vport0p1 agent.api=/dev/vport0p2%s",
		  images->tcg ? " tsc_early_khz=1000000" : "");
	add(c, "-device");
	add(c, "virtio-serial-device");
	add_port(c, g->dir, "api", 2);
	add_port(c, g->dir, "control", 1);
	add_disk(c, "root", images->root);
	add_disk(c, "task", images->task);
}

static int connect_streams(struct kernel_guest *g)
{
	int err = kernel_guest_connect(g, "api", &g->api);

	return err ? err : kernel_guest_connect(g, "control", &g->control);
}

static int boot(struct kernel_guest *g, const struct kernel_images *images)
{
	struct command c;
	int err;

	build_command(&c, g, images);
	err = kernel_guest_spawn(g, c.argv, &(struct kernel_spawn){0});
	return err ? err : connect_streams(g);
}

static int await_next(struct kernel_guest *g)
{
	int err = kernel_agent_start(g, false);

	return err ? err : kernel_api_await_next(g);
}

/** One line of QMP that has @wanted, others being events or of no interest. Return: 0 or -EPROTO.
 */
static int await_line(FILE *f, char *line, const char *wanted)
{
	while (fgets(line, TEXT_MAX * 4, f)) {
		if (strstr(line, "\"error\"")) {
			fprintf(stderr, "bench: QEMU says %s", line);
			return -EPROTO;
		}
		if (strstr(line, wanted))
			return 0;
	}
	return -EPROTO;
}

static int say(struct kernel_guest *g, FILE *f, char *line, const char *command)
{
	int err = write_full(g->monitor, command, strlen(command));

	return err ? err : await_line(f, line, "\"return\"");
}

static int migrate(struct kernel_guest *g, FILE *f, const char *path)
{
	static char line[TEXT_MAX * 4], command[2 * TEXT_MAX];
	uint64_t end_ns = clock_mono_ns() + MIGRATE_WAIT_S * NSEC_PER_SEC;
	int err = await_line(f, line, "QMP");

	snprintf(command, sizeof(command),
		 "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"exec:cat >'%s'\"}}\n",
		 path);
	if (!err)
		err = say(g, f, line, "{\"execute\": \"qmp_capabilities\"}\n");
	if (!err)
		err = say(g, f, line,
			  "{\"execute\": \"migrate-set-parameters\", \"arguments\": "
			  "{\"max-bandwidth\": 10000000000}}\n");
	if (!err)
		err = say(g, f, line, command);
	while (!err && clock_mono_ns() < end_ns) {
		err = say(g, f, line, "{\"execute\": \"query-migrate\"}\n");
		if (!err && strstr(line, "\"completed\""))
			return 0;
		if (!err && strstr(line, "\"failed\""))
			err = -EIO;
		usleep(20000);
	}
	return err ? err : -ETIMEDOUT;
}

static int capture(struct kernel_guest *g, const char *dir, double *ret_bytes)
{
	char path[TEXT_MAX];
	struct stat st;
	FILE *f;
	int err = kernel_agent_prepare(g);

	if (!err)
		err = kernel_guest_connect(g, "monitor", &g->monitor);
	if (err)
		return err;
	f = fdopen(dup(g->monitor), "r");
	if (!f)
		return -errno;
	snprintf(path, sizeof(path), "%s/" SNAPSHOT, dir);
	err = migrate(g, f, path);
	fclose(f);
	if (err || stat(path, &st))
		return err ? err : -errno;
	*ret_bytes = (double)st.st_size;
	return 0;
}

static void discard(const char *dir)
{
	char path[TEXT_MAX];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT, dir);
	unlink(path);
}

static int restore(struct kernel_guest *g, const struct kernel_images *images, const char *dir,
		   const char *event)
{
	struct command c;
	char path[TEXT_MAX];
	int err;

	snprintf(path, sizeof(path), "%s/" SNAPSHOT, dir);
	build_command(&c, g, images);
	add(&c, "-incoming");
	add(&c, "fd:9");
	err = kernel_guest_spawn(g, c.argv, &(struct kernel_spawn){.in_path = path});
	if (!err)
		err = connect_streams(g);
	if (!err)
		err = kernel_agent_resume(g);
	return err ? err : kernel_api_invoke(g, event);
}

const struct kernel_system kernel_system_qemu = {
	.name = "qemu-microvm",
	.missing = missing,
	.boot = boot,
	.await_ready = kernel_agent_await_ready,
	.await_next = await_next,
	.capture = capture,
	.discard = discard,
	.restore = restore,
	.lives_on = true,
};
