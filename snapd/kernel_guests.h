/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_guests.h - what kernel guests are booted from on this node
 *
 * A directory (snapd --kernel-guests DIR, filled by make guest-images) holds
 *
 *   vmlinuz         the kernel
 *   initramfs       the agent and the kernel's modules
 *   NAME.erofs      root file systems: python.erofs for python3.x, nodejs.erofs for nodejsN.x, ...
 *
 * All of them are opened once, at the start: what is put there later takes a restart, and what is
 * replaced by a rename is used until then.
 */
#ifndef QUICKTHAW_SNAPD_KERNEL_GUESTS_H
#define QUICKTHAW_SNAPD_KERNEL_GUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "include/snapd_proto.h"
#include "snapd/function_settings.h"
#include "snapd/origin.h"

/** What a kernel guest may have; less leaves no room for its kernel, more is behind a hole. Its RAM
 * is that, rounded up. */
enum {
	KERNEL_GUEST_MEMORY_MIN_MIB = 128,
	KERNEL_GUEST_MEMORY_MAX_MIB = PROTO_KERNEL_RAM_MAX_MIB,
	KERNEL_GUEST_MEMORY_STEP_MIB = 64,
	KERNEL_GUEST_ROOTS_MAX = 32, /**< root file systems on a node */
};

/**
 * kernel_guests_init() - open the images; at the start, it blocks.
 * @dir: "": this node runs no kernel guests
 * @state_dir: an image of nothing is kept there
 * @host_can: cpu_host_runs_kernels()
 * Return: 0, also on a host that cannot run any (kernel_guests_trouble() says so then), or -errno
 * with a log line that says what to do.
 */
int kernel_guests_init(const char *dir, const char *state_dir, bool host_can);
void kernel_guests_finish(void);

/** kernel_guests_run_here() - can this node run any? */
bool kernel_guests_run_here(void);

/** kernel_guests_trouble() - why a function with these settings cannot run here, for its owner;
 * NULL: it can, or is for process guests. The text is valid until the next call. */
const char *kernel_guests_trouble(const struct function_settings *s);

/** struct kernel_images - descriptors stay this module's. @empty_fd: an image of nothing */
struct kernel_images {
	int kernel_fd, initrd_fd, root_fd, empty_fd;
};

/** kernel_guests_images() - what such a function boots from. Return: false where
 * kernel_guests_trouble() has something to say. */
bool kernel_guests_images(const struct function_settings *s, struct kernel_images *ret);

/** kernel_guests_origin() - fill in @ret->mapped and ->read: its root image, which a restored guest
 * goes on reading, and what it was booted with. Return: as above. */
bool kernel_guests_origin(const struct function_settings *s, struct origin *ret);

/** kernel_guests_root_origin() - the same by number, from 0 on. Return: false: there is none. */
bool kernel_guests_root_origin(unsigned root, struct origin *ret);

/** kernel_guests_vcpus() - as Lambda gives CPU: one for each 1,769 MB, also where less is left; 1
 * to 4. */
unsigned kernel_guests_vcpus(uint32_t memory_mib);

#endif
