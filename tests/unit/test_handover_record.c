/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_handover_record.c - what one snapd leaves to the next: written, read, damaged, hostile, and
 * of a snapd that was killed in the middle of writing
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "include/guest_abi.h"
#include "include/snapd_proto.h"
#include "snapd/handover_record.h"

/* docs/architecture.md: the header, then two copies a slot, each behind checksum and sequence. */
enum {
	HEADER_BYTES = 64,
	COPY_BYTES = 16 + sizeof(struct handover_instance),
	VERSION_AT = 8,
	COUNT_AT = 24,
	RESERVED_AT = 32,
};

static struct handover_instance instance(uint32_t n)
{
	struct handover_instance e = {
		.state = HANDOVER_IDLE,
		.proto_version = PROTO_VERSION,
		.pid = (int32_t)(1000 + n),
		.guest_kind = GUEST_KIND_PROCESS,
		.ram_mib = 1024,
		.ram_base = 0x7f0000000000 + n * PAGE_BYTES,
		.deadline_ns = n,
		.template_serial = 3,
		.function = "hello",
		.number = n,
	};

	snprintf(e.id, sizeof(e.id), "i%u", n);
	return e;
}

static struct handover_template template_of(uint64_t serial)
{
	return (struct handover_template){
		.serial = serial,
		.pages = 10,
		.function = "hello",
		.number = 1,
		.flags = HANDOVER_CURRENT,
	};
}

static struct handover_record *open_again(const struct handover_record *r)
{
	struct handover_record *again = NULL;
	const char *why;

	if (handover_record_open(handover_record_fd(r), &again, &why))
		fail_msg("%s", why);
	return again;
}

static void test_what_is_written_is_read(void **state)
{
	struct handover_instance e = instance(7), got, other = instance(8);
	struct handover_template t = template_of(3), got_t;
	struct handover_record *r, *again;

	(void)state;
	assert_int_equal(handover_record_new(5, &r), 0);
	handover_record_set_instance(r, 0, &e);
	handover_record_set_instance(r, HANDOVER_INSTANCES_MAX - 1, &e);
	handover_record_set_template(r, HANDOVER_TEMPLATES_MAX - 1, &t);
	again = open_again(r);
	assert_int_equal(handover_record_generation(again), 5);
	assert_false(handover_record_is_complete(again));
	handover_record_complete(r);
	assert_true(handover_record_is_complete(again));
	assert_true(handover_record_instance(again, 0, &got));
	assert_memory_equal(&got, &e, sizeof(e));
	assert_true(handover_record_instance(again, HANDOVER_INSTANCES_MAX - 1, &got));
	assert_false(handover_record_instance(again, 1, &got));
	assert_true(handover_record_template(again, HANDOVER_TEMPLATES_MAX - 1, &got_t));
	assert_memory_equal(&got_t, &t, sizeof(t));
	assert_false(handover_record_template(again, 0, &got_t));
	/* The last one written counts, however often. */
	for (int i = 0; i < 5; i++) {
		handover_record_set_instance(r, 0, i % 2 ? &e : &other);
		assert_true(handover_record_instance(again, 0, &got));
		assert_int_equal(got.pid, i % 2 ? e.pid : other.pid);
	}
	e.state = HANDOVER_NONE;
	handover_record_set_instance(r, 0, &e);
	assert_false(handover_record_instance(again, 0, &got));
	handover_record_free(again);
	handover_record_free(r);
	handover_record_free(NULL);
}

static void flip(int fd, uint64_t at, uint8_t bits)
{
	uint8_t byte;

	assert_int_equal(pread_full(fd, &byte, 1, at), 1);
	byte ^= bits;
	assert_int_equal(pwrite_full(fd, &byte, 1, at), 0);
}

/* Every byte of an entry: the entry is gone, or it is the one before; no byte is believed. */
static void test_a_torn_entry_is_the_one_before(void **state)
{
	struct handover_instance e = instance(1), next = instance(2), got;
	struct handover_record *r;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	handover_record_set_instance(r, 0, &e);
	handover_record_set_instance(r, 0, &next);
	for (uint32_t i = 0; i < COPY_BYTES; i++) { /* the second copy holds the later one */
		uint64_t at = HEADER_BYTES + COPY_BYTES + i;

		flip(handover_record_fd(r), at, 0x41);
		assert_true(handover_record_instance(r, 0, &got));
		assert_memory_equal(&got, &e, sizeof(e));
		flip(handover_record_fd(r), at, 0x41);
		assert_true(handover_record_instance(r, 0, &got));
		assert_memory_equal(&got, &next, sizeof(next));
	}
	flip(handover_record_fd(r), HEADER_BYTES + 20, 1);
	flip(handover_record_fd(r), HEADER_BYTES + COPY_BYTES + 20, 1);
	assert_false(handover_record_instance(r, 0, &got));
	handover_record_free(r);
}

/** Write one entry after the other, for ever: the state goes with the pid. */
static _Noreturn void write_for_ever(struct handover_record *r)
{
	struct handover_instance e = instance(1);

	for (uint32_t n = 0;; n++) {
		e.pid = (int32_t)(1000 + n % 1000);
		e.ram_base = (uint64_t)e.pid * PAGE_BYTES;
		e.call_serial = (uint32_t)e.pid;
		snprintf(e.request_id, sizeof(e.request_id), "%d", e.pid);
		handover_record_set_instance(r, 3, &e);
	}
}

static void test_killed_at_any_moment_it_is_whole(void **state)
{
	struct handover_instance got;
	struct handover_record *r, *again;
	bool seen = false;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	for (unsigned i = 0; i < 200; i++) {
		pid_t pid = fork();

		if (!pid)
			write_for_ever(r);
		usleep(200 + i * 7);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		again = open_again(r);
		if (handover_record_instance(again, 3, &got)) {
			assert_int_equal(got.ram_base, (uint64_t)got.pid * PAGE_BYTES);
			assert_int_equal(got.call_serial, got.pid);
			assert_int_equal(strtol(got.request_id, NULL, 10), got.pid);
			seen = true;
		} else {
			assert_false(seen); /* it had not begun */
		}
		handover_record_free(again);
	}
	assert_true(seen);
	handover_record_free(r);
}

/* ---- hostile --------------------------------------------------------------------------------- */

static void assert_refused(int fd, int error)
{
	struct handover_record *r = NULL;
	const char *why = NULL;

	assert_int_equal(handover_record_open(fd, &r, &why), error);
	assert_null(r);
	assert_non_null(why);
}

static void test_what_is_no_record_is_refused(void **state)
{
	CLEANUP_FD int empty = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CLEANUP_FD int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int shrinks = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CLEANUP_FD int zeros = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct handover_record *r;
	struct stat st;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	assert_int_equal(fstat(handover_record_fd(r), &st), 0);
	assert_int_equal(ftruncate(handover_record_fd(r), 4096), -1);
	assert_int_equal(ftruncate(shrinks, st.st_size), 0);
	assert_int_equal(ftruncate(zeros, st.st_size), 0);
	assert_int_equal(fcntl(zeros, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_refused(-1, -EBADMSG);
	assert_refused(file, -EBADMSG);
	assert_refused(shrinks, -EBADMSG);
	assert_refused(zeros, -EBADMSG);
	fcntl(empty, F_ADD_SEALS, F_SEAL_SHRINK);
	assert_refused(empty, -EBADMSG);
	handover_record_free(r);
}

/* A record of the right beginning that is cut off, also within the header. */
static void test_a_truncated_record_is_refused(void **state)
{
	uint8_t header[HEADER_BYTES];
	struct handover_record *r;
	struct stat st;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	assert_int_equal(fstat(handover_record_fd(r), &st), 0);
	assert_int_equal(pread_full(handover_record_fd(r), header, sizeof(header), 0),
			 sizeof(header));
	for (off_t size = 0; size < st.st_size + 4096; size += size < 128 ? 1 : st.st_size / 7) {
		CLEANUP_FD int cut = memfd_create("cut", MFD_CLOEXEC | MFD_ALLOW_SEALING);

		if (size == st.st_size)
			continue;
		assert_int_equal(pwrite_full(cut, header, sizeof(header), 0), 0);
		assert_int_equal(ftruncate(cut, size), 0);
		assert_int_equal(fcntl(cut, F_ADD_SEALS, F_SEAL_SHRINK), 0);
		assert_refused(cut, -EBADMSG);
	}
	handover_record_free(r);
}

static void test_other_headers_are_refused(void **state)
{
	struct handover_record *r;
	int fd;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	fd = handover_record_fd(r);
	flip(fd, VERSION_AT, 3);
	assert_refused(fd, -EPROTONOSUPPORT);
	flip(fd, VERSION_AT, 3);
	flip(fd, 0, 1);
	assert_refused(fd, -EBADMSG);
	flip(fd, 0, 1);
	flip(fd, COUNT_AT, 1);
	assert_refused(fd, -EBADMSG);
	flip(fd, COUNT_AT, 1);
	flip(fd, RESERVED_AT + 31, 1);
	assert_refused(fd, -EBADMSG);
	flip(fd, RESERVED_AT + 31, 1);
	handover_record_free(open_again(r));
	handover_record_free(r);
}

/* Entries with a right checksum whose fields are not what a snapd writes. */
static void test_hostile_entries_are_not_there(void **state)
{
	const struct handover_instance good = instance(1);
	struct handover_instance e = good, got;
	struct handover_template t = template_of(1), got_t;
	struct handover_record *r;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
#define REFUSED(change)                                                                            \
	do {                                                                                       \
		e = good;                                                                          \
		change;                                                                            \
		handover_record_set_instance(r, 0, &e);                                            \
		assert_false(handover_record_instance(r, 0, &got));                                \
	} while (0)
	REFUSED(e.state = HANDOVER_STATE_COUNT);
	REFUSED(e.state = UINT32_MAX);
	REFUSED(e.pid = 1);
	REFUSED(e.pid = -1);
	REFUSED(memset(e.id, 'i', sizeof(e.id)));
	REFUSED(strcpy(e.id, "../x"));
	REFUSED(strcpy(e.id, "i1/2"));
	REFUSED(strcpy(e.id, "i"));
	REFUSED(memset(e.function, 'f', sizeof(e.function)));
	REFUSED(strcpy(e.function, "../../etc"));
	REFUSED(e.function[0] = '\0');
	REFUSED(memset(e.request_id, 'r', sizeof(e.request_id)));
	REFUSED(e.ram_base++);
	REFUSED(e.flags = 2);
	REFUSED(e.reserved[7] = 1);
	REFUSED(e.guest_kind = 0);
	REFUSED(e.guest_kind = 3);
#undef REFUSED
	handover_record_set_instance(r, 0, &good);
	assert_true(handover_record_instance(r, 0, &got));
	t.function[0] = '/';
	handover_record_set_template(r, 0, &t);
	assert_false(handover_record_template(r, 0, &got_t));
	t = template_of(1);
	t.pages = 1ull << 40;
	handover_record_set_template(r, 0, &t);
	assert_false(handover_record_template(r, 0, &got_t));
	t = template_of(1);
	handover_record_set_template(r, 0, &t);
	assert_true(handover_record_template(r, 0, &got_t));
	handover_record_free(r);
}

static void test_cost(void **state)
{
	struct handover_instance e = instance(1);
	struct handover_record *r;
	uint64_t start;

	(void)state;
	assert_int_equal(handover_record_new(1, &r), 0);
	start = clock_mono_ns();
	for (unsigned i = 0; i < 100000; i++) {
		e.deadline_ns = i;
		handover_record_set_instance(r, i % 4, &e);
	}
	print_message("an entry: %u ns\n", (unsigned)((clock_mono_ns() - start) / 100000));
	handover_record_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(test_a_torn_entry_is_the_one_before),
		cmocka_unit_test(test_killed_at_any_moment_it_is_whole),
		cmocka_unit_test(test_what_is_no_record_is_refused),
		cmocka_unit_test(test_a_truncated_record_is_refused),
		cmocka_unit_test(test_other_headers_are_refused),
		cmocka_unit_test(test_hostile_entries_are_not_there),
		cmocka_unit_test(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
