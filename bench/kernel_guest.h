/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_guest.h - a kernel guest whose agent and runtime this process serves, whatever runs it */
#ifndef QUICKTHAW_BENCH_KERNEL_GUEST_H
#define QUICKTHAW_BENCH_KERNEL_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/** struct kernel_images - the same for every system that is compared. */
struct kernel_images {
	char kernel[256];
	char initramfs[256];
	char root[256];
	char task[256];
	unsigned memory_mib;
	bool tcg; /**< QEMU emulates the CPU: that shows that it works, and measures nothing */
};

/** struct kernel_guest - one machine and the two streams to it. */
struct kernel_guest {
	pid_t pid;     /**< of what runs it; 0: none */
	int control;   /**< include/agent_proto.h */
	int api;       /**< the Runtime API, this end being the server */
	int monitor;   /**< of the system that runs it, or -1 */
	char dir[128]; /**< its sockets, its console; removed with it */
};

/** struct kernel_system - what runs kernel guests. Functions return 0 or -errno, explained on
 * stderr. */
struct kernel_system {
	const char *name;
	/** missing() - why it cannot run here, or NULL. */
	const char *(*missing)(const struct kernel_images *images);
	/** boot() - start a machine from nothing and connect its control stream. */
	int (*boot)(struct kernel_guest *g, const struct kernel_images *images);
	/** connect_api() - the stream of the Runtime API, once a runtime has been started. */
	int (*connect_api)(struct kernel_guest *g);
	/** capture() - write what restore() needs below @dir. @ret_bytes: how much that is */
	int (*capture)(struct kernel_guest *g, const char *dir, double *ret_bytes);
	/** discard() - remove what capture() has written. */
	void (*discard)(const char *dir);
	/** restore() - start a machine as it was captured, both streams connected. */
	int (*restore)(struct kernel_guest *g, const struct kernel_images *images, const char *dir);
};

extern const struct kernel_system kernel_system_qemu;

/** kernel_guest_init() - no machine yet; @dir is made below @build_dir. */
int kernel_guest_init(struct kernel_guest *g, const char *build_dir);
/** kernel_guest_free() - end the machine and remove its directory. */
void kernel_guest_free(struct kernel_guest *g);

/** kernel_guest_spawn() - run @argv; @in_path: a file to be its descriptor 9, or NULL. */
int kernel_guest_spawn(struct kernel_guest *g, const char *const argv[], const char *in_path);
/** kernel_guest_connect() - connect to the unix socket @name of its directory, once there is one.
 */
int kernel_guest_connect(struct kernel_guest *g, const char *name, int *ret_fd);

/** kernel_guest_await_ready() - until the agent says READY. */
int kernel_guest_await_ready(struct kernel_guest *g);
/** kernel_guest_start() - start the Python bootstrap on app.handler of /var/task. */
int kernel_guest_start(struct kernel_guest *g);
/** kernel_guest_await_next() - until the runtime asks for work. */
int kernel_guest_await_next(struct kernel_guest *g);
/** kernel_guest_prepare() - what comes before a capture. */
int kernel_guest_prepare(struct kernel_guest *g);
/** kernel_guest_resume() - what comes after a restore, before anything is invoked. */
int kernel_guest_resume(struct kernel_guest *g);
/** kernel_guest_invoke() - answer the request for work that waits, and wait for the response. */
int kernel_guest_invoke(struct kernel_guest *g, const char *event);

#endif
