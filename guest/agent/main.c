/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the agent of a kernel guest: pid 1, or a service of a system that has its own */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/console.h"
#include "guest/agent/modules.h"
#include "guest/agent/mounts.h"
#include "guest/agent/net.h"
#include "guest/agent/note.h"
#include "guest/agent/text_file.h"

static struct agent agent;

static void usage(void)
{
	dprintf(STDERR_FILENO,
		"usage: agent --service [--control=ENDPOINT] [--api=ENDPOINT] [--listen=PORT]\n"
		"\n"
		"Serves a vmm from inside a guest that has set itself up: starts the runtime, and\n"
		"connects 127.0.0.1:PORT (9001) with the Runtime API outside. As pid 1 it takes "
		"its\n"
		"options from the kernel's command line (agent.NAME=VALUE), mounts the root file\n"
		"system, and does the same. An ENDPOINT is vsock:PORT, unix:PATH or /dev/PATH.\n");
}

static void bring_up_network(const struct options *o)
{
	struct net_address a;
	int err = net_up("lo");

	if (!err && o->address[0])
		err = net_parse(&a, o->address) ?: net_set_address(NET_INTERFACE, &a);
	if (err)
		note("network: error %d", -err);
}

/** A restored clone is given a name of its own (RESUMED); until then, the image's. */
static void set_hostname(void)
{
	char name[65];

	text_file_read("/etc/hostname", name, sizeof(name));
	name[strcspn(name, "\n")] = 0;
	if (name[0] && sethostname(name, strlen(name)))
		note("hostname %s is refused: error %d", name, errno);
}

/** From a bare kernel to a system that can run something. Return: 0 or -errno. */
static int boot(struct options *o)
{
	char cmdline[4096];
	int err = mounts_early();

	if (err || (err = console_open("/dev/console")))
		return err;
	text_file_read("/proc/cmdline", cmdline, sizeof(cmdline));
	options_from_cmdline(o, cmdline);
	modules_load("/modules");
	if (strcmp(o->root, "none") != 0 && (err = mounts_root(o)))
		return err;
	text_file_write("/proc/self/oom_score_adj", "-1000");
	set_hostname();
	bring_up_network(o);
	return 0;
}

/** A reset ends a machine everywhere; powering off takes ACPI that a small machine does not have.
 */
static _Noreturn void end_machine(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1); /* pid 1 ends: the kernel panics */
}

static int serve_as_service(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--service"))
			agent.options.service = true;
		else if (strncmp(argv[i], "--", 2) != 0 || options_set(&agent.options, argv[i] + 2))
			return -EINVAL;
	}
	if (!agent.options.service)
		return -EINVAL;
	return console_open("/dev/null") ?: agent_init(&agent) ?: agent_run(&agent);
}

int main(int argc, char **argv)
{
	int err;

	options_init(&agent.options);
	if (getpid() == 1) {
		err = boot(&agent.options);
		if (!err && !agent_init(&agent))
			agent_run(&agent);
		end_machine();
	}
	err = serve_as_service(argc, argv);
	if (err == -EINVAL)
		usage();
	return err == -EINVAL ? 2 : err != 0;
}
