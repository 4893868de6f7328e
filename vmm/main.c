/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - vmm: one process, one microVM */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "common/version.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/cpu_features.h"
#include "vmm/lifeline.h"
#include "vmm/populate.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/vm.h"

enum {
	ENV_MAX = 256,
	RAM_MIB_MAX = 16384,
	PREFAULT_HEAP_BYTES = 80 << 10,
	PREFAULT_STACK_BYTES = 24 << 10,
};

static const char usage_text[] =
	"Usage: vmm run [OPTION]... -- PROGRAM [ARGUMENT]...\n"
	"       vmm restore [OPTION]... SNAPSHOT\n"
	"       vmm pages SNAPSHOT\n"
	"       vmm host\n"
	"       vmm shell --id ID [--ram-mib N] [--cpu-baseline B]\n"
	"\n"
	"One process is one microVM, and one Linux program runs in it.\n"
	"\n"
	"  run      boot PROGRAM (a Linux x86-64 ELF file or script inside the root) and\n"
	"           end with its exit status\n"
	"  restore  go on from a snapshot file\n"
	"  pages    list a snapshot's pages: number, address, rights, mapping\n"
	"  host     say what kind of KVM host this is, as JSON\n"
	"  shell    what snapd starts: a machine that waits for its guest on descriptor 3\n"
	"\n"
	"Options of run and restore:\n"
	"  --root DIR          the guest's / (default /), read-only\n"
	"  --task DIR          the guest's /var/task: a function's code\n"
	"  --runtime DIR       the guest's /var/runtime: a bootstrap\n"
	"  --opt DIR           the guest's /opt: layers\n"
	"  --memory MIB        memory limit (default 512)\n"
	"  --tmp MIB           size limit of the guest's private /tmp (default 512)\n"
	"  --env NAME=VALUE    run: environment of the guest, repeatable\n"
	"  --cpu-baseline B    host, or x86-64-v3: limit what the guest may use of the CPU, so\n"
	"                      that its snapshot can be restored on other machines\n"
	"  --capture FILE      write a snapshot when the program first asks for work\n"
	"                      (GET /runtime/invocation/next or /restore/next)\n"
	"  --invoke JSON       hand JSON to the function and print its result, repeatable\n"
	"Options of shell:\n"
	"  --id ID             name of the instance in its log lines\n"
	"  --ram-mib N         size of the machine (default 1024)\n"
	"Of all: --help        this text\n"
	"        --version     which Quickthaw this is\n"
	"\n"
	"Environment: QUICKTHAW_LOG=error|warn|info|debug (default info). It needs /dev/kvm.\n"
	"\n"
	"Examples:\n"
	"  vmm run -- /usr/bin/python3 -c 'print(6 * 7)'\n"
	"  vmm run --task examples/hello-python --runtime guest --env _HANDLER=app.handler \\\n"
	"          --capture hello.qt -- /usr/bin/python3 /var/runtime/bootstrap.py\n"
	"  vmm restore hello.qt --task examples/hello-python --invoke '{\"name\": \"you\"}'\n"
	"\n"
	"Exit status: the program's; 128 + N if signal N ended it; 1 if it could not be started\n"
	"or its snapshot is refused; 2 for wrong usage, or a host without what it needs.\n";

/** struct options - the command line, parsed. */
struct options {
	struct console_options console;
	const char *id;
	uint64_t ram_mib;
	const char *baseline;
	char *env[ENV_MAX + 1];
	int env_count;
};

static uint64_t parse_mib(const char *name, const char *text, uint64_t max)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || end == text || v < 1 || v > max)
		die("--%s %s: give a number of MiB from 1 to %llu", name, text,
		    (unsigned long long)max);
	return v;
}

static void add_env(struct options *o, char *text)
{
	if (!strchr(text, '='))
		die("--env %s: give NAME=VALUE", text);
	if (o->env_count == ENV_MAX)
		die("--env: more than %d variables", ENV_MAX);
	o->env[o->env_count++] = text;
}

static void add_invoke(struct options *o, const char *json)
{
	if (o->console.invoke_count == CONSOLE_INVOKES_MAX)
		die("--invoke: more than %d payloads", CONSOLE_INVOKES_MAX);
	o->console.invokes[o->console.invoke_count++] = json;
}

static const struct option long_options[] = {
	{"root", required_argument, NULL, 'r'},	   {"task", required_argument, NULL, 't'},
	{"runtime", required_argument, NULL, 'R'}, {"opt", required_argument, NULL, 'o'},
	{"memory", required_argument, NULL, 'm'},  {"tmp", required_argument, NULL, 'T'},
	{"env", required_argument, NULL, 'e'},	   {"cpu-baseline", required_argument, NULL, 'b'},
	{"capture", required_argument, NULL, 'c'}, {"invoke", required_argument, NULL, 'i'},
	{"id", required_argument, NULL, 'I'},	   {"ram-mib", required_argument, NULL, 'M'},
	{"help", no_argument, NULL, 'h'},	   {0},
};

static void parse_option(struct options *o, int c)
{
	struct console_options *con = &o->console;

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
		add_env(o, optarg);
		break;
	case 'b':
		o->baseline = optarg;
		break;
	case 'c':
		con->capture = optarg;
		break;
	case 'i':
		add_invoke(o, optarg);
		break;
	case 'I':
		o->id = optarg;
		break;
	case 'M':
		o->ram_mib = parse_mib("ram-mib", optarg, RAM_MIB_MAX);
		break;
	case 'h':
		fputs(usage_text, stdout);
		exit(0);
	default:
		fprintf(stderr, "Try 'vmm --help'.\n");
		exit(2);
	}
}

/* What follows run's program is the program's own; elsewhere options may stand anywhere. */
static void parse_options(struct options *o, int argc, char **argv)
{
	const char *short_options = strcmp(argv[0], "run") ? "h" : "+h";
	static char program[] = "vmm";
	int c;

	*o = (struct options){
		.console = {.root = "/", .memory_bytes = MIB(512), .tmp_bytes = MIB(512)},
		.ram_mib = 1024,
		.baseline = "host",
	};
	argv[0] = program; /* getopt's messages begin with it */
	while ((c = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
		parse_option(o, c);
	o->console.envp = o->env;
}

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		die("/dev/kvm: not there: microVMs need KVM: enable virtualisation in the "
		    "firmware or hypervisor and load kvm_intel, kvm_amd or kvm_pvm");
	if (errno == EACCES || errno == EPERM)
		die("/dev/kvm: no permission: run as root or join the group that owns it (kvm)");
	die("/dev/kvm: %s", strerror(errno));
}

/* ---- commands ---- */

static void set_cpu_baseline(const struct options *o)
{
	if (vm_set_cpu_baseline(o->baseline))
		die("--cpu-baseline %s: give host or x86-64-v3", o->baseline);
}

static int command_console(struct options *o)
{
	static struct vm vm;
	uint64_t ram_bytes = o->console.memory_bytes + o->console.tmp_bytes + MIB(64);
	char *const *extra;

	set_cpu_baseline(o);
	if (vm_new(&vm, open_kvm(), ram_bytes))
		return 2;
	for (extra = cpu_baseline_env(&vm); *extra; extra++)
		add_env(o, *extra);
	return console_run(&vm, &o->console);
}

/** Every Lambda runtime asks this variable for its work, and gives up without it. */
static void add_runtime_api_env(struct options *o)
{
	static char text[64];

	for (int i = 0; i < o->env_count; i++)
		if (!strncmp(o->env[i], "AWS_LAMBDA_RUNTIME_API=", 23))
			return;
	snprintf(text, sizeof(text), "AWS_LAMBDA_RUNTIME_API=127.0.0.1:%d", RUNTIME_API_PORT);
	add_env(o, text);
}

static int command_run(struct options *o, int argc, char **argv)
{
	if (!argc)
		die("run: which program? for example: vmm run -- /usr/bin/python3 -V");
	o->console.argv = argv;
	add_runtime_api_env(o);
	return command_console(o);
}

static int command_restore(struct options *o, int argc, char **argv)
{
	if (argc != 1)
		die("restore: give one snapshot file");
	o->console.restore = argv[0];
	return command_console(o);
}

/** For the tracer: which address and mapping a page of a snapshot is. */
static int command_pages(struct options *o, int argc, char **argv)
{
	o->console.pages = true;
	return command_restore(o, argc, argv);
}

static int command_host(void)
{
	static struct vm vm;

	if (vm_new(&vm, open_kvm(), MIB(64)))
		return 2;
	printf("{\"kind\": \"%s\", \"tsc_khz\": %llu, \"faults_dear\": %s}\n",
	       vm.host_kind == PROTO_HOST_PVM ? "pvm" : "hardware", (unsigned long long)vm.tsc_khz,
	       vm.faults_dear ? "true" : "false");
	return 0;
}

/** The userfaultfd of this process; snapd reads it. From the inherited device, or the system call.
 */
static int make_uffd(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	CLEANUP_FD int fd =
		ioctl(SANDBOX_FD_USERFAULTFD, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		die("userfaultfd: %s: restores are lazy by it: give descriptor %d "
		    "(/dev/userfaultfd)",
		    strerror(errno), SANDBOX_FD_USERFAULTFD);
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		die("userfaultfd: API handshake: %s", strerror(errno));
	return steal_fd(&fd);
}

extern const char __executable_start[], etext[]; /* the linker's */

/**
 * Touch now what a restore will touch: code, and as much heap and stack as it takes. Each first
 * touch costs a fault, and a shell has the time.
 */
static void prefault(void)
{
	uintptr_t start = align_down((uintptr_t)__executable_start, PAGE_BYTES);
	volatile char stack[PREFAULT_STACK_BYTES];
	char *heap = malloc(PREFAULT_HEAP_BYTES);

	for (size_t i = 0; i < sizeof(stack); i += PAGE_BYTES)
		stack[i] = 0;
	if (heap)
		memset(heap, 1, PREFAULT_HEAP_BYTES);
	__asm__ volatile("" : : "r"(heap) : "memory"); /* the compiler would drop both */
	free(heap);
	if (madvise((void *)start, (uintptr_t)etext - start, MADV_POPULATE_READ))
		log_debug("prefault: %s", strerror(errno));
	syscall_init();
}

static int command_shell(const struct options *o)
{
	static struct vm vm;
	int uffd;

	if (!o->id)
		die("shell: --id is missing (snapd starts shells; for people there is vmm run)");
	log_init("vmm", o->id);
	/* Executed by descriptor: kernels before 6.14 show that descriptor's number in ps. */
	prctl(PR_SET_NAME, "vmm");
	set_cpu_baseline(o);
	if (vm_new(&vm, SANDBOX_FD_KVM, MIB(o->ram_mib)))
		return 2;
	uffd = make_uffd();
	close(SANDBOX_FD_USERFAULTFD);
	if (sched_process_init() || populate_init() || lifeline_init(VMM_CONTROL_FD))
		return 2;
	prefault();
	if (sandbox_seccomp_load(SANDBOX_FD_SECCOMP))
		return 2;
	close(SANDBOX_FD_SECCOMP);
	return control_serve(&vm, VMM_CONTROL_FD, uffd);
}

int main(int argc, char **argv)
{
	struct options options;
	const char *command = argc > 1 ? argv[1] : "";

	log_init("vmm", NULL);
	if (version_asked("vmm", argc, argv))
		return 0;
	if (!strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (argc < 2) {
		fputs(usage_text, stderr);
		return 2;
	}
	parse_options(&options, argc - 1, argv + 1);
	argc -= 1 + optind;
	argv += 1 + optind;
	if (!strcmp(command, "run"))
		return command_run(&options, argc, argv);
	if (!strcmp(command, "restore"))
		return command_restore(&options, argc, argv);
	if (!strcmp(command, "pages"))
		return command_pages(&options, argc, argv);
	if (!strcmp(command, "host"))
		return command_host();
	if (!strcmp(command, "shell"))
		return command_shell(&options);
	fprintf(stderr, "vmm: unknown command '%s'. Try 'vmm --help'.\n", command);
	return 2;
}
