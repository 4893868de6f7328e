/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - make a kernel guest's machine, boot it, and end it
 *
 * The order is KVM's: the memory slot first (a slot that comes after the irqchip waits for a grace
 * period), the irqchip before vCPUs (they get their local APICs with it), CPUID before registers.
 */
#include "vmm/kernel/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "include/guest_abi.h"
#include "vmm/cpu_features.h"
#include "vmm/kernel/acpi.h"
#include "vmm/kernel/vmgenid.h"
#include "vmm/vm.h"

/** log_and_errno() - a failed step of KVM. Return: -errno. */
static int log_and_errno(const char *what)
{
	int err = -errno;

	log_error("kvm: %s failed: %s; the host's KVM cannot run kernel guests", what,
		  strerror(-err));
	return err;
}

/* ---- what the host has ---- */

static int check_host(int kvm_fd)
{
	static const struct {
		int cap;
		const char *name;
	} caps[] = {
		{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
		{KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
		{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
		{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
		{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
		{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
		{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
		{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
		{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
		{KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	};

	if (!cpu_host_runs_kernels()) {
		log_error(
			"this host has KVM without VMX or SVM (PVM): it emulates ring 0, so a "
			"whole kernel cannot run on it; run the program as a process guest instead "
			"(vmm run), or use a host with hardware KVM");
		return -ENOTSUP;
	}
	if (ioctl(kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		log_error("/dev/kvm does not speak KVM API version %d", KVM_API_VERSION);
		return -ENODEV;
	}
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, caps[i].cap) <= 0) {
			log_error("the host's KVM lacks %s, which kernel guests need",
				  caps[i].name);
			return -ENODEV;
		}
	}
	return 0;
}

/* ---- making it ---- */

static int make_vm(struct machine *m, const struct machine_config *config)
{
	struct kvm_userspace_memory_region region = {.memory_size = config->ram_bytes};
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = LAYOUT_IDENTITY_MAP;
	int ret = guest_mem_init_kernel(&m->mem, config->ram_bytes);

	if (ret)
		return ret;
	m->vm_fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	if (m->vm_fd < 0)
		return log_and_errno("KVM_CREATE_VM");
	region.userspace_addr = (uint64_t)(uintptr_t)m->mem.ram;
	if (ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		return log_and_errno("setting the memory slot");
	if (ioctl(m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) ||
	    ioctl(m->vm_fd, KVM_SET_TSS_ADDR, LAYOUT_TSS))
		return log_and_errno("KVM_SET_TSS_ADDR");
	if (ioctl(m->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return log_and_errno("KVM_CREATE_IRQCHIP");
	if (ioctl(m->vm_fd, KVM_CREATE_PIT2, &pit))
		return log_and_errno("KVM_CREATE_PIT2");
	return 0;
}

static int make_vcpus(struct machine *m, unsigned count)
{
	int khz, ret = kvcpu_cpuid_host(m->kvm_fd, &m->cpuid);

	if (ret)
		return ret;
	cpu_features_of_kernel(&m->cpuid.head, VCPU_XCR0, m->cpu_have);
	kvcpu_cpuid_boot(&m->cpuid, count);
	cpu_features_of_kernel(&m->cpuid.head, VCPU_XCR0, m->cpu_features);
	for (unsigned i = 0; !ret && i < count; i++) {
		ret = kvcpu_new(&m->vcpus[i], m, i);
		m->vcpu_count += !ret;
	}
	khz = ret ? 0 : ioctl(m->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	m->tsc_khz = khz > 0 ? (uint64_t)khz : 0;
	return ret;
}

int machine_irq(struct machine *m, int fd, uint32_t gsi)
{
	struct kvm_irqfd irq = {.fd = (uint32_t)fd, .gsi = gsi};

	return ioctl(m->vm_fd, KVM_IRQFD, &irq) ? log_and_errno("KVM_IRQFD") : 0;
}

static int make_irq(struct machine *m, uint32_t gsi, int *ret_fd)
{
	*ret_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *ret_fd < 0 ? -errno : machine_irq(m, *ret_fd, gsi);
}

static void on_serial(void *arg, uint8_t byte)
{
	struct machine *m = arg;
	bool waits = serial_out_waits(&m->serial_out);

	serial_out_byte(&m->serial_out, byte);
	if (!waits && serial_out_waits(&m->serial_out))
		machine_wake(m);
}

static void on_power(void *arg, enum power_event event)
{
	struct machine *m = arg;

	if (event == POWER_OFF)
		machine_finish(m, MACHINE_OFF, "the guest turned itself off");
	else if (m->serial_out.panic[0])
		machine_finish(m, MACHINE_PANIC, "the guest's kernel panicked: %s",
			       m->serial_out.panic);
	else
		machine_finish(m, MACHINE_RESET, "the guest reset itself");
}

static void on_doorbell(void *dev, uint64_t offset, const void *data, unsigned n)
{
	struct machine *m = dev;

	(void)offset;
	(void)data;
	(void)n;
	m->signalled = true;
	machine_wake(m);
}

static int make_devices(struct machine *m, int serial_fd)
{
	struct bus_range serial,
		doorbell = {
			.base = GUEST_DOORBELL_PORT, .bytes = 1, .dev = m, .write = on_doorbell};
	int ret = make_irq(m, LAYOUT_GSI_SERIAL, &m->serial_irq);

	if (!ret)
		ret = make_irq(m, LAYOUT_GSI_VMGENID, &m->vmgenid_irq);
	serial_out_init(&m->serial_out, serial_fd);
	serial_init(&m->serial, on_serial, m, m->serial_irq);
	serial = serial_range(&m->serial, LAYOUT_PORT_SERIAL);
	m->power = (struct power){.event = on_power, .arg = m};
	if (!ret)
		ret = bus_add(&m->ports, &serial);
	if (!ret)
		ret = power_add(&m->power, &m->ports);
	if (!ret)
		ret = bus_add(&m->ports, &doorbell);
	return ret;
}

static int make_loop(struct machine *m)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = MACHINE_WATCHES_MAX};

	m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (m->wake_fd < 0 || m->epoll_fd < 0 ||
	    epoll_ctl(m->epoll_fd, EPOLL_CTL_ADD, m->wake_fd, &event))
		return -errno;
	return 0;
}

/* Its arrival ends KVM_RUN; kvcpu_kick() has said why. */
static void ignore_kick(int sig)
{
	(void)sig;
}

static void init_empty(struct machine *m, int kvm_fd)
{
	memset(m, 0, sizeof(*m));
	m->kvm_fd = kvm_fd;
	m->vm_fd = m->epoll_fd = m->wake_fd = m->serial_irq = m->vmgenid_irq = -1;
	m->serial_out.fd = -1;
	for (unsigned i = 0; i < KERNEL_VCPUS_MAX; i++)
		m->vcpus[i].fd = -1;
	for (unsigned i = 0; i < MACHINE_WATCHES_MAX; i++)
		m->watches[i].fd = -1;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->parked, NULL);
}

int machine_new(struct machine *m, int kvm_fd, const struct machine_config *config)
{
	int ret;

	init_empty(m, kvm_fd);
	sigaction(VCPU_KICK_SIGNAL, &(struct sigaction){.sa_handler = ignore_kick}, NULL);
	ret = check_host(kvm_fd);
	if (!ret &&
	    (config->ram_bytes < KERNEL_RAM_BYTES_MIN || config->ram_bytes > KERNEL_RAM_BYTES_MAX ||
	     !config->vcpus || config->vcpus > KERNEL_VCPUS_MAX))
		ret = -EINVAL;
	if (!ret)
		ret = make_loop(m);
	if (!ret)
		ret = make_vm(m, config);
	if (!ret)
		ret = make_vcpus(m, config->vcpus);
	if (!ret)
		ret = make_devices(m, config->serial_fd);
	if (ret)
		machine_free(m);
	return ret;
}

static void stop(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_cond_broadcast(&m->parked);
	pthread_mutex_unlock(&m->lock);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvcpu_kick(&m->vcpus[i]);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvcpu_join(&m->vcpus[i]);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void machine_free(struct machine *m)
{
	stop(m);
	serial_out_flush(&m->serial_out);
	serial_out_free(&m->serial_out);
	machine_virtio_free(m);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvcpu_free(&m->vcpus[i]);
	m->vcpu_count = 0;
	close_fd(&m->serial_irq);
	close_fd(&m->vmgenid_irq);
	close_fd(&m->vm_fd);
	close_fd(&m->epoll_fd);
	close_fd(&m->wake_fd);
	close_fd(&m->kvm_fd);
	guest_mem_free(&m->mem);
	pthread_cond_destroy(&m->parked);
	pthread_mutex_destroy(&m->lock);
}

/* ---- life ---- */

int machine_boot(struct machine *m, const struct boot_linux *boot)
{
	struct acpi_virtio virtio[LAYOUT_VIRTIO_DEVICES];
	const struct acpi_machine tables = {
		.vcpus = m->vcpu_count, .virtio = virtio, .virtio_count = m->virtio_count};
	struct boot_entry entry;
	int ret = boot_linux_load(&m->mem, boot, &entry);

	machine_virtio_describe(m, virtio);
	if (!ret && acpi_build(&tables,
			       guest_mem_ptr(&m->mem, (struct gpa){LAYOUT_ACPI}, LAYOUT_ACPI_BYTES),
			       LAYOUT_ACPI_BYTES, LAYOUT_ACPI) < 0)
		ret = -ENOSPC;
	if (!ret)
		ret = vmgenid_renew(&m->mem);
	for (unsigned i = 0; !ret && i < m->vcpu_count; i++) {
		ret = kvcpu_cpuid_set(&m->vcpus[i], &m->cpuid);
		if (!ret)
			ret = kvcpu_boot(&m->vcpus[i], i ? NULL : &entry);
	}
	return ret;
}

int machine_make_threads(struct machine *m)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < m->vcpu_count; i++)
		ret = kvcpu_make_thread(&m->vcpus[i]);
	return ret;
}

int machine_start(struct machine *m)
{
	int ret = machine_make_threads(m);

	pthread_mutex_lock(&m->lock);
	m->started = !ret;
	pthread_cond_broadcast(&m->parked);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

void machine_finish(struct machine *m, enum machine_end end, const char *fmt, ...)
{
	va_list ap;

	if (m->end)
		return;
	m->end = end;
	va_start(ap, fmt);
	vsnprintf(m->end_text, sizeof(m->end_text), fmt, ap);
	va_end(ap);
	machine_wake(m);
	if (atomic_exchange(&m->stopping, true))
		return; /* machine_free() kicks them itself, and has joined some by now */
	/* machine_pause() may wait for a vCPU that will not park any more. */
	pthread_cond_broadcast(&m->parked);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvcpu_kick(&m->vcpus[i]);
}

int machine_pause(struct machine *m)
{
	int ret;

	pthread_mutex_lock(&m->lock);
	m->pausing = true;
	for (unsigned i = 0; i < m->vcpu_count; i++)
		kvcpu_kick(&m->vcpus[i]);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		while (m->vcpus[i].has_thread && !m->vcpus[i].parked && !m->stopping)
			pthread_cond_wait(&m->parked, &m->lock);
	ret = m->stopping ? -ESHUTDOWN : 0;
	if (ret)
		m->pausing = false;
	pthread_mutex_unlock(&m->lock);
	return ret;
}

void machine_resume(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->pausing = false;
	pthread_cond_broadcast(&m->parked);
	pthread_mutex_unlock(&m->lock);
}
