/* SPDX-License-Identifier: Apache-2.0 */
/*
 * firecracker.c - kernel guests in Firecracker, captured and restored by its snapshots
 *
 * Written from its published API (src/firecracker/swagger/firecracker.yaml, docs/vsock.md,
 * docs/snapshotting/snapshot-support.md in its repository), version 1.8 or newer: older ones
 * describe their devices on the kernel's command line only, which Debian's kernel does not read.
 * Not run yet for want of a binary: what was shown is that it is skipped without one, and that a
 * stand-in which answers 204 gets the requests of a boot. Nothing of a snapshot was shown.
 *
 * Its vsock is a unix socket, named relative to the process' working directory, so that a clone
 * gets one of its own. Connections do not survive a restore: the agent connects again, and the
 * runtime's is made anew by what runs it (kernel_agent_start()). It boots ELF kernels only.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/kernel_agent.h"
#include "bench/kernel_guest.h"
#include "common/cleanup.h"
#include "common/http_client.h"
#include "common/util.h"

enum { JSON_BYTES = 1024, PATH_BYTES = 512, GUEST_CID = 3 };

#define STATE  "firecracker.state"
#define MEMORY "firecracker.memory"
#define API    "monitor"
#define VSOCK  "vsock"

static const char *missing(const struct kernel_images *images)
{
	if (images->tcg)
		return "it needs KVM";
	if (system("command -v firecracker >/dev/null") != 0)
		return "there is no program `firecracker` on PATH";
	if (access("/dev/kvm", R_OK | W_OK))
		return "/dev/kvm cannot be opened";
	if (!images->vmlinux[0])
		return "it boots no bzImage: make the ELF kernel by scripts/extract-vmlinux "
		       "build/kernel/vmlinuz build/kernel/vmlinux";
	return NULL;
}

static int start(struct kernel_guest *g)
{
	static const char *const argv[] = {"firecracker", "--api-sock", API, NULL};
	int ready, err = kernel_guest_spawn(g, argv, &(struct kernel_spawn){.in_dir = true});

	/* Where the guest's connections to the host's ports come out. */
	if (!err)
		err = kernel_guest_listen(g, VSOCK "_1024", &g->control_listen);
	if (!err)
		err = kernel_guest_listen(g, VSOCK "_9001", &g->api_listen);
	if (!err)
		err = kernel_guest_connect(g, API, &ready);
	if (!err)
		close(ready); /* it serves now */
	return err;
}

/** One request of its API, which has an empty answer. */
__attribute__((format(printf, 4, 5))) static int
ask(const struct kernel_guest *g, const char *method, const char *path, const char *fmt, ...)
{
	static const char *const headers[] = {"Content-Type: application/json", NULL};
	char body[JSON_BYTES], socket_path[PATH_BYTES];
	struct http_reply reply = {0};
	struct http_client *c;
	va_list args;
	int err;

	va_start(args, fmt);
	vsnprintf(body, sizeof(body), fmt, args);
	va_end(args);
	snprintf(socket_path, sizeof(socket_path), "%s/" API, g->dir);
	c = http_client_new(socket_path);
	if (!c)
		return -ENOMEM;
	err = http_client_request(c, method, path, body, strlen(body), headers, &reply);
	if (err) {
		fprintf(stderr, "bench: firecracker: %s: %s\n", path, http_client_error(c));
	} else if (reply.status < 200 || reply.status > 299) {
		fprintf(stderr, "bench: firecracker: %s: status %ld: %s\n", path, reply.status,
			reply.body ? reply.body : "");
		err = -EPROTO;
	}
	http_reply_free(&reply);
	http_client_free(c);
	return err;
}

static int add_disk(const struct kernel_guest *g, const char *name, const char *path)
{
	char at[64];

	snprintf(at, sizeof(at), "/drives/%s", name);
	return ask(g, "PUT", at,
		   "{\"drive_id\": \"%s\", \"path_on_host\": \"%s\", \"is_root_device\": false, "
		   "\"is_read_only\": true}",
		   name, path);
}

static int boot(struct kernel_guest *g, const struct kernel_images *images)
{
	int err = start(g);

	if (!err)
		err = ask(g, "PUT", "/boot-source",
			  "{\"kernel_image_path\": \"%s\", \"initrd_path\": \"%s\", "
			  "\"boot_args\": \"" KERNEL_CMDLINE "\"}",
			  images->vmlinux, images->initramfs);
	if (!err)
		err = ask(g, "PUT", "/machine-config", "{\"vcpu_count\": 1, \"mem_size_mib\": %u}",
			  images->memory_mib);
	if (!err)
		err = add_disk(g, "root", images->root);
	if (!err)
		err = add_disk(g, "task", images->task);
	if (!err)
		err = ask(g, "PUT", "/vsock", "{\"guest_cid\": %d, \"uds_path\": \"" VSOCK "\"}",
			  GUEST_CID);
	return err ? err : ask(g, "PUT", "/actions", "{\"action_type\": \"InstanceStart\"}");
}

static int await_ready(struct kernel_guest *g)
{
	int err = kernel_guest_accept(g, g->control_listen, &g->control);

	return err ? err : kernel_agent_await_ready(g);
}

static int connect_api(struct kernel_guest *g)
{
	int err = kernel_guest_accept(g, g->api_listen, &g->api);

	return err ? err : kernel_api_await_next(g);
}

static int await_next(struct kernel_guest *g)
{
	int err = kernel_agent_start(g, true);

	return err ? err : connect_api(g);
}

/** What it takes on the disk: its memory file is as long as the memory, with holes at best. */
static int add_bytes(const char *path, double *bytes)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*bytes += (double)st.st_blocks * 512;
	return 0;
}

static int capture(struct kernel_guest *g, const char *dir, double *ret_bytes)
{
	char state[PATH_BYTES], memory[PATH_BYTES];
	int err = kernel_agent_prepare(g);

	snprintf(state, sizeof(state), "%s/" STATE, dir);
	snprintf(memory, sizeof(memory), "%s/" MEMORY, dir);
	if (!err)
		err = ask(g, "PATCH", "/vm", "{\"state\": \"Paused\"}");
	if (!err)
		err = ask(g, "PUT", "/snapshot/create",
			  "{\"snapshot_type\": \"Full\", \"snapshot_path\": \"%s\", "
			  "\"mem_file_path\": \"%s\"}",
			  state, memory);
	*ret_bytes = 0;
	if (!err)
		err = add_bytes(state, ret_bytes);
	return err ? err : add_bytes(memory, ret_bytes);
}

static void discard(const char *dir)
{
	static const char *const names[] = {STATE, MEMORY};
	char path[PATH_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
}

static int restore(struct kernel_guest *g, const struct kernel_images *images, const char *dir,
		   const char *event)
{
	int err = start(g);

	(void)images; /* they are in the snapshot */
	if (!err)
		err = ask(g, "PUT", "/snapshot/load",
			  "{\"snapshot_path\": \"%s/" STATE "\", \"mem_backend\": "
			  "{\"backend_type\": \"File\", \"backend_path\": \"%s/" MEMORY "\"}, "
			  "\"resume_vm\": true}",
			  dir, dir);
	if (!err)
		err = await_ready(g);
	if (!err)
		err = kernel_agent_resume(g);
	if (!err)
		err = connect_api(g);
	return err ? err : kernel_api_invoke(g, event);
}

const struct kernel_system kernel_system_firecracker = {
	.name = "firecracker",
	.missing = missing,
	.boot = boot,
	.await_ready = await_ready,
	.await_next = await_next,
	.capture = capture,
	.discard = discard,
	.restore = restore,
	.lives_on = true,
};
