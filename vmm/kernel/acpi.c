/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.c - the tables by which a kernel finds its processors and devices */
#include "vmm/kernel/acpi.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "vmm/kernel/aml.h"
#include "vmm/kernel/layout.h"
#include "vmm/kernel/power.h"

/** struct acpi_header - how every table begins (5.2.6). */
struct acpi_header {
	char signature[4];
	uint32_t bytes;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct acpi_header) == 36, "ACPI 5.2.6");

/** struct acpi_rsdp - where it all starts (5.2.5.3). */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /**< of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t bytes;
	uint64_t xsdt;
	uint8_t checksum_all;
	uint8_t reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 5.2.5.3");

/** struct acpi_address - a register's place (5.2.3.2). */
struct acpi_address {
	uint8_t space;
	uint8_t bits;
	uint8_t offset;
	uint8_t access;
	uint64_t address;
} __attribute__((packed));
static_assert(sizeof(struct acpi_address) == 12, "ACPI 5.2.3.2");

/** struct acpi_fadt - what is zero here is hardware that a reduced machine does not have (5.2.9).
 */
struct acpi_fadt {
	struct acpi_header h;
	uint8_t zero_1[73];
	uint16_t boot_flags; /**< at 109 */
	uint8_t zero_2;
	uint32_t flags;		   /**< at 112 */
	struct acpi_address reset; /**< at 116 */
	uint8_t reset_value;
	uint8_t zero_3[2];
	uint8_t minor_version;
	uint64_t zero_4;
	uint64_t dsdt; /**< at 140 */
	uint8_t zero_5[96];
	struct acpi_address sleep_control; /**< at 244 */
	struct acpi_address sleep_status;
	char hypervisor[8];
} __attribute__((packed));
static_assert(offsetof(struct acpi_fadt, boot_flags) == 109, "ACPI 5.2.9");
static_assert(offsetof(struct acpi_fadt, flags) == 112, "ACPI 5.2.9");
static_assert(offsetof(struct acpi_fadt, dsdt) == 140, "ACPI 5.2.9");
static_assert(offsetof(struct acpi_fadt, sleep_control) == 244, "ACPI 5.2.9");
static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 5.2.9");

/** struct acpi_madt - interrupt controllers; entries follow (5.2.12). */
struct acpi_madt {
	struct acpi_header h;
	uint32_t lapic;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_lapic {
	uint8_t type, bytes;
	uint8_t processor, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct acpi_madt_ioapic {
	uint8_t type, bytes;
	uint8_t id, reserved;
	uint32_t address;
	uint32_t gsi_base;
} __attribute__((packed));

enum {
	ADDRESS_IO = 1,
	ACCESS_BYTE = 1,
	/* Boot flags (5.2.9.3): no VGA, no MSI, no ASPM, no CMOS clock; and no i8042 to probe. */
	BOOT_FLAGS = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5,
	/* Feature flags (table 5.10): WBINVD, no fixed power or sleep button, the reset register,
	 * hardware-reduced. */
	FEATURE_FLAGS = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20,
	MADT_LAPIC = 0,
	MADT_IOAPIC = 1,
	LAPIC_ENABLED = 1,
	DSDT_BYTES_MAX = 8192,
};

/** struct builder - tables go one after the other, each on a boundary of 16 bytes. */
struct builder {
	uint8_t *at;
	size_t used, size;
	uint64_t gpa;
};

static void *reserve(struct builder *b, size_t n, uint64_t *ret_gpa)
{
	size_t start = align_up(b->used, 16);

	if (start > b->size || n > b->size - start)
		return NULL;
	b->used = start + n;
	*ret_gpa = b->gpa + start;
	return memset(b->at + start, 0, n);
}

static uint8_t checksum(const void *data, size_t n)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void seal(struct acpi_header *h, const char *signature, uint8_t revision, size_t bytes)
{
	memcpy(h->signature, signature, sizeof(h->signature));
	memcpy(h->oem_id, "QTHAW ", sizeof(h->oem_id));
	memcpy(h->oem_table_id, "MICROVM ", sizeof(h->oem_table_id));
	memcpy(h->creator_id, "QTHW", sizeof(h->creator_id));
	h->oem_revision = h->creator_revision = 1;
	h->bytes = (uint32_t)bytes;
	h->revision = revision;
	h->checksum = 0;
	h->checksum = checksum(h, bytes);
}

/* ---- DSDT ---- */

static void add_serial(struct aml *a)
{
	struct aml_block device = aml_device(a, "COM1"), resources;

	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	resources = aml_resources(a);
	aml_resource_ports(a, LAYOUT_PORT_SERIAL, 8);
	aml_resource_interrupt(a, LAYOUT_GSI_SERIAL);
	aml_end_resources(a, resources);
	aml_end(a, device);
}

/** The number's address, and the device whose interrupt says that it has changed. */
static void add_vmgenid(struct aml *a)
{
	struct aml_block device = aml_device(a, "VGEN"), block;

	aml_name(a, "_HID");
	aml_string(a, "QEMUVGID");
	aml_name(a, "_CID");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "_DDN");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "ADDR");
	block = aml_package(a, 2);
	aml_integer(a, (uint32_t)LAYOUT_VMGENID);
	aml_integer(a, LAYOUT_VMGENID >> 32);
	aml_end(a, block);
	aml_end(a, device);

	device = aml_device(a, "GED_");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name(a, "_UID");
	aml_integer(a, 0);
	aml_name(a, "_CRS");
	block = aml_resources(a);
	aml_resource_interrupt(a, LAYOUT_GSI_VMGENID);
	aml_end_resources(a, block);
	block = aml_method(a, "_EVT", 1 | 8);
	aml_notify(a, "\\_SB_VGEN", 0x80);
	aml_end(a, block);
	aml_end(a, device);
}

static void add_virtio(struct aml *a, const struct acpi_virtio *v, unsigned number)
{
	char name[5];
	struct aml_block device, resources;

	snprintf(name, sizeof(name), "VR%02X", number & 0xff);
	device = aml_device(a, name);
	aml_name(a, "_HID");
	aml_string(a, "LNRO0005");
	aml_name(a, "_UID");
	aml_integer(a, number);
	aml_name(a, "_CRS");
	resources = aml_resources(a);
	aml_resource_memory(a, v->base, v->bytes);
	aml_resource_interrupt(a, v->gsi);
	aml_end_resources(a, resources);
	aml_end(a, device);
}

static uint64_t build_dsdt(struct builder *b, const struct acpi_machine *m)
{
	uint8_t body[DSDT_BYTES_MAX] = {0};
	struct aml a = {.data = body, .size = sizeof(body)};
	struct aml_block block = aml_scope(&a, "\\_SB_");
	struct acpi_header *h;
	uint64_t gpa = 0;

	add_serial(&a);
	add_vmgenid(&a);
	for (unsigned i = 0; i < m->virtio_count; i++)
		add_virtio(&a, &m->virtio[i], i);
	aml_end(&a, block);
	aml_name(&a, "\\_S5_");
	block = aml_package(&a, 4);
	aml_integer(&a, POWER_SLEEP_TYPE_OFF);
	for (int i = 0; i < 3; i++)
		aml_integer(&a, 0);
	aml_end(&a, block);
	h = a.overflow ? NULL : reserve(b, sizeof(*h) + a.used, &gpa);
	if (!h)
		return 0;
	memcpy(h + 1, body, a.used);
	seal(h, "DSDT", 2, sizeof(*h) + a.used);
	return gpa;
}

/* ---- the others ---- */

static struct acpi_address port(uint16_t number)
{
	return (struct acpi_address){
		.space = ADDRESS_IO, .bits = 8, .access = ACCESS_BYTE, .address = number};
}

static uint64_t build_fadt(struct builder *b, uint64_t dsdt)
{
	uint64_t gpa = 0;
	struct acpi_fadt *fadt = reserve(b, sizeof(*fadt), &gpa);

	if (!fadt)
		return 0;
	fadt->boot_flags = BOOT_FLAGS;
	fadt->flags = FEATURE_FLAGS;
	fadt->reset = port(LAYOUT_PORT_I8042_COMMAND);
	fadt->reset_value = POWER_I8042_RESET;
	fadt->minor_version = 4;
	fadt->dsdt = dsdt;
	fadt->sleep_control = port(LAYOUT_PORT_SLEEP_CONTROL);
	fadt->sleep_status = port(LAYOUT_PORT_SLEEP_STATUS);
	memcpy(fadt->hypervisor, "QTHAW\0\0", sizeof(fadt->hypervisor));
	seal(&fadt->h, "FACP", 6, sizeof(*fadt));
	return gpa;
}

static uint64_t build_madt(struct builder *b, unsigned vcpus)
{
	size_t bytes = sizeof(struct acpi_madt) + vcpus * sizeof(struct acpi_madt_lapic) +
		       sizeof(struct acpi_madt_ioapic);
	uint64_t gpa = 0;
	struct acpi_madt *madt = reserve(b, bytes, &gpa);
	struct acpi_madt_lapic *lapic;
	struct acpi_madt_ioapic *ioapic;

	if (!madt)
		return 0;
	madt->lapic = (uint32_t)LAYOUT_LAPIC;
	lapic = (struct acpi_madt_lapic *)(madt + 1);
	for (unsigned i = 0; i < vcpus; i++)
		*lapic++ = (struct acpi_madt_lapic){.type = MADT_LAPIC,
						    .bytes = sizeof(*lapic),
						    .processor = (uint8_t)i,
						    .apic_id = (uint8_t)i,
						    .flags = LAPIC_ENABLED};
	ioapic = (struct acpi_madt_ioapic *)lapic;
	*ioapic = (struct acpi_madt_ioapic){
		.type = MADT_IOAPIC, .bytes = sizeof(*ioapic), .address = (uint32_t)LAYOUT_IOAPIC};
	seal(&madt->h, "APIC", 5, bytes);
	return gpa;
}

static uint64_t build_xsdt(struct builder *b, uint64_t fadt, uint64_t madt)
{
	const uint64_t tables[] = {fadt, madt};
	size_t bytes = sizeof(struct acpi_header) + sizeof(tables);
	uint64_t gpa = 0;
	struct acpi_header *h = reserve(b, bytes, &gpa);

	if (!h)
		return 0;
	memcpy(h + 1, tables, sizeof(tables));
	seal(h, "XSDT", 1, bytes);
	return gpa;
}

long acpi_build(const struct acpi_machine *m, void *at, size_t size, uint64_t gpa)
{
	struct builder b = {.at = at, .size = size, .gpa = gpa};
	uint64_t rsdp_gpa, dsdt, fadt, madt, xsdt;
	struct acpi_rsdp *rsdp = reserve(&b, sizeof(*rsdp), &rsdp_gpa);

	dsdt = rsdp ? build_dsdt(&b, m) : 0;
	fadt = dsdt ? build_fadt(&b, dsdt) : 0;
	madt = fadt ? build_madt(&b, m->vcpus) : 0;
	xsdt = madt ? build_xsdt(&b, fadt, madt) : 0;
	if (!xsdt)
		return -ENOSPC;
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, "QTHAW ", sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->bytes = sizeof(*rsdp);
	rsdp->xsdt = xsdt;
	rsdp->checksum = checksum(rsdp, 20);
	rsdp->checksum_all = checksum(rsdp, sizeof(*rsdp));
	return (long)b.used;
}
