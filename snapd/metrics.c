/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - figures for operators: counted where things happen, written out when asked for */
#include "snapd/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"

enum { HTTP_STATUS_MIN = 100, HTTP_STATUS_MAX = 599 };

/* ---- what there is --------------------------------------------------------------------------- */

#define US(n) ((uint64_t)(n)*1000)
#define MS(n) ((uint64_t)(n)*1000000)
#define S(n)  ((uint64_t)(n)*NSEC_PER_SEC)

/* Upper bounds in ascending order; 0 ends them. */
static const uint64_t invoke_bounds[] = {
	US(500), MS(1),	  MS(2),   MS(3), MS(5), MS(7), MS(10), MS(15), MS(25), MS(50),
	MS(100), MS(250), MS(500), S(1),  S(3),	 S(10), S(30),	S(60),	S(300), 0,
};
static const uint64_t restore_bounds[] = {
	US(100), US(200), US(300), US(500), US(750), MS(1),   MS(2), MS(3), MS(5),
	MS(10),	 MS(20),  MS(50),  MS(100), MS(250), MS(500), S(1),  0,
};
static const uint64_t page_in_bounds[] = {
	US(25), US(50), US(100), US(200), US(300), US(500), MS(1), MS(2),
	MS(5),	MS(10), MS(20),	 MS(50),  MS(100), MS(500), S(1),  0,
};
static_assert(ARRAY_SIZE(invoke_bounds) <= METRIC_BUCKETS_MAX + 1, "room for each bucket");
static_assert(ARRAY_SIZE(restore_bounds) <= METRIC_BUCKETS_MAX + 1, "room for each bucket");
static_assert(ARRAY_SIZE(page_in_bounds) <= METRIC_BUCKETS_MAX + 1, "room for each bucket");

/** struct family - one name and what it means. @bounds: of a histogram. */
struct family {
	const char *name;
	const char *help;
	const uint64_t *bounds;
};

static const struct family faults = {
	"quickthaw_faults_total",
	"Page faults of instances that snapd served, by where the page was: in the template by "
	"then "
	"(resident), nowhere because it is all zeros (zero), or in the snapshot's file (read).",
	NULL,
};
static const struct family read_bytes = {
	"quickthaw_snapshot_read_bytes_total",
	"Bytes read from snapshot files.",
	NULL,
};
static const struct family chunks = {
	"quickthaw_chunks_decoded_total",
	"Chunks of snapshots that were verified and decompressed.",
	NULL,
};
static const struct family lookups = {
	"quickthaw_template_lookups_total",
	"Restores, by whether the memory that is needed first was in the version's template (hit) "
	"or "
	"had to come from its file (miss). Hits divided by all is the hit ratio.",
	NULL,
};
static const struct family errors = {
	"quickthaw_errors_total",
	"Invocations that did not succeed, by what went wrong. The kinds handler to response are "
	"the "
	"function's doing, request is the caller's, service is the host's or Quickthaw's.",
	NULL,
};
static const struct family throttles = {
	"quickthaw_throttles_total",
	"Invocations refused with 429, by the limit that was reached.",
	NULL,
};
static const struct family invoke = {
	"quickthaw_invoke_duration_seconds",
	"From an invocation's arrival in snapd to its answer, by how its instance was started.",
	invoke_bounds,
};
static const struct family queue = {
	"quickthaw_queue_duration_seconds",
	"How long invocations waited for an instance.",
	invoke_bounds,
};
static const struct family restore = {
	"quickthaw_restore_duration_seconds",
	"From the request to restore to the first instruction of the guest, by kind of start.",
	restore_bounds,
};
static const struct family init = {
	"quickthaw_init_duration_seconds",
	"Cold boots: until the runtime asked for work.",
	invoke_bounds,
};
static const struct family page_in = {
	"quickthaw_page_in_duration_seconds",
	"From a page fault whose page had to be read to the wake-up of the instance.",
	page_in_bounds,
};
static const struct family snapshot_read = {
	"quickthaw_snapshot_read_duration_seconds",
	"Single reads of a snapshot's file, for faults and for prefetching.",
	page_in_bounds,
};

/** struct series - a family with labels, LABEL="VALUE" or "". Those of a family are neighbours. */
struct series {
	const struct family *family;
	const char *labels;
};

static const struct series counters[] = {
	[METRIC_FAULTS_RESIDENT] = {&faults, "page=\"resident\""},
	[METRIC_FAULTS_ZERO] = {&faults, "page=\"zero\""},
	[METRIC_FAULTS_READ] = {&faults, "page=\"read\""},
	[METRIC_SNAPSHOT_READ_BYTES] = {&read_bytes, ""},
	[METRIC_CHUNKS_DECODED] = {&chunks, ""},
	[METRIC_TEMPLATE_HITS] = {&lookups, "result=\"hit\""},
	[METRIC_TEMPLATE_MISSES] = {&lookups, "result=\"miss\""},
	[METRIC_ERRORS_HANDLER] = {&errors, "kind=\"handler\""},
	[METRIC_ERRORS_EXIT] = {&errors, "kind=\"exit\""},
	[METRIC_ERRORS_MEMORY] = {&errors, "kind=\"memory\""},
	[METRIC_ERRORS_INIT] = {&errors, "kind=\"init\""},
	[METRIC_ERRORS_RESTORE] = {&errors, "kind=\"restore\""},
	[METRIC_ERRORS_TIMEOUT] = {&errors, "kind=\"timeout\""},
	[METRIC_ERRORS_RESPONSE] = {&errors, "kind=\"response\""},
	[METRIC_ERRORS_REQUEST] = {&errors, "kind=\"request\""},
	[METRIC_ERRORS_SERVICE] = {&errors, "kind=\"service\""},
	[METRIC_THROTTLES_RESERVED] = {&throttles, "limit=\"reserved-concurrency\""},
	[METRIC_THROTTLES_ACCOUNT] = {&throttles, "limit=\"account-concurrency\""},
	[METRIC_THROTTLES_QUEUE] = {&throttles, "limit=\"queue\""},
	[METRIC_THROTTLES_OVERLOAD] = {&throttles, "limit=\"overload\""},
};
static_assert(ARRAY_SIZE(counters) == METRIC_COUNTER_COUNT, "a line for each counter");
static_assert(METRIC_ERRORS_SERVICE - METRIC_ERRORS_HANDLER ==
		      INVOCATION_FAILED_SERVICE - INVOCATION_FAILED_HANDLER,
	      "in the order of enum invocation_failure");
static_assert(METRIC_INVOKE_BOOT - METRIC_INVOKE_WARM == START_BOOT - START_WARM,
	      "in the order of enum start_kind");

static const struct series histograms[] = {
	[METRIC_INVOKE_WARM] = {&invoke, "start=\"warm\""},
	[METRIC_INVOKE_RESIDENT] = {&invoke, "start=\"resident-restore\""},
	[METRIC_INVOKE_COLD] = {&invoke, "start=\"cold-restore\""},
	[METRIC_INVOKE_BOOT] = {&invoke, "start=\"cold-boot\""},
	[METRIC_QUEUE] = {&queue, ""},
	[METRIC_RESTORE_RESIDENT] = {&restore, "start=\"resident-restore\""},
	[METRIC_RESTORE_COLD] = {&restore, "start=\"cold-restore\""},
	[METRIC_INIT] = {&init, ""},
	[METRIC_PAGE_IN] = {&page_in, ""},
	[METRIC_SNAPSHOT_READ] = {&snapshot_read, ""},
};
static_assert(ARRAY_SIZE(histograms) == METRIC_HISTOGRAM_COUNT, "a line for each histogram");

uint64_t metric_counters[METRIC_COUNTER_COUNT];
static struct metric_times times[METRIC_HISTOGRAM_COUNT];
static uint64_t http_replies[HTTP_STATUS_MAX - HTTP_STATUS_MIN + 1];

/* ---- counting -------------------------------------------------------------------------------- */

void metrics_observe(enum metric_histogram h, uint64_t ns)
{
	const uint64_t *bounds = histograms[h].family->bounds;
	unsigned i = 0;

	while (bounds[i] && ns > bounds[i])
		i++;
	times[h].buckets[i]++;
	times[h].sum_ns += ns;
}

const struct metric_times *metrics_times(enum metric_histogram h)
{
	return &times[h];
}

void metrics_invocation(const struct invocation_outcome *out)
{
	if (out->failure)
		metrics_add(METRIC_ERRORS_HANDLER + out->failure - INVOCATION_FAILED_HANDLER, 1);
	metrics_observe(METRIC_QUEUE, out->queue_ns);
	if (out->start == START_ANY) /* no instance was found */
		return;
	metrics_observe(METRIC_INVOKE_WARM + out->start - START_WARM, out->total_ns);
	/* An instance that failed has not told how long it took. */
	if (out->start == START_RESIDENT && out->restore_ns)
		metrics_observe(METRIC_RESTORE_RESIDENT, out->restore_ns);
	else if (out->start == START_COLD && out->restore_ns)
		metrics_observe(METRIC_RESTORE_COLD, out->restore_ns);
	else if (out->start == START_BOOT && out->init_ns)
		metrics_observe(METRIC_INIT, out->init_ns);
	metrics_add(METRIC_TEMPLATE_HITS, out->start == START_RESIDENT);
	metrics_add(METRIC_TEMPLATE_MISSES, out->start == START_COLD);
}

void metrics_http(unsigned status)
{
	if (status >= HTTP_STATUS_MIN && status <= HTTP_STATUS_MAX)
		http_replies[status - HTTP_STATUS_MIN]++;
}

/* ---- writing --------------------------------------------------------------------------------- */

void metrics_write_head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_counters(FILE *to)
{
	const struct family *last = NULL;

	for (int i = 0; i < METRIC_COUNTER_COUNT; i++) {
		const struct series *s = &counters[i];

		if (!last || s->family != last)
			metrics_write_head(to, s->family->name, "counter", s->family->help);
		last = s->family;
		if (*s->labels)
			fprintf(to, "%s{%s} %" PRIu64 "\n", s->family->name, s->labels,
				metric_counters[i]);
		else
			fprintf(to, "%s %" PRIu64 "\n", s->family->name, metric_counters[i]);
	}
}

static void write_http(FILE *to)
{
	static const char name[] = "quickthaw_http_requests_total";

	metrics_write_head(to, name, "counter", "HTTP requests that were answered, by status.");
	for (unsigned i = 0; i < ARRAY_SIZE(http_replies); i++)
		if (http_replies[i])
			fprintf(to, "%s{code=\"%u\"} %" PRIu64 "\n", name, i + HTTP_STATUS_MIN,
				http_replies[i]);
}

static void write_histogram(FILE *to, const struct series *s, const struct metric_times *t)
{
	const char *name = s->family->name, *comma = *s->labels ? "," : "";
	char labels[64] = "";
	uint64_t count = 0;
	unsigned i;

	if (*s->labels)
		snprintf(labels, sizeof(labels), "{%s}", s->labels);
	for (i = 0; s->family->bounds[i]; i++) {
		count += t->buckets[i];
		fprintf(to, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, s->labels, comma,
			(double)s->family->bounds[i] / NSEC_PER_SEC, count);
	}
	count += t->buckets[i];
	fprintf(to, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, s->labels, comma, count);
	fprintf(to, "%s_sum%s %.9f\n", name, labels, (double)t->sum_ns / NSEC_PER_SEC);
	fprintf(to, "%s_count%s %" PRIu64 "\n", name, labels, count);
}

void metrics_write(FILE *to)
{
	const struct family *last = NULL;

	write_counters(to);
	write_http(to);
	for (int i = 0; i < METRIC_HISTOGRAM_COUNT; i++) {
		const struct family *f = histograms[i].family;

		if (!last || f != last)
			metrics_write_head(to, f->name, "histogram", f->help);
		last = f;
		write_histogram(to, &histograms[i], &times[i]);
	}
}
