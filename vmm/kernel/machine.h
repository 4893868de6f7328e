/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - a kernel guest: a whole Linux kernel with the devices of a microVM
 *
 * struct machine is to kernel guests what struct proc is to process guests. What it consists of:
 *
 *   kvcpu        virtual CPUs, a thread each                         kvcpu.h
 *   bus          ports and device memory                             bus.h
 *   serial       the console                                         serial.h, serial_out.h
 *   power        reset and off                                       power.h
 *   vmgenid      another clone, another number                       vmgenid.h
 *   agent        the agent inside, and the Runtime API               agent_link.h
 *   virtio       disks, network, vsock, entropy, balloon             virtio_mmio.h
 *   KVM's own    irqchip, PIT, clock                                 machine_state.c
 *
 * Threads. One lock protects all devices and the fields below. vCPU threads take it for exits that
 * reach a device; the thread that calls machine_run() takes it for everything that comes from
 * outside. Nobody waits for anything else while holding it.
 */
#ifndef QUICKTHAW_KERNEL_MACHINE_H
#define QUICKTHAW_KERNEL_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/guest.h"
#include "vmm/guest_mem.h"
#include "vmm/kernel/acpi.h"
#include "vmm/kernel/boot_linux.h"
#include "vmm/kernel/bus.h"
#include "vmm/kernel/kvcpu.h"
#include "vmm/kernel/layout.h"
#include "vmm/kernel/power.h"
#include "vmm/kernel/serial.h"
#include "vmm/kernel/serial_out.h"
#include "vmm/kernel/virtio_mmio.h"

struct agent_link;
struct capture_stats;
struct capture_target;

/** Why a guest is over. */
enum machine_end {
	MACHINE_RUNS = 0,
	MACHINE_OFF,	 /**< it turned itself off */
	MACHINE_RESET,	 /**< it reset itself, and did not say that it was in trouble */
	MACHINE_PANIC,	 /**< its kernel panicked before it reset */
	MACHINE_CRASHED, /**< a triple fault */
	MACHINE_EXITED,	 /**< the program that the agent started is over; end_code is its status */
	MACHINE_BROKEN,	 /**< KVM or the vmm cannot go on */
};

enum { MACHINE_WATCHES_MAX = 112 };

/** struct machine_watch - a descriptor that machine_run() waits for. */
struct machine_watch {
	int fd;
	void (*event)(void *arg, int fd, uint32_t events);
	void *arg;
};

/** struct machine_queue - a virtio queue, and the eventfd that the guest rings. */
struct machine_queue {
	struct virtio_device *device;
	unsigned index;
	int fd;
};

/** struct machine_config - what it is made of. */
struct machine_config {
	uint64_t ram_bytes; /**< KERNEL_RAM_BYTES_MIN to KERNEL_RAM_BYTES_MAX, in pages */
	unsigned vcpus;	    /**< 1 to KERNEL_VCPUS_MAX */
	int serial_fd;	    /**< where the console goes, or -1; stays the caller's */
};

struct machine {
	int kvm_fd, vm_fd;
	struct guest_mem mem;
	struct kvcpu vcpus[KERNEL_VCPUS_MAX];
	unsigned vcpu_count;
	struct kvcpu_cpuid cpuid;
	uint64_t cpu_features[CPU_WORDS]; /**< what the guest sees: its snapshots require it */
	uint64_t cpu_have[CPU_WORDS];	  /**< what this host could give */
	uint64_t tsc_khz;

	pthread_mutex_t lock;
	pthread_cond_t parked; /**< a vCPU parked, or may go on */
	atomic_bool pausing;   /**< vCPUs are to park */
	atomic_bool stopping;  /**< their threads are to end */
	bool started;	       /**< they may enter the guest; until then they wait on @parked */
	uint64_t exits;	       /**< that reached this process */

	struct bus ports, memory;
	struct serial serial;
	struct serial_out serial_out;
	struct power power;
	int serial_irq, vmgenid_irq; /**< eventfds of interrupt lines */
	bool signalled;		     /**< the guest rang the doorbell; see machine_boot() */

	struct virtio_device *virtio[LAYOUT_VIRTIO_DEVICES];
	unsigned virtio_count;
	struct machine_queue queues[LAYOUT_VIRTIO_DEVICES][VIRTIO_QUEUES_MAX];

	int epoll_fd, wake_fd;
	struct machine_watch watches[MACHINE_WATCHES_MAX];

	struct agent_link *agent; /**< NULL: none was made */
	int pagemap_fd;		  /**< during machine_capture(): as its target says */

	enum machine_end end;
	int end_code, end_signal; /**< of MACHINE_EXITED; @end_signal 0: it exited by itself */
	char end_text[256];	  /**< a report for people */
};

/**
 * machine_new() - VM, memory, irqchip, PIT, vCPUs and devices. Nothing runs yet.
 * @kvm_fd: /dev/kvm, owned by the machine from here on
 * Return: 0, -ENOTSUP on a PVM host, or -errno; each with a log line that says what to do.
 */
int machine_new(struct machine *m, int kvm_fd, const struct machine_config *config);
/** machine_free() - stops it first. */
void machine_free(struct machine *m);

/**
 * machine_boot() - load a kernel and let its vCPUs start.
 * A guest without an agent says that it is ready by a write to the doorbell, GUEST_DOORBELL_PORT:
 * m->signalled is set then.
 */
int machine_boot(struct machine *m, const struct boot_linux *boot);
/** machine_make_threads() - the vCPUs' threads, ahead of machine_start(), which makes them
 * otherwise: a process that is jailed by then cannot make any. */
int machine_make_threads(struct machine *m);
/** machine_start() - vCPUs enter the guest, after machine_boot() or a restore. */
int machine_start(struct machine *m);

/**
 * machine_run() - serve the machine's devices until @until says so, it ends, or the time is up.
 * @until: asked after each event, with the lock held; NULL: never
 * @deadline_ns: CLOCK_MONOTONIC; UINT64_MAX: none
 * Return: 0 (@until or m->end) or -ETIMEDOUT.
 */
int machine_run(struct machine *m, bool (*until)(struct machine *m), uint64_t deadline_ns);
/** machine_wake() - let machine_run() look again. From any thread. */
void machine_wake(struct machine *m);
/** machine_watch() - let machine_run() call @event (with the lock held) when @fd has @events (of
 * epoll). Return: 0, -ENOSPC, or -errno. */
int machine_watch(struct machine *m, int fd, uint32_t events,
		  void (*event)(void *arg, int fd, uint32_t events), void *arg);

/**
 * machine_pause() - returns once all vCPUs stand still, with nothing half done. Not from a vCPU.
 * Return: 0, or -ESHUTDOWN: the guest is over or ends just now. Its vCPUs may not stand still then,
 * and there is nothing to resume.
 */
int machine_pause(struct machine *m);
/** machine_resume() - after a machine_pause() that returned 0. */
void machine_resume(struct machine *m);

/** machine_finish() - the guest is over; first call wins. The lock is held. */
void machine_finish(struct machine *m, enum machine_end end, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- virtio (machine_virtio.c) ---- */

/** machine_virtio_wiring() - what the next device is to be made with. */
int machine_virtio_wiring(struct machine *m, struct virtio_wiring *ret);
/** machine_virtio_add() - put it into its place; takes @d, also on error. Before machine_boot() or
 * machine_restore(): in the same order for both. */
int machine_virtio_add(struct machine *m, struct virtio_device *d);
/** machine_virtio_describe() - all of them, for the ACPI tables. */
void machine_virtio_describe(const struct machine *m,
			     struct acpi_virtio ret[LAYOUT_VIRTIO_DEVICES]);
void machine_virtio_free(struct machine *m);
int machine_virtio_save(struct machine *m, struct state_writer *w);
int machine_virtio_load(struct machine *m, struct state_reader *r);

/* ---- capture and restore (machine_state.c) ---- */

/** machine_capture() - write a snapshot of a machine that runs; it goes on afterwards. Not from a
 * vCPU. Parameters and errors are those of capture_guest(). */
int machine_capture(struct machine *m, const struct capture_target *target,
		    struct capture_stats *ret_stats);
/** machine_config_peek() - RAM and vCPUs of a snapshot's machine, from its STATE section. Return: 0
 * or -EBADMSG. */
int machine_config_peek(const void *state, size_t n, struct machine_config *ret);
/**
 * machine_restore() - instead of machine_boot(), with the devices that it was captured with.
 * Return: 0 or -errno with a report in @m->end_text or in the log.
 */
int machine_restore(struct machine *m, const struct guest_image *image);

/** machine_irq() - connect an eventfd to pin @gsi of the IOAPIC. */
int machine_irq(struct machine *m, int fd, uint32_t gsi);

#endif
