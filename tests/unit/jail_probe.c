/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail_probe.c - a program that tries to get out of the jail it is started in
 *
 * `jail_probe CHECK [ARGUMENT]` exits 0 when the protection holds and 1, with a line that says what
 * was possible, when it does not. test_sandbox.c runs each check twice: in a jail, where it must
 * exit 0, and as an ordinary process, where it must exit 1; so a check that proves nothing is found
 * out. `deny NAME` enters the system call filter first, and must never return.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/sandbox.h"
#include "common/thread.h"
#include "common/util.h"

static int breach(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int breach(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdprintf(STDERR_FILENO, fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "\n");
	return 1;
}

static int check_user(const char *arg)
{
	(void)arg;
	if (!getuid() || !geteuid() || !getgid() || !getegid())
		return breach("is root: uid %d gid %d", (int)getuid(), (int)getgid());
	if (getgroups(0, NULL) > 0)
		return breach("has supplementary groups");
	if (!setuid(0))
		return breach("can become root");
	return 0;
}

static int check_capabilities(const char *arg)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	(void)arg;
	if (syscall(SYS_capget, &header, data))
		return breach("capget: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		if (data[i].effective | data[i].permitted | data[i].inheritable)
			return breach("has capabilities %x", data[i].permitted);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (prctl(PR_CAPBSET_READ, cap))
			return breach("capability %d is in the bounding set", cap);
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0))
			return breach("capability %d is ambient", cap);
	}
	return 0;
}

static int check_no_new_privs(const char *arg)
{
	(void)arg;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : breach("no_new_privs is not set");
}

/* @arg: the pid of a host process. */
static int check_processes(const char *arg)
{
	pid_t host = (pid_t)strtol(arg, NULL, 10);
	char byte;
	struct iovec local = {&byte, 1}, remote = {(void *)(uintptr_t)0x400000, 1};

	if (getpid() != 1)
		return breach("is in a pid namespace with others: pid %d", (int)getpid());
	if (!kill(host, 0) || errno != ESRCH)
		return breach("can name host process %d", (int)host);
	if (ptrace(PTRACE_SEIZE, host, NULL, NULL) == 0 || errno != ESRCH)
		return breach("can name host process %d to ptrace", (int)host);
	if (process_vm_readv(host, &local, 1, &remote, 1, 0) >= 0 || errno != ESRCH)
		return breach("can name host process %d to read its memory", (int)host);
	if (syscall(SYS_pidfd_open, host, 0) >= 0)
		return breach("can open a pidfd of host process %d", (int)host);
	return 0;
}

static int check_files(const char *arg)
{
	static const char *const paths[] = {
		"/etc/passwd", "/usr",	       "/proc",	    "/proc/self/status", "/sys",
		"/dev",	       "/dev/null",    "/dev/kvm",  "/dev/userfaultfd",	 "/run",
		"/tmp",	       "../../../usr", "/.oldroot",
	};
	struct dirent *entry;
	DIR *dir;

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (open(paths[i], O_RDONLY | O_CLOEXEC) >= 0)
			return breach("can open %s", paths[i]);
	dir = opendir("/");
	if (!dir)
		return breach("cannot look at its root: %s", strerror(errno));
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			return breach("/%s exists", entry->d_name);
	closedir(dir);
	return 0;
}

static int check_writes(const char *arg)
{
	(void)arg;
	if (open("/jail_probe_file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0) {
		unlink("/jail_probe_file");
		return breach("can create a file in its root");
	}
	if (errno != EROFS)
		return breach("its root is not read-only: %s", strerror(errno));
	if (open("/", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600) >= 0)
		return breach("can create an unnamed file in its root");
	return 0;
}

static int check_mounts(const char *arg)
{
	(void)arg;
	if (!mount("x", "/", "tmpfs", 0, NULL)) {
		umount2("/", MNT_DETACH);
		return breach("can mount");
	}
	if (!unshare(CLONE_NEWNS))
		return breach("can make a mount namespace");
	if (!umount2("/", MNT_DETACH))
		return breach("can unmount its root");
	if (!mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL))
		return breach("can make its root writable");
	if (!chroot("/"))
		return breach("can chroot");
	return 0;
}

static int check_network(const char *arg)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(53),
		.sin_addr = {htonl(0x7f000001)},
	};
	struct if_nameindex *list = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)arg;
	for (struct if_nameindex *i = list; i && i->if_index; i++)
		if (strcmp(i->if_name, "lo"))
			return breach("has the interface %s", i->if_name);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return breach("has a route to 127.0.0.1");
	return 0;
}

/* @arg: "3,5,6": besides 0, 1 and 2 exactly these descriptors are open. */
static int check_descriptors(const char *arg)
{
	bool expected[4096] = {true, true, true};
	struct stat st;

	for (const char *p = arg; *p;) {
		char *end;

		expected[strtoul(p, &end, 10) % ARRAY_SIZE(expected)] = true;
		p = *end ? end + 1 : end;
	}
	for (int fd = 0; fd < (int)ARRAY_SIZE(expected); fd++)
		if ((fcntl(fd, F_GETFD) >= 0) != expected[fd])
			return breach("descriptor %d is %s", fd,
				      expected[fd] ? "not there" : "open");
	if (fstat(0, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != 0x103)
		return breach("descriptor 0 is not /dev/null");
	return 0;
}

static int check_rlimits(const char *arg)
{
	static const struct {
		const char *name;
		__rlimit_resource_t resource;
		rlim_t most;
	} limits[] = {
		{"core", RLIMIT_CORE, 0},
		{"nproc", RLIMIT_NPROC, 32},
		{"nofile", RLIMIT_NOFILE, 1024},
		{"memlock", RLIMIT_MEMLOCK, 0},
		{"fsize", RLIMIT_FSIZE, 8ull << 30},
		{"as", RLIMIT_AS, 16ull << 30},
		{"msgqueue", RLIMIT_MSGQUEUE, 0},
	};
	struct rlimit l;

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (getrlimit(limits[i].resource, &l) || l.rlim_max > limits[i].most)
			return breach("rlimit %s is %llu", limits[i].name,
				      (unsigned long long)l.rlim_max);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		l.rlim_cur = l.rlim_max = limits[i].most + 1;
		if (!setrlimit(limits[i].resource, &l))
			return breach("rlimit %s can be raised", limits[i].name);
	}
	return 0;
}

/* Signals must arrive as in a fresh process: none blocked, none ignored. */
static int check_signals(const char *arg)
{
	struct sigaction action;
	sigset_t set;

	(void)arg;
	sigprocmask(SIG_SETMASK, NULL, &set);
	for (int sig = 1; sig < 32; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		if (sigismember(&set, sig))
			return breach("signal %d is blocked", sig);
		if (!sigaction(sig, NULL, &action) && action.sa_handler != SIG_DFL)
			return breach("signal %d is not at its default", sig);
	}
	return 0;
}

/* Descriptors that were handed in do work: /dev/kvm and /dev/userfaultfd, opened by the parent. */
static int check_devices(const char *arg)
{
	int uffd;

	(void)arg;
	if (fcntl(SANDBOX_FD_KVM, F_GETFD) >= 0 && ioctl(SANDBOX_FD_KVM, KVM_CREATE_VM, 0) < 0)
		return breach("cannot create a VM: %s", strerror(errno));
	if (fcntl(SANDBOX_FD_USERFAULTFD, F_GETFD) < 0)
		return 0;
	uffd = ioctl(SANDBOX_FD_USERFAULTFD, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	return uffd >= 0 ? 0 : breach("cannot make a userfaultfd: %s", strerror(errno));
}

/* SANDBOX_FD_CONTROL is a guest's root: what is there, and what can be done to it. */
static int check_guest_root(const char *arg)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	static const char *const absent[] = {
		"/etc/shadow",	    "/proc/1",	      "/dev/null",
		"/var/lib",	    "/root/.ssh",     "/sys/kernel",
		"/run/quickthaw",   "/../etc/shadow", "/usr/../../etc/shadow",
		"/etc/ssl/private",
	};
	int fd;

	(void)arg;
	fd = (int)syscall(SYS_openat2, SANDBOX_FD_CONTROL, "/bin/sh", &how, sizeof(how));
	if (fd < 0)
		return breach("cannot open /bin/sh: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		if (syscall(SYS_openat2, SANDBOX_FD_CONTROL, absent[i], &how, sizeof(how)) >= 0)
			return breach("can open %s", absent[i]);
	fd = (int)syscall(SYS_openat2, SANDBOX_FD_CONTROL, "/..", &how, sizeof(how));
	if (fd >= 0 && openat(fd, "boot", O_PATH | O_CLOEXEC) >= 0)
		return breach("can leave the root by ..");
	how.flags = O_WRONLY | O_CREAT | O_CLOEXEC;
	how.mode = 0600;
	if (syscall(SYS_openat2, SANDBOX_FD_CONTROL, "/tmp/x", &how, sizeof(how)) >= 0 ||
	    errno != EROFS)
		return breach("can write to /tmp: %s", strerror(errno));
	return 0;
}

static int check_sleep(const char *arg)
{
	sleep((unsigned int)strtol(arg, NULL, 10));
	return 0;
}

/* @arg: MiB of memory to touch. */
static int check_touch(const char *arg)
{
	size_t n = (size_t)strtol(arg, NULL, 10) << 20;
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return breach("mmap: %s", strerror(errno));
	for (size_t i = 0; i < n; i += PAGE_BYTES)
		p[i] = 1;
	return 0;
}

/* What the filter must let through, by its exported program in SANDBOX_FD_CONTROL. */
static int check_allow(const char *arg)
{
	struct timespec ts = {.tv_nsec = 1000};
	void *p;
	int fd;

	(void)arg;
	if (sandbox_seccomp_load(SANDBOX_FD_CONTROL))
		return 2;
	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(p, 1 << 20, MADV_DONTNEED);
	mprotect(p, 1 << 20, PROT_READ);
	munmap(p, 1 << 20);
	free(realloc(malloc(1 << 22), 1 << 23));
	fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, 4096) || pwrite(fd, "x", 1, 0) != 1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return breach("memfd: %s", strerror(errno));
	if (openat(AT_FDCWD, "/nothing", O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOENT)
		return breach("openat: %s", strerror(errno));
	ioctl(99, KVM_RUN, 0);
	dprintf(STDERR_FILENO, "allowed\n");
	return 0;
}

/** A turn lasts for longer than it takes to make these: some begin when the filter is there. */
enum { THREADS = 64 };

static void *count(void *arg)
{
	__atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
	return NULL;
}

static int check_threads(enum sandbox_stage stage)
{
	pthread_t threads[THREADS];
	unsigned counted = 0;
	cpu_set_t one;
	int filter;

	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	if (sandbox_seccomp_export(stage, &filter) || sched_setaffinity(0, sizeof(one), &one))
		return 2;
	for (int i = 0; i < THREADS; i++)
		if (thread_start(&threads[i], NULL, count, &counted))
			return 2;
	if (sandbox_seccomp_load(filter))
		return 2;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	dprintf(STDERR_FILENO, "%u threads began\n", counted);
	return 0;
}

static int check_threads_guest(const char *arg)
{
	(void)arg;
	return check_threads(SANDBOX_STAGE_GUEST);
}

static int check_threads_kernel(const char *arg)
{
	(void)arg;
	return check_threads(SANDBOX_STAGE_KERNEL);
}

static void *ask_for_socket(void *arg)
{
	while (!__atomic_load_n((int *)arg, __ATOMIC_ACQUIRE))
		sched_yield();
	socket(AF_UNIX, SOCK_STREAM, 0);
	return NULL;
}

/** A call that is not on the list, of a thread whose signals are blocked. */
static int check_deny_thread(const char *arg)
{
	pthread_t thread;
	int entered = 0;

	(void)arg;
	if (thread_start(&thread, NULL, ask_for_socket, &entered) ||
	    sandbox_seccomp_enter(SANDBOX_STAGE_GUEST))
		return 2;
	__atomic_store_n(&entered, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	return breach("socket came back");
}

static long deny_open(void)
{
	return syscall(SYS_open, "/x", O_RDONLY);
}

static long deny_openat_write(void)
{
	return openat(AT_FDCWD, "/x", O_WRONLY | O_CLOEXEC);
}

static long deny_openat_create(void)
{
	return openat(AT_FDCWD, "/x", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long deny_execve(void)
{
	char *const none[] = {NULL};

	return syscall(SYS_execve, "/bin/sh", none, none);
}

static long deny_execveat(void)
{
	char *const none[] = {NULL};

	return syscall(SYS_execveat, 3, "", none, none, AT_EMPTY_PATH);
}

static long deny_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid;
}

static long deny_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long deny_connect(void)
{
	return connect(3, NULL, 0);
}

static long deny_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long deny_mount(void)
{
	return mount("x", "/", "tmpfs", 0, NULL);
}

static long deny_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static long deny_setns(void)
{
	return setns(3, 0);
}

static long deny_bpf(void)
{
	return syscall(SYS_bpf, BPF_MAP_CREATE, NULL, 0);
}

static long deny_io_uring_setup(void)
{
	return syscall(SYS_io_uring_setup, 1, NULL);
}

static long deny_mmap_exec(void)
{
	return (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long deny_mprotect_exec(void)
{
	static char page[8192];

	return mprotect((void *)align_up((uint64_t)(uintptr_t)page, 4096), 4096,
			PROT_READ | PROT_EXEC);
}

static long deny_ioctl_tiocsti(void)
{
	return ioctl(0, TIOCSTI, "x");
}

static long deny_ioctl_create_vm(void)
{
	return ioctl(SANDBOX_FD_KVM, KVM_CREATE_VM, 0);
}

static long deny_ioctl_uffd_copy(void)
{
	return ioctl(5, UFFDIO_COPY, NULL);
}

static long deny_fcntl_setown(void)
{
	return fcntl(0, F_SETOWN, 1);
}

/* The userfaultfd is shared with snapd: made blocking, it would stop snapd's loop. */
static long deny_fcntl_setfl(void)
{
	return fcntl(0, F_SETFL, 0);
}

static long deny_memfd_huge(void)
{
	return memfd_create("x", MFD_CLOEXEC | MFD_HUGETLB);
}

static long deny_prctl_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long deny_rt_sigaction(void)
{
	return syscall(SYS_rt_sigaction, SIGSYS, NULL, NULL, 8);
}

static long deny_seccomp(void)
{
	return syscall(SYS_seccomp, 0, 0, NULL);
}

static long deny_unknown(void)
{
	return syscall(1023);
}

static long deny_x32(void)
{
	return syscall(0x40000000 | 39);
}

/* ---- what a vmm with a kernel guest may not, and one with a process guest may ---- */

static long deny_openat_read(void)
{
	return openat(AT_FDCWD, "/", O_RDONLY | O_CLOEXEC);
}

static long deny_eventfd(void)
{
	return eventfd(0, EFD_CLOEXEC);
}

static long deny_epoll_create(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}

static long deny_ioctl_create_vcpu(void)
{
	return ioctl(-1, KVM_CREATE_VCPU, 0);
}

static long deny_ioctl_irqfd(void)
{
	return ioctl(-1, KVM_IRQFD, NULL);
}

static long deny_ioctl_ioeventfd(void)
{
	return ioctl(-1, KVM_IOEVENTFD, NULL);
}

static const struct {
	const char *name;
	long (*fn)(void);
} denials[] = {
	{"open", deny_open},
	{"openat-write", deny_openat_write},
	{"openat-create", deny_openat_create},
	{"execve", deny_execve},
	{"execveat", deny_execveat},
	{"clone", deny_fork},
	{"socket", deny_socket},
	{"connect", deny_connect},
	{"ptrace", deny_ptrace},
	{"mount", deny_mount},
	{"unshare", deny_unshare},
	{"setns", deny_setns},
	{"bpf", deny_bpf},
	{"io_uring_setup", deny_io_uring_setup},
	{"mmap", deny_mmap_exec},
	{"mprotect", deny_mprotect_exec},
	{"ioctl-tiocsti", deny_ioctl_tiocsti},
	{"ioctl-create-vm", deny_ioctl_create_vm},
	{"ioctl-uffd-copy", deny_ioctl_uffd_copy},
	{"fcntl", deny_fcntl_setown},
	{"fcntl-setfl", deny_fcntl_setfl},
	{"memfd_create-huge", deny_memfd_huge},
	{"prctl", deny_prctl_dumpable},
	{"rt_sigaction", deny_rt_sigaction},
	{"seccomp", deny_seccomp},
	{"unknown", deny_unknown},
	{"x32", deny_x32},
	{"openat-read", deny_openat_read},
	{"eventfd2", deny_eventfd},
	{"epoll_create1", deny_epoll_create},
	{"ioctl-create-vcpu", deny_ioctl_create_vcpu},
	{"ioctl-irqfd", deny_ioctl_irqfd},
	{"ioctl-ioeventfd", deny_ioctl_ioeventfd},
};

static int deny(enum sandbox_stage stage, const char *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(denials); i++) {
		if (strcmp(denials[i].name, arg))
			continue;
		if (sandbox_seccomp_enter(stage))
			return 2;
		denials[i].fn();
		return breach("%s came back", arg);
	}
	return 2;
}

static int check_deny(const char *arg)
{
	return deny(SANDBOX_STAGE_GUEST, arg);
}

static int check_deny_kernel(const char *arg)
{
	return deny(SANDBOX_STAGE_KERNEL, arg);
}

/** @arg: a directory. What it may do afterwards works, then one call that is not on the list. */
static int check_confine(const char *arg)
{
	int dirfd = open(arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	struct stat top, above;

	if (dirfd < 0 || sandbox_confine(&(struct sandbox_confinement){
				 .stage = SANDBOX_STAGE_UNPACK,
				 .fds = {{dirfd, false}},
				 .fd_count = 1,
			 }))
		return 2;
	if (openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
		return breach("the host's files are there");
	if (openat(dirfd, "../other", O_RDONLY | O_CLOEXEC) >= 0)
		return breach("the directory has a way up");
	if (fstatat(dirfd, ".", &top, 0) || fstatat(dirfd, "..", &above, 0) ||
	    top.st_ino != above.st_ino)
		return breach("the directory's .. is not itself");
	fd = openat(dirfd, "closed", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return breach("it reads what its user may not");
	fd = openat(dirfd, "made", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "x", 1) != 1)
		return breach("it cannot make a file");
	dprintf(STDERR_FILENO, "confined\n");
	socket(AF_UNIX, SOCK_STREAM, 0);
	return breach("socket came back");
}

static const struct {
	const char *name;
	int (*fn)(const char *arg);
} checks[] = {
	{"confine", check_confine},
	{"user", check_user},
	{"capabilities", check_capabilities},
	{"no_new_privs", check_no_new_privs},
	{"processes", check_processes},
	{"files", check_files},
	{"writes", check_writes},
	{"mounts", check_mounts},
	{"network", check_network},
	{"descriptors", check_descriptors},
	{"rlimits", check_rlimits},
	{"signals", check_signals},
	{"devices", check_devices},
	{"guest_root", check_guest_root},
	{"sleep", check_sleep},
	{"touch", check_touch},
	{"allow", check_allow},
	{"deny", check_deny},
	{"deny-kernel", check_deny_kernel},
	{"deny-thread", check_deny_thread},
	{"threads", check_threads_guest},
	{"threads-kernel", check_threads_kernel},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(checks); i++)
		if (!strcmp(checks[i].name, argv[1]))
			return checks[i].fn(argc > 2 ? argv[2] : "");
	return 2;
}
