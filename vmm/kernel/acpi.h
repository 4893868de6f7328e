/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h - the tables by which a kernel finds its processors and devices
 *
 * RSDP, XSDT, FADT (hardware-reduced: no fixed hardware but reset and sleep registers), MADT, and a
 * DSDT with the serial port, VMGenID and virtio-mmio. Source: ACPI 6.4, chapter 5.
 */
#ifndef QUICKTHAW_KERNEL_ACPI_H
#define QUICKTHAW_KERNEL_ACPI_H

#include <stddef.h>
#include <stdint.h>

/** struct acpi_virtio - where one virtio-mmio device is. */
struct acpi_virtio {
	uint32_t base, bytes;
	uint32_t gsi;
};

/** struct acpi_machine - what the tables describe. */
struct acpi_machine {
	unsigned vcpus; /**< their APIC ids are 0 to vcpus - 1 */
	const struct acpi_virtio *virtio;
	unsigned virtio_count;
};

/**
 * acpi_build() - write all tables.
 * @at: @size bytes that the guest sees at @gpa; the RSDP is first
 * Return: bytes used, or -ENOSPC.
 */
long acpi_build(const struct acpi_machine *m, void *at, size_t size, uint64_t gpa);

#endif
