/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_machine.c - pause, end and MSRs of a kernel guest's machine; this file is its KVM */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"
#include "snapshot-format/snapshot.h"
#include "vmm/capture.h"
#include "vmm/device.h"
#include "vmm/kernel/command.h"
#include "vmm/kernel/kvcpu.h"
#include "vmm/kernel/machine.h"
#include "vmm/vm.h"

/* ---- KVM ---- */

enum { KVM_FD = 1000, VCPU_FD = 2000, KVM_MSRS_AT_ONCE = 255, MSR_COUNT = 700 };

/* A list with the TSC in its middle; one in seven is not there for this guest. */
static uint32_t msr_index(uint32_t i)
{
	return i == 300 ? 0x10 : 0x1000 + i;
}

/*
 * The TSC as KVM up to Linux 6.6 keeps it: what is written is compared with what the last write
 * would be by now, and the making of the machine counts as one. Time goes on where a test says so.
 */
enum { TSC_HZ = 1000000 };

static struct {
	uint64_t last_write; /* what it would be by now */
	uint64_t machine;    /* what vCPUs count by now that are the same as the others */
	uint64_t vcpu[2];
} tsc;

static void time_passes(uint64_t ticks)
{
	tsc.last_write += ticks;
	tsc.machine += ticks;
	tsc.vcpu[0] += ticks;
	tsc.vcpu[1] += ticks;
}

static void write_tsc(unsigned vcpu, uint64_t v)
{
	if (!(v < tsc.last_write + TSC_HZ && v + TSC_HZ > tsc.last_write))
		tsc.machine = v;
	tsc.vcpu[vcpu] = tsc.machine;
	tsc.last_write = v;
}

static uint64_t msrs[MSR_COUNT];
static unsigned msr_calls;

static uint64_t *find_msr(unsigned vcpu, uint32_t index)
{
	if (index == 0x10)
		return &tsc.vcpu[vcpu];
	if (index < 0x1000 || index >= 0x1000 + MSR_COUNT || index % 7 == 0)
		return NULL;
	return &msrs[index - 0x1000];
}

static int get_set_msrs(unsigned vcpu, struct kvm_msrs *list, bool set)
{
	msr_calls++;
	if (list->nmsrs > KVM_MSRS_AT_ONCE) {
		errno = E2BIG;
		return -1;
	}
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		uint64_t *msr = find_msr(vcpu, list->entries[i].index);

		if (!msr)
			return (int)i;
		if (set && list->entries[i].index == 0x10)
			write_tsc(vcpu, list->entries[i].data);
		else if (set)
			*msr = list->entries[i].data;
		else
			list->entries[i].data = *msr;
	}
	return (int)list->nmsrs;
}

static int list_msrs(struct kvm_msr_list *list)
{
	bool room = list->nmsrs >= MSR_COUNT;

	list->nmsrs = MSR_COUNT;
	if (!room) {
		errno = E2BIG;
		return -1;
	}
	for (uint32_t i = 0; i < MSR_COUNT; i++)
		list->indices[i] = msr_index(i);
	return 0;
}

static struct kvm_run runs[2];
static uint32_t dies[2]; /* instead of being interrupted, the guest ends, for this reason */

/* The guest does nothing until it is kicked. */
static int run_guest(unsigned index)
{
	while (!__atomic_load_n(&runs[index].immediate_exit, __ATOMIC_SEQ_CST))
		usleep(1000);
	if (dies[index]) {
		runs[index].exit_reason = dies[index];
		return 0;
	}
	errno = EINTR;
	return -1;
}

static struct kvm_irqchip irqchips[3];

static int set_irqchip(const struct kvm_irqchip *chip)
{
	assert_true(chip->chip_id < ARRAY_SIZE(irqchips));
	irqchips[chip->chip_id] = *chip;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (request) {
	case KVM_RUN:
		return run_guest((unsigned)(fd - VCPU_FD));
	case KVM_GET_MSR_INDEX_LIST:
		assert_int_equal(fd, KVM_FD);
		return list_msrs(arg);
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		return get_set_msrs((unsigned)(fd - VCPU_FD), arg, request == KVM_SET_MSRS);
	case KVM_SET_IRQCHIP:
		return set_irqchip(arg);
	default: /* registers, which are zero; no host */
		if (fd >= 0)
			return 0;
		errno = EBADF;
		return -1;
	}
}

/* ---- pause and end ---- */

static struct machine m;

static void ignore(int sig)
{
	(void)sig;
}

static void start_machine(void)
{
	memset(&m, 0, sizeof(m));
	memset(runs, 0, sizeof(runs));
	memset(dies, 0, sizeof(dies));
	m.kvm_fd = KVM_FD;
	m.wake_fd = -1;
	m.vcpu_count = 2;
	pthread_mutex_init(&m.lock, NULL);
	pthread_cond_init(&m.parked, NULL);
	for (unsigned i = 0; i < 2; i++)
		m.vcpus[i] = (struct kvcpu){
			.machine = &m, .index = i, .fd = VCPU_FD + (int)i, .run = &runs[i]};
	sigaction(VCPU_KICK_SIGNAL, &(struct sigaction){.sa_handler = ignore}, NULL);
	assert_int_equal(machine_start(&m), 0);
	alarm(60); /* what is waited for may never come */
}

static void stop_machine(void)
{
	pthread_mutex_lock(&m.lock);
	machine_finish(&m, MACHINE_OFF, "over");
	pthread_mutex_unlock(&m.lock);
	for (unsigned i = 0; i < 2; i++)
		kvcpu_join(&m.vcpus[i]);
	pthread_cond_destroy(&m.parked);
	pthread_mutex_destroy(&m.lock);
	alarm(0);
}

static void test_pause(void **state)
{
	(void)state;
	start_machine();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(machine_pause(&m), 0);
		pthread_mutex_lock(&m.lock);
		assert_true(m.vcpus[0].parked && m.vcpus[1].parked);
		pthread_mutex_unlock(&m.lock);
		machine_resume(&m);
	}
	stop_machine();
	assert_int_equal(m.end, MACHINE_OFF);
}

static void test_end_during_pause(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		start_machine();
		dies[i] = KVM_EXIT_SHUTDOWN;
		assert_int_equal(machine_pause(&m), -ESHUTDOWN);
		assert_int_equal(m.end, MACHINE_CRASHED);
		assert_int_equal(machine_pause(&m), -ESHUTDOWN);
		stop_machine();
	}
}

/** Whose fault is it? What a guest brings about is not the host's. */
static void test_internal_errors(void **state)
{
	static const struct {
		uint32_t suberror;
		enum machine_end end;
	} errors[] = {
		{KVM_INTERNAL_ERROR_EMULATION, MACHINE_CRASHED},
		{KVM_INTERNAL_ERROR_DELIVERY_EV, MACHINE_CRASHED},
		{KVM_INTERNAL_ERROR_SIMUL_EX, MACHINE_BROKEN},
		{KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, MACHINE_BROKEN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		start_machine();
		runs[0].internal.suberror = errors[i].suberror;
		dies[0] = KVM_EXIT_INTERNAL_ERROR;
		assert_int_equal(machine_pause(&m), -ESHUTDOWN);
		assert_int_equal(m.end, errors[i].end);
		assert_non_null(strstr(m.end_text, "internal error"));
		stop_machine();
	}
}

static void test_end_while_parked(void **state)
{
	(void)state;
	start_machine();
	assert_int_equal(machine_pause(&m), 0);
	stop_machine(); /* joins those that are parked */
}

static void test_no_capture_of_an_ended_guest(void **state)
{
	(void)state;
	start_machine();
	dies[1] = KVM_EXIT_SHUTDOWN;
	assert_int_equal(
		machine_capture(&m, &(struct capture_target){.fd = -1, .pagemap_fd = -1}, NULL),
		-ESHUTDOWN);
	stop_machine();
}

/* ---- MSRs ---- */

static void save(unsigned vcpu, uint64_t tsc_then, struct state_writer *ret)
{
	tsc.vcpu[vcpu] = tsc_then;
	assert_int_equal(kvcpu_save(&m.vcpus[vcpu], ret), 0);
}

static void load(unsigned vcpu, const struct state_writer *w)
{
	struct state_reader r = {.data = w->data, .left = w->used};

	assert_int_equal(kvcpu_load(&m.vcpus[vcpu], &r), 0);
	assert_int_equal(r.left, 0);
}

static void make_tsc(uint64_t age)
{
	tsc.last_write = tsc.machine = tsc.vcpu[0] = tsc.vcpu[1] = age;
}

static void test_msrs(void **state)
{
	const uint64_t then = 100 * TSC_HZ;
	struct state_writer w = {0};
	uint64_t saved[MSR_COUNT];

	(void)state;
	start_machine();
	for (uint32_t i = 0; i < MSR_COUNT; i++)
		msrs[i] = saved[i] = 0x100000000 + i;
	msr_calls = 0;
	save(0, then, &w);
	assert_true(msr_calls <= MSR_COUNT / 7 + 4);
	memset(msrs, 0, sizeof(msrs));
	make_tsc(0);
	load(0, &w);
	for (uint32_t i = 0; i < MSR_COUNT; i++)
		if (msr_index(i) != 0x10)
			assert_true(msrs[i] == (find_msr(0, msr_index(i)) ? saved[i] : 0));
	assert_int_equal(tsc.vcpu[0], then);
	state_writer_free(&w);
	stop_machine();
}

/** Whatever the machine's age is, the guest's time goes on from where it was; and its vCPUs agree,
 * though one was saved after the other, and one is loaded long after the other. */
static void test_time_goes_on(void **state)
{
	static const uint64_t ages[] = {0, 10 * TSC_HZ - TSC_HZ / 2, 10 * TSC_HZ,
					10 * TSC_HZ + TSC_HZ / 2, 20 * TSC_HZ};
	const uint64_t then = 10 * TSC_HZ;
	struct state_writer w[2] = {{0}, {0}};

	(void)state;
	start_machine();
	save(0, then, &w[0]);
	save(1, then + 30, &w[1]);
	for (size_t i = 0; i < ARRAY_SIZE(ages); i++) {
		make_tsc(ages[i]);
		load(0, &w[0]);
		assert_int_equal(tsc.vcpu[0], then);
		time_passes(5 * TSC_HZ);
		load(1, &w[1]);
		assert_int_equal(tsc.vcpu[0], then + 5 * TSC_HZ);
		assert_int_equal(tsc.vcpu[1], tsc.vcpu[0]);
	}
	state_writer_free(&w[0]);
	state_writer_free(&w[1]);
	stop_machine();
}

/* ---- interrupts ---- */

static const struct device *find_device(const char *name)
{
	for (size_t i = 0; i < kernel_devices.count; i++)
		if (!strcmp(kernel_devices.devices[i].name, name))
			return &kernel_devices.devices[i];
	fail_msg("no device %s", name);
	return NULL;
}

/** A pin that is high already would not notice that its device raises it again. */
static void test_no_pin_is_high_after_a_restore(void **state)
{
	struct kvm_irqchip saved = {.chip_id = KVM_IRQCHIP_IOAPIC};
	uint8_t zeros[sizeof(saved.chip)] = {0};
	struct state_writer w = {0};
	struct state_reader r;

	(void)state;
	start_machine();
	saved.chip.ioapic.irr = 0xffffff;
	saved.chip.ioapic.redirtbl[5].fields.vector = 0x31;
	for (unsigned i = 0; i < ARRAY_SIZE(irqchips); i++)
		state_put(&w, i == saved.chip_id ? (void *)&saved.chip : zeros, sizeof(zeros));
	r = (struct state_reader){.data = w.data, .left = w.used};
	assert_int_equal(find_device("irqchip")->load(&m, &r), 0);
	assert_int_equal(r.left, 0);
	assert_int_equal(irqchips[KVM_IRQCHIP_IOAPIC].chip.ioapic.irr, 0);
	assert_int_equal(irqchips[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[5].fields.vector, 0x31);
	state_writer_free(&w);
	stop_machine();
}

/* ---- machines that are none ---- */

/** A snapshot whose state says that its machine is of that kind. */
static int write_snapshot(char *path, uint64_t ram_bytes, uint32_t vcpus)
{
	const struct snapshot_params params = {
		.ram_pages = 16, .template_pages = 16, .guest_kind = GUEST_KIND_KERNEL};
	struct snapshot_writer *writer;
	struct state_writer w = {0};
	int fd = mkstemp(path), ret;

	state_put_u32(&w, 1);
	state_put_str(&w, "machine");
	state_put_u32(&w, 1);
	state_put_u32(&w, 0);
	state_put_u64(&w, ram_bytes);
	state_put_u32(&w, vcpus);
	ret = snapshot_writer_new(fd, &params, &writer);
	if (!ret)
		ret = snapshot_writer_section(writer, SNAPSHOT_SECTION_STATE, w.data, w.used);
	if (!ret)
		ret = snapshot_writer_finish(writer);
	snapshot_writer_free(writer);
	state_writer_free(&w);
	close(fd);
	return ret;
}

/** Return: its exit status. @ret_said: what it had to say */
static int restore_machine(uint64_t ram_bytes, uint32_t vcpus, char *ret_said, size_t size)
{
	char path[] = "/tmp/qt-machine-XXXXXX";
	int log = memfd_create("log", MFD_CLOEXEC), before = fcntl(2, F_DUPFD_CLOEXEC, 0), ret;
	struct snapshot_file file;
	const struct kernel_options options = {.restore = &file, .serial_fd = -1};

	assert_int_equal(write_snapshot(path, ram_bytes, vcpus), 0);
	assert_int_equal(snapshot_file_open(&file, path), 0);
	dup2(log, 2);
	ret = kernel_command(-1, &options);
	dup2(before, 2);
	memset(ret_said, 0, size);
	assert_true(pread(log, ret_said, size - 1, 0) > 0);
	snapshot_file_close(&file);
	unlink(path);
	close(before);
	close(log);
	return ret;
}

static void test_machines_that_are_none(void **state)
{
	static const struct {
		uint64_t ram_bytes;
		uint32_t vcpus;
	} machines[] = {
		{0, 1},
		{MIB(16), 1},
		{MIB(64) + 1, 1},
		{KERNEL_RAM_BYTES_MAX + PAGE_BYTES, 1},
		{UINT64_MAX, 1},
		{MIB(64), 0},
		{MIB(64), KERNEL_VCPUS_MAX + 1},
		{MIB(64), UINT32_MAX},
	};
	char said[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
		assert_int_equal(restore_machine(machines[i].ram_bytes, machines[i].vcpus, said,
						 sizeof(said)),
				 1);
		assert_non_null(strstr(said, "restore: /tmp/qt-machine-"));
		assert_non_null(strstr(said, "damaged snapshot"));
	}
	/* This one could be; it is the host that cannot. */
	assert_int_equal(restore_machine(MIB(64), 1, said, sizeof(said)), 2);
}

/* ---- a reader that goes away ---- */

static void test_broken_pipes_do_not_kill(void **state)
{
	const struct kernel_options options = {
		.memory_bytes = KERNEL_RAM_BYTES_MIN, .vcpus = 1, .serial_fd = -1};
	struct sigaction now;

	(void)state;
	signal(SIGPIPE, SIG_DFL);
	assert_int_equal(kernel_command(-1, &options), 2); /* no KVM here */
	assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0);
	assert_true(now.sa_handler == SIG_IGN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_end_during_pause),
		cmocka_unit_test(test_internal_errors),
		cmocka_unit_test(test_end_while_parked),
		cmocka_unit_test(test_no_capture_of_an_ended_guest),
		cmocka_unit_test(test_msrs),
		cmocka_unit_test(test_time_goes_on),
		cmocka_unit_test(test_no_pin_is_high_after_a_restore),
		cmocka_unit_test(test_machines_that_are_none),
		cmocka_unit_test(test_broken_pipes_do_not_kill),
	};

	log_init("test_kernel_machine", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
