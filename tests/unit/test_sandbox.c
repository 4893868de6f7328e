/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sandbox.c - the jail holds: each protection is tried from inside by jail_probe
 *
 * A check that passes in a jail is run once more as an ordinary root process, where it must find
 * the breach: so none of them passes because it looks at nothing.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "tests/unit/jail_test.h"

static void assert_holds(const char *check, const char *arg)
{
	struct jailed j = {0};
	char output[OUTPUT_BYTES];

	assert_int_equal(run_jailed(&j, check, arg), 0);
	assert_exit(j.status, 0, j.output);
	assert_exit(run_free(check, arg, output), 1, "the check finds nothing outside of a jail");
}

static void test_user(void **state)
{
	(void)state;
	assert_holds("user", "");
}

static void test_capabilities(void **state)
{
	(void)state;
	assert_holds("capabilities", "");
	assert_holds("no_new_privs", "");
}

static void test_processes(void **state)
{
	char pid[16];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_holds("processes", pid);
}

static void test_files(void **state)
{
	(void)state;
	assert_holds("files", "");
	assert_holds("writes", "");
}

static void test_mounts(void **state)
{
	(void)state;
	assert_holds("mounts", "");
}

static void test_network(void **state)
{
	(void)state;
	assert_holds("network", "");
}

static void test_rlimits(void **state)
{
	(void)state;
	assert_holds("rlimits", "");
}

static void test_signals(void **state)
{
	(void)state;
	assert_holds("signals", "");
}

static void test_descriptors(void **state)
{
	/* Open in this process, some without close-on-exec, on numbers that will be filled. */
	int low = open("/dev/null", O_RDONLY);
	int high = fcntl(low, F_DUPFD, 300);
	int fds[] = {high, -1, low, high};
	struct jailed j = {.fds = fds, .fd_count = (int)ARRAY_SIZE(fds)};

	(void)state;
	assert_int_equal(run_jailed(&j, "descriptors", "3,5,6"), 0);
	assert_exit(j.status, 0, j.output);
	assert_int_equal(run_jailed(&j, "descriptors", "3,4,5,6"), 0);
	assert_exit(j.status, 1, j.output);
	close(low);
	close(high);
}

static void test_devices(void **state)
{
	CLEANUP_FD int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int uffd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fds[] = {-1, kvm, uffd};
	struct jailed j = {.fds = fds, .fd_count = (int)ARRAY_SIZE(fds)};

	(void)state;
	if (kvm < 0 && uffd < 0) {
		print_message("neither /dev/kvm nor /dev/userfaultfd can be opened\n");
		skip();
	}
	assert_int_equal(run_jailed(&j, "devices", ""), 0);
	assert_exit(j.status, 0, j.output);
}

static int spawn_sleeper(const char *id, bool outlives, struct sandbox_child *child)
{
	static const char *const argv[] = {"jail_probe", "sleep", "60", NULL};
	struct sandbox_spec spec = {
		.id = id,
		.exe_fd = probe_fd,
		.argv = argv,
		.envp = no_env,
		.log_fd = STDERR_FILENO,
		.outlives = outlives,
		.limits.memory_bytes = MIB(64),
	};

	return sandbox_spawn(&spec, child);
}

static void read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read_full(fd, text, size - 1);
	text[n < 0 ? 0 : n] = '\0';
	close(fd);
}

/* What the host sees of a jailed process. */
static void test_seen_from_outside(void **state)
{
	static const char *const namespaces[] = {"user", "mnt", "pid",	 "net",
						 "ipc",	 "uts", "cgroup"};
	struct sandbox_child a = SANDBOX_CHILD_INIT, b = SANDBOX_CHILD_INIT;
	char text[8192], path[64], ours[64], theirs[64], line[64];
	int status;

	(void)state;
	assert_int_equal(spawn_sleeper("a", false, &a), 0);
	assert_int_equal(spawn_sleeper("b", false, &b), 0);
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		memset(ours, 0, sizeof(ours));
		memset(theirs, 0, sizeof(theirs));
		snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
		assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)a.pid, namespaces[i]);
		assert_true(readlink(path, theirs, sizeof(theirs) - 1) > 0);
		assert_string_not_equal(ours, theirs);
		memset(ours, 0, sizeof(ours));
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b.pid, namespaces[i]);
		assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
		assert_string_not_equal(ours, theirs);
	}
	/* A user of its own, on the host too. */
	read_proc(a.pid, "status", text, sizeof(text));
	snprintf(line, sizeof(line), "\nUid:\t%u\t%u\t%u\t%u\n", 0x70000000u + (unsigned)a.pid,
		 0x70000000u + (unsigned)a.pid, 0x70000000u + (unsigned)a.pid,
		 0x70000000u + (unsigned)a.pid);
	assert_non_null(strstr(text, line));
	assert_non_null(strstr(text, "\nCapBnd:\t0000000000000000\n"));
	/* One mount, read-only, and nothing below it. */
	read_proc(a.pid, "mounts", text, sizeof(text));
	assert_ptr_equal(strchr(text, '\n'), strrchr(text, '\n'));
	assert_non_null(strstr(text, "quickthaw-empty / tmpfs ro,nosuid,nodev,noexec"));
	assert_int_equal(sandbox_kill(&a), 0);
	assert_int_equal(sandbox_kill(&b), 0);
	assert_int_equal(sandbox_reap(&a, &status), 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(a.pid, -1);
	assert_int_equal(sandbox_reap(&b, NULL), 0);
	assert_int_equal(sandbox_reap(&b, NULL), 0);
}

/* ---- life and death -------------------------------------------------------------------------- */

/* A stand-in for snapd: one jail, whose pid it writes to @fd; then it waits to be killed. */
static _Noreturn void be_snapd(int fd)
{
	char self[4096];
	char arg[16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = '\0';
	snprintf(arg, sizeof(arg), "%d", fd);
	execl(self, self, "be-snapd", arg, (char *)NULL);
	_exit(1);
}

static int be_snapd_main(int fd)
{
	struct sandbox_child child = SANDBOX_CHILD_INIT;
	void *none = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* with the test, when that fails */
	if (jail_setup(&none) || spawn_sleeper("left-behind", false, &child))
		return 1;
	if (write_full(fd, &child.pid, sizeof(child.pid)))
		return 1;
	for (;;)
		pause();
}

static pid_t start_snapd(pid_t *ret_jailed)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (!pid)
		be_snapd(ends[1]);
	close(ends[1]);
	assert_int_equal(read_full(ends[0], ret_jailed, sizeof(*ret_jailed)), sizeof(*ret_jailed));
	close(ends[0]);
	return pid;
}

static bool cgroup_exists(pid_t snapd)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/fs/cgroup/memory/quickthaw/%d", (int)snapd);
	if (!stat(path, &st))
		return true;
	snprintf(path, sizeof(path), "/sys/fs/cgroup/quickthaw/%d", (int)snapd);
	return !stat(path, &st);
}

static void skip_without_cgroup(bool has_cgroup)
{
	if (has_cgroup)
		return;
	print_message("no memory cgroup on this host\n");
	skip();
}

static void test_dies_with_parent(void **state)
{
	pid_t jailed, snapd = start_snapd(&jailed);
	struct pollfd gone = {.fd = pidfd_open(jailed, 0), .events = POLLIN};

	(void)state;
	assert_true(gone.fd >= 0);
	assert_int_equal(poll(&gone, 1, 100), 0);
	assert_int_equal(kill(snapd, SIGKILL), 0);
	assert_int_equal(poll(&gone, 1, 5000), 1);
	waitpid(snapd, NULL, 0);
	close(gone.fd);
}

static void test_stale_cgroups_are_removed(void **state)
{
	pid_t jailed, snapd = start_snapd(&jailed);
	bool had_cgroup = cgroup_exists(snapd);
	pid_t next;

	(void)state;
	kill(snapd, SIGKILL);
	waitpid(snapd, NULL, 0);
	skip_without_cgroup(had_cgroup);
	assert_true(cgroup_exists(snapd));
	next = start_snapd(&jailed);
	assert_false(cgroup_exists(snapd));
	assert_true(cgroup_exists(next));
	/* A running one is left alone. */
	assert_true(cgroup_exists(getpid()));
	kill(next, SIGKILL);
	waitpid(next, NULL, 0);
	next = start_snapd(&jailed);
	kill(next, SIGKILL);
	waitpid(next, NULL, 0);
}

/* ---- jails that outlive their snapd ---------------------------------------------------------- */

/* Another stand-in: goes on in the cgroups of a snapd before it, if there was one; starts a jail
 * that outlives it; and sends its pid and the cgroups to the test. */
static int be_heir_main(int sock, const char *id, int cgroups)
{
	struct sandbox_child child = SANDBOX_CHILD_INIT;
	struct iovec iov = {&child.pid, sizeof(child.pid)};
	void *none = NULL;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (cgroups >= 0)
		sandbox_adopt_cgroups(cgroups);
	if (jail_setup(&none) || spawn_sleeper(id, true, &child))
		return 1;
	fd = sandbox_cgroups();
	if (fdpass_send(sock, &iov, 1, &fd, fd >= 0))
		return 1;
	for (;;)
		pause();
}

static pid_t start_heir(const char *id, int cgroups, pid_t *ret_jailed, int *ret_cgroups)
{
	int pair[2], fds[FDPASS_FDS_MAX], count;
	char self[4096] = "", sock[16], given[16];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	snprintf(sock, sizeof(sock), "%d", pair[1]);
	snprintf(given, sizeof(given), "%d", cgroups);
	pid = fork();
	if (!pid) {
		if (cgroups >= 0)
			fcntl(cgroups, F_SETFD, 0);
		execl(self, self, "be-heir", sock, id, given, (char *)NULL);
		_exit(1);
	}
	close(pair[1]);
	assert_int_equal(fdpass_recv(pair[0], ret_jailed, sizeof(*ret_jailed), fds, &count, 0),
			 sizeof(*ret_jailed));
	close(pair[0]);
	*ret_cgroups = fds[0];
	return pid;
}

static void kill_and_wait(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A jail whose snapd was killed goes on, is told apart from litter as long as somebody holds its
 * cgroups, and is ended and cleared away by whoever adopts it. */
static void test_outlives(void **state)
{
	pid_t first_jailed, second_jailed, other_jailed;
	int first_cgroups, second_cgroups;
	pid_t first = start_heir("heir-1", -1, &first_jailed, &first_cgroups), second, other;
	struct sandbox_child child = {.pid = first_jailed, .adopted = true, .id = "heir-1"};
	struct pollfd gone = {.fd = pidfd_open(first_jailed, 0), .events = POLLIN};
	struct pollfd second_gone = {.events = POLLIN};

	(void)state;
	child.pidfd = gone.fd;
	kill_and_wait(first);
	assert_int_equal(poll(&gone, 1, 200), 0);
	/* A snapd that has nothing to do with it leaves it alone. */
	other = start_snapd(&other_jailed);
	assert_int_equal(poll(&gone, 1, 0), 0);
	kill_and_wait(other);
	/* The heir goes on in the same directory. */
	second = start_heir("heir-2", first_cgroups, &second_jailed, &second_cgroups);
	second_gone.fd = pidfd_open(second_jailed, 0);
	if (first_cgroups >= 0) {
		assert_true(cgroup_exists(first));
		assert_false(cgroup_exists(second));
		close(first_cgroups);
	}
	assert_int_equal(poll(&gone, 1, 0), 0);
	assert_int_equal(sandbox_kill(&child), 0);
	assert_int_equal(poll(&gone, 1, 5000), 1);
	assert_int_equal(sandbox_reap(&child, NULL), 0);
	assert_int_equal(child.pid, -1);
	kill_and_wait(second);
	assert_int_equal(poll(&second_gone, 1, 200), 0);
	/* The last copy is closed: now it is litter, and what lives in it is killed. */
	if (second_cgroups >= 0)
		close(second_cgroups);
	else
		kill(second_jailed, SIGKILL);
	other = start_snapd(&other_jailed);
	assert_false(cgroup_exists(first));
	assert_int_equal(poll(&second_gone, 1, 5000), 1);
	close(second_gone.fd);
	kill_and_wait(other);
}

static void test_memory_limit(void **state)
{
	struct jailed j = {.limits.memory_bytes = MIB(24)};

	(void)state;
	skip_without_cgroup(cgroup_exists(getpid()));
	assert_int_equal(run_jailed(&j, "touch", "64"), 0);
	assert_true(WIFSIGNALED(j.status) && WTERMSIG(j.status) == SIGKILL);
	assert_true(j.oom_killed);
	j.limits.memory_bytes = MIB(128);
	assert_int_equal(run_jailed(&j, "touch", "64"), 0);
	assert_exit(j.status, 0, j.output);
	assert_false(j.oom_killed);
}

static void test_memory_limit_of_running(void **state)
{
	struct sandbox_child child = SANDBOX_CHILD_INIT;

	(void)state;
	assert_int_equal(spawn_sleeper("running", false, &child), 0);
	if (cgroup_exists(getpid())) {
		assert_int_equal(sandbox_set_memory(&child, MIB(32)), 0);
		assert_int_equal(sandbox_set_memory(&child, MIB(512)), 0);
	} else {
		assert_int_equal(sandbox_set_memory(&child, MIB(32)), -ENOTSUP);
	}
	sandbox_kill(&child);
	assert_int_equal(sandbox_reap(&child, NULL), 0);
}

static void test_address_limit(void **state)
{
	struct jailed j = {.limits.address_bytes = MIB(256)};

	(void)state;
	assert_int_equal(run_jailed(&j, "touch", "512"), 0);
	assert_exit(j.status, 1, j.output);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static int spawn_exe(int exe_fd, const char *id, int fd_count)
{
	static const char *const argv[] = {"x", NULL};
	static const int fds[SANDBOX_FDS_MAX + 1] = {0};
	struct sandbox_child child = SANDBOX_CHILD_INIT;
	struct sandbox_spec spec = {
		.id = id,
		.exe_fd = exe_fd,
		.argv = argv,
		.envp = no_env,
		.fds = fds,
		.fd_count = fd_count,
		.log_fd = STDERR_FILENO,
	};
	int err = sandbox_spawn(&spec, &child);

	assert_int_equal(child.pid, err ? -1 : child.pid);
	assert_int_equal(sandbox_reap(&child, NULL), 0);
	return err;
}

static void test_spawn_errors(void **state)
{
	CLEANUP_FD int dynamic = open("/bin/true", O_PATH | O_CLOEXEC);
	CLEANUP_FD int text = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(spawn_exe(-1, "x", 0), -EBADF);
	assert_int_equal(spawn_exe(dynamic, "x", 0), -ENOENT);
	assert_int_equal(spawn_exe(text, "x", 0), -EACCES);
	assert_int_equal(spawn_exe(probe_fd, "a/../b", 0), -EINVAL);
	assert_int_equal(spawn_exe(probe_fd, "", 0), -EINVAL);
	assert_int_equal(spawn_exe(probe_fd, "x", SANDBOX_FDS_MAX + 1), -EINVAL);
	assert_int_equal(spawn_exe(probe_fd, "x", 0), 0);
	/* Failed spawns leave nothing behind: the same id works again. */
	assert_int_equal(spawn_exe(probe_fd, "x", 0), 0);
}

/* sandbox_init() where it is not allowed what it needs: exit status and log of a new process. */
static int run_confined(const char *how, char *output)
{
	int log_fd = memfd_create("log", MFD_CLOEXEC);
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status = -1;
	pid_t pid;

	self[n < 0 ? 0 : n] = '\0';
	pid = fork();
	if (!pid) {
		dup2(log_fd, STDERR_FILENO);
		execl(self, self, "be-confined", how, (char *)NULL);
		_exit(98);
	}
	waitpid(pid, &status, 0);
	read_output(log_fd, output);
	return status;
}

static int be_confined_main(const char *how)
{
	if (!strcmp(how, "no-root")) {
		if (setuid(65534))
			return 97;
	} else { /* a container that forbids user namespaces */
		int fd;

		if (unshare(CLONE_NEWUSER))
			return 97;
		fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
		if (write(fd, "0 0 1\n", 6) != 6)
			return 97;
		close(fd);
		fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
		if (write(fd, "0", 1) != 1)
			return 97;
		close(fd);
	}
	return sandbox_init() ? 2 : 0;
}

/* One line: what is missing, why it matters, what to do. */
static void test_init_where_forbidden(void **state)
{
	char output[OUTPUT_BYTES];

	(void)state;
	assert_exit(run_confined("no-root", output), 2, output);
	assert_non_null(strstr(output, "no cap_sys_admin, needed for the namespaces and mounts of "
				       "each guest's jail: run as root"));
	assert_ptr_equal(strchr(output, '\n'), strrchr(output, '\n'));
	assert_exit(run_confined("no-user-namespaces", output), 2, output);
	assert_non_null(strstr(output, "cannot create namespaces: No space left on device"));
	assert_non_null(strstr(output, "user.max_user_namespaces"));
	assert_ptr_equal(strchr(output, '\n'), strrchr(output, '\n'));
}

static void test_queue(void **state)
{
	static const char *const argv[] = {"jail_probe", "sleep", "0", NULL};
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	struct sandbox_job jobs[4];
	char ids[4][8];
	uint64_t one;

	(void)state;
	memset(jobs, 0, sizeof(jobs));
	for (int i = 0; i < 4; i++) {
		snprintf(ids[i], sizeof(ids[i]), "job%d", i);
		jobs[i].spec = (struct sandbox_spec){
			.id = ids[i],
			.exe_fd = probe_fd,
			.argv = argv,
			.envp = no_env,
			.log_fd = STDERR_FILENO,
		};
		jobs[i].event_fd = event_fd;
		sandbox_spawn_queue(&jobs[i]);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(read(event_fd, &one, sizeof(one)), sizeof(one));
	for (int i = 0; i < 4; i++) {
		int status = -1;

		assert_true(atomic_load(&jobs[i].done));
		assert_int_equal(jobs[i].err, 0);
		assert_int_equal(sandbox_reap(&jobs[i].child, &status), 0);
		assert_int_equal(status, 0);
	}
	close(event_fd);
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Not a benchmark: only that nothing went badly wrong on the path to a shell. */
static void test_spawn_cost(void **state)
{
	uint32_t ns[15];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ns); i++) {
		struct sandbox_child child = SANDBOX_CHILD_INIT;

		assert_int_equal(spawn_sleeper("cost", false, &child), 0);
		ns[i] = child.spawn_ns;
		sandbox_kill(&child);
		assert_int_equal(sandbox_reap(&child, NULL), 0);
	}
	qsort(ns, ARRAY_SIZE(ns), sizeof(ns[0]), compare_u32);
	print_message("spawn: min %u us, median %u us, max %u us\n", ns[0] / 1000,
		      ns[ARRAY_SIZE(ns) / 2] / 1000, ns[ARRAY_SIZE(ns) - 1] / 1000);
	assert_true(ns[0] < 100 * 1000 * 1000);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_rlimits),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_seen_from_outside),
		cmocka_unit_test(test_dies_with_parent),
		cmocka_unit_test(test_stale_cgroups_are_removed),
		cmocka_unit_test(test_outlives),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_memory_limit_of_running),
		cmocka_unit_test(test_address_limit),
		cmocka_unit_test(test_spawn_errors),
		cmocka_unit_test(test_init_where_forbidden),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_spawn_cost),
	};

	if (argc == 3 && !strcmp(argv[1], "be-snapd"))
		return be_snapd_main((int)strtol(argv[2], NULL, 10));
	if (argc == 5 && !strcmp(argv[1], "be-heir"))
		return be_heir_main((int)strtol(argv[2], NULL, 10), argv[3],
				    (int)strtol(argv[4], NULL, 10));
	if (argc == 3 && !strcmp(argv[1], "be-confined"))
		return be_confined_main(argv[2]);
	if (geteuid())
		return skip_without_root("test_sandbox");
	return cmocka_run_group_tests(tests, jail_setup, jail_teardown);
}
