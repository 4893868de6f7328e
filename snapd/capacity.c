/* SPDX-License-Identifier: Apache-2.0 */
/* capacity.c - what an invocation of a version would cost now, for schedulers of several hosts */
#include "snapd/capacity.h"

#include "common/clock.h"
#include "common/util.h"
#include "snapd/keep.h"
#include "snapd/page_in.h"
#include "snapd/scheduler_internal.h"
#include "snapd/shell_pool.h"

static uint64_t page_in_ns(const struct capacity_view *v)
{
	uint64_t read_ns = 0, decode_ns = v->missing_pages * v->decode_ns;

	if (v->read_bytes && v->missing_pages)
		read_ns = v->read_ns *
			  ((v->missing_pages * v->page_bytes + v->read_bytes - 1) / v->read_bytes);
	return MAX(read_ns, decode_ns);
}

struct capacity_estimate capacity_predict(const struct capacity_view *v)
{
	struct capacity_estimate e = {.wait_ns = v->wait_ns};
	uint64_t resident_ns = v->resident_ns ? v->resident_ns : v->host_resident_ns;

	if (v->idle) {
		e.start = START_WARM;
		e.total_ns = v->wait_ns + v->warm_ns;
		return e;
	}
	e.start = v->boots ? START_BOOT : v->resident ? START_RESIDENT : START_COLD;
	e.start_ns = v->boots			? v->boot_ns
		     : resident_ns > v->warm_ns ? resident_ns - v->warm_ns
						: 0;
	if (!v->shells)
		e.start_ns += v->shell_ns;
	if (e.start == START_COLD)
		e.start_ns += page_in_ns(v);
	e.total_ns = v->wait_ns + e.start_ns + v->warm_ns;
	return e;
}

/** Pages of the working set that would have to be read. */
static uint64_t missing_pages(const struct version *v)
{
	const struct template *t = v->template;
	const struct snapshot_ws_entry *ws;
	uint64_t missing = 0;
	size_t count = 0;

	if (!t)
		return v->snapshot.working_set_pages ? v->snapshot.working_set_pages
						     : v->snapshot.resident_bytes / PAGE_BYTES;
	ws = snapshot_reader_working_set(t->file->reader, &count);
	if (!count)
		return t->pages - t->resident_pages;
	for (size_t i = 0; i < count; i++)
		missing += !template_has_page(t, ws[i].page);
	return missing;
}

struct capacity_view capacity_view(struct version *v, uint64_t now_ns)
{
	const struct function_load *load = &v->function->load;
	int class = scheduler_ram_class(&v->settings);
	struct page_in_costs costs = page_in_costs();
	uint64_t stored = v->snapshot.resident_bytes / PAGE_BYTES;
	bool resident = v->number && invocation_is_resident(v);

	return (struct capacity_view){
		.idle = keep_take(v, now_ns) != NULL,
		.boots = !v->number || v->cold_boot,
		.resident = resident,
		.shells = class < 0 ? 0 : shell_pool_ready(class),
		.missing_pages = resident || !v->number ? 0 : missing_pages(v),
		.page_bytes = stored ? v->snapshot.file_bytes / stored : 0,
		.warm_ns = v->load.warm_ns,
		.resident_ns = v->load.resident_ns,
		.host_resident_ns = scheduler_stats.resident_ns,
		.boot_ns = v->load.boot_ns,
		.shell_ns = shell_pool_make_ns(v->settings.guest_kind),
		.read_ns = costs.read_ns,
		.read_bytes = costs.read_bytes,
		.decode_ns = costs.decode_ns,
		.wait_ns = load->waiting.count * load->start_gap_ns,
	};
}
