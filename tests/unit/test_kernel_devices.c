/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_devices.c - a kernel guest's bus, serial port, power and ACPI tables; no KVM */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/kernel/acpi.h"
#include "vmm/kernel/aml.h"
#include "vmm/kernel/bus.h"
#include "vmm/kernel/layout.h"
#include "vmm/kernel/power.h"
#include "vmm/kernel/serial.h"
#include "vmm/kernel/serial_out.h"

static struct bus bus;

/* ---- bus ---- */

static uint64_t last_offset;

static void note_write(void *dev, uint64_t offset, const void *data, unsigned n)
{
	(void)n;
	last_offset = offset;
	*(uint8_t *)dev = *(const uint8_t *)data;
}

static void test_bus(void **state)
{
	uint8_t a = 0, b = 0;
	struct bus_range first = {.base = 0x100, .bytes = 8, .dev = &a, .write = note_write};
	struct bus_range second = {.base = 0x108, .bytes = 8, .dev = &b, .write = note_write};
	struct bus_range over = {.base = 0x104, .bytes = 8, .dev = &b};
	struct bus_range wraps = {.base = UINT64_MAX, .bytes = 2, .dev = &b};
	uint64_t data = 7;

	(void)state;
	memset(&bus, 0, sizeof(bus));
	assert_int_equal(bus_add(&bus, &first), 0);
	assert_int_equal(bus_add(&bus, &over), -EEXIST);
	assert_int_equal(bus_add(&bus, &wraps), -EINVAL);
	assert_int_equal(bus_add(&bus, &second), 0);
	assert_true(bus_write(&bus, 0x10f, &data, 1));
	assert_int_equal(last_offset, 7);
	assert_int_equal(b, 7);
	assert_int_equal(a, 0);
	/* Over the end of a range, beside all of them, at the end of addresses. */
	assert_false(bus_write(&bus, 0x106, &data, 4));
	assert_false(bus_write(&bus, 0xff, &data, 4));
	assert_false(bus_write(&bus, UINT64_MAX, &data, 8));
	assert_false(bus_read(&bus, 0x100, &data, 8)); /* nothing to be read there */
	assert_int_equal(data, UINT64_MAX);
	while (bus.count < BUS_RANGES_MAX) {
		first.base += 0x100;
		assert_int_equal(bus_add(&bus, &first), 0);
	}
	first.base += 0x100;
	assert_int_equal(bus_add(&bus, &first), -ENOSPC);
}

/* ---- serial ---- */

static char sent[64];
static unsigned sent_bytes;

static void collect(void *arg, uint8_t byte)
{
	(void)arg;
	if (sent_bytes < sizeof(sent))
		sent[sent_bytes++] = (char)byte;
}

static uint8_t in(unsigned reg)
{
	uint8_t v;

	assert_true(bus_read(&bus, LAYOUT_PORT_SERIAL + reg, &v, 1));
	return v;
}

static void out(unsigned reg, uint8_t v)
{
	assert_true(bus_write(&bus, LAYOUT_PORT_SERIAL + reg, &v, 1));
}

static bool raised(int fd)
{
	eventfd_t v;

	return !eventfd_read(fd, &v);
}

static void make_serial(struct serial *s, int irq)
{
	struct bus_range range;

	memset(&bus, 0, sizeof(bus));
	sent_bytes = 0;
	serial_init(s, collect, NULL, irq);
	range = serial_range(s, LAYOUT_PORT_SERIAL);
	assert_int_equal(bus_add(&bus, &range), 0);
}

static void test_serial_sends(void **state)
{
	int irq = eventfd(0, EFD_NONBLOCK);
	struct serial s;

	(void)state;
	make_serial(&s, irq);
	assert_int_equal(in(5) & 0x60, 0x60);
	out(0, 'h');
	out(0, 'i');
	assert_memory_equal(sent, "hi", 2);
	assert_false(raised(irq)); /* nobody asked */
	assert_int_equal(in(2), 0x01);
	out(1, 0x02);
	assert_true(raised(irq));
	assert_int_equal(in(2), 0x02);
	assert_int_equal(in(2), 0x01); /* reading was the acknowledgement */
	out(0, '!');
	assert_true(raised(irq));
	/* The divisor is no data. */
	out(3, 0x83);
	out(0, 12);
	out(1, 0);
	assert_int_equal(in(0), 12);
	out(3, 0x03);
	assert_int_equal(sent_bytes, 3);
	assert_int_equal(in(1), 0x02);
	close(irq);
}

/* What a driver does to find out whether there is a 16550A. */
static void test_serial_is_found(void **state)
{
	struct serial s;

	(void)state;
	make_serial(&s, -1);
	out(4, 0x1a); /* loop, RTS, OUT2 */
	assert_int_equal(in(6) & 0xf0, 0x90);
	out(0, 'x');
	assert_int_equal(sent_bytes, 0);
	out(4, 0);
	out(2, 0x01);
	assert_int_equal(in(2) & 0xc0, 0xc0);
	out(7, 0x5a);
	assert_int_equal(in(7), 0x5a);
}

static void test_serial_state(void **state)
{
	int irq = eventfd(0, EFD_NONBLOCK);
	struct state_writer w = {0};
	struct state_reader r, cut;
	struct serial s, loaded;

	(void)state;
	make_serial(&s, irq);
	out(1, 0x02);
	out(4, 0x0b);
	assert_true(raised(irq));
	assert_int_equal(serial_save(&s, &w), 0);
	serial_init(&loaded, collect, NULL, irq);
	r = (struct state_reader){.data = w.data, .left = w.used};
	cut = (struct state_reader){.data = w.data, .left = w.used - 1};
	assert_int_equal(serial_load(&loaded, &r), 0);
	assert_int_equal(r.left, 0);
	assert_int_equal(loaded.mcr, 0x0b);
	assert_true(raised(irq)); /* what was pending is raised again */
	assert_int_equal(serial_load(&loaded, &cut), -EBADMSG);
	state_writer_free(&w);
	close(irq);
}

/* ---- where the console goes ---- */

static void test_console_flood(void **state)
{
	static struct serial_out o;
	static char buf[1 << 20];
	int fds[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	serial_out_init(&o, fds[1]);
	for (unsigned i = 0; i < 4u << 20; i++)
		serial_out_byte(&o, 'x');
	serial_out_flush(&o); /* fills the pipe, and does not wait for a reader */
	assert_true(serial_out_waits(&o));
	n = read(fds[0], buf, sizeof(buf));
	assert_true(n > 0 && n <= 2 * SERIAL_RING_BYTES);
	while (serial_out_waits(&o)) {
		serial_out_flush(&o);
		n = read(fds[0], buf, sizeof(buf) - 1);
		assert_true(n > 0);
	}
	buf[n] = '\0';
	assert_non_null(strstr(buf, "bytes of the console were dropped]"));
	close(fds[0]);
	serial_out_byte(&o, 'y');
	serial_out_flush(&o); /* nobody reads any more */
	assert_false(serial_out_waits(&o));
	serial_out_free(&o);
	close(fds[1]);
}

static struct timespec set_time; /* what the clock says; 0: what it says */

int __real_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
	if (!set_time.tv_sec)
		return __real_clock_gettime(id, ret);
	*ret = set_time;
	return 0;
}

/* A flood asks for tokens much more often than there is one. */
static void test_console_rate(void **state)
{
	enum { TICK_NS = 100, TICKS = 2000000 };
	static struct serial_out o;
	uint64_t passed, dropped;
	int fd = open("/dev/null", O_WRONLY);

	(void)state;
	set_time = (struct timespec){.tv_sec = 1};
	serial_out_init(&o, fd);
	while (!o.dropped_bytes) {
		serial_out_byte(&o, 'x');
		serial_out_flush(&o);
	}
	dropped = o.dropped_bytes;
	for (unsigned i = 0; i < TICKS; i++) {
		set_time.tv_nsec += TICK_NS;
		serial_out_byte(&o, 'x');
		if (i % 1000 == 0)
			serial_out_flush(&o);
	}
	passed = TICKS - (o.dropped_bytes - dropped);
	/* Times are whole nanoseconds, which is a fraction of one in a thousand. */
	assert_in_range(passed, SERIAL_RATE_BYTES / 5 * 999ull / 1000,
			SERIAL_RATE_BYTES / 5 * 1001ull / 1000);
	/* And no more than a burst after a long silence. */
	set_time.tv_sec += 3600;
	dropped = o.dropped_bytes;
	for (passed = 0; o.dropped_bytes == dropped; passed++) {
		serial_out_byte(&o, 'x');
		serial_out_flush(&o);
	}
	assert_int_equal(passed - 1, SERIAL_BURST_BYTES);
	set_time.tv_sec = 0;
	serial_out_free(&o);
	close(fd);
}

static void put_many(struct serial_out *o, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		serial_out_byte(o, 'x');
	serial_out_flush(o);
}

/* Fill what is behind @fd, with @first bytes and then a lot; nobody reads there. */
static void fill(int fd, unsigned first)
{
	static struct serial_out o;
	int flags = fcntl(fd, F_GETFL);

	serial_out_init(&o, fd);
	alarm(60); /* a write may never return */
	put_many(&o, first);
	for (int i = 0; i < 16 && !serial_out_waits(&o); i++)
		put_many(&o, SERIAL_RING_BYTES);
	alarm(0);
	assert_true(serial_out_waits(&o));
	assert_int_equal(fcntl(fd, F_GETFL), flags);
	assert_int_equal(flags & O_NONBLOCK, 0);
	serial_out_free(&o);
	assert_true(fcntl(fd, F_GETFL) >= 0); /* stays the caller's */
}

static void fill_terminal(unsigned first)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY), side;
	struct termios raw;

	assert_true(terminal >= 0 && !grantpt(terminal) && !unlockpt(terminal));
	side = ioctl(terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	assert_true(side >= 0);
	assert_int_equal(tcgetattr(side, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(side, TCSANOW, &raw), 0);
	fill(side, first);
	close(side);
	close(terminal);
}

static void test_console_never_waits(void **state)
{
	int fds[2];

	(void)state;
	/* A terminal says that it is writable when it has room for a byte. */
	for (unsigned first = 1; first < 4096; first += 64)
		fill_terminal(first);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fill(fds[1], 1);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(pipe(fds), 0);
	fill(fds[1], 1);
	close(fds[0]);
	close(fds[1]);
}

/* A file is not begun again. */
static void test_console_file(void **state)
{
	static struct serial_out o;
	char path[] = "/tmp/test_console_XXXXXX", buf[16] = "";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "log\n", 4), 4);
	serial_out_init(&o, fd);
	serial_out_byte(&o, 'a');
	serial_out_flush(&o);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "log\na");
	serial_out_free(&o);
	close(fd);
	unlink(path);
}

static void test_console_panic(void **state)
{
	static struct serial_out o;
	static const char text[] = "[    1.0] \033[31mKernel panic - not syncing: VFS\r\n"
				   "Kernel panic - not syncing: again\n";

	(void)state;
	serial_out_init(&o, -1);
	for (const char *at = text; *at; at++)
		serial_out_byte(&o, (uint8_t)*at);
	assert_string_equal(o.panic, "Kernel panic - not syncing: VFS");
	for (int i = 0; i < 100000; i++)
		serial_out_byte(&o, 'z');
	serial_out_byte(&o, '\n');
	assert_string_equal(o.panic, "Kernel panic - not syncing: VFS");
}

/* ---- power ---- */

static int resets, offs;

static void note_power(void *arg, enum power_event event)
{
	(void)arg;
	if (event == POWER_RESET)
		resets++;
	else
		offs++;
}

static void test_power(void **state)
{
	struct power p = {.event = note_power};
	uint8_t v;

	(void)state;
	memset(&bus, 0, sizeof(bus));
	assert_int_equal(power_add(&p, &bus), 0);
	assert_true(bus_read(&bus, LAYOUT_PORT_I8042_COMMAND, &v, 1));
	assert_int_equal(v & 2, 0); /* ready for a command */
	v = 0xd1;
	bus_write(&bus, LAYOUT_PORT_I8042_COMMAND, &v, 1);
	assert_int_equal(resets, 0);
	v = POWER_I8042_RESET;
	bus_write(&bus, LAYOUT_PORT_I8042_COMMAND, &v, 1);
	assert_int_equal(resets, 1);
	for (unsigned type = 0; type < 8; type++) {
		v = (uint8_t)(type << 2);
		bus_write(&bus, LAYOUT_PORT_SLEEP_CONTROL, &v, 1);
		assert_int_equal(offs, type > POWER_SLEEP_TYPE_OFF);
		v |= 0x20;
		bus_write(&bus, LAYOUT_PORT_SLEEP_CONTROL, &v, 1);
		assert_int_equal(offs, type >= POWER_SLEEP_TYPE_OFF);
	}
}

/* ---- ACPI ---- */

static uint8_t sum(const void *data, size_t n)
{
	uint8_t total = 0;

	for (size_t i = 0; i < n; i++)
		total = (uint8_t)(total + ((const uint8_t *)data)[i]);
	return total;
}

/* The table at @gpa, checked as a kernel does it. */
static const uint8_t *table(const uint8_t *tables, uint64_t gpa, const char *signature)
{
	const uint8_t *t = tables + (gpa - LAYOUT_ACPI);
	uint32_t bytes;

	memcpy(&bytes, t + 4, sizeof(bytes));
	assert_true(gpa >= LAYOUT_ACPI && gpa + bytes <= LAYOUT_ACPI + LAYOUT_ACPI_BYTES);
	assert_memory_equal(t, signature, 4);
	assert_int_equal(sum(t, bytes), 0);
	return t;
}

static uint64_t u64_at(const uint8_t *t, unsigned offset)
{
	uint64_t v;

	memcpy(&v, t + offset, sizeof(v));
	return v;
}

static bool holds(const uint8_t *t, const char *what, size_t n)
{
	uint32_t bytes;

	memcpy(&bytes, t + 4, sizeof(bytes));
	return memmem(t, bytes, what, n) != NULL;
}

static void test_acpi(void **state)
{
	static uint8_t tables[LAYOUT_ACPI_BYTES];
	const struct acpi_virtio virtio[] = {{0xd0000000, 0x1000, 5}, {0xd0001000, 0x1000, 6}};
	const struct acpi_machine m = {.vcpus = 4, .virtio = virtio, .virtio_count = 2};
	const uint8_t *xsdt, *fadt, *madt, *dsdt;
	long used = acpi_build(&m, tables, sizeof(tables), LAYOUT_ACPI);

	(void)state;
	assert_true(used > 0 && used < (long)sizeof(tables));
	assert_memory_equal(tables, "RSD PTR ", 8);
	assert_int_equal(sum(tables, 20), 0);
	assert_int_equal(sum(tables, 36), 0);
	xsdt = table(tables, u64_at(tables, 24), "XSDT");
	fadt = table(tables, u64_at(xsdt, 36), "FACP");
	madt = table(tables, u64_at(xsdt, 44), "APIC");
	dsdt = table(tables, u64_at(fadt, 140), "DSDT");
	assert_int_equal(u64_at(fadt, 120), LAYOUT_PORT_I8042_COMMAND);
	assert_int_equal(fadt[128], POWER_I8042_RESET);
	assert_int_equal(u64_at(fadt, 248), LAYOUT_PORT_SLEEP_CONTROL);
	assert_int_equal(madt[44 + 3 * 8], 0); /* the fourth local APIC */
	assert_int_equal(madt[44 + 3 * 8 + 3], 3);
	assert_int_equal(madt[44 + 4 * 8], 1); /* the IOAPIC */
	assert_true(holds(dsdt, "VM_Gen_Counter", 15));
	assert_true(holds(dsdt, "LNRO0005", 9));
	assert_true(holds(dsdt, "\x0c\x41\xd0\x05\x01", 5)); /* EISAID("PNP0501") */
	assert_true(holds(dsdt, "\x86\x09\x00\x01\x00\x10\x00\xd0\x00\x10\x00\x00", 12));
	assert_true(holds(dsdt, "\x89\x06\x00\x03\x01\x06\x00\x00\x00", 9));
}

static void test_acpi_without_room(void **state)
{
	static uint8_t tables[1024];
	const struct acpi_machine m = {.vcpus = 4};
	size_t size;

	(void)state;
	for (size = 0; size < sizeof(tables); size++)
		if (acpi_build(&m, tables, size, LAYOUT_ACPI) > 0)
			break;
	assert_in_range(size, 600, 1000);
	for (size_t i = size; i < sizeof(tables); i++)
		assert_int_equal(tables[i], 0);
}

static void test_aml_lengths(void **state)
{
	uint8_t data[64];
	struct aml a = {.data = data, .size = sizeof(data)};
	struct aml_block scope = aml_scope(&a, "\\_SB_");

	(void)state;
	aml_integer(&a, 0x1234);
	aml_end(&a, scope);
	/* ScopeOp, a length of 3 + 5 + 3 bytes, the path, a word */
	assert_memory_equal(data, "\x10\x8b\x00\x00\\_SB_\x0b\x34\x12", 12);
	assert_int_equal(a.used, 12);
	for (int i = 0; i < 30; i++)
		aml_integer(&a, UINT64_MAX);
	assert_true(a.overflow);
	assert_in_range(a.used, 0, sizeof(data));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_serial_sends),
		cmocka_unit_test(test_serial_is_found),
		cmocka_unit_test(test_serial_state),
		cmocka_unit_test(test_console_flood),
		cmocka_unit_test(test_console_rate),
		cmocka_unit_test(test_console_never_waits),
		cmocka_unit_test(test_console_file),
		cmocka_unit_test(test_console_panic),
		cmocka_unit_test(test_power),
		cmocka_unit_test(test_acpi),
		cmocka_unit_test(test_acpi_without_room),
		cmocka_unit_test(test_aml_lengths),
	};

	log_init("test_kernel_devices", NULL);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
