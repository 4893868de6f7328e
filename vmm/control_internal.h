/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_internal.h - the conversation with snapd, and what either kind of guest makes of it
 *
 * control.c speaks the protocol; what differs by kind is behind struct control_ops, in
 * control_process.c and kernel/shell.c.
 */
#ifndef QUICKTHAW_VMM_CONTROL_INTERNAL_H
#define QUICKTHAW_VMM_CONTROL_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/io.h"
#include "include/snapd_proto.h"
#include "vmm/capture.h"
#include "vmm/guest.h"

enum { CONTROL_ARGS_MAX = 1024 };

struct control;

/**
 * struct control_program - what a guest is to run, checked. All is valid during the call.
 * @argv, @envp: NULL-terminated; @envp has room for CONTROL_ARGS_MAX entries
 */
struct control_program {
	char **argv, **envp;
	uint32_t argc, envc;
};

/**
 * struct control_capture - a CAPTURE: its descriptors, base and metadata, valid during the call.
 * @base_fd, @base_name: NULL: it is no diff
 */
struct control_capture {
	int *file_fd, *pagemap_fd, *base_fd; /**< steal_fd() what is to be kept */
	const char *base_name;
	const void *metadata;
	size_t metadata_bytes;
};

/** struct control_end - how a guest ended. */
struct control_end {
	enum proto_failure reason;
	int code;
	const char *text;
};

/**
 * struct control_ops - what differs by kind of guest.
 * @file_count: of RESTORE, before template and state; @boot_fd_count: of BOOT, all; @base_fd_count:
 *	of the BOOT of a base; -1: there are none of this kind
 * @hello: fill in what snapd is to know of the machine
 * @boot, @restore: come to life and set c->api. @fds: steal_fd() what is kept. A base has a program
 *	of nothing, and c->is_base is set. Return: 0 or -errno
 * @start: have a base that was restored run something. Return: 0, or -EBUSY: it runs something
 *	already; NULL: there are none of this kind
 * @run: serve until the guest is over or c->over; calls control_read() when the socket has
 *	something, and no part of the guest looks at the API meanwhile
 * @stop: let @run return, with @text as the reason. Called from within @run or its callbacks
 * @capture: answer with control_captured(), now or later
 * @trace: mark the touched pages of the template, see struct proto_working_set
 * @resident_pages, @take_exits: for READY and RESULT; the second begins to count anew
 * @end: how it ended
 */
struct control_ops {
	int file_count, boot_fd_count, base_fd_count;
	void (*hello)(struct control *c, struct proto_hello *ret);
	int (*boot)(struct control *c, const struct proto_boot *body,
		    struct control_program *program, int *fds);
	int (*restore)(struct control *c, const struct guest_image *image, int *fds);
	int (*start)(struct control *c, const struct control_program *program);
	void (*run)(struct control *c);
	void (*stop)(struct control *c, const char *text);
	void (*capture)(struct control *c, const struct control_capture *capture);
	int (*trace)(struct control *c, int pagemap_fd, uint8_t *ret_marks);
	uint64_t (*resident_pages)(struct control *c);
	uint64_t (*take_exits)(struct control *c);
	void (*end)(struct control *c, struct control_end *ret);
};

/**
 * struct control - this side of the socket.
 * @mem, @cpu_features: of the machine, for WORKING_SET and CAPTURED
 * @api: the guest's Runtime API, once it lives
 */
struct control {
	const struct control_ops *ops;
	const struct guest_mem *mem;
	const uint64_t *cpu_features;
	struct runtime_api *api;
	int sock;
	int uffd;
	uint64_t started_ns; /**< BOOT or RESTORE arrived */
	uint64_t restore_ns; /**< how long RESTORE took; told once, with the first result */
	uint64_t invoked_ns; /**< INVOKE arrived, or the restore before it ended */
	uint32_t serial;     /**< of the last INVOKE */
	bool waits_restore;  /**< parked in /restore/next: goes on with the first INVOKE */
	bool is_base;	     /**< it was booted to run nothing */
	bool over;	     /**< FAILED was sent or the socket is closed */
};

/** control_serve() - the whole conversation of @c, whose first three fields are set. The one of
 * this process. Return: 1 when it ended because the vmm or snapd could not go on, else 0. */
int control_serve(struct control *c, int sock, int uffd);

/** control_read() - receive what there is without waiting, and act on it. */
void control_read(struct control *c);

/** control_breach() - the other side broke the protocol, or cannot be served: the end of this
 * instance. */
void control_breach(struct control *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** control_ready() - the guest asks for work, or is a base that has come up. */
void control_ready(struct control *c, bool waits_restore);

/** control_log() - what the guest wrote to @stream, 1 or 2. */
void control_log(struct control *c, int stream, const void *data, size_t n);

/** control_captured() - the answer to a CAPTURE. @err: 0 or -errno */
void control_captured(struct control *c, int err, const struct capture_stats *stats);

/** control_api_events - of the Runtime API; whatever guest pointer they get is not looked at. */
extern const struct runtime_api_events control_api_events;

#endif
