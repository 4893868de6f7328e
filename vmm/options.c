/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - the vmm's command line */
#include "vmm/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"

enum { RAM_MIB_MAX = 16384, TIMEOUT_MAX_S = 86400 };

static const char usage_text[] =
	"Usage: vmm run [OPTION]... -- PROGRAM [ARGUMENT]...\n"
	"       vmm boot [OPTION]... --kernel FILE [-- PROGRAM [ARGUMENT]...]\n"
	"       vmm restore [OPTION]... SNAPSHOT [-- PROGRAM [ARGUMENT]...]\n"
	"       vmm pages SNAPSHOT\n"
	"       vmm host\n"
	"       vmm shell --id ID [--kind K] [--ram-mib N] [--vcpus N]\n"
	"                 [--cpu-baseline B]\n"
	"\n"
	"One process is one microVM. A process guest is one Linux program without a kernel of its\n"
	"own; a kernel guest is a whole Linux kernel, and needs hardware KVM.\n"
	"\n"
	"  run      boot PROGRAM (a Linux x86-64 ELF file or script inside the root) and\n"
	"           end with its exit status\n"
	"  boot     boot a Linux kernel, have the agent inside start PROGRAM, and end with its "
	"exit\n"
	"           status; without a PROGRAM end when the kernel turns itself off\n"
	"  restore  go on from a snapshot file of either kind; a kernel guest that was captured\n"
	"           without a PROGRAM is given one\n"
	"  pages    list a snapshot's pages: number, address, rights, mapping\n"
	"  host     say what kind of KVM host this is, as JSON\n"
	"  shell    what snapd starts: a machine that waits for its guest on descriptor 3\n"
	"\n"
	"Options of run, boot and restore:\n"
	"  --memory MIB        memory limit; of a kernel guest, its memory (default 512)\n"
	"  --cpu-baseline B    host, or x86-64-v3: limit what the guest may use of the CPU, so\n"
	"                      that its snapshot can be restored on other machines\n"
	"  --capture FILE      write a snapshot when the guest first asks for work (GET\n"
	"                      /runtime/invocation/next or /restore/next); of a restored guest,\n"
	"                      when it has answered all of --invoke\n"
	"  --diff              restore: what --capture writes is only what differs from SNAPSHOT,\n"
	"                      and needs that file beside it\n"
	"  --invoke JSON       hand JSON to the function and print its result, repeatable\n"
	"Options of run, and of restore for process guests:\n"
	"  --root DIR          the guest's / (default /), read-only\n"
	"  --task DIR          the guest's /var/task: a function's code\n"
	"  --runtime DIR       the guest's /var/runtime: a bootstrap\n"
	"  --opt DIR           the guest's /opt: layers\n"
	"  --tmp MIB           size limit of the guest's private /tmp (default 512)\n"
	"  --env NAME=VALUE    environment of a PROGRAM, repeatable\n"
	"Options of boot, and of restore for kernel guests:\n"
	"  --kernel FILE       boot: a bzImage or an ELF vmlinux for x86-64\n"
	"  --initrd FILE       boot: an initramfs\n"
	"  --cmdline TEXT      boot: the kernel's command line (default: console=ttyS0 panic=-1 "
	"pci=off)\n"
	"  --vcpus N           boot: virtual CPUs, 1 to 4 (default 1)\n"
	"  --disk FILE[:KIND]  a virtio disk, repeatable. KIND: ro, overlay (what the guest "
	"writes\n"
	"                      stays in memory) or overlay=FILE (it goes to an empty FILE); or\n"
	"                      none: an empty drive, which may have a FILE:ro at a restore\n"
	"  --net TAP[,...]     a virtio network card on a TAP device, repeatable; behind a comma:\n"
	"                      mac=M, random or (at a restore, the default) keep; of the first\n"
	"                      card, for an agent in the guest, ip=ADDRESS/BITS and gw=ADDRESS\n"
	"  --hostname NAME     what the agent in the guest is to call it\n"
	"  --vsock PATH        a unix socket that leads to the guest's vsock (CONNECT PORT), and\n"
	"                      PATH_PORT from it\n"
	"  --serial WHERE      stdout, or none: where the guest's console goes (default stdout)\n"
	"  --timeout SECONDS   how long it may take until the guest asks for work (default 60)\n"
	"Options of shell:\n"
	"  --id ID             name of the instance in its log lines\n"
	"  --kind K            process (the default), or kernel\n"
	"  --ram-mib N         size of the machine (default 1024)\n"
	"  --vcpus N           of a kernel guest's, 1 to 4 (default 1)\n"
	"Of all: --help        this text\n"
	"        --version     which Quickthaw this is\n"
	"\n"
	"Environment: QUICKTHAW_LOG=error|warn|info|debug (default info). It needs /dev/kvm.\n"
	"\n"
	"Examples:\n"
	"  vmm run -- /usr/bin/python3 -c 'print(6 * 7)'\n"
	"  vmm run --task examples/hello-python --runtime guest --env _HANDLER=app.handler \\\n"
	"          --capture hello.qt -- /usr/bin/python3 /var/runtime/bootstrap.py\n"
	"  vmm boot --kernel vmlinuz --initrd initrd.img --vcpus 2 --memory 256\n"
	"  vmm restore hello.qt --task examples/hello-python --invoke '{\"name\": \"you\"}'\n"
	"  vmm restore hello.qt --task examples/hello-python --invoke '{}' --capture warm.qt "
	"--diff\n"
	"\n"
	"Exit status: the program's; 128 + N if signal N ended it; 0 for a kernel guest that "
	"turned\n"
	"itself off or reset itself; 1 if a guest could not be started, came to a bad end, was "
	"not\n"
	"ready in time, or its snapshot is refused; 2 for wrong usage, or a host without what it "
	"needs.\n";

void options_usage(FILE *out)
{
	fputs(usage_text, out);
}

static uint64_t parse_number(const char *name, const char *text, uint64_t max, const char *what)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || end == text || v < 1 || v > max)
		die("--%s %s: give a number%s from 1 to %llu", name, text, what,
		    (unsigned long long)max);
	return v;
}

static uint64_t parse_mib(const char *name, const char *text, uint64_t max)
{
	return parse_number(name, text, max, " of MiB");
}

void options_add_env(struct options *o, char *text)
{
	if (!strchr(text, '='))
		die("--env %s: give NAME=VALUE", text);
	if (o->env_count == OPTIONS_ENV_MAX)
		die("--env: more than %d variables", OPTIONS_ENV_MAX);
	o->env[o->env_count++] = text;
}

static void add_invoke(struct options *o, const char *json)
{
	if (o->console.invoke_count == CONSOLE_INVOKES_MAX)
		die("--invoke: more than %d payloads", CONSOLE_INVOKES_MAX);
	o->console.invokes[o->console.invoke_count++] = json;
}

static const struct option long_options[] = {
	{"root", required_argument, NULL, 'r'},	    {"task", required_argument, NULL, 't'},
	{"runtime", required_argument, NULL, 'R'},  {"opt", required_argument, NULL, 'o'},
	{"memory", required_argument, NULL, 'm'},   {"tmp", required_argument, NULL, 'T'},
	{"env", required_argument, NULL, 'e'},	    {"cpu-baseline", required_argument, NULL, 'b'},
	{"capture", required_argument, NULL, 'c'},  {"diff", no_argument, NULL, 'D'},
	{"invoke", required_argument, NULL, 'i'},   {"id", required_argument, NULL, 'I'},
	{"ram-mib", required_argument, NULL, 'M'},  {"kernel", required_argument, NULL, 'k'},
	{"initrd", required_argument, NULL, 'n'},   {"cmdline", required_argument, NULL, 'l'},
	{"vcpus", required_argument, NULL, 'v'},    {"serial", required_argument, NULL, 's'},
	{"timeout", required_argument, NULL, 'w'},  {"disk", required_argument, NULL, 'd'},
	{"net", required_argument, NULL, 'N'},	    {"vsock", required_argument, NULL, 'V'},
	{"hostname", required_argument, NULL, 'H'}, {"kind", required_argument, NULL, 'K'},
	{"help", no_argument, NULL, 'h'},	    {0},
};

/** Those of kernel guests. Return: whether @c was one. */
static bool parse_kernel_option(struct kernel_options *k, int c)
{
	switch (c) {
	case 'k':
		k->kernel = optarg;
		return true;
	case 'n':
		k->initrd = optarg;
		return true;
	case 'l':
		k->cmdline = optarg;
		return true;
	case 'd':
		if (k->wiring.disk_count == WIRING_DISKS_MAX)
			die("--disk: more than %d disks", WIRING_DISKS_MAX);
		k->wiring.disks[k->wiring.disk_count++] = optarg;
		return true;
	case 'N':
		if (k->wiring.net_count == WIRING_NETS_MAX)
			die("--net: more than %d network cards", WIRING_NETS_MAX);
		k->wiring.nets[k->wiring.net_count++] = optarg;
		return true;
	case 'V':
		k->wiring.vsock = optarg;
		return true;
	case 'H':
		if (!*optarg || strlen(optarg) >= AGENT_HOSTNAME_MAX)
			die("--hostname %s: give 1 to %d characters", optarg,
			    (int)AGENT_HOSTNAME_MAX - 1);
		k->wiring.hostname = optarg;
		return true;
	case 'v':
		k->vcpus = (unsigned)parse_number("vcpus", optarg, KERNEL_VCPUS_MAX, "");
		return true;
	case 's':
		if (strcmp(optarg, "stdout") && strcmp(optarg, "none"))
			die("--serial %s: give stdout or none", optarg);
		k->serial_fd = strcmp(optarg, "none") ? 1 : -1;
		return true;
	case 'w':
		k->timeout_s = parse_number("timeout", optarg, TIMEOUT_MAX_S, " of seconds");
		return true;
	}
	return false;
}

static void parse_option(struct options *o, int c)
{
	struct console_options *con = &o->console;

	if (parse_kernel_option(&o->kernel, c))
		return;
	switch (c) {
	case 'r':
		con->root = optarg;
		break;
	case 't':
		con->task = optarg;
		break;
	case 'R':
		con->runtime = optarg;
		break;
	case 'o':
		con->opt = optarg;
		break;
	case 'm':
		con->memory_bytes = MIB(parse_mib("memory", optarg, RAM_MIB_MAX / 2));
		break;
	case 'T':
		con->tmp_bytes = MIB(parse_mib("tmp", optarg, RAM_MIB_MAX / 2));
		break;
	case 'e':
		options_add_env(o, optarg);
		break;
	case 'b':
		o->baseline = optarg;
		break;
	case 'c':
		con->capture = optarg;
		break;
	case 'D':
		con->diff = true;
		break;
	case 'i':
		add_invoke(o, optarg);
		break;
	case 'I':
		o->id = optarg;
		break;
	case 'K':
		if (strcmp(optarg, "process") && strcmp(optarg, "kernel"))
			die("--kind %s: give process or kernel", optarg);
		o->kind = strcmp(optarg, "kernel") ? GUEST_KIND_PROCESS : GUEST_KIND_KERNEL;
		break;
	case 'M':
		o->ram_mib = parse_mib("ram-mib", optarg, RAM_MIB_MAX);
		break;
	case 'h':
		options_usage(stdout);
		exit(0);
	default:
		fprintf(stderr, "Try 'vmm --help'.\n");
		exit(2);
	}
}

/* What follows run's program is the program's own; elsewhere options may stand anywhere. */
void options_parse(struct options *o, int argc, char **argv)
{
	const char *short_options = strcmp(argv[0], "run") ? "h" : "+h";
	static char program[] = "vmm";
	int c;

	*o = (struct options){
		.console = {.root = "/", .memory_bytes = MIB(512), .tmp_bytes = MIB(512)},
		.kernel = {.cmdline = "console=ttyS0 panic=-1 pci=off", .vcpus = 1, .serial_fd = 1},
		.kind = GUEST_KIND_PROCESS,
		.ram_mib = 1024,
		.baseline = "host",
	};
	argv[0] = program; /* getopt's messages begin with it */
	while ((c = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
		parse_option(o, c);
	o->console.envp = o->env;
	o->kernel.memory_bytes = o->console.memory_bytes;
	o->kernel.capture = o->console.capture;
	o->kernel.diff = o->console.diff;
	o->kernel.invokes = o->console.invokes;
	o->kernel.invoke_count = o->console.invoke_count;
}
