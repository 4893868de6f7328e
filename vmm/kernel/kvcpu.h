/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcpu.h - a virtual CPU of a kernel guest: a thread that enters the guest until it is to stop
 *
 * Unlike the vCPU of a process guest (vmm/vm.h), whose exits are system calls that the vmm serves,
 * this one leaves the guest for its devices only.
 */
#ifndef QUICKTHAW_KERNEL_KVCPU_H
#define QUICKTHAW_KERNEL_KVCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cpu_feature.h"
#include "common/state.h"

struct boot_entry;
struct machine;

/** Entries of a CPUID table, as many as a snapshot may have. */
#define KVCPU_CPUID_MAX 256u

/** struct kvcpu - fields are this module's. */
struct kvcpu {
	struct machine *machine;
	unsigned index; /**< and APIC id */
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread;
	bool has_thread;
	bool parked; /**< stands still at machine_pause(); under the machine's lock */
};

/** kvcpu_new() - create vCPU @index of the machine's VM, after its irqchip. Return: 0 or -errno
 * with a log line. */
int kvcpu_new(struct kvcpu *c, struct machine *m, unsigned index);
/** kvcpu_free() - after its thread has ended (kvcpu_join()). */
void kvcpu_free(struct kvcpu *c);

/** kvcpu_boot() - registers of a cold boot. @entry: of the first vCPU; NULL: it waits for the first
 * one to start it. */
int kvcpu_boot(struct kvcpu *c, const struct boot_entry *entry);

/** kvcpu_make_thread() - the thread that runs the guest, once the machine is started. Return: 0,
 * also when there is one, or -errno with a log line. */
int kvcpu_make_thread(struct kvcpu *c);
/** kvcpu_kick() - make it leave the guest and look at what the machine wants. From any thread. */
void kvcpu_kick(struct kvcpu *c);
void kvcpu_join(struct kvcpu *c);

/* ---- what the guest sees of the CPU (kvcpu_cpuid.c) ---- */

/** struct kvcpu_cpuid - a table for KVM. */
struct kvcpu_cpuid {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[KVCPU_CPUID_MAX];
};

/** kvcpu_cpuid_host() - all that this host can give. Return: 0 or -errno with a log line. */
int kvcpu_cpuid_host(int kvm_fd, struct kvcpu_cpuid *ret);
/** kvcpu_cpuid_boot() - cut what the host gives to the baseline, for a machine of @vcpus. */
void kvcpu_cpuid_boot(struct kvcpu_cpuid *cpuid, unsigned vcpus);
/** kvcpu_cpuid_set() - give vCPU @c its own copy: with its APIC id. */
int kvcpu_cpuid_set(struct kvcpu *c, const struct kvcpu_cpuid *cpuid);
int kvcpu_cpuid_save(const struct kvcpu_cpuid *cpuid, struct state_writer *w);
/** kvcpu_cpuid_load() - the counterpart. Hostile bytes get -EBADMSG: too many entries, two for one
 * leaf, or such as KVM does not make. Whether a guest may have what they say is left to
 * kvcpu_cpuid_check(). */
int kvcpu_cpuid_load(struct kvcpu_cpuid *cpuid, struct state_reader *r);
/**
 * kvcpu_cpuid_check() - may a guest that sees @cpuid go on here?
 * @here: what a guest would see that is booted here: kvcpu_cpuid_boot()
 * Return: 0, or -ENOTSUP with a log line: it is of another maker's CPU, has features that @here
 * lacks, or such as no kernel guest gets.
 */
int kvcpu_cpuid_check(const struct kvcpu_cpuid *cpuid, const struct kvcpu_cpuid *here);

/* ---- capture and restore (kvcpu_state.c) ---- */

/** kvcpu_save() - all of a parked vCPU's state. */
int kvcpu_save(struct kvcpu *c, struct state_writer *w);
/**
 * kvcpu_load() - the counterpart, into a vCPU with its CPUID set.
 * Hostile bytes get -EBADMSG or what KVM says to them; nothing else is touched.
 */
int kvcpu_load(struct kvcpu *c, struct state_reader *r);

#endif
