/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvcpu.c - a virtual CPU of a kernel guest: a thread that enters the guest until it is to stop
 *
 * Theory of operation
 *
 * The thread is in KVM_RUN nearly always. It comes out for an access to a device, which it makes
 * with the machine's lock held, or because it was kicked. Kicked, it looks at what the machine
 * wants of it (invariant 1), parks or ends, or enters again.
 *
 * Invariants
 *  1. A kick is never lost: pausing or stopping is set first, then immediate_exit, then the signal
 *     is sent. immediate_exit is cleared only by the thread itself, and only when it has looked.
 *  2. A vCPU parks only when KVM_RUN has failed with EINTR: an access that it left for is complete
 *     then, also on KVM's side (Documentation/virt/kvm/api.rst, 4.35, on KVM_EXIT_IO).
 */
#include "vmm/kernel/kvcpu.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/boot_linux.h"
#include "vmm/kernel/machine.h"
#include "vmm/populate.h"
#include "vmm/vm.h"

/* Model-specific registers that a firmware would set (SDM vol. 4, table 2-2). */
enum {
	MSR_MISC_ENABLE = 0x1a0,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MISC_ENABLE_FAST_STRING = 1,
	MTRR_ENABLE_WRITE_BACK = 0x806,
};

static int log_and_errno(const struct kvcpu *c, const char *what)
{
	int err = -errno;

	log_error("kvm: vcpu %u: %s: %s", c->index, what, strerror(-err));
	return err;
}

int kvcpu_new(struct kvcpu *c, struct machine *m, unsigned index)
{
	int bytes = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	*c = (struct kvcpu){.machine = m, .index = index, .fd = -1};
	if (bytes < (int)sizeof(struct kvm_run))
		return log_and_errno(c, "KVM_GET_VCPU_MMAP_SIZE");
	c->fd = ioctl(m->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (c->fd < 0)
		return log_and_errno(c, "KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (run == MAP_FAILED)
		return log_and_errno(c, "mapping the vCPU");
	c->run = run;
	c->run_bytes = (size_t)bytes;
	return 0;
}

void kvcpu_free(struct kvcpu *c)
{
	if (c->run)
		munmap(c->run, c->run_bytes);
	if (c->fd >= 0)
		close(c->fd);
	c->run = NULL;
	c->fd = -1;
}

/* ---- cold boot ---- */

static int set_boot_msrs(struct kvcpu *c)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs = {
		.head.nmsrs = 2,
		.entries = {{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WRITE_BACK},
			    {.index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING}},
	};

	return ioctl(c->fd, KVM_SET_MSRS, &msrs) < 1 ? log_and_errno(c, "KVM_SET_MSRS") : 0;
}

/*
 * What the kernel will set itself. KVM learns of that where XSETBV leaves the guest; QEMU's
 * emulation of SVM does not do so, and there KVM would go on to enter the guest with the old value.
 */
static int set_boot_xcr0(struct kvcpu *c)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = VCPU_XCR0};

	return ioctl(c->fd, KVM_SET_XCRS, &xcrs) ? log_and_errno(c, "KVM_SET_XCRS") : 0;
}

int kvcpu_boot(struct kvcpu *c, const struct boot_entry *entry)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	int ret = set_boot_msrs(c);

	if (!ret)
		ret = set_boot_xcr0(c);
	if (ret || !entry)
		return ret;
	if (ioctl(c->fd, KVM_GET_SREGS, &sregs))
		return log_and_errno(c, "KVM_GET_SREGS");
	boot_linux_registers(entry, &regs, &sregs);
	if (ioctl(c->fd, KVM_SET_SREGS, &sregs))
		return log_and_errno(c, "KVM_SET_SREGS");
	return ioctl(c->fd, KVM_SET_REGS, &regs) ? log_and_errno(c, "KVM_SET_REGS") : 0;
}

/* ---- exits ---- */

static void on_port(struct machine *m, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(&m->ports, run->io.port, data, run->io.size);
		else
			bus_read(&m->ports, run->io.port, data, run->io.size);
	}
}

static void on_memory(struct machine *m, struct kvm_run *run)
{
	if (run->mmio.is_write)
		bus_write(&m->memory, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(&m->memory, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void on_shutdown(struct kvcpu *c)
{
	struct kvm_regs regs = {0};
	struct kvm_sregs sregs = {0};

	(void)ioctl(c->fd, KVM_GET_REGS, &regs);
	(void)ioctl(c->fd, KVM_GET_SREGS, &sregs);
	machine_finish(c->machine, MACHINE_CRASHED,
		       "the guest ended in a triple fault: vcpu %u at rip 0x%llx, cr2 0x%llx, cr3 "
		       "0x%llx",
		       c->index, (unsigned long long)regs.rip, (unsigned long long)sregs.cr2,
		       (unsigned long long)sregs.cr3);
}

/** What KVM cannot emulate, or deliver, is the guest's doing: code in device memory, an IDT there.
 */
static void on_internal_error(struct kvcpu *c)
{
	uint32_t what = c->run->internal.suberror;
	bool own = what == KVM_INTERNAL_ERROR_EMULATION || what == KVM_INTERNAL_ERROR_DELIVERY_EV;
	struct kvm_regs regs = {0};

	(void)ioctl(c->fd, KVM_GET_REGS, &regs);
	machine_finish(c->machine, own ? MACHINE_CRASHED : MACHINE_BROKEN,
		       "kvm: internal error %u: vcpu %u cannot go on at rip 0x%llx", what, c->index,
		       (unsigned long long)regs.rip);
}

/** Handle why KVM_RUN returned; the lock is held. */
static void on_exit_reason(struct kvcpu *c)
{
	struct machine *m = c->machine;

	switch (c->run->exit_reason) {
	case KVM_EXIT_IO:
		on_port(m, c->run);
		break;
	case KVM_EXIT_MMIO:
		on_memory(m, c->run);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_SHUTDOWN:
		on_shutdown(c);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		on_internal_error(c);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		machine_finish(
			m, MACHINE_BROKEN,
			"kvm: vcpu %u: the CPU refused to enter the guest, reason 0x%llx", c->index,
			(unsigned long long)c->run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		machine_finish(m, MACHINE_BROKEN, "kvm: vcpu %u stopped with exit reason %u",
			       c->index, c->run->exit_reason);
	}
}

/* ---- the thread ---- */

/** A kick or a signal ended KVM_RUN: do what is wanted. */
static void on_kick(struct kvcpu *c)
{
	struct machine *m = c->machine;

	pthread_mutex_lock(&m->lock);
	while (m->pausing && !m->stopping) {
		if (!c->parked) {
			c->parked = true;
			pthread_cond_broadcast(&m->parked);
		}
		pthread_cond_wait(&m->parked, &m->lock);
	}
	c->parked = false;
	if (!m->stopping)
		c->run->immediate_exit = 0;
	pthread_mutex_unlock(&m->lock);
}

static void wait_for_start(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	while (!m->started && !m->stopping)
		pthread_cond_wait(&m->parked, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

static void *run_thread(void *arg)
{
	struct kvcpu *c = arg;
	struct machine *m = c->machine;

	wait_for_start(m);
	if (!c->index && !m->stopping) {
		populate_help();
		populate_map(c->fd);
	}
	while (!m->stopping) {
		int ret = ioctl(c->fd, KVM_RUN, 0), err = errno;

		if (ret && err == EINTR) {
			on_kick(c);
			continue;
		}
		if (ret && err == EAGAIN)
			continue; /* a vCPU that was started by another one */
		pthread_mutex_lock(&m->lock);
		m->exits++;
		if (ret)
			machine_finish(m, MACHINE_BROKEN, "kvm: vcpu %u: KVM_RUN: %s", c->index,
				       strerror(err));
		else
			on_exit_reason(c);
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

int kvcpu_make_thread(struct kvcpu *c)
{
	int err = c->has_thread ? 0 : pthread_create(&c->thread, NULL, run_thread, c);

	if (err) {
		log_error("vcpu %u: cannot start its thread: %s", c->index, strerror(err));
		return -err;
	}
	c->has_thread = true;
	return 0;
}

void kvcpu_kick(struct kvcpu *c)
{
	if (!c->has_thread)
		return;
	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(c->thread, VCPU_KICK_SIGNAL);
}

void kvcpu_join(struct kvcpu *c)
{
	if (c->has_thread)
		pthread_join(c->thread, NULL);
	c->has_thread = false;
}
