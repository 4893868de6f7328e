/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_state.c - a kernel guest is captured and restored: the table of its devices, and its
 * pages
 *
 * KVM's structures are saved as they are: they are its ABI (see kvcpu_state.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "common/log.h"
#include "vmm/capture.h"
#include "vmm/cpu_features.h"
#include "vmm/device.h"
#include "vmm/kernel/agent_link.h"
#include "vmm/kernel/machine.h"
#include "vmm/kernel/vmgenid.h"
#include "vmm/pagemap.h"
#include "vmm/populate.h"
#include "vmm/vm.h"

enum { IRQCHIPS = 3, TSC_TOLERANCE_PPM = 250 };

static int kvm_failed(const char *what)
{
	int err = -errno;

	log_error("kvm: %s: %s", what, strerror(-err));
	return err;
}

/* ---- what was made before anything is loaded ---- */

static int layout_save(struct machine *m, struct state_writer *w)
{
	state_put_u64(w, m->mem.ram_bytes);
	state_put_u32(w, m->vcpu_count);
	state_put_u64(w, m->tsc_khz);
	return w->err;
}

/** A guest counts time in its TSC's ticks: they are to be as long as they were. */
static int set_tsc_khz(struct machine *m, uint64_t khz)
{
	uint64_t tolerance = m->tsc_khz * TSC_TOLERANCE_PPM / 1000000;

	if (!khz || !m->tsc_khz || (khz + tolerance >= m->tsc_khz && khz <= m->tsc_khz + tolerance))
		return 0;
	for (unsigned i = 0; i < m->vcpu_count; i++) {
		if (ioctl(m->vcpus[i].fd, KVM_SET_TSC_KHZ, khz)) {
			log_error("restore: the guest's TSC runs at %llu kHz, this host's at %llu, "
				  "and it cannot scale it",
				  (unsigned long long)khz, (unsigned long long)m->tsc_khz);
			return -ENOTSUP;
		}
	}
	m->tsc_khz = khz;
	return 0;
}

static int layout_load(struct machine *m, struct state_reader *r)
{
	uint64_t ram_bytes = state_get_u64(r);
	uint32_t vcpus = state_get_u32(r);
	uint64_t khz = state_get_u64(r);

	if (r->err || ram_bytes != m->mem.ram_bytes || vcpus != m->vcpu_count)
		return -EBADMSG;
	return khz > UINT32_MAX ? -EBADMSG : set_tsc_khz(m, khz);
}

int machine_config_peek(const void *state, size_t n, struct machine_config *ret)
{
	struct state_reader r = {.data = state, .left = n};
	char name[32];

	state_get_u32(&r); /* how many devices */
	state_get_str(&r, name, sizeof(name));
	state_get_u32(&r); /* version, and length */
	state_get_u32(&r);
	ret->ram_bytes = state_get_u64(&r);
	ret->vcpus = state_get_u32(&r);
	return r.err || strcmp(name, "machine") ? -EBADMSG : 0;
}

/* ---- CPUs ---- */

static int cpuid_save(struct machine *m, struct state_writer *w)
{
	return kvcpu_cpuid_save(&m->cpuid, w);
}

static int cpuid_load(struct machine *m, struct state_reader *r)
{
	struct kvcpu_cpuid cpuid;
	int ret = kvcpu_cpuid_load(&cpuid, r);

	if (!ret)
		ret = kvcpu_cpuid_check(&cpuid, &m->cpuid);
	if (ret)
		return ret;
	m->cpuid = cpuid;
	cpu_features_of_kernel(&m->cpuid.head, VCPU_XCR0, m->cpu_features);
	for (unsigned i = 0; !ret && i < m->vcpu_count; i++)
		ret = kvcpu_cpuid_set(&m->vcpus[i], &m->cpuid);
	return ret;
}

static int vcpus_save(struct machine *m, struct state_writer *w)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < m->vcpu_count; i++)
		ret = kvcpu_save(&m->vcpus[i], w);
	return ret;
}

static int vcpus_load(struct machine *m, struct state_reader *r)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < m->vcpu_count; i++)
		ret = kvcpu_load(&m->vcpus[i], r);
	return ret;
}

/* ---- KVM's own devices ---- */

/* Both PICs and the IOAPIC. */
static int irqchip_save(struct machine *m, struct state_writer *w)
{
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		if (ioctl(m->vm_fd, KVM_GET_IRQCHIP, &chip))
			return kvm_failed("KVM_GET_IRQCHIP");
		state_put(w, &chip.chip, sizeof(chip.chip));
	}
	return w->err;
}

static int irqchip_load(struct machine *m, struct state_reader *r)
{
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		state_get(r, &chip.chip, sizeof(chip.chip));
		if (r->err)
			return r->err;
		/* All pins are edges, and who has raised one raises it again. One that was saved
		 * while KVM was between a rising and a falling edge would miss the next. */
		if (i == KVM_IRQCHIP_IOAPIC)
			chip.chip.ioapic.irr = 0;
		if (ioctl(m->vm_fd, KVM_SET_IRQCHIP, &chip))
			return kvm_failed("KVM_SET_IRQCHIP");
	}
	return 0;
}

static int pit_save(struct machine *m, struct state_writer *w)
{
	struct kvm_pit_state2 pit = {0};

	if (ioctl(m->vm_fd, KVM_GET_PIT2, &pit))
		return kvm_failed("KVM_GET_PIT2");
	state_put(w, &pit, sizeof(pit));
	return w->err;
}

static int pit_load(struct machine *m, struct state_reader *r)
{
	struct kvm_pit_state2 pit;

	state_get(r, &pit, sizeof(pit));
	if (r->err)
		return r->err;
	return ioctl(m->vm_fd, KVM_SET_PIT2, &pit) ? kvm_failed("KVM_SET_PIT2") : 0;
}

/* Monotonic time goes on from the capture; the wall clock is set from inside, by the agent. */
static int kvm_clock_save(struct machine *m, struct state_writer *w)
{
	struct kvm_clock_data clock = {0};

	if (ioctl(m->vm_fd, KVM_GET_CLOCK, &clock))
		return kvm_failed("KVM_GET_CLOCK");
	state_put_u64(w, clock.clock);
	return w->err;
}

static int kvm_clock_load(struct machine *m, struct state_reader *r)
{
	struct kvm_clock_data clock = {.clock = state_get_u64(r)};

	if (r->err)
		return r->err;
	return ioctl(m->vm_fd, KVM_SET_CLOCK, &clock) ? kvm_failed("KVM_SET_CLOCK") : 0;
}

static int console_save(struct machine *m, struct state_writer *w)
{
	return serial_save(&m->serial, w);
}

static int console_load(struct machine *m, struct state_reader *r)
{
	return serial_load(&m->serial, r);
}

static int agent_save(struct machine *m, struct state_writer *w)
{
	return agent_link_save(m->agent, w);
}

static int agent_load(struct machine *m, struct state_reader *r)
{
	return agent_link_load(m->agent, r);
}

DEVICE_FUNCTIONS(layout)
DEVICE_FUNCTIONS(cpuid)
DEVICE_FUNCTIONS(irqchip)
DEVICE_FUNCTIONS(pit)
DEVICE_FUNCTIONS(kvm_clock)
DEVICE_FUNCTIONS(console)
DEVICE_FUNCTIONS(machine_virtio)
DEVICE_FUNCTIONS(vcpus)
DEVICE_FUNCTIONS(agent)

/* The irqchip and the vCPUs with their APICs come before the devices whose interrupts are raised
 * again as they are loaded. */
static const struct device devices[] = {
	DEVICE("machine", 1, layout),  DEVICE("cpuid", 1, cpuid),
	DEVICE("irqchip", 1, irqchip), DEVICE("pit", 1, pit),
	DEVICE("clock", 1, kvm_clock), DEVICE("vcpus", 1, vcpus),
	DEVICE("serial", 1, console),  DEVICE("virtio", 1, machine_virtio),
	DEVICE("agent", 2, agent),
};

const struct device_table kernel_devices = {devices, ARRAY_SIZE(devices)};

/* ---- memory ---- */

/** Pages that may have contents: all of the template's, and of the rest what was ever touched. */
static int for_each_page(void *guest, int (*page_fn)(void *arg, uint32_t page), void *arg)
{
	const struct machine *m = guest;
	uint64_t pages = m->mem.ram_bytes / PAGE_BYTES, entry;
	struct pagemap map;
	int ret = 0;

	pagemap_open(&map, &m->mem, m->pagemap_fd);
	for (uint64_t page = 0; !ret && page < pages; page++)
		if (page < m->mem.template_pages || !pagemap_entry(&map, page, &entry) ||
		    pagemap_in_use(entry))
			ret = page_fn(arg, (uint32_t)page);
	pagemap_close(&map);
	return ret;
}

static int find_last(void *arg, uint32_t page)
{
	*(uint64_t *)arg = page + 1ull;
	return 0;
}

int machine_capture(struct machine *m, const struct capture_target *target,
		    struct capture_stats *ret_stats)
{
	struct capture_source source = {
		.kind = GUEST_KIND_KERNEL,
		.mem = &m->mem,
		.cpu_features = m->cpu_features,
		.devices = &kernel_devices,
		.guest = m,
		.for_each_page = for_each_page,
	};
	int ret = machine_pause(m);

	if (ret)
		return ret;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->virtio_count; i++)
		virtio_device_drain(m->virtio[i]);
	m->pagemap_fd = target->pagemap_fd;
	for_each_page(m, find_last, &source.template_pages);
	ret = m->end ? -ESHUTDOWN : capture_guest(&source, target, ret_stats);
	for (unsigned i = 0; i < m->virtio_count; i++)
		virtio_device_resume(m->virtio[i]);
	pthread_mutex_unlock(&m->lock);
	machine_resume(m);
	return ret;
}

int machine_restore(struct machine *m, const struct guest_image *image)
{
	int ret = guest_mem_map_template(&m->mem, image->memfd, image->template_pages, image->uffd);

	if (!ret)
		ret = populate_start(&m->mem, image->populate, image->populate_count);
	if (!ret)
		ret = devices_load(&kernel_devices, m, image->state, image->state_bytes,
				   m->end_text, sizeof(m->end_text));
	if (!ret)
		ret = vmgenid_renew(&m->mem);
	if (ret)
		return ret;
	for (unsigned i = 0; i < m->virtio_count; i++)
		virtio_device_resume(m->virtio[i]);
	return eventfd_write(m->vmgenid_irq, 1) ? -errno : 0;
}
