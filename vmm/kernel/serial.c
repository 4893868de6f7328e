/* SPDX-License-Identifier: Apache-2.0 */
/* serial.c - the guest's console: a 16550A UART that transmits at once and receives nothing */
#include "vmm/kernel/serial.h"

#include <sys/eventfd.h>

#include "common/log.h"

/* Offsets; the first two are the divisor's while LCR_DLAB is set. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum {
	IER_THRE = 0x02,
	IER_MASK = 0x0f,
	IIR_NONE = 0x01,
	IIR_THRE = 0x02,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 0x01,
	LCR_DLAB = 0x80,
	MCR_MASK = 0x1f,
	MCR_LOOP = 0x10,
	LSR_IDLE = 0x60,  /* THRE and TEMT: everything is sent, nothing was received */
	MSR_READY = 0xb0, /* carrier, data set ready, clear to send */
};

void serial_init(struct serial *s, void (*out)(void *arg, uint8_t byte), void *arg, int irq_fd)
{
	*s = (struct serial){.out = out, .out_arg = arg, .irq_fd = irq_fd, .dll = 1};
}

/** The one cause of interrupts: what was sent is gone, and somebody wants to know. */
static void update_irq(struct serial *s)
{
	if (s->thr_empty && (s->ier & IER_THRE) && s->irq_fd >= 0 && eventfd_write(s->irq_fd, 1))
		log_debug("serial: the interrupt cannot be raised");
}

/** In loop mode the modem's lines show what the UART itself puts out; drivers look for that. */
static uint8_t modem_status(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_READY;
	return (uint8_t)((s->mcr & 0x0c) << 4 | (s->mcr & 0x02) << 3 | (s->mcr & 0x01) << 5);
}

static uint8_t interrupt_id(struct serial *s)
{
	uint8_t fifos = s->fcr & FCR_ENABLE ? IIR_FIFOS : 0;

	if (!s->thr_empty || !(s->ier & IER_THRE))
		return fifos | IIR_NONE;
	s->thr_empty = false; /* reading it is the acknowledgement */
	return fifos | IIR_THRE;
}

static uint8_t read_register(struct serial *s, uint64_t offset)
{
	bool divisor = s->lcr & LCR_DLAB;

	switch (offset) {
	case REG_DATA:
		return divisor ? s->dll : 0;
	case REG_IER:
		return divisor ? s->dlm : s->ier;
	case REG_IIR_FCR:
		return interrupt_id(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return LSR_IDLE;
	case REG_MSR:
		return modem_status(s);
	default:
		return s->scr;
	}
}

static void write_ier(struct serial *s, uint8_t v)
{
	/* Asking for the interrupt while there is nothing to send gives one at once. */
	if ((v & IER_THRE) && !(s->ier & IER_THRE))
		s->thr_empty = true;
	s->ier = v & IER_MASK;
	update_irq(s);
}

static void write_register(struct serial *s, uint64_t offset, uint8_t v)
{
	bool divisor = s->lcr & LCR_DLAB;

	switch (offset) {
	case REG_DATA:
		if (divisor) {
			s->dll = v;
			break;
		}
		if (!(s->mcr & MCR_LOOP))
			s->out(s->out_arg, v);
		s->thr_empty = true;
		update_irq(s);
		break;
	case REG_IER:
		if (divisor)
			s->dlm = v;
		else
			write_ier(s, v);
		break;
	case REG_IIR_FCR:
		s->fcr = v & FCR_ENABLE;
		break;
	case REG_LCR:
		s->lcr = v;
		break;
	case REG_MCR:
		s->mcr = v & MCR_MASK;
		break;
	case REG_SCR:
		s->scr = v;
		break;
	}
}

static void on_read(void *dev, uint64_t offset, void *data, unsigned n)
{
	uint8_t *bytes = data;

	for (unsigned i = 0; i < n; i++)
		bytes[i] = read_register(dev, offset + i);
}

static void on_write(void *dev, uint64_t offset, const void *data, unsigned n)
{
	const uint8_t *bytes = data;

	for (unsigned i = 0; i < n; i++)
		write_register(dev, offset + i, bytes[i]);
}

struct bus_range serial_range(struct serial *s, uint64_t base)
{
	return (struct bus_range){
		.base = base, .bytes = SERIAL_PORTS, .dev = s, .read = on_read, .write = on_write};
}

int serial_save(const struct serial *s, struct state_writer *w)
{
	const uint8_t registers[] = {s->ier, s->lcr, s->mcr, s->scr, s->fcr, s->dll, s->dlm};

	state_put(w, registers, sizeof(registers));
	state_put_u8(w, s->thr_empty);
	return w->err;
}

int serial_load(struct serial *s, struct state_reader *r)
{
	s->ier = state_get_u8(r) & IER_MASK;
	s->lcr = state_get_u8(r);
	s->mcr = state_get_u8(r) & MCR_MASK;
	s->scr = state_get_u8(r);
	s->fcr = state_get_u8(r) & FCR_ENABLE;
	s->dll = state_get_u8(r);
	s->dlm = state_get_u8(r);
	s->thr_empty = state_get_u8(r) & 1;
	if (!r->err)
		update_irq(s);
	return r->err;
}
