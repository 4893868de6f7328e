/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.c - learn the working set of a version from one invocation, and reorder its snapshot
 *
 * The first invocation of a version runs on an empty template which records: each page is brought
 * in alone, when it is asked for, so the order of faults is the order of first touches (page_in.c).
 * When it has answered, the vmm tells which pages it touched and which of them it wrote. The worker
 * then copies the snapshot with these pages first and installs the copy in the place of the file;
 * the template carries on with it, for page for page the contents are the same.
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

bool record_wanted(const struct version *v)
{
	return v->number && v->template && !v->recording && !v->recapture.under_way &&
	       v->record_tries < TRIES_MAX && !v->template->resident_pages && !v->template->reads &&
	       !template_has_working_set(v->template);
}

int record_begin(struct version *v)
{
	int ret = template_record(v->template, true);

	v->recording = !ret;
	v->record_tries++;
	return ret;
}

void record_abort(struct version *v)
{
	if (!v->recording)
		return;
	v->recording = false;
	if (v->template)
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
static int make_working_set(struct recording *r, int fd)
{
	const struct template *t = r->template;
	CLEANUP_FREE uint8_t *touched = calloc(1, t->pages ? t->pages : 1);

	r->ws = malloc((t->pages ? t->pages : 1) * sizeof(*r->ws));
	if (!touched || !r->ws)
		return -ENOMEM;
	if (pread_full(fd, touched, t->pages, 0) != (ssize_t)t->pages)
		return -EIO;
	for (uint64_t i = 0; i < t->pages; i++)
		touched[i] &= TOUCHED | WRITTEN;
	for (uint32_t i = 0; i < t->order_count; i++)
		add_page(r, touched, t->order[i]);
	for (uint64_t i = 0; i < t->pages; i++)
		if (touched[i] & TOUCHED)
			add_page(r, touched, (uint32_t)i);
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
