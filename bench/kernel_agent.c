/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_agent.c - this process in the vmm's place: the agent's other end, and the Runtime API's */
#include "bench/kernel_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"
#include "include/agent_proto.h"

enum { HTTP_BYTES_MAX = 64 << 10 };

/* ---------------------------------------------------------------- the agent */

/** The next message that is not output, which goes to stderr. @ret: AGENT_MESSAGE_MAX bytes */
static int get(struct kernel_guest *g, enum agent_type wanted, void *ret)
{
	struct agent_header *h = ret;

	do {
		if (read_full(g->control, h, sizeof(*h)) != sizeof(*h) || !agent_message_ok(h) ||
		    read_full(g->control, h + 1, h->bytes - sizeof(*h)) !=
			    (ssize_t)(h->bytes - sizeof(*h))) {
			fprintf(stderr, "bench: no message from the agent\n");
			return -EPROTO;
		}
		if (h->type == AGENT_LOG)
			write_full(STDERR_FILENO, (char *)ret + sizeof(struct agent_log),
				   h->bytes - sizeof(struct agent_log));
	} while (h->type == AGENT_LOG);
	if (h->type == wanted)
		return 0;
	fprintf(stderr, "bench: message %u of the agent instead of %u\n", h->type, wanted);
	return -EPROTO;
}

static _Alignas(8) char message[AGENT_MESSAGE_MAX];

int kernel_agent_await_ready(struct kernel_guest *g)
{
	return get(g, AGENT_READY, message);
}

/* What runs the bootstrap again on a new connection, as long as the API breaks off. */
static const char retrying_bootstrap[] = "import sys\n"
					 "sys.path.insert(0, '/var/runtime')\n"
					 "import bootstrap\n"
					 "while True:\n"
					 "    try:\n"
					 "        bootstrap.main()\n"
					 "    except OSError:\n"
					 "        pass\n";

int kernel_agent_start(struct kernel_guest *g, bool retry)
{
	const char *const argv[] = {"/usr/bin/python3", retry ? "-c" : "/var/runtime/bootstrap.py",
				    retrying_bootstrap};
	static const char *const envp[] = {
		"PATH=/usr/bin:/bin",
		"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001",
		"AWS_LAMBDA_FUNCTION_NAME=hello-python",
		"LAMBDA_TASK_ROOT=/var/task",
		"_HANDLER=app.handler",
	};
	const unsigned argc = retry ? 3 : 2;
	struct {
		struct agent_start start;
		char strings[1024];
	} msg = {.start = {{AGENT_START, 0}, argc, ARRAY_SIZE(envp), 0, 0}};
	size_t n = 0;

	for (size_t i = 0; i < argc + ARRAY_SIZE(envp); i++) {
		const char *text = i < argc ? argv[i] : envp[i - argc];

		memcpy(msg.strings + n, text, strlen(text) + 1);
		n += strlen(text) + 1;
	}
	msg.start.h.bytes = (uint32_t)(sizeof(msg.start) + n);
	return write_full(g->control, &msg, msg.start.h.bytes);
}

int kernel_agent_prepare(struct kernel_guest *g)
{
	struct agent_prepare msg = {{AGENT_PREPARE, sizeof(msg)}, AGENT_PREPARE_ZERO_FREE, 0};
	int err = write_full(g->control, &msg, sizeof(msg));

	return err ? err : get(g, AGENT_PREPARED, message);
}

int kernel_agent_resume(struct kernel_guest *g)
{
	struct agent_resumed msg = {.h = {AGENT_RESUMED, sizeof(msg)}, .wall_ns = clock_real_ns()};
	int err;

	if (getrandom(msg.random, sizeof(msg.random), 0) != sizeof(msg.random))
		return -EIO;
	err = write_full(g->control, &msg, sizeof(msg));
	return err ? err : get(g, AGENT_RESUMED_DONE, message);
}

/* ---------------------------------------------------------------- the Runtime API */

static char http[HTTP_BYTES_MAX + 1];

/** Read a request's head. Return: bytes in the buffer, of which @ret_head are the head; or -errno.
 */
static ssize_t read_request(struct kernel_guest *g, size_t *ret_head)
{
	size_t n = 0;

	for (;;) {
		ssize_t r = n < HTTP_BYTES_MAX ? read(g->api, http + n, HTTP_BYTES_MAX - n) : 0;
		const char *end;

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			fprintf(stderr, "bench: no request from the guest's runtime\n");
			return -EPROTO;
		}
		n += (size_t)r;
		http[n] = 0;
		end = strstr(http, "\r\n\r\n");
		if (end) {
			*ret_head = (size_t)(end - http) + 4;
			return (ssize_t)n;
		}
	}
}

int kernel_api_await_next(struct kernel_guest *g)
{
	size_t head;
	ssize_t n = read_request(g, &head);

	if (n < 0)
		return (int)n;
	if (!strncmp(http, "GET ", 4) && strstr(http, "/invocation/next"))
		return 0;
	fprintf(stderr, "bench: the guest's runtime says: %.200s\n", http);
	return -EPROTO;
}

int kernel_api_invoke(struct kernel_guest *g, const char *event)
{
	static char answer[4096];
	int n = snprintf(
		answer, sizeof(answer),
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		"Lambda-Runtime-Aws-Request-Id: 1\r\n"
		"Lambda-Runtime-Deadline-Ms: 9999999999999\r\nContent-Length: %zu\r\n\r\n%s",
		strlen(event), event);
	int err = write_full(g->api, answer, (size_t)n);
	const char *length;
	size_t head;
	ssize_t got;

	if (err)
		return err;
	got = read_request(g, &head);
	if (got < 0)
		return (int)got;
	length = strcasestr(http, "\r\nContent-Length:");
	if (!strstr(http, "/response HTTP") || !length) {
		fprintf(stderr, "bench: the guest's runtime says: %.200s\n", http);
		return -EPROTO;
	}
	/* The next request for work may be there already; what counts is this response's end. */
	for (size_t end = head + strtoul(length + 17, NULL, 10); (size_t)got < end;) {
		ssize_t r = end <= HTTP_BYTES_MAX ? read(g->api, http + got, end - (size_t)got) : 0;

		if (r <= 0)
			return -EPROTO;
		got += r;
	}
	return 0;
}
