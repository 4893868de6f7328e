/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - the jail that every vmm process lives in */
#ifndef QUICKTHAW_COMMON_SANDBOX_H
#define QUICKTHAW_COMMON_SANDBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Order of calls in snapd:
 *
 *   sandbox_init()          once, before threads exist: private mount namespace, stale cgroups
 *   sandbox_root_build()    the read-only file tree that guests see
 *   sandbox_dir_open()      one read-only directory of the host (a function's code)
 *   sandbox_seccomp_export() the compiled system-call filter, once
 *   sandbox_spawn()         one jailed process
 *   sandbox_reap()          after its pidfd polled readable: exit status, cgroup removed
 *   sandbox_finish()        at a clean end
 *
 * and in the vmm, after its VM, vCPUs, slots and userfaultfd exist and before it reads the first
 * byte that a guest or a snapshot had a hand in: sandbox_seccomp_load() or sandbox_seccomp_enter().
 */

/**
 * sandbox_adopt_cgroups() - before sandbox_init(): go on in the cgroups of a snapd before this one,
 * whose jails are adopted.
 * @fd: what its sandbox_cgroups() was; becomes ours
 */
void sandbox_adopt_cgroups(int fd);

/** sandbox_sweep_cgroups() - remove those in the directory whose jails are not ours, with whatever
 * lives in them still. @is_ours: by id. Blocks for up to 2 s; when no jail is being made. */
void sandbox_sweep_cgroups(bool (*is_ours)(const char *id));

/** sandbox_cgroups() - the directory of this process's cgroups, which it holds a lock on, or -1
 * where the host has none. As long as somebody has a copy of the descriptor, nobody takes the
 * groups for those of a dead snapd. It stays ours. */
int sandbox_cgroups(void);

/**
 * sandbox_init() - make ready to build jails in this process.
 * Moves the process into a mount namespace of its own (so that nothing mounted later is seen by
 * the host, and all of it goes away with the process), removes cgroups that an earlier run left
 * behind, and creates the parent cgroup. Needs root. Call it before other threads exist.
 * Return: 0, or -errno after one log line that says what is missing, why and what to do.
 */
int sandbox_init(void);

/** sandbox_finish() - at a clean end, when all jails are reaped: remove the parent cgroup. Not when
 * jails are left to another process. */
void sandbox_finish(void);

/**
 * sandbox_root_build() - assemble the read-only file tree that guests see as "/".
 * A tmpfs at @dir gets each of @paths from the host: directories and files as read-only, nosuid,
 * nodev bind mounts, symbolic links as links (so /bin -> usr/bin stays one); what the host does not
 * have is left out. Empty /tmp, /proc, /dev, /var/task, /var/runtime and /opt are added; then the
 * tmpfs becomes read-only. Nothing else of the host can be reached below the result.
 * @dir: absolute; created where missing. An earlier tree there is hidden by the new one.
 * @paths: absolute host paths, NULL-terminated; NULL for sandbox_root_paths
 * @ret_dirfd: O_PATH | O_CLOEXEC descriptor of a copy of the tree, the caller's. The copy is
 *	attached nowhere and lives as long as one of its descriptors, whoever has it
 * Return: 0 or -errno (the failing path is logged). After sandbox_init(). Blocks on file systems.
 */
int sandbox_root_build(const char *dir, const char *const *paths, int *ret_dirfd);

/** sandbox_root_paths - what a guest sees of the host unless told otherwise; NULL-terminated. */
extern const char *const sandbox_root_paths[];

/**
 * sandbox_dir_open() - a read-only, nosuid, nodev, view of one host directory.
 * The view is a mount of its own that is attached nowhere: ".." ends at its top.
 * @ret_dirfd: O_PATH | O_CLOEXEC, the caller's; the mount goes away with its last descriptor
 * Return: 0 or -errno (logged). The files below must be readable by anybody (0644, 0755): a jailed
 * process is no one's user. The directories above need not be.
 */
int sandbox_dir_open(const char *path, int *ret_dirfd);

/** Descriptors of a jailed process besides 0 (empty), 1 and 2 (the log). */
enum {
	SANDBOX_FD_FIRST = 3,
	SANDBOX_FD_CONTROL = 3,	    /**< VMM_CONTROL_FD */
	SANDBOX_FD_KVM = 4,	    /**< /dev/kvm */
	SANDBOX_FD_USERFAULTFD = 5, /**< /dev/userfaultfd, or closed where the host has none */
	SANDBOX_FD_SECCOMP = 6,	    /**< memfd of sandbox_seccomp_export(), or closed */
	SANDBOX_FD_CPUID = 7,	    /**< memfd of host_cpuid_export(), or closed */
	SANDBOX_FDS_MAX = 16,
};

/** struct sandbox_limits - 0 means the default in brackets. */
struct sandbox_limits {
	uint64_t memory_bytes;	/**< cgroup: RAM the process may use [no limit] */
	uint64_t address_bytes; /**< RLIMIT_AS: must hold the guest RAM reservation [16 GiB] */
	uint64_t file_bytes;	/**< RLIMIT_FSIZE: largest snapshot or memfd it may write [8 GiB] */
	uint32_t fds;		/**< RLIMIT_NOFILE [1024] */
	uint32_t threads;	/**< RLIMIT_NPROC [32] */
};

enum { SANDBOX_ID_MAX = 64 };

/** struct sandbox_spec - what to run in a new jail. */
struct sandbox_spec {
	const char *id; /**< [A-Za-z0-9_-]{1,64}: names the cgroup and the log lines */
	int exe_fd;	/**< the program, O_RDONLY or O_PATH; static: the jail has no files */
	const char *const *argv; /**< NULL-terminated */
	const char *const *envp; /**< NULL-terminated */
	const int *fds; /**< fds[i] becomes descriptor SANDBOX_FD_FIRST + i; -1 leaves it closed */
	int fd_count;	/**< at most SANDBOX_FDS_MAX; they stay the caller's too */
	int log_fd;	/**< becomes 1 and 2; for example snapd's own 2 */
	bool outlives;	/**< it is not killed when this process ends: it must end by itself when
			     nobody holds the other end of what it was given */
	struct sandbox_limits limits;
};

/** struct sandbox_child - a jailed process. Start it as SANDBOX_CHILD_INIT. */
struct sandbox_child {
	pid_t pid;
	bool adopted;		     /**< the child of another process: whoever that is reaps it */
	int pidfd;		     /**< readable (poll, io_uring) when the process is gone */
	char id[SANDBOX_ID_MAX + 1]; /**< as in the spec */
	uint32_t spawn_ns;	     /**< from the request to the exec */
};
#define SANDBOX_CHILD_INIT                                                                         \
	{                                                                                          \
		.pid = -1, .pidfd = -1                                                             \
	}

/**
 * sandbox_spawn() - start one process in a jail of its own, and wait until it was exec'ed.
 * New user, mount, pid, net, ipc, uts and cgroup namespaces; an unprivileged user that no other
 * jail has at the same time; an empty read-only root without /proc, /sys or /dev; no capability in
 * any set; NO_NEW_PRIVS; rlimits; only the given descriptors; a memory cgroup where the host has
 * one. It is killed when this process ends, however that comes about, unless it @outlives it.
 * Blocks for 1 to 2 ms; an event loop uses sandbox_spawn_queue(). Safe in any thread.
 * Return: 0, or -errno after a log line that names the step which failed. After sandbox_init().
 */
int sandbox_spawn(const struct sandbox_spec *spec, struct sandbox_child *ret);

/**
 * struct sandbox_job - one spawn in the background. What @spec points to stays valid until @done.
 */
struct sandbox_job {
	struct sandbox_spec spec;
	int event_fd; /**< eventfd that gets +1 when the job is done, or -1; the caller's */
	/* Results, valid once @done. */
	struct sandbox_child child;
	int err;	  /**< 0 or -errno (logged), as sandbox_spawn() */
	atomic_bool done; /**< set with release order, before @event_fd is written */
	struct sandbox_job *next;
};

/** sandbox_spawn_queue() - hand @job to the spawner thread; never blocks. Jobs run in order. */
void sandbox_spawn_queue(struct sandbox_job *job);

/**
 * sandbox_set_memory() - change the memory limit of a running jail: a shell gets its function's
 * limit when it is given work. Return: 0, -ENOTSUP where the host has no memory cgroup, or -errno.
 */
int sandbox_set_memory(const struct sandbox_child *child, uint64_t memory_bytes);

/**
 * sandbox_kill() - SIGKILL, once; the pidfd becomes readable soon after. Return: 0 or -errno.
 */
int sandbox_kill(const struct sandbox_child *child);

/**
 * sandbox_reap() - collect a process that has ended, remove its cgroup, close its pidfd.
 * Blocks until the process has ended: call it when the pidfd is readable.
 * @ret_status: as from waitpid(), may be NULL
 * Return: 0 or -errno. Legal on a child that was never started. Resets @child.
 */
int sandbox_reap(struct sandbox_child *child, int *ret_status);

/** sandbox_oom_killed() - did the memory cgroup kill it? Ask before sandbox_reap(). */
bool sandbox_oom_killed(const struct sandbox_child *child);

/** Stages of a jailed process: what it may ask of the kernel from then on. */
enum sandbox_stage {
	/** A vmm whose VM exists: run it, serve files read-only, talk to snapd, write a capture. */
	SANDBOX_STAGE_GUEST,
	/** The same whose guest is a whole kernel: run it, read its disks, talk to snapd, capture.
	 */
	SANDBOX_STAGE_KERNEL,
	/** An unpacker that has started: read one archive, make files below one directory. */
	SANDBOX_STAGE_UNPACK,
	SANDBOX_STAGE_COUNT
};

/**
 * sandbox_seccomp_enter() - compile the stage's allow-list (sandbox_seccomp.c) and enter it, with
 * all threads. What is not on the list logs the system call's name and kills the process.
 * Return: 0 or -errno (logged).
 */
int sandbox_seccomp_enter(enum sandbox_stage stage);

/**
 * sandbox_seccomp_export() - compile the stage's allow-list once for many processes.
 * @ret_fd: sealed memfd with the filter program, to be passed as SANDBOX_FD_SECCOMP
 * Return: 0 or -errno (logged).
 */
int sandbox_seccomp_export(enum sandbox_stage stage, int *ret_fd);

/**
 * sandbox_seccomp_load() - enter a stage by its exported filter; the fast way of
 * sandbox_seccomp_enter(). Return: 0 or -errno (logged).
 */
int sandbox_seccomp_load(int fd);

enum { SANDBOX_CONFINE_FDS_MAX = 4 };

/**
 * struct sandbox_confinement - what a program that jails itself goes on with.
 * @fds: directories become views without a way up; other descriptors stay as they are
 * @read_all: it may read what its user could not, as root does
 */
struct sandbox_confinement {
	enum sandbox_stage stage;
	struct {
		int fd;
		bool read_only;
	} fds[SANDBOX_CONFINE_FDS_MAX];
	int fd_count;
	bool read_all;
};

/**
 * sandbox_confine() - the calling program jails itself: network, ipc, uts and mount namespaces of
 * its own, an empty root, no capability, the stage's system calls only. Its user stays. For a
 * process of one thread that has opened and linked all that it needs; rlimits are its own affair.
 * Return: 0 or -errno (logged); on error it must end.
 */
int sandbox_confine(const struct sandbox_confinement *c);

#endif
