/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_metrics.c - GET /metrics: what was counted, and what there is now, as Prometheus reads it
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "common/version.h"
#include "snapd/api.h"
#include "snapd/budget.h"
#include "snapd/event_queue.h"
#include "snapd/metrics.h"
#include "snapd/page_in.h"
#include "snapd/readiness.h"
#include "snapd/scheduler.h"
#include "snapd/session.h"
#include "snapd/shell_pool.h"

static void write_gauge(FILE *to, const char *name, const char *help, uint64_t value)
{
	metrics_write_head(to, name, "gauge", help);
	fprintf(to, "%s %" PRIu64 "\n", name, value);
}

static void write_instances(FILE *to)
{
	unsigned ready = 0, target = 0;

	metrics_write_head(to, "quickthaw_instances", "gauge",
			   "Instances, that is vmm processes, by state.");
	for (int state = INSTANCE_FREE + 1; state < INSTANCE_STATE_COUNT; state++)
		fprintf(to, "quickthaw_instances{state=\"%s\"} %u\n", instance_state_names[state],
			session_count(state));
	write_gauge(to, "quickthaw_instances_limit", "How many instances there can be.",
		    INSTANCES_MAX);
	for (int class = 0; class < SHELL_POOL_CLASSES; class ++) {
		ready += shell_pool_ready(class);
		target += shell_pool_target(class);
	}
	write_gauge(to, "quickthaw_shells_ready", "MicroVMs that wait for a snapshot.", ready);
	write_gauge(to, "quickthaw_shells_wanted",
		    "MicroVMs that are to wait for a snapshot when nothing else happens.", target);
}

static void write_templates(FILE *to)
{
	unsigned functions = 0, versions = 0, templates = 0;
	char number[16];

	metrics_write_head(
		to, "quickthaw_template_resident_bytes", "gauge",
		"Memory of a version's snapshot that is in RAM, shared by its instances.");
	for (struct function *f = functions_first(); f; f = f->next) {
		functions++;
		for (struct version *v = f->versions; v; v = v->next) {
			versions++;
			if (!v->template)
				continue;
			templates++;
			fprintf(to,
				"quickthaw_template_resident_bytes{function=\"%s\",version=\"%s\","
				"guest=\"%s\"} %" PRIu64 "\n",
				f->name, version_name(v, number),
				guest_kind_name(v->settings.guest_kind),
				v->template->resident_pages * PAGE_BYTES);
		}
	}
	write_gauge(to, "quickthaw_templates", "Versions whose memory is held in RAM.", templates);
	write_gauge(to, "quickthaw_functions", "Functions.", functions);
	write_gauge(to, "quickthaw_versions", "Published versions of all functions.", versions);
}

static void write_budget(FILE *to)
{
	struct budget_view view = budget_view();

	write_gauge(to, "quickthaw_memory_budget_bytes",
		    "What instances, shells and templates may take together.", view.limit_bytes);
	write_gauge(to, "quickthaw_memory_used_bytes", "What they are counted for.",
		    view.used_bytes);
	if (view.available_bytes != UINT64_MAX)
		write_gauge(to, "quickthaw_memory_available_bytes",
			    "What this host had left when snapd looked last.",
			    view.available_bytes);
}

static void write_events(FILE *to)
{
	static const char name[] = "quickthaw_events_total";
	struct event_queue_stats s = event_queue_stats();
	const struct {
		const char *labels;
		uint64_t value;
	} counts[] = {
		{"accepted", s.counts.accepted},      {"refused", s.refused},
		{"succeeded", s.counts.succeeded},    {"retried", s.counts.retried},
		{"exhausted", s.counts.exhausted},    {"expired", s.counts.expired},
		{"undelivered", s.delivery_failures}, {"lost", s.counts.lost},
	};

	metrics_write_head(
		to, name, "counter",
		"Asynchronous invocations: accepted or refused for want of room; then "
		"succeeded, retried, given up (exhausted, expired); records that did not "
		"reach their destination (undelivered); in a damaged part of the database "
		"(lost).");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		fprintf(to, "%s{what=\"%s\"} %" PRIu64 "\n", name, counts[i].labels,
			counts[i].value);
	write_gauge(to, "quickthaw_event_queue_depth", "Events accepted that are not over.",
		    s.depth);
	write_gauge(to, "quickthaw_event_queue_bytes", "Their payloads.", s.bytes);
	write_gauge(to, "quickthaw_events_under_way", "Events that are being run.", s.in_flight);
	metrics_write_head(to, "quickthaw_event_queue_age_seconds", "gauge",
			   "Since the oldest of them was accepted; 0 when there is none.");
	fprintf(to, "quickthaw_event_queue_age_seconds %.3f\n",
		(double)s.oldest_age_ns / NSEC_PER_SEC);
}

/** Names that every Prometheus exporter uses. */
static void write_process(FILE *to)
{
	struct rusage usage = {0};

	getrusage(RUSAGE_SELF, &usage);
	metrics_write_head(to, "process_cpu_seconds_total", "counter",
			   "CPU time of snapd itself, user and system.");
	fprintf(to, "process_cpu_seconds_total %.6f\n",
		(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	write_gauge(to, "process_resident_memory_bytes", "Resident memory of snapd itself.",
		    api_rss_bytes());
}

static void write_build(FILE *to)
{
	metrics_write_head(to, "quickthaw_build_info", "gauge", "1; its labels say what runs.");
	fprintf(to, "quickthaw_build_info{version=\"%s\"} 1\n", quickthaw_version);
}

void api_metrics_write(FILE *to)
{
	write_build(to);
	write_process(to);
	write_instances(to);
	write_templates(to);
	write_budget(to);
	write_events(to);
	write_gauge(to, "quickthaw_invocations_under_way",
		    "Invocations that have arrived and are not answered.",
		    scheduler_stats.under_way);
	write_gauge(to, "quickthaw_queue_depth", "Invocations among them without an instance.",
		    scheduler_stats.queued);
	write_gauge(to, "quickthaw_snapshot_reads_under_way", "Reads of snapshot files under way.",
		    page_in_reads());
	write_gauge(to, "quickthaw_disk_free_bytes", "Room on the disk of the state directory.",
		    readiness_disk_free());
	metrics_write(to);
}

void api_metrics(struct http_request *r)
{
	CLEANUP_FREE char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	if (to)
		api_metrics_write(to);
	if (!to || fclose(to))
		http_reply_error(r, 500, "ServiceException", "out of memory");
	else
		http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, n);
}
