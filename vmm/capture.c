/* SPDX-License-Identifier: Apache-2.0 */
/*
 * capture.c - a parked guest becomes a snapshot file
 *
 * A diff needs no dirty log. A restored guest's RAM is a private mapping of its template: what was
 * written since is a private copy, which the pagemap tells. KVM's dirty log would have to be
 * switched on for every restore, which write-protects the guest's memory and makes each first write
 * an exit more; it does not see what the vmm writes for a guest (system calls, devices), and it
 * says of a page that it was written, not that it differs. So pages that were copied are compared,
 * as they would have to be anyway.
 */
#include "vmm/capture.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/state.h"
#include "snapshot-format/snapshot.h"
#include "vmm/device.h"
#include "vmm/pagemap.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/task.h"

/* A chunk of a diff with this many pages ends where addresses jump by a whole chunk. */
enum { DIFF_PAGES_ENOUGH = 8 };

/** struct chunk_builder - up to one chunk of non-zero frames, in address order. */
struct chunk_builder {
	const struct guest_mem *mem;
	struct snapshot_writer *writer;
	const struct snapshot_reader *base; /* of a diff, else NULL */
	struct pagemap pagemap;		    /* of a diff */
	uint64_t visited_pages, stored_pages, base_pages;
	unsigned count;
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	uint8_t data[SNAPSHOT_CHUNK_BYTES];
};

static int flush_chunk(struct chunk_builder *b)
{
	unsigned count = b->count;

	b->count = 0;
	if (!count)
		return 0;
	b->stored_pages += count;
	return snapshot_writer_chunk(b->writer, b->pages, count, b->data, false);
}

/** Is @page as in the base of a diff? Return: 1, 0 or -errno. */
static int is_in_base(struct chunk_builder *b, uint32_t page)
{
	const void *data = guest_page_ptr(b->mem, page);
	uint64_t entry;

	if (!b->base)
		return 0;
	if (page < b->mem->template_pages && pagemap_entry(&b->pagemap, page, &entry) &&
	    !pagemap_is_private(entry))
		data = NULL; /* it is the template's */
	return snapshot_writer_same(b->writer, page, data);
}

/** A chunk covers one aligned 64 KiB of addresses, so that neighbours come in together. What a diff
 * has is scattered, and would make a chunk of each page. */
static bool ends_chunk(const struct chunk_builder *b, uint32_t page)
{
	if (!b->count)
		return false;
	if (b->base)
		return b->count >= DIFF_PAGES_ENOUGH &&
		       page - b->pages[b->count - 1] > SNAPSHOT_CHUNK_PAGES;
	return b->pages[0] / SNAPSHOT_CHUNK_PAGES != page / SNAPSHOT_CHUNK_PAGES;
}

static int add_frame(void *arg, uint32_t page)
{
	struct chunk_builder *b = arg;
	const void *data = guest_page_ptr(b->mem, page);
	int ret = is_in_base(b, page);

	if (ret > 0) {
		/* All of a template are looked at, and what is zero there was not in use. */
		bool zero = snapshot_reader_page_chunk(b->base, page) == SNAPSHOT_PAGE_ZERO;

		b->base_pages++;
		b->visited_pages += !zero;
		return 0;
	}
	if (ret)
		return ret;
	b->visited_pages++;
	if (mem_is_zero(data, PAGE_BYTES))
		return 0;
	ret = ends_chunk(b, page) ? flush_chunk(b) : 0;
	if (ret)
		return ret;
	b->pages[b->count] = page;
	memcpy(b->data + (size_t)b->count * PAGE_BYTES, data, PAGE_BYTES);
	b->count++;
	return b->count == SNAPSHOT_CHUNK_PAGES ? flush_chunk(b) : 0;
}

static int write_all(const struct capture_source *src, const struct capture_target *target,
		     struct snapshot_writer *writer, struct capture_stats *stats)
{
	static struct chunk_builder b; /* 64 KiB: too much for a stack, and there is one capture */
	struct state_writer state = {0};
	int ret = devices_save(src->devices, src->guest, &state);

	if (!ret)
		ret = snapshot_writer_section(writer, SNAPSHOT_SECTION_STATE, state.data,
					      state.used);
	if (!ret)
		ret = snapshot_writer_section(writer, SNAPSHOT_SECTION_METADATA, target->metadata,
					      target->metadata_bytes);
	state_writer_free(&state);
	b.mem = src->mem;
	b.writer = writer;
	b.base = target->base ? target->base->reader : NULL;
	b.count = 0;
	b.visited_pages = b.stored_pages = b.base_pages = 0;
	if (b.base)
		pagemap_open(&b.pagemap, src->mem, target->pagemap_fd);
	if (!ret)
		ret = src->for_each_page(src->guest, add_frame, &b);
	if (b.base)
		pagemap_close(&b.pagemap);
	if (!ret)
		ret = flush_chunk(&b);
	if (!ret)
		ret = snapshot_writer_finish(writer);
	stats->resident_pages = b.visited_pages;
	stats->stored_pages = b.stored_pages;
	stats->base_pages = b.base_pages;
	return ret;
}

int capture_guest(const struct capture_source *source, const struct capture_target *target,
		  struct capture_stats *ret_stats)
{
	struct snapshot_params params = {
		.ram_pages = source->mem->ram_bytes / PAGE_BYTES,
		.template_pages = source->template_pages,
		.guest_kind = source->kind,
		.created_ns = clock_real_ns(),
	};
	struct snapshot_writer *writer = NULL;
	uint64_t start_ns = clock_mono_ns();
	struct stat st;
	int ret;

	memset(ret_stats, 0, sizeof(*ret_stats));
	memcpy(params.cpu_features, source->cpu_features, sizeof(params.cpu_features));
	ret = snapshot_writer_new(target->fd, &params, &writer);
	if (!ret && target->base)
		ret = snapshot_writer_base(writer, target->base->reader, target->base->name);
	if (!ret)
		ret = write_all(source, target, writer, ret_stats);
	snapshot_writer_free(writer);
	if (!ret && fstat(target->fd, &st) < 0)
		ret = -errno;
	if (ret) {
		log_error("capture: %s", strerror(-ret));
		return ret;
	}
	ret_stats->file_bytes = (uint64_t)st.st_size;
	ret_stats->capture_ns = clock_mono_ns() - start_ns;
	return 0;
}

/* ---- process guests ---- */

static int for_each_frame(void *guest, int (*page)(void *arg, uint32_t page), void *arg)
{
	return mm_for_each_frame(guest, page, arg);
}

int capture_write(struct proc *p, const struct capture_target *target,
		  struct capture_stats *ret_stats)
{
	struct capture_source source = {
		.kind = GUEST_KIND_PROCESS,
		.mem = &p->vm->mem,
		.cpu_features = p->vm->cpu_features,
		.devices = &process_devices,
		.guest = p,
		.for_each_page = for_each_frame,
	};
	int ret = sched_park(p);

	memset(ret_stats, 0, sizeof(*ret_stats));
	if (ret) {
		log_error("capture: %s", strerror(-ret));
		return ret;
	}
	mm_trim(p); /* pages mapped ahead that nothing was written to */
	source.template_pages = mm_template_pages(p);
	ret = capture_guest(&source, target, ret_stats);
	ret_stats->resident_pages = mm_resident_pages(p);
	return ret;
}
