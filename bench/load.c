/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - many HTTP requests at once, from one thread
 *
 * The generator shares the CPUs with what it measures, so it must cost little: one epoll, buffers
 * in fixed tables, answers read by http_parser. Each request says its number and the function says
 * it back; request ids are remembered, so that an answer given twice, or to somebody else, is seen.
 */
#include "bench/load.h"

#include <errno.h>
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"

static const char id_header[] = "X-Amzn-RequestId";

enum { BODY_MAX = 256, ID_MAX = 36, EVENTS_MAX = 64, QUIET_S = 120, PRIORITY = -15 };

/** struct connection - at most one request at a time. @number: of the request; @due_ns: when it was
 * to be sent. */
struct connection {
	int fd;
	bool busy, answered;
	char field[32]; /* of the header that is being read, as far as it has come */
	size_t field_bytes;
	bool in_value;
	unsigned number;
	uint64_t due_ns;
	http_parser parser;
	char body[BODY_MAX + 1];
	size_t body_bytes;
	char id[ID_MAX + 1];
	size_t id_bytes;
};

/** struct load - one run. @ids: hashes of request ids, an open table of @id_slots (a power of 2).
 */
struct load {
	const struct load_plan *plan;
	struct load_result *result;
	int epoll;
	struct connection *connections;
	unsigned *idle; /* numbers of connections, a stack */
	unsigned idle_count;
	unsigned sent, answered;
	size_t ms_size;
	uint64_t *ids;
	size_t id_slots;
	uint64_t begin_ns, end_ns;
	http_parser_settings settings;
};

/* ---- answers --------------------------------------------------------------------------------- */

static int on_header_field(http_parser *parser, const char *at, size_t n)
{
	struct connection *c = parser->data;

	if (c->in_value)
		c->field_bytes = 0;
	c->in_value = false;
	n = MIN(n, sizeof(c->field) - c->field_bytes);
	memcpy(c->field + c->field_bytes, at, n);
	c->field_bytes += n;
	return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t n)
{
	struct connection *c = parser->data;

	c->in_value = true;
	n = MIN(n, (size_t)ID_MAX - c->id_bytes);
	if (c->field_bytes == strlen(id_header) &&
	    !strncasecmp(c->field, id_header, c->field_bytes)) {
		memcpy(c->id + c->id_bytes, at, n);
		c->id_bytes += n;
	}
	return 0;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
	struct connection *c = parser->data;

	n = MIN(n, (size_t)BODY_MAX - c->body_bytes);
	memcpy(c->body + c->body_bytes, at, n);
	c->body_bytes += n;
	return 0;
}

static int on_complete(http_parser *parser)
{
	struct connection *c = parser->data;

	c->answered = true;
	return 0;
}

static uint64_t hash_of(const char *text)
{
	uint64_t h = 14695981039346656037ull; /* FNV-1a */

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 1099511628211ull;
	return h ? h : 1;
}

/** Return: false when this id was seen before. */
static bool id_is_new(struct load *l, const char *id)
{
	uint64_t h = hash_of(id);
	size_t slot = h & (l->id_slots - 1);

	for (; l->ids[slot]; slot = (slot + 1) & (l->id_slots - 1))
		if (l->ids[slot] == h)
			return false;
	l->ids[slot] = h;
	return true;
}

static void count_answer(struct load *l, struct connection *c)
{
	struct load_result *r = l->result;
	char wanted[32];

	snprintf(wanted, sizeof(wanted), "#%u#", c->number);
	c->body[c->body_bytes] = '\0';
	c->id[c->id_bytes] = '\0';
	if (c->parser.status_code == 429) {
		r->throttled++;
	} else if (c->parser.status_code != 200 || !strstr(c->body, wanted)) {
		if (!r->failed++)
			fprintf(stderr, "bench: request %u: status %u: %s\n", c->number,
				c->parser.status_code, c->body);
	} else if (!id_is_new(l, c->id)) {
		r->duplicated++;
	} else if (r->ok < l->ms_size) {
		r->ms[r->ok++] = (double)(clock_mono_ns() - c->due_ns) / 1e6;
	}
}

/* ---- connections ----------------------------------------------------------------------------- */

static int connect_one(struct load *l, struct connection *c)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", l->plan->socket_path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) ||
	    epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event)) {
		int err = -errno;

		fprintf(stderr, "bench: %s: %s\n", l->plan->socket_path, strerror(-err));
		return err;
	}
	http_parser_init(&c->parser, HTTP_RESPONSE);
	c->parser.data = c;
	return 0;
}

static void disconnect(struct load *l, struct connection *c)
{
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	close(c->fd);
	c->fd = -1;
}

static void start_of_answer(struct connection *c)
{
	c->busy = true;
	c->answered = false;
	c->body_bytes = c->id_bytes = c->field_bytes = 0;
}

static int send_one(struct load *l, uint64_t due_ns)
{
	const struct load_plan *plan = l->plan;
	struct connection *c = &l->connections[l->idle[l->idle_count - 1]];
	char text[LOAD_REQUEST_MAX], body[64], number[16] = "";
	int n;

	if (c->fd < 0) {
		int ret = connect_one(l, c);

		if (ret)
			return ret;
	}
	c->number = l->sent;
	c->due_ns = due_ns;
	start_of_answer(c);
	if (plan->functions)
		snprintf(number, sizeof(number), "%u", c->number % plan->functions);
	snprintf(body, sizeof(body), "{\"name\": \"#%u#\"}", c->number);
	n = snprintf(text, sizeof(text),
		     "POST /2015-03-31/functions/%s%s/invocations HTTP/1.1\r\nHost: localhost\r\n"
		     "%s%s%sContent-Length: %zu\r\n\r\n%s",
		     plan->name, number, plan->start ? "X-Quickthaw-Start: " : "",
		     plan->start ? plan->start : "", plan->start ? "\r\n" : "", strlen(body), body);
	/* It is small and the connection is idle: the socket has room for it. */
	if (n >= (int)sizeof(text) || send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return -EIO;
	l->idle_count--;
	l->sent++;
	return 0;
}

static void end_of_answer(struct load *l, struct connection *c)
{
	c->busy = false;
	l->answered++;
	l->idle[l->idle_count++] = (unsigned)(c - l->connections);
}

static int on_readable(struct load *l, struct connection *c)
{
	char data[4096];
	ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);

	if (!c->busy) { /* a connection on which nothing is asked is closed after some time */
		disconnect(l, c);
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0 && http_parser_execute(&c->parser, &l->settings, data, (size_t)n) == (size_t)n) {
		if (c->answered) {
			count_answer(l, c);
			end_of_answer(l, c);
		}
		return 0;
	}
	/* What was out is lost; whoever needs the connection again makes it anew. */
	disconnect(l, c);
	if (c->busy) {
		l->result->lost++;
		end_of_answer(l, c);
	}
	return 0;
}

/* ---- the run --------------------------------------------------------------------------------- */

static bool is_over(const struct load *l, uint64_t now_ns)
{
	return l->plan->seconds > 0 ? now_ns >= l->end_ns : l->sent >= l->plan->count;
}

/** When the request of this number is to be sent, in an open loop. */
static uint64_t due_ns(const struct load *l, unsigned number)
{
	return l->begin_ns + (uint64_t)((double)number / l->plan->rate * 1e9);
}

/** Send what is due. */
static int send_due(struct load *l)
{
	const struct load_plan *plan = l->plan;
	uint64_t now = clock_mono_ns(), due = now;
	int ret = 0;

	while (!ret && !is_over(l, now)) {
		if (plan->rate > 0) {
			due = due_ns(l, l->sent + l->result->unsent);
			if (due > now)
				break;
		}
		if (l->idle_count)
			ret = send_one(l, due);
		else if (plan->rate > 0)
			l->result->unsent++;
		else
			break;
	}
	return ret;
}

/** Until something comes, or the next request of an open loop is due. Return: as epoll_wait(). */
static int wait_events(const struct load *l, struct epoll_event *events)
{
	struct timespec wait = {.tv_sec = 1};
	uint64_t now = clock_mono_ns(), due;

	if (l->plan->rate > 0 && !is_over(l, now)) {
		due = due_ns(l, l->sent + l->result->unsent);
		wait = (struct timespec){.tv_nsec = due > now ? (long)(due - now) : 0};
	}
	return epoll_pwait2(l->epoll, events, EVENTS_MAX, &wait, NULL);
}

static int run(struct load *l)
{
	struct epoll_event events[EVENTS_MAX];
	uint64_t heard_ns = clock_mono_ns();
	int ret = 0;

	while (!ret && (l->answered < l->sent || !is_over(l, clock_mono_ns()))) {
		int n;

		ret = send_due(l);
		n = ret ? 0 : wait_events(l, events);
		for (int i = 0; !ret && i < n; i++)
			ret = on_readable(l, events[i].data.ptr);
		if (n > 0)
			heard_ns = clock_mono_ns();
		else if (clock_mono_ns() - heard_ns > QUIET_S * NSEC_PER_SEC)
			break; /* the rest is lost */
	}
	l->result->lost += l->sent - l->answered;
	return ret;
}

static int prepare(struct load *l)
{
	const struct load_plan *plan = l->plan;
	double most = plan->seconds > 0 ? plan->seconds * MAX(plan->rate, 20000) : plan->count;

	l->ms_size = (size_t)most + plan->connections;
	for (l->id_slots = 1024; l->id_slots < 2 * l->ms_size;)
		l->id_slots *= 2;
	l->result->ms = calloc(l->ms_size, sizeof(double));
	l->ids = calloc(l->id_slots, sizeof(*l->ids));
	l->connections = calloc(plan->connections, sizeof(*l->connections));
	l->idle = calloc(plan->connections, sizeof(*l->idle));
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!l->result->ms || !l->ids || !l->connections || !l->idle || l->epoll < 0)
		return -ENOMEM;
	http_parser_settings_init(&l->settings);
	l->settings.on_header_field = on_header_field;
	l->settings.on_header_value = on_header_value;
	l->settings.on_body = on_body;
	l->settings.on_message_complete = on_complete;
	for (unsigned i = 0; i < plan->connections; i++)
		l->connections[i].fd = -1;
	for (unsigned i = 0; i < plan->connections; i++) {
		/* A burst comes at once. In an open loop few are needed most of the time. */
		int ret = plan->rate > 0 ? 0 : connect_one(l, &l->connections[i]);

		if (ret)
			return ret;
		l->idle[l->idle_count++] = i;
	}
	return 0;
}

/** What is measured is the node, not when its load got a CPU that they share: where we may, we go
 * first, and sleep as short as was asked for. */
static void go_first(void)
{
	setpriority(PRIO_PROCESS, 0, PRIORITY);
	prctl(PR_SET_TIMERSLACK, 1ul);
}

int load_run(const struct load_plan *plan, struct load_result *ret)
{
	struct load l = {.plan = plan, .result = ret, .epoll = -1};
	int err;

	*ret = (struct load_result){0};
	go_first();
	err = prepare(&l);
	l.begin_ns = clock_mono_ns();
	l.end_ns = l.begin_ns + (uint64_t)(plan->seconds * 1e9);
	if (!err)
		err = run(&l);
	ret->seconds = (double)(clock_mono_ns() - l.begin_ns) / 1e9;
	for (unsigned i = 0; l.connections && i < plan->connections; i++)
		if (l.connections[i].fd >= 0)
			close(l.connections[i].fd);
	if (l.epoll >= 0)
		close(l.epoll);
	free(l.connections);
	free(l.idle);
	free(l.ids);
	return err;
}

void load_result_free(struct load_result *r)
{
	free(r->ms);
	*r = (struct load_result){0};
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double load_percentile(struct load_result *r, double p)
{
	size_t rank;

	if (!r->ok)
		return 0;
	qsort(r->ms, r->ok, sizeof(*r->ms), compare);
	rank = (size_t)(p / 100 * r->ok + 0.999999);
	return r->ms[MIN(MAX(rank, (size_t)1), (size_t)r->ok) - 1];
}
