/* SPDX-License-Identifier: Apache-2.0 */
/* test_event_recovery.c - accepted events are not lost by stops, kills, damage or a full disk */
#include "tests/unit/event_queue_fixture.h"

static void test_what_runs_when_snapd_stops_runs_again(void **state)
{
	(void)state;
	must_add(hello, "{\"n\": 6}");
	TURN_UNTIL(attempts_n == 1);
	event_queue_stop();
	end_attempt(&attempts[0], 503, false, "{}");
	end_queue();
	start_queue();
	assert_int_equal(depth(), 1);
	TURN_UNTIL(attempts_n == 1);
	assert_string_equal(attempts[0].request_id, last_id);
	assert_string_equal(attempts[0].payload, "{\"n\": 6}");
	/* An outcome that is not on disk yet is written at the end. */
	succeed(&attempts[0]);
	end_queue();
	start_queue();
	assert_int_equal(depth(), 0);
}

static void test_attempts_are_counted_over_a_restart(void **state)
{
	(void)state;
	must_add(hello, "1");
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(attempts_n == 2);
	fail_attempt(&attempts[1]);
	end_queue();
	start_queue();
	TURN_UNTIL(attempts_n == 1);
	fail_attempt(&attempts[0]);
	TURN_UNTIL(!depth());
	assert_int_equal(attempts_n, 1);
	assert_int_equal(event_queue_stats().counts.exhausted, 1);
}

enum { KILLED_EVENTS = 30 };

/** struct note - what the child that is killed says. */
struct note {
	char kind; /* 'a': accepted, 'e': its end is on disk */
	char request_id[40];
};

static int note_fd = -1;

static void tell(char kind, const char *request_id)
{
	struct note note = {.kind = kind};

	snprintf(note.request_id, sizeof(note.request_id), "%s", request_id);
	if (write_full(note_fd, &note, sizeof(note)))
		_exit(1);
}

static void on_added_tell(void *arg, const char *request_id, int err, const char *error)
{
	(void)arg;
	(void)error;
	if (!err)
		tell('a', request_id);
}

/** A snapd in a process of its own: accepts events and ends one after the other, until killed. */
static _Noreturn void serve_until_killed(unsigned seed)
{
	size_t ended = 0, depth_before;

	start_queue();
	for (int added = 0;;) {
		if (added < KILLED_EVENTS) {
			char *payload = strdup("{\"killed\": true}");

			event_queue_add(hello, "", "", payload, strlen(payload), on_added_tell,
					NULL);
			added++;
		}
		turn();
		if (ended == attempts_n || rand_r(&seed) % 2)
			continue;
		depth_before = depth();
		succeed(&attempts[ended]);
		while (depth() >= depth_before)
			turn();
		tell('e', attempts[ended++].request_id);
	}
}

static void test_kill_9_loses_none_and_none_runs_after_its_end(void **state)
{
	(void)state;
	end_queue();
	for (unsigned round = 0; round < 8; round++) {
		char over[KILLED_EVENTS * 9][40] = {{0}};
		char waiting[KILLED_EVENTS * 9][40] = {{0}};
		size_t over_n = 0, waiting_n = 0, found = 0;
		unsigned seed = round;
		struct note note;
		int fds[2], status, count = 0, target = 5 + rand_r(&seed) % 40;
		pid_t pid;

		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			note_fd = fds[1];
			close(fds[0]);
			serve_until_killed(seed);
		}
		close(fds[1]);
		while (read_full(fds[0], &note, sizeof(note)) == sizeof(note)) {
			char(*list)[40] = note.kind == 'a' ? waiting : over;
			size_t *n = note.kind == 'a' ? &waiting_n : &over_n;

			memcpy(list[(*n)++], note.request_id, 40);
			if (++count == target)
				kill(pid, SIGKILL);
		}
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		/* The next snapd runs everything that was accepted and is not over, and no more. */
		start_queue();
		for (size_t i = 0; depth(); i++) {
			TURN_UNTIL(attempts_n > i || !depth());
			if (attempts_n <= i)
				break;
			for (size_t j = 0; j < over_n; j++)
				assert_string_not_equal(attempts[i].request_id, over[j]);
			for (size_t j = 0; j < waiting_n; j++)
				found += !strcmp(attempts[i].request_id, waiting[j]);
			succeed(&attempts[i]);
		}
		/* The end of one may have been on disk before the child could say so. */
		assert_true(found + over_n == waiting_n || found + over_n + 1 == waiting_n);
		end_queue();
	}
	start_queue();
}

static void test_a_damaged_database_is_set_aside_and_its_events_run(void **state)
{
	CLEANUP_FD int fd = -1;
	char rubbish[64];

	(void)state;
	must_add(hello, "{\"n\": 7}");
	TURN_UNTIL(attempts_n == 1);
	end_queue();
	/* The header's counters and versions, after the magic string. */
	memset(rubbish, 0xff, sizeof(rubbish));
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, rubbish, sizeof(rubbish), 16), 0);
	start_queue();
	assert_int_equal(depth(), 0); /* nothing of it can be read */
	must_add(hello, "{\"n\": 8}");
	TURN_UNTIL(attempts_n == 1);
	succeed(&attempts[0]);
	TURN_UNTIL(!depth());
}

static void test_damage_that_is_found_later_ends_nothing(void **state)
{
	struct event_queue_params two = params;
	CLEANUP_FREE char *data = NULL;
	CLEANUP_FD int fd = -1;
	size_t n;
	char *at;

	(void)state;
	for (int i = 1; i <= 3; i++) {
		char payload[32];

		snprintf(payload, sizeof(payload), "{\"later\": %d}", i);
		must_add(other, payload);
	}
	end_queue();
	assert_int_equal(read_file(AT_FDCWD, path, 1 << 20, &data, &n), 0);
	at = memmem(data, n, "{\"later\": 2}", 12);
	assert_non_null(at);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite_full(fd, "9", 1, (uint64_t)(at - data) + 10), 0);
	params.concurrency = 1;
	start_queue();
	assert_int_equal(depth(), 3);
	for (size_t i = 0; i < 2; i++) {
		TURN_UNTIL(attempts_n == i + 1);
		assert_null(strstr(attempts[i].payload, "9"));
		succeed(&attempts[i]);
	}
	TURN_UNTIL(!depth());
	assert_int_equal(event_queue_stats().counts.lost, 1);
	params = two;
}

static void fill_disk(void)
{
	char block[4096] = {1}, file[160];
	CLEANUP_FD int fd = -1;

	snprintf(file, sizeof(file), "%s/ballast", dir);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
}

static void test_a_full_disk(void **state)
{
	char file[160];
	int err = 0;

	(void)state;
	end_queue();
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=2m")) {
		print_message("mounting a small file system: %s\n", strerror(errno));
		start_queue();
		skip();
	}
	params.destination_dir = "";
	start_queue();
	must_add(hello, "1");
	must_add(hello, "2");
	TURN_UNTIL(attempts_n == 2);
	fill_disk();
	/* A new one is refused, with the reason; outcomes are written when there is room. */
	assert_int_equal(add(hello, "", "3", &err), 0);
	TURN_UNTIL(err);
	assert_int_equal(err, -ENOSPC);
	succeed(&attempts[0]);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(depth(), 2);
	snprintf(file, sizeof(file), "%s/ballast", dir);
	assert_int_equal(unlink(file), 0);
	TURN_UNTIL(depth() == 1);
	succeed(&attempts[1]);
	TURN_UNTIL(!depth());
	end_queue();
	start_queue();
	assert_int_equal(depth(), 0);
	end_queue();
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	params.destination_dir = files;
	start_queue();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_runs_when_snapd_stops_runs_again),
		TEST(test_attempts_are_counted_over_a_restart),
		TEST(test_kill_9_loses_none_and_none_runs_after_its_end),
		TEST(test_a_damaged_database_is_set_aside_and_its_events_run),
		TEST(test_damage_that_is_found_later_ends_nothing),
		TEST(test_a_full_disk),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
