/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_guest.h - a kernel guest that is measured, and the process that runs it */
#ifndef QUICKTHAW_BENCH_KERNEL_GUEST_H
#define QUICKTHAW_BENCH_KERNEL_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { KERNEL_GUEST_LINE_MAX = 4096 };

/** What every guest's kernel is told; where the agent finds its other end, each system adds. */
#define KERNEL_CMDLINE "console=ttyS0 quiet panic=-1 reboot=t pci=off agent.task=/dev/vdb"

/** struct kernel_images - the same for every system that is compared; absolute paths. */
struct kernel_images {
	char bin_dir[256]; /**< where vmm is */
	char kernel[256];
	char vmlinux[256]; /**< the same as an ELF file; empty: there is none */
	char initramfs[256];
	char root[256];
	char task[256];
	unsigned memory_mib;
	bool tcg; /**< QEMU emulates the CPU: that shows that it works, and measures nothing */
};

/** struct kernel_guest - one machine, and what leads to it; descriptors that it does not have are
 * -1. */
struct kernel_guest {
	pid_t pid;			/**< of what runs it; 0: none */
	int control;			/**< include/agent_proto.h */
	int api;			/**< the Runtime API, this end being the server */
	int control_listen, api_listen; /**< where the guest connects to */
	int monitor;			/**< of the system that runs it */
	int out;			/**< what that writes, where it is asked for */
	char dir[128];			/**< its sockets, its console; removed with it; absolute */
	char line[KERNEL_GUEST_LINE_MAX]; /**< the last one of @out, and what is behind it */
	size_t line_bytes, line_next;
};

/** struct kernel_system - what runs kernel guests. Functions return 0 or -errno, explained on
 * stderr. */
struct kernel_system {
	const char *name;
	/** missing() - why it cannot run here, or NULL. */
	const char *(*missing)(const struct kernel_images *images);
	/** boot() - start a machine from nothing. */
	int (*boot)(struct kernel_guest *g, const struct kernel_images *images);
	/** await_ready() - until its agent is there. */
	int (*await_ready)(struct kernel_guest *g);
	/** await_next() - start the runtime, and wait until that asks for work. */
	int (*await_next)(struct kernel_guest *g);
	/** capture() - prepare the guest and write what restore() needs below @dir.
	 * @ret_bytes: how much that is */
	int (*capture)(struct kernel_guest *g, const char *dir, double *ret_bytes);
	/** discard() - remove what capture() has written. */
	void (*discard)(const char *dir);
	/** restore() - start a machine as it was captured, hand it @event, and wait for the
	 * response: with the clock set and the entropy new. */
	int (*restore)(struct kernel_guest *g, const struct kernel_images *images, const char *dir,
		       const char *event);
	/** The machine lives on after restore(), so that its memory can be looked at. */
	bool lives_on;
};

extern const struct kernel_system kernel_system_quickthaw;
extern const struct kernel_system kernel_system_qemu;
extern const struct kernel_system kernel_system_firecracker;

/** kernel_guest_init() - no machine yet; @dir is made below @build_dir. */
int kernel_guest_init(struct kernel_guest *g, const char *build_dir);
/** kernel_guest_free() - end the machine and remove its directory. */
void kernel_guest_free(struct kernel_guest *g);

/** struct kernel_spawn - how a process is started. */
struct kernel_spawn {
	const char *in_path; /**< a file to be its descriptor 9, or NULL */
	bool in_dir;	     /**< its working directory is the guest's directory */
	bool read_output;    /**< what it writes comes to @out, else into the file `log` */
};

/** kernel_guest_spawn() - run @argv, found along PATH. */
int kernel_guest_spawn(struct kernel_guest *g, const char *const argv[],
		       const struct kernel_spawn *how);
/** kernel_guest_await_line() - the next line of its output that has @text in it, in g->line. */
int kernel_guest_await_line(struct kernel_guest *g, const char *text);
/** kernel_guest_await_exit() - until the process has ended by itself, with status 0. */
int kernel_guest_await_exit(struct kernel_guest *g);

/** kernel_guest_connect() - connect to the unix socket @name of its directory, once there is one.
 */
int kernel_guest_connect(struct kernel_guest *g, const char *name, int *ret_fd);
/** kernel_guest_listen() - listen at the unix socket @name of its directory. */
int kernel_guest_listen(struct kernel_guest *g, const char *name, int *ret_fd);
/** kernel_guest_accept() - take the next connection of a listener, once there is one. */
int kernel_guest_accept(struct kernel_guest *g, int listener, int *ret_fd);

#endif
