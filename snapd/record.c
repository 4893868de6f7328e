/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.c - learn the working set of a version from its invocations, and reorder its snapshot
 *
 * The first invocation of a version runs on an empty template which records: each page is brought
 * in alone, when it is asked for, so the order of faults is the order of first touches (page_in.c).
 * When it has answered, the vmm tells which pages it touched and which of them it wrote. The worker
 * then copies the snapshot with these pages first and installs the copy in the place of the file;
 * the template carries on with it, for page for page the contents are the same.
 *
 * Which pages a kernel guest writes takes a second invocation, the first that is restored from a
 * resident working set. Where a guest with a local APIC in the kernel touches a page that is not
 * there, KVM has a worker bring it in, and that asks for it as if for writing
 * (virt/kvm/async_pf.c): in the first recording each page that was touched looks as if it was
 * written.
 */
#include "snapd/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/function_store.h"
#include "snapd/version_open.h"
#include "snapd/worker.h"

enum { TRIES_MAX = 3, TOUCHED = 1, WRITTEN = 2, LISTED = 4 };

/** struct recording - one rewrite. The worker reads all but the version. */
struct recording {
	struct work work;
	struct version *version;
	struct function *function; /* a reference */
	struct template *template; /* a reference: its file is read by the worker */
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	struct snapshot_ws_entry *ws;
	size_t ws_count;
	struct template_file *file;
	uint64_t file_bytes;
	int err;
	struct snapshot_error text;
};

static bool is_kernel(const struct version *v)
{
	return v->settings.guest_kind == GUEST_KIND_KERNEL;
}

bool record_wanted(const struct version *v)
{
	struct template *t = v->template;

	if (!v->number || !t || v->recording || v->recapture.under_way ||
	    v->record_tries >= TRIES_MAX)
		return false;
	if (!template_has_working_set(t))
		return !t->resident_pages && !t->reads;
	return is_kernel(v) && !t->file->knows_written && template_populate_count(t);
}

int record_begin(struct version *v)
{
	bool first = !template_has_working_set(v->template);
	int ret = first ? template_record(v->template, true) : 0;

	v->recording = !ret;
	v->record_tries++;
	return ret;
}

void record_abort(struct version *v)
{
	if (!v->recording)
		return;
	v->recording = false;
	if (!v->template || !v->template->recording)
		return;
	template_record(v->template, false);
	/* With a part of its pages in, it could not see their first touches. */
	if (v->record_tries < TRIES_MAX)
		version_drop_template(v);
}

/* ---- the working set ------------------------------------------------------------------------- */

static void add_page(struct recording *r, uint8_t *touched, uint32_t page)
{
	if (touched[page] & LISTED)
		return;
	r->ws[r->ws_count++] = (struct snapshot_ws_entry){
		.page = page,
		.flags = touched[page] & WRITTEN ? SNAPSHOT_WS_WRITTEN : 0,
	};
	touched[page] |= LISTED;
}

/** Pages in the order in which they were asked for; then those that came without being asked. */
static void list_touched(struct recording *r, uint8_t *touched)
{
	const struct template *t = r->template;

	for (uint32_t i = 0; i < t->order_count; i++)
		add_page(r, touched, t->order[i]);
	for (uint64_t i = 0; i < t->pages; i++)
		if (touched[i] & TOUCHED)
			add_page(r, touched, (uint32_t)i);
}

/** The pages of the working set that there is, in its order. */
static void list_again(struct recording *r, uint8_t *touched)
{
	size_t count = 0;
	const struct snapshot_ws_entry *ws =
		snapshot_reader_working_set(r->template->file->reader, &count);

	for (size_t i = 0; i < count; i++)
		add_page(r, touched, ws[i].page);
}

static int make_working_set(struct recording *r, int fd)
{
	const struct template *t = r->template;
	CLEANUP_FREE uint8_t *touched = calloc(1, t->pages ? t->pages : 1);
	uint8_t known = TOUCHED | WRITTEN;

	if (t->recording && is_kernel(r->version))
		known = TOUCHED;
	r->ws = malloc((t->pages ? t->pages : 1) * sizeof(*r->ws));
	if (!touched || !r->ws)
		return -ENOMEM;
	if (pread_full(fd, touched, t->pages, 0) != (ssize_t)t->pages)
		return -EIO;
	for (uint64_t i = 0; i < t->pages; i++)
		touched[i] &= known;
	if (t->recording)
		list_touched(r, touched);
	else
		list_again(r, touched);
	return 0;
}

/* ---- the rewrite, in the worker -------------------------------------------------------------- */

static int rewrite(struct recording *r, int dirfd)
{
	CLEANUP_FD int fd =
		openat(dirfd, STORE_SNAPSHOT_TMP, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;
	int ret;

	if (fd < 0)
		return -errno;
	ret = snapshot_rewrite(r->template->file->reader, r->ws, r->ws_count, fd, &r->text);
	if (ret) {
		unlinkat(dirfd, STORE_SNAPSHOT_TMP, 0);
		return ret;
	}
	if (!fstat(fd, &st))
		r->file_bytes = (uint64_t)st.st_size;
	return snapshot_file_install(dirfd, fd, STORE_SNAPSHOT_TMP, STORE_SNAPSHOT_NAME);
}

static void recording_run(struct work *work)
{
	struct recording *r = container_of(work, struct recording, work);
	CLEANUP_FD int dirfd = store_version_open(r->name, r->number);

	r->err = dirfd < 0 ? dirfd : rewrite(r, dirfd);
	if (!r->err)
		r->err = template_file_open(dirfd, STORE_SNAPSHOT_NAME, r->template->name, false,
					    &r->file, &r->text);
}

static void recording_free(struct recording *r)
{
	template_put(r->template);
	function_put(r->function);
	free(r->ws);
	free(r);
}

static void recording_done(struct work *work)
{
	struct recording *r = container_of(work, struct recording, work);
	struct version *v = r->version;

	v->recording = false;
	if (r->err) {
		log_warn("record: %s:%u: %s: restores go on without a working set", r->name,
			 r->number, r->text.text[0] ? r->text.text : strerror(-r->err));
	} else {
		log_info("record: %s:%u: working set of %zu pages, file of %llu KiB", r->name,
			 r->number, r->ws_count, (unsigned long long)r->file_bytes >> 10);
		v->snapshot.file_bytes = r->file_bytes;
		v->snapshot.working_set_pages = r->ws_count;
		template_replace_file(r->template, r->file);
	}
	recording_free(r);
}

void record_finish(struct version *v, int fd)
{
	struct recording *r = calloc(1, sizeof(*r));
	int ret = -ENOMEM;

	if (r) {
		r->work = (struct work){.run = recording_run, .done = recording_done};
		r->version = v;
		r->function = function_get(v->function);
		r->template = template_get(v->template);
		snprintf(r->name, sizeof(r->name), "%s", v->function->name);
		r->number = v->number;
		ret = make_working_set(r, fd);
	}
	if (ret) {
		log_warn("record: %s:%u: %s", v->function->name, v->number, strerror(-ret));
		if (r)
			recording_free(r);
		record_abort(v);
		return;
	}
	template_record(v->template, false);
	worker_queue(&r->work);
}
