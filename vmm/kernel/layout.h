/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - what lies where in a kernel guest's physical memory and I/O ports
 *
 * RAM is one slot from address 0 and ends below the devices. What the vmm hands to the kernel at
 * boot lies in the first MiB: below 0x9fc00 where the kernel takes it over and reuses the memory,
 * above it where it has to stay (reserved in the E820 map).
 */
#ifndef QUICKTHAW_KERNEL_LAYOUT_H
#define QUICKTHAW_KERNEL_LAYOUT_H

#include "common/util.h"
#include "include/snapd_proto.h"

#define KERNEL_VCPUS_MAX     PROTO_KERNEL_VCPUS_MAX
#define KERNEL_RAM_BYTES_MIN MIB(32)
#define KERNEL_RAM_BYTES_MAX MIB(PROTO_KERNEL_RAM_MAX_MIB)

/* ---- the first MiB ---- */
#define LAYOUT_GDT	     0x500ull
#define LAYOUT_PVH_INFO	     0x6000ull
#define LAYOUT_ZERO_PAGE     0x7000ull
#define LAYOUT_STACK	     0x8ff0ull
#define LAYOUT_PML4	     0x9000ull /* then one PDPT and four page directories */
#define LAYOUT_CMDLINE	     0x20000ull
#define LAYOUT_CMDLINE_BYTES 2048u
#define LAYOUT_LOW_END	     0x9fc00ull
#define LAYOUT_VMGENID	     0xd0000ull
#define LAYOUT_ACPI	     0xe0000ull /* where a kernel looks for the RSDP */
#define LAYOUT_ACPI_BYTES    0x10000u
#define LAYOUT_RESET_VECTOR  0xffff0ull
#define LAYOUT_HIGH	     0x100000ull

/* ---- devices in memory ---- */
#define LAYOUT_VIRTIO	      0xd0000000ull
#define LAYOUT_VIRTIO_BYTES   0x1000u
#define LAYOUT_VIRTIO_DEVICES 16u
#define LAYOUT_IOAPIC	      0xfec00000ull
#define LAYOUT_LAPIC	      0xfee00000ull
#define LAYOUT_IDENTITY_MAP   0xfffbc000ull /* KVM's own, for Intel without unrestricted guests */
#define LAYOUT_TSS	      0xfffbd000ull

/* ---- devices at ports ---- */
#define LAYOUT_PORT_I8042_COMMAND 0x64u
#define LAYOUT_PORT_SERIAL	  0x3f8u
#define LAYOUT_PORT_SLEEP_CONTROL 0x600u
#define LAYOUT_PORT_SLEEP_STATUS  0x601u

/* ---- interrupts: pins of the IOAPIC, all edge-triggered ---- */
#define LAYOUT_GSI_SERIAL  4u
#define LAYOUT_GSI_VIRTIO  5u /* one for each device from here on */
#define LAYOUT_GSI_VMGENID 23u

#endif
