/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.h - the guest's console: a 16550A UART that transmits at once and receives nothing
 *
 * Source: National Semiconductor PC16550D data sheet, section 8.
 */
#ifndef QUICKTHAW_KERNEL_SERIAL_H
#define QUICKTHAW_KERNEL_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/state.h"
#include "vmm/kernel/bus.h"

/** Ports that the UART takes. */
#define SERIAL_PORTS 8u

/**
 * struct serial - the registers.
 * @out: takes each byte that the guest sends; never blocks
 * @irq_fd: eventfd behind the interrupt line, or -1
 */
struct serial {
	void (*out)(void *arg, uint8_t byte);
	void *out_arg;
	int irq_fd;
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	bool thr_empty; /**< "transmitter is empty" waits to be reported */
};

/** serial_init() - as after a reset. @irq_fd stays the caller's. */
void serial_init(struct serial *s, void (*out)(void *arg, uint8_t byte), void *arg, int irq_fd);
/** serial_range() - what to put on the bus of ports at @base. */
struct bus_range serial_range(struct serial *s, uint64_t base);

int serial_save(const struct serial *s, struct state_writer *w);
/** serial_load() - also raises the interrupt again that was pending. */
int serial_load(struct serial *s, struct state_reader *r);

#endif
