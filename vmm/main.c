/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - vmm: one process, one microVM */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/host_cpuid.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "common/version.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/cpu_features.h"
#include "vmm/kernel/command.h"
#include "vmm/kernel/shell.h"
#include "vmm/lifeline.h"
#include "vmm/options.h"
#include "vmm/populate.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/syscall.h"
#include "vmm/process/task.h"
#include "vmm/vm.h"

enum {
	PREFAULT_HEAP_BYTES = 80 << 10,
	PREFAULT_STACK_BYTES = 24 << 10,
};

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
		options_add_env(o, *extra);
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
	options_add_env(o, text);
}

static int command_run(struct options *o, int argc, char **argv)
{
	if (!argc)
		die("run: which program? for example: vmm run -- /usr/bin/python3 -V");
	o->console.argv = argv;
	add_runtime_api_env(o);
	return command_console(o);
}

/** What a kernel guest's agent starts. */
static void give_program(struct options *o, char **argv)
{
	add_runtime_api_env(o);
	o->kernel.argv = argv;
	o->kernel.envp = o->env;
}

static int command_boot(struct options *o, int argc, char **argv)
{
	if (argc)
		give_program(o, argv);
	if (!o->kernel.kernel)
		die("boot: which kernel? give --kernel FILE (a bzImage or an ELF vmlinux)");
	set_cpu_baseline(o);
	return kernel_command(open_kvm(), &o->kernel);
}

/** Open the one snapshot that is to be restored. */
static void open_snapshot(struct snapshot_file *file, int argc, char **argv)
{
	if (argc < 1)
		die("which snapshot? give one snapshot file");
	if (snapshot_file_open(file, argv[0]))
		exit(1);
}

/** Its kind decides the rest. */
static int command_restore(struct options *o, int argc, char **argv)
{
	static struct snapshot_file file;

	if (o->console.diff && !o->console.capture)
		die("--diff: of what? give --capture FILE");
	open_snapshot(&file, argc, argv);
	if (snapshot_reader_params(file.reader)->guest_kind == GUEST_KIND_KERNEL) {
		o->kernel.restore = &file;
		o->kernel.wiring.restore = true;
		if (argc > 1)
			give_program(o, argv + 1);
		return kernel_command(open_kvm(), &o->kernel);
	}
	if (argc > 1)
		die("restore: give one snapshot file; a process guest has its program");
	o->console.restore = &file;
	return command_console(o);
}

/** For the tracer: which address and mapping a page of a snapshot is. */
static int command_pages(struct options *o, int argc, char **argv)
{
	static struct snapshot_file file;

	if (argc != 1)
		die("pages: give one snapshot file");
	open_snapshot(&file, argc, argv);
	if (snapshot_reader_params(file.reader)->guest_kind != GUEST_KIND_PROCESS)
		die("pages: %s is of a kernel guest, whose pages are its kernel's", argv[0]);
	o->console.pages = true;
	o->console.restore = &file;
	return command_console(o);
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

/** What a guest of this shell's kind needs. Return: 0 or -errno with a log line. */
static int make_machine(const struct options *o, struct vm *vm)
{
	int ret;

	if (o->kind == GUEST_KIND_KERNEL)
		return kernel_shell_new(SANDBOX_FD_KVM, MIB(o->ram_mib), o->kernel.vcpus);
	ret = vm_new(vm, SANDBOX_FD_KVM, MIB(o->ram_mib));
	return ret ? ret : sched_process_init();
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
	if (host_cpuid_import(SANDBOX_FD_CPUID))
		log_debug("no CPUID table at descriptor %d: it is asked for", SANDBOX_FD_CPUID);
	close(SANDBOX_FD_CPUID);
	if (make_machine(o, &vm))
		return 2;
	uffd = make_uffd();
	close(SANDBOX_FD_USERFAULTFD);
	if (populate_init() || lifeline_init(VMM_CONTROL_FD))
		return 2;
	prefault();
	if (sandbox_seccomp_load(SANDBOX_FD_SECCOMP))
		return 2;
	close(SANDBOX_FD_SECCOMP);
	return o->kind == GUEST_KIND_KERNEL ? kernel_shell_serve(VMM_CONTROL_FD, uffd)
					    : control_serve_process(&vm, VMM_CONTROL_FD, uffd);
}

int main(int argc, char **argv)
{
	struct options options;
	const char *command = argc > 1 ? argv[1] : "";

	log_init("vmm", NULL);
	if (version_asked("vmm", argc, argv))
		return 0;
	if (!strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help")) {
		options_usage(stdout);
		return 0;
	}
	if (argc < 2) {
		options_usage(stderr);
		return 2;
	}
	options_parse(&options, argc - 1, argv + 1);
	if (options.console.diff && strcmp(command, "restore"))
		die("--diff: only what was restored has a base: vmm restore --capture FILE --diff");
	argc -= 1 + optind;
	argv += 1 + optind;
	if (!strcmp(command, "run"))
		return command_run(&options, argc, argv);
	if (!strcmp(command, "boot"))
		return command_boot(&options, argc, argv);
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
