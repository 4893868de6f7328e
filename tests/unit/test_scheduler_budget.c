/* SPDX-License-Identifier: Apache-2.0 */
/* test_scheduler_budget.c - what may be started and kept: budget, host memory, provisioned
 * instances, pre-warming, predictions */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/budget.h"
#include "snapd/capacity.h"
#include "snapd/host_memory.h"
#include "snapd/keep.h"
#include "snapd/prewarm.h"
#include "snapd/provision.h"

#define MS NSEC_PER_MSEC
#define S  NSEC_PER_SEC

/* ---- budget ---------------------------------------------------------------------------------- */

static struct budget_view roomy(void)
{
	return (struct budget_view){
		.limit_bytes = MIB(1000),
		.used_bytes = MIB(400),
		.available_bytes = MIB(3000),
		.reserve_bytes = MIB(200),
		.instances = 5,
		.instances_max = 10,
	};
}

static void test_nothing_starts_outside_of_the_budget(void **state)
{
	struct budget_view v = roomy();

	(void)state;
	assert_int_equal(budget_decide(&v, MIB(600)), BUDGET_ROOM);
	assert_int_equal(budget_decide(&v, MIB(600) + 1), BUDGET_MEMORY);
	v.used_bytes = MIB(1001);
	assert_int_equal(budget_decide(&v, 0), BUDGET_MEMORY);
	v = roomy();
	v.instances = 10;
	assert_int_equal(budget_decide(&v, 1), BUDGET_INSTANCES);
	/* What the host has left counts, too, and its reserve is not ours. */
	v = roomy();
	v.available_bytes = MIB(299);
	assert_int_equal(budget_decide(&v, MIB(100)), BUDGET_MEMORY);
	v.available_bytes = MIB(300);
	assert_int_equal(budget_decide(&v, MIB(100)), BUDGET_ROOM);
	v.available_bytes = UINT64_MAX; /* not known */
	assert_int_equal(budget_decide(&v, MIB(100)), BUDGET_ROOM);
	/* Alone, it is served, whatever it takes. */
	v.instances = 0;
	v.used_bytes = MIB(5000);
	assert_int_equal(budget_decide(&v, MIB(9000)), BUDGET_ROOM);
}

static void test_what_is_too_much_is_given_back(void **state)
{
	struct budget_view v = roomy();

	(void)state;
	assert_int_equal(budget_excess(&v), 0);
	v.used_bytes = MIB(1010);
	assert_int_equal(budget_excess(&v), MIB(10));
	v.available_bytes = MIB(150);
	assert_int_equal(budget_excess(&v), MIB(50));
}

/* ---- what the host has ----------------------------------------------------------------------- */

static char root[] = "/tmp/test_budget.XXXXXX";

static void put(const char *path, const char *text)
{
	char full[512], command[600];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	snprintf(command, sizeof(command), "mkdir -p $(dirname %s)", full);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_host_memory_is_the_tighter_of_host_and_cgroups(void **state)
{
	struct host_memory m;

	(void)state;
	assert_int_equal(host_memory_read(root, &m), -ENOENT);
	put("proc/meminfo", "MemTotal:       8000 kB\nMemFree: 1 kB\nMemAvailable:   6000 kB\n");
	assert_int_equal(host_memory_read(root, &m), 0);
	assert_int_equal(m.total_bytes, KIB(8000));
	assert_int_equal(m.available_bytes, KIB(6000));
	assert_int_equal(m.stall_us, 0);
	put("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\n"
				    "full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n");
	put("proc/self/cgroup", "0::/system.slice/snapd.service\n");
	put("sys/fs/cgroup/system.slice/snapd.service/memory.max", "max\n");
	put("sys/fs/cgroup/system.slice/snapd.service/memory.current", "4096\n");
	assert_int_equal(host_memory_read(root, &m), 0);
	assert_int_equal(m.total_bytes, KIB(8000));
	assert_int_equal(m.stall_us, 1234);
	/* The one above limits it as well. */
	put("sys/fs/cgroup/system.slice/memory.max", "4096000\n");
	put("sys/fs/cgroup/system.slice/memory.current", "1024000\n");
	assert_int_equal(host_memory_read(root, &m), 0);
	assert_int_equal(m.total_bytes, 4096000);
	assert_int_equal(m.available_bytes, 3072000);
	put("sys/fs/cgroup/system.slice/memory.current", "5000000\n"); /* over it for a moment */
	assert_int_equal(host_memory_read(root, &m), 0);
	assert_int_equal(m.available_bytes, 0);
	/* A container sees its own limit at the root. */
	put("proc/self/cgroup", "0::/\n");
	put("sys/fs/cgroup/memory.max", "2048000\n");
	put("sys/fs/cgroup/memory.current", "48000\n");
	assert_int_equal(host_memory_read(root, &m), 0);
	assert_int_equal(m.total_bytes, 2048000);
	assert_int_equal(m.available_bytes, 2000000);
}

static struct function *make_function(void)
{
	struct function *f = function_new("f");

	assert_non_null(f);
	f->latest.settings.env = json_object();
	return f;
}

/* ---- idle instances -------------------------------------------------------------------------- */

static void idle(struct instance *inst, struct version *v, uint64_t until_ns)
{
	*inst = (struct instance){.state = INSTANCE_IDLE, .version = v};
	keep_add(inst, until_ns);
}

static void test_the_newest_serves_and_the_oldest_goes(void **state)
{
	struct function *f = make_function();
	struct version *a = &f->latest, *b = function_add_version(f, 1);
	static struct instance list[4];

	(void)state;
	assert_null(keep_take(a, 0));
	assert_null(keep_oldest());
	idle(&list[0], a, 100);
	idle(&list[1], b, 100);
	idle(&list[2], a, 100);
	assert_int_equal(keep_count(), 3);
	assert_ptr_equal(keep_take(a, 50), &list[2]);
	assert_ptr_equal(keep_take(b, 50), &list[1]);
	assert_null(keep_take(a, 100)); /* its time is over */
	assert_ptr_equal(keep_oldest(), &list[0]);
	keep_left(&list[0]);
	keep_left(&list[0]); /* once is enough */
	assert_ptr_equal(keep_oldest(), &list[1]);

	/* Who is provisioned serves first, has no end and is no victim. */
	list[3] = (struct instance){.state = INSTANCE_IDLE, .version = a, .provisioned = true};
	keep_add(&list[3], UINT64_MAX);
	assert_ptr_equal(keep_take(a, 1000000), &list[3]);
	keep_left(&list[1]);
	keep_left(&list[2]);
	assert_null(keep_oldest());
	assert_int_equal(a->idle.provisioned_count, 1);
	keep_left(&list[3]);
	assert_null(keep_take(a, 0));
	assert_int_equal(keep_count(), 0);
	function_put(f);
}

/* ---- provisioned concurrency ----------------------------------------------------------------- */

static void test_provisioned_instances_are_made_and_let_go(void **state)
{
	(void)state;
	assert_int_equal(provision_decide(2, 1, 0, 10), PROVISION_START);
	assert_int_equal(provision_decide(2, 2, 0, 10), PROVISION_REST);
	assert_int_equal(provision_decide(2, 3, 99, 10), PROVISION_RELEASE);
	assert_int_equal(provision_decide(0, 1, 0, 10), PROVISION_RELEASE);
	/* Not again and again what has failed just now. */
	assert_int_equal(provision_decide(2, 0, 11, 10), PROVISION_REST);
	assert_int_equal(provision_decide(2, 0, 10, 10), PROVISION_START);
	assert_int_equal(provision_backoff_ns(0), 0);
	assert_int_equal(provision_backoff_ns(1), S);
	assert_int_equal(provision_backoff_ns(3), 4 * S);
	assert_int_equal(provision_backoff_ns(1000), 60 * S);
}

static void test_provisioned_status_is_lambdas(void **state)
{
	struct function *f = make_function();
	struct version *v = function_add_version(f, 1);
	struct provision_status s;

	(void)state;
	v->state = VERSION_ACTIVE;
	s = scheduler_provisioned_status(f, "1", 3);
	assert_string_equal(provision_state_names[s.state], "IN_PROGRESS");
	v->load.provision.live = 2;
	v->load.provision.failures = 3;
	snprintf(v->load.provision.reason, sizeof(v->load.provision.reason), "no room");
	s = scheduler_provisioned_status(f, "1", 3);
	assert_string_equal(provision_state_names[s.state], "FAILED");
	assert_string_equal(s.reason, "no room");
	assert_int_equal(s.available, 2);
	v->load.provision.live = 4;
	s = scheduler_provisioned_status(f, "1", 3);
	assert_string_equal(provision_state_names[s.state], "READY");
	assert_int_equal(s.available, 3);
	s = scheduler_provisioned_status(f, "2", 3);
	assert_int_equal(s.available, 0);
	assert_string_equal(provision_state_names[s.state], "FAILED");
	function_put(f);
}

/* ---- pre-warming ----------------------------------------------------------------------------- */

static void test_what_is_likely_and_missing_is_loaded(void **state)
{
	(void)state;
	assert_true(prewarm_wanted(50, false, MIB(10), MIB(10)));
	assert_false(prewarm_wanted(49, false, MIB(10), MIB(1)));
	assert_false(prewarm_wanted(100, true, MIB(10), MIB(1)));
	assert_false(prewarm_wanted(100, false, MIB(10), MIB(11)));
}

/* ---- predictions ----------------------------------------------------------------------------- */

static struct capacity_view known(void)
{
	return (struct capacity_view){
		.shells = 1,
		.resident = true,
		.page_bytes = 1000,
		.warm_ns = 1 * MS,
		.resident_ns = 4 * MS,
		.host_resident_ns = 9 * MS,
		.shell_ns = 12 * MS,
		.read_ns = 2 * MS,
		.read_bytes = 100000,
		.decode_ns = 5000,
	};
}

static void test_capacity_adds_up_what_is_missing(void **state)
{
	struct capacity_view v = known();
	struct capacity_estimate e;

	(void)state;
	v.idle = true;
	e = capacity_predict(&v);
	assert_int_equal(e.start, START_WARM);
	assert_int_equal(e.start_ns, 0);
	assert_int_equal(e.total_ns, 1 * MS);
	v.idle = false;
	e = capacity_predict(&v);
	assert_int_equal(e.start, START_RESIDENT);
	assert_int_equal(e.start_ns, 3 * MS);
	assert_int_equal(e.total_ns, 4 * MS);
	v.shells = 0;
	assert_int_equal(capacity_predict(&v).start_ns, 15 * MS);
	v.shells = 1;
	v.resident = false;
	v.missing_pages = 600; /* 600,000 bytes are six reads of 2 ms; decoding takes 3 ms */
	e = capacity_predict(&v);
	assert_int_equal(e.start, START_COLD);
	assert_int_equal(e.start_ns, 15 * MS);
	v.read_ns = 100000; /* a fast disk: now decoding counts */
	assert_int_equal(capacity_predict(&v).start_ns, 6 * MS);
	v.missing_pages = 60; /* most of it is there */
	assert_int_equal(capacity_predict(&v).start_ns, 3 * MS + 300000);
	v.resident_ns = 0; /* never seen: as others do here */
	assert_int_equal(capacity_predict(&v).start_ns, 8 * MS + 300000);
	v.wait_ns = 20 * MS;
	e = capacity_predict(&v);
	assert_int_equal(e.total_ns, 29 * MS + 300000);
	v = (struct capacity_view){.boots = true, .boot_ns = 90 * MS, .shells = 1};
	e = capacity_predict(&v);
	assert_int_equal(e.start, START_BOOT);
	assert_int_equal(e.total_ns, 90 * MS);
	v = (struct capacity_view){.missing_pages = 10}; /* nothing is known */
	assert_int_equal(capacity_predict(&v).start_ns, 0);
}

/* ---- what an instance has taken -------------------------------------------------------------- */

/** As a vmm has its guest's memory: a template's, mapped privately, and some of its own. */
static void test_own_memory_is_what_nobody_shares(void **state)
{
	enum { TEMPLATE = 400, WRITTEN = 50, NEW = 300 };
	int fd = memfd_create("template", MFD_CLOEXEC);
	uint64_t before, own_before, after, own_after;
	volatile char *map, *anonymous, sum = 0;

	(void)state;
	assert_int_equal(ftruncate(fd, TEMPLATE * PAGE_BYTES), 0);
	for (off_t i = 0; i < TEMPLATE; i++)
		assert_int_equal(pwrite(fd, "x", 1, i * PAGE_BYTES), 1);
	map = mmap(NULL, TEMPLATE * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	anonymous = mmap(NULL, NEW * PAGE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(host_memory_of_process(getpid(), &before, &own_before), 0);
	for (size_t i = 0; i < TEMPLATE; i++)
		sum += map[i * PAGE_BYTES];
	for (size_t i = 0; i < WRITTEN; i++)
		map[i * PAGE_BYTES] = sum;
	for (size_t i = 0; i < NEW; i++)
		anonymous[i * PAGE_BYTES] = 1;
	assert_int_equal(host_memory_of_process(getpid(), &after, &own_after), 0);
	/* The kernel may be some pages behind: it counts by thread and CPU. */
	assert_in_range(after - before, TEMPLATE + NEW - 160, TEMPLATE + NEW + 160);
	assert_in_range(own_after - own_before, WRITTEN + NEW - 160, WRITTEN + NEW + 160);
	assert_int_equal(host_memory_of_process(0, &after, &own_after), -ENOENT);
	close(fd);
}

static void test_memory_that_an_instance_has_for_itself_is_learnt(void **state)
{
	struct template t = {.refs = 1};
	struct version v = {.snapshot = {.resident_bytes = MIB(100),
					 .working_set_pages = MIB(10) / PAGE_BYTES}};
	struct instance inst = {.kind = GUEST_KIND_PROCESS, .version = &v, .template = &t};

	(void)state;
	/* All frames of a process guest, those of its template too. */
	scheduler_learn_memory(&inst, MIB(130), 0);
	assert_int_equal(v.load.private_bytes, MIB(40));
	assert_int_equal(inst.charge_bytes, BUDGET_SHELL_BYTES + MIB(40));
	/* A kernel guest that has touched 20 MiB of its template, and taken 90 MiB. */
	v.load.private_bytes = 0;
	inst.kind = GUEST_KIND_KERNEL;
	scheduler_learn_memory(&inst, MIB(110), MIB(90));
	assert_int_equal(v.load.private_bytes, MIB(90));
	assert_int_equal(inst.charge_bytes, BUDGET_SHELL_BYTES + MIB(90));
	/* Less than what the snapshot has is its own all the same. */
	scheduler_learn_memory(&inst, MIB(60), MIB(30));
	assert_int_equal(v.load.private_bytes, MIB(90));
	assert_int_equal(inst.charge_bytes, BUDGET_SHELL_BYTES + MIB(30));
	scheduler_learn_memory(&inst, 0, 0); /* nobody knows */
	assert_int_equal(inst.charge_bytes, BUDGET_SHELL_BYTES + MIB(30));
	budget_charge(&inst, 0);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command); /* NOLINT(cert-env33-c) */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_starts_outside_of_the_budget),
		cmocka_unit_test(test_what_is_too_much_is_given_back),
		cmocka_unit_test(test_host_memory_is_the_tighter_of_host_and_cgroups),
		cmocka_unit_test(test_the_newest_serves_and_the_oldest_goes),
		cmocka_unit_test(test_provisioned_instances_are_made_and_let_go),
		cmocka_unit_test(test_provisioned_status_is_lambdas),
		cmocka_unit_test(test_what_is_likely_and_missing_is_loaded),
		cmocka_unit_test(test_capacity_adds_up_what_is_missing),
		cmocka_unit_test(test_own_memory_is_what_nobody_shares),
		cmocka_unit_test(test_memory_that_an_instance_has_for_itself_is_learnt),
	};

	return cmocka_run_group_tests_name("scheduler_budget", tests, setup, teardown);
}
