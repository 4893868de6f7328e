/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_shell.c - when a kernel guest is invoked and captured, and what its agent has to have
 * said before; no KVM: the machine, the agent's stream and the clock follow a script */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "include/snapd_proto.h"
#include "snapshot-format/snapshot.h"
#include "vmm/capture.h"
#include "vmm/device.h"
#include "vmm/kernel/machine.h"
#include "vmm/kernel/shell.h"
#include "vmm/kernel/virtio_blk.h"
#include "vmm/kernel/wiring.h"
#include "vmm/working_set.h"

enum { STATE_BYTES = 64, STEPS_MAX = 16 };

/** What happens next to a machine that runs. */
enum step {
	GUEST_TURNS_OFF, /**< also behind the end of each script */
	SOCKET_IS_SERVED,
	AGENT_CONNECTS,
	AGENT_IS_LOST,
	AGENT_HAS_RESUMED,
	AGENT_HAS_PREPARED,
	TIME_IS_OVER,
};

/** struct scenario - of one life; shared with the process that lives it. */
static struct scenario {
	enum step script[STEPS_MAX];
	int next;
	bool connected;	   /**< when it was captured */
	bool runs_nothing; /**< and asks for no work */
	int disks;	   /**< that it has; the drives of the others are empty */
	int starts;	   /**< of programs */
	int diffs;	   /**< of the captures */
	int invocations;   /**< that came to the guest */
	int captures;	   /**< that were written */
	int too_early;	   /**< invocations before RESUMED_DONE, captures before PREPARED */
	int endless;	   /**< waits without a deadline that need one */
} * s;

static struct agent_link *agent;
static struct machine_watch watch;

/* ---- this file stands in for the machine, its devices and its agent ---- */

const struct device_table kernel_devices = {NULL, 0};

int machine_new(struct machine *m, int kvm_fd, const struct machine_config *config)
{
	(void)kvm_fd;
	(void)config;
	pthread_mutex_init(&m->lock, NULL);
	return 0;
}

int machine_make_threads(struct machine *m)
{
	(void)m;
	return 0;
}

int machine_boot(struct machine *m, const struct boot_linux *boot)
{
	(void)m;
	(void)boot;
	return 0;
}

int machine_restore(struct machine *m, const struct guest_image *image)
{
	(void)m;
	(void)image;
	agent->ready = s->connected;
	return 0;
}

int machine_start(struct machine *m)
{
	(void)m;
	return 0;
}

void machine_finish(struct machine *m, enum machine_end end, const char *fmt, ...)
{
	va_list ap;

	if (m->end)
		return;
	m->end = end;
	va_start(ap, fmt);
	vsnprintf(m->end_text, sizeof(m->end_text), fmt, ap);
	va_end(ap);
}

int machine_watch(struct machine *m, int fd, uint32_t events,
		  void (*event)(void *arg, int fd, uint32_t events), void *arg)
{
	(void)m;
	(void)events;
	watch = (struct machine_watch){fd, event, arg};
	return 0;
}

static void do_step(struct machine *m, enum step step)
{
	switch (step) {
	case GUEST_TURNS_OFF:
		machine_finish(m, MACHINE_OFF, "off");
		break;
	case SOCKET_IS_SERVED:
		if (watch.event)
			watch.event(watch.arg, watch.fd, 0);
		break;
	case AGENT_CONNECTS:
	case AGENT_IS_LOST:
		agent->ready = step == AGENT_CONNECTS;
		break;
	case AGENT_HAS_RESUMED:
		agent->resuming = false;
		break;
	case AGENT_HAS_PREPARED:
		agent->preparing = false;
		break;
	case TIME_IS_OVER:
		s->endless++;
		break;
	}
}

int machine_run(struct machine *m, bool (*until)(struct machine *m), uint64_t deadline_ns)
{
	while (!m->end && !until(m)) {
		enum step step = s->script[s->next++];

		if (step == TIME_IS_OVER && deadline_ns != UINT64_MAX)
			return -ETIMEDOUT;
		do_step(m, step);
	}
	return 0;
}

int machine_capture(struct machine *m, const struct capture_target *target,
		    struct capture_stats *ret_stats)
{
	(void)m;
	(void)ret_stats;
	s->captures++;
	s->diffs += target->base && !strcmp(target->base->name, "base");
	s->too_early += agent->preparing || target->fd < 0;
	return 0;
}

int machine_virtio_wiring(struct machine *m, struct virtio_wiring *ret)
{
	(void)m;
	memset(ret, 0, sizeof(*ret));
	return 0;
}

int machine_virtio_add(struct machine *m, struct virtio_device *d)
{
	(void)m;
	(void)d;
	return 0;
}

int virtio_blk_new(const struct virtio_wiring *w, const struct virtio_blk_options *o,
		   struct virtio_device **ret)
{
	(void)w;
	(void)o;
	*ret = NULL;
	return 0;
}

int virtio_blk_attach(struct virtio_device *d, const struct disk_options *o)
{
	(void)d;
	s->disks += o->base_fd >= 0;
	if (o->base_fd >= 0)
		close(o->base_fd);
	return 0;
}

int wiring_add(struct machine *m, const struct wiring_options *o, struct virtio_device **ret_vsock,
	       struct agent_identity *ret_who)
{
	(void)m;
	(void)o;
	(void)ret_who;
	*ret_vsock = NULL;
	return 0;
}

int working_set_read(const struct guest_mem *mem, int pagemap_fd, uint8_t *ret_marks)
{
	(void)mem;
	(void)pagemap_fd;
	(void)ret_marks;
	return -ENOTSUP;
}

int agent_link_new(struct agent_link *a, struct machine *m, struct virtio_device *vsock,
		   const struct runtime_api_events *events, void *guest)
{
	(void)m;
	(void)vsock;
	(void)events;
	(void)guest;
	agent = a;
	return 0;
}

void agent_link_start(struct agent_link *a, char *const *argv, char *const *envp)
{
	a->argv = argv;
	a->envp = envp;
	s->starts += argv && !strcmp(argv[0], "/bin/program") && !argv[1] &&
		     !strcmp(envp[0], "A=b") && !envp[1];
	s->too_early += a->resuming;
}

int agent_link_resume(struct agent_link *a)
{
	a->resuming = true;
	return a->ready ? 0 : -ENOTCONN;
}

int agent_link_prepare(struct agent_link *a)
{
	a->preparing = true;
	return a->ready ? 0 : -ENOTCONN;
}

bool runtime_api_parked(const struct runtime_api *api)
{
	(void)api;
	return !s->runs_nothing;
}

int runtime_api_invoke(struct runtime_api *api, const struct invocation *inv)
{
	(void)api;
	(void)inv;
	s->invocations++;
	s->too_early += agent->resuming;
	return 0;
}

void runtime_api_continue_restore(struct runtime_api *api)
{
	(void)api;
}

/* ---- this file is snapd ---- */

static int sock, peer;

static int setup(void **state)
{
	int socks[2];

	(void)state;
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(s, MAP_FAILED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), 0);
	sock = socks[0];
	peer = socks[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(sock);
	munmap(s, sizeof(*s));
	return 0;
}

static void send_with(struct proto_header *h, uint32_t type, size_t n, int file, int fd_count)
{
	const struct iovec iov = {h, n};
	int fds[FDPASS_FDS_MAX];

	for (int i = 0; i < FDPASS_FDS_MAX; i++)
		fds[i] = file;
	h->type = type;
	h->bytes = (uint32_t)n;
	assert_int_equal(fdpass_send(sock, &iov, 1, fds, fd_count), 0);
}

static void send_restore(void)
{
	static const uint8_t device_state[STATE_BYTES];
	struct proto_restore m = {.state_bytes = STATE_BYTES};
	int fd = memfd_from_buffer("state", device_state, STATE_BYTES);

	assert_true(fd >= 0);
	send_with(&m.h, PROTO_RESTORE, sizeof(m), fd, PROTO_DISK_COUNT + 2);
	close(fd);
}

static void send_invoke(void)
{
	static const char strings[] = "id\0arn\0trace\0context";
	struct {
		struct proto_invoke invoke;
		char strings[sizeof(strings)];
	} m = {.invoke = {.serial = 1}};

	memcpy(m.strings, strings, sizeof(strings));
	send_with(&m.invoke.h, PROTO_INVOKE, offsetof(typeof(m), strings) + sizeof(strings), -1, 0);
}

static void send_capture(void)
{
	struct proto_capture m = {.h = {0}};
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	send_with(&m.h, PROTO_CAPTURE, sizeof(m), fd, 2);
	close(fd);
}

/** All of its descriptors are of @fd. */
static void send_capture_on(int fd, uint32_t name_bytes, int fd_count)
{
	struct {
		struct proto_capture capture;
		char name[sizeof("base")];
	} m = {.capture = {.base_name_bytes = name_bytes}, .name = "base"};

	send_with(&m.capture.h, PROTO_CAPTURE, offsetof(typeof(m), name) + sizeof(m.name), fd,
		  fd_count);
}

/** A snapshot without a page. */
static int base_file(void)
{
	const struct snapshot_params params = {
		.ram_pages = 16, .template_pages = 16, .guest_kind = GUEST_KIND_KERNEL};
	struct snapshot_writer *w;
	int fd = memfd_create("base", MFD_CLOEXEC);

	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "state", 5), 0);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	return fd;
}

static void send_boot_of_a_base(int fd_count)
{
	struct proto_boot m = {.memory_bytes = MIB(128)};
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	send_with(&m.h, PROTO_BOOT, sizeof(m), fd, fd_count);
	close(fd);
}

static void send_start(void)
{
	static const char strings[] = "/bin/program\0A=b";
	struct {
		struct proto_start start;
		char strings[sizeof(strings)];
	} m = {.start = {.argc = 1, .envc = 1}};

	memcpy(m.strings, strings, sizeof(strings));
	send_with(&m.start.h, PROTO_START, sizeof(m), -1, 0);
}

/** The shell's life, in a process of its own: it has one. */
static void live(void)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		close(sock);
		if (kernel_shell_new(-1, MIB(128), 1))
			_exit(99);
		_exit(kernel_shell_serve(peer, -1));
	}
	close(peer);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 99);
	assert_int_equal(s->endless, 0);
	assert_int_equal(s->too_early, 0);
}

/** The next message of @type. Return: its text or, of CAPTURED, what went wrong. */
static const char *next_text(uint32_t type, int *ret_error)
{
	static union {
		struct proto_header h;
		struct proto_captured captured;
		struct proto_failed failed;
		char bytes[4096];
	} u;
	int fds[FDPASS_FDS_MAX], count;

	memset(&u, 0, sizeof(u));
	do
		assert_true(fdpass_recv(sock, &u, sizeof(u) - 1, fds, &count, MSG_DONTWAIT) > 0);
	while (u.h.type != type);
	*ret_error = u.captured.error;
	return u.bytes + sizeof(u.failed);
}

static void set_script(const enum step *steps, size_t count)
{
	assert_true(count < STEPS_MAX);
	memcpy(s->script, steps, count * sizeof(*steps));
}

#define SCRIPT(...)                                                                                \
	set_script((const enum step[]){__VA_ARGS__}, ARRAY_SIZE(((const enum step[]){__VA_ARGS__})))

/* ---- tests ---- */

static void test_invoked_when_resumed(void **state)
{
	(void)state;
	s->connected = true;
	SCRIPT(SOCKET_IS_SERVED, AGENT_HAS_RESUMED, SOCKET_IS_SERVED);
	send_restore();
	send_invoke();
	live();
	assert_int_equal(s->invocations, 1);
}

static void test_stream_breaks_after_the_restore(void **state)
{
	(void)state;
	s->connected = true;
	SCRIPT(AGENT_IS_LOST, SOCKET_IS_SERVED, AGENT_CONNECTS, SOCKET_IS_SERVED, AGENT_HAS_RESUMED,
	       SOCKET_IS_SERVED);
	send_restore();
	send_invoke();
	live();
	assert_int_equal(s->invocations, 1);
}

static void test_captured_without_a_stream(void **state)
{
	(void)state;
	SCRIPT(SOCKET_IS_SERVED, AGENT_CONNECTS, SOCKET_IS_SERVED, AGENT_HAS_RESUMED,
	       SOCKET_IS_SERVED);
	send_restore();
	send_invoke();
	live();
	assert_int_equal(s->invocations, 1);
}

static void test_never_resumed(void **state)
{
	int error;

	(void)state;
	SCRIPT(SOCKET_IS_SERVED, TIME_IS_OVER, SOCKET_IS_SERVED);
	send_restore();
	send_invoke();
	live();
	assert_int_equal(s->invocations, 0);
	assert_non_null(strstr(next_text(PROTO_FAILED, &error), "agent, not connected,"));
}

static void test_capture_waits_for_the_agent(void **state)
{
	int error;

	(void)state;
	s->connected = true;
	SCRIPT(AGENT_HAS_RESUMED, AGENT_IS_LOST, SOCKET_IS_SERVED, AGENT_CONNECTS, AGENT_IS_LOST,
	       AGENT_CONNECTS, AGENT_HAS_PREPARED);
	send_restore();
	send_capture();
	live();
	assert_int_equal(s->captures, 1);
	next_text(PROTO_CAPTURED, &error);
	assert_int_equal(error, 0);
}

/* It is no file then, but the guest is as it was. */
static void test_never_prepared(void **state)
{
	int error;

	(void)state;
	s->connected = true;
	SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED, AGENT_IS_LOST, TIME_IS_OVER, AGENT_HAS_PREPARED,
	       SOCKET_IS_SERVED, GUEST_TURNS_OFF);
	send_restore();
	send_capture();
	live();
	assert_int_equal(s->captures, 0);
	next_text(PROTO_CAPTURED, &error);
	assert_int_equal(error, -ETIMEDOUT);
	assert_string_equal(next_text(PROTO_FAILED, &error), "off");
}

/* ---- bases ---- */

static void test_a_base_is_captured_when_its_agent_is_there(void **state)
{
	int error;

	(void)state;
	s->runs_nothing = true;
	SCRIPT(AGENT_CONNECTS, SOCKET_IS_SERVED, AGENT_HAS_PREPARED);
	send_boot_of_a_base(1 + 2);
	send_capture();
	live();
	assert_int_equal(s->disks, 1);
	assert_int_equal(s->starts, 0);
	assert_int_equal(s->captures, 1);
	assert_int_equal(s->diffs, 0);
	next_text(PROTO_READY, &error);
	next_text(PROTO_CAPTURED, &error);
	assert_int_equal(error, 0);
}

static void test_a_base_has_one_disk(void **state)
{
	int error;

	(void)state;
	send_boot_of_a_base(PROTO_DISK_COUNT + 2);
	live();
	assert_int_equal(s->disks, 0);
	assert_non_null(strstr(next_text(PROTO_FAILED, &error), "boot failed"));
}

static void test_a_restored_base_is_started(void **state)
{
	(void)state;
	s->connected = s->runs_nothing = true;
	SCRIPT(SOCKET_IS_SERVED, AGENT_HAS_RESUMED, SOCKET_IS_SERVED);
	send_restore();
	send_start();
	live();
	assert_int_equal(s->disks, PROTO_DISK_COUNT);
	assert_int_equal(s->starts, 1);
}

static void test_nothing_is_started_twice(void **state)
{
	int error;

	(void)state;
	s->connected = s->runs_nothing = true;
	SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED);
	send_restore();
	send_start();
	send_start();
	live();
	assert_int_equal(s->starts, 1);
	assert_string_equal(next_text(PROTO_FAILED, &error), "START: Device or resource busy");
}

static void test_nothing_is_started_beside_a_function(void **state)
{
	int error;

	(void)state;
	s->connected = true;
	SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED);
	send_restore();
	send_start();
	live();
	assert_int_equal(s->starts, 0);
	assert_string_equal(next_text(PROTO_FAILED, &error), "START: Device or resource busy");
}

static void test_captured_as_a_diff(void **state)
{
	int base = base_file(), error;

	(void)state;
	s->connected = true;
	SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED, AGENT_HAS_PREPARED);
	send_restore();
	send_capture_on(base, sizeof("base"), 3);
	live();
	close(base);
	assert_int_equal(s->captures, 1);
	assert_int_equal(s->diffs, 1);
	next_text(PROTO_CAPTURED, &error);
	assert_int_equal(error, 0);
}

static void test_a_base_that_is_no_snapshot(void **state)
{
	int file = memfd_from_buffer("file", "not a snapshot", 14), error;

	(void)state;
	s->connected = true;
	SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED, AGENT_HAS_PREPARED);
	send_restore();
	send_capture_on(file, sizeof("base"), 3);
	live();
	close(file);
	assert_int_equal(s->captures, 0);
	next_text(PROTO_CAPTURED, &error);
	assert_int_not_equal(error, 0);
}

static void test_half_of_a_base(void **state)
{
	static const struct {
		uint32_t name_bytes;
		int fd_count;
	} halves[] = {{sizeof("base"), 2}, {0, 3}, {sizeof("base") - 1, 3}, {UINT32_MAX, 3}};

	for (size_t i = 0; i < ARRAY_SIZE(halves); i++) {
		int fd = memfd_from_buffer("file", "x", 1), error;

		if (i) {
			teardown(state);
			setup(state);
		}
		s->connected = true;
		SCRIPT(AGENT_HAS_RESUMED, SOCKET_IS_SERVED, AGENT_HAS_PREPARED);
		send_restore();
		send_capture_on(fd, halves[i].name_bytes, halves[i].fd_count);
		live();
		close(fd);
		assert_int_equal(s->captures, 0);
		assert_non_null(strstr(next_text(PROTO_FAILED, &error), "CAPTURE without"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_invoked_when_resumed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream_breaks_after_the_restore, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_captured_without_a_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_resumed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capture_waits_for_the_agent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_prepared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_base_is_captured_when_its_agent_is_there,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_base_has_one_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_restored_base_is_started, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_started_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_started_beside_a_function, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_captured_as_a_diff, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_base_that_is_no_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_of_a_base, setup, teardown),
	};

	log_init("test_kernel_shell", NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
