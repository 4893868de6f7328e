/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version_open.c - get a version's code and template ready, in the worker
 *
 * An opening goes through WORKER_FILES. Where the disks of a kernel guest have to be made first, it
 * goes through WORKER_IMAGES for that, so that nobody else waits, and then once more through the
 * first, which gives them their names. $LATEST may be changed meanwhile: what was opened of it is
 * then of no use, and the opening begins anew.
 */
#include "snapd/version_open.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "snapd/function_store.h"
#include "snapd/worker.h"

enum { TEMPLATES_MAX = 64 };

/**
 * struct opening - one job. The worker reads @name, @number and the flags, and writes the rest.
 * @revision: of the version as it was when this began
 * @code_draft, @opt_draft: disks that were made
 * @make_code, @make_opt: those that have to be made; @made: that was tried
 */
struct opening {
	struct work work;
	struct version *version;
	struct function *function; /* a reference */
	version_opened_fn done;
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	enum guest_kind kind;
	bool want_code, want_opt, want_template, drop_cache;
	char revision[UUID_CHARS + 1];
	struct erofs_draft code_draft, opt_draft;
	bool make_code, make_opt, made;
	int code_fd, opt_fd;
	struct template *template;
	int err, template_err;
	struct snapshot_error text;
};

/** Of a process guest: directories. */
static int open_dirs(struct opening *o)
{
	char path[PATH_MAX];
	int ret = store_code_path(o->name, o->number, path, sizeof(path));

	if (!ret)
		ret = sandbox_dir_open(path, &o->code_fd);
	if (!ret && o->want_opt)
		ret = store_opt_path(o->name, o->number, path, sizeof(path));
	if (!ret && o->want_opt)
		ret = sandbox_dir_open(path, &o->opt_fd);
	return ret;
}

/** Drafts of a tree that is no longer there are of no use to anybody. */
static int install_images(struct opening *o)
{
	int ret = o->code_draft.fd < 0 ? 0 : erofs_draft_install(&o->code_draft);

	if (!ret && o->opt_draft.fd >= 0)
		ret = erofs_draft_install(&o->opt_draft);
	return ret;
}

/** Of a kernel guest: disks. */
static int open_images(struct opening *o)
{
	int ret = install_images(o);

	if (ret)
		return ret;
	o->code_fd = store_code_image(o->name, o->number);
	if (o->want_opt)
		o->opt_fd = store_opt_image(o->name, o->number);
	o->make_code = o->code_fd == -ENOENT && !o->made;
	o->make_opt = o->opt_fd == -ENOENT && !o->made;
	if (o->make_code || o->make_opt)
		return 0;
	return o->code_fd < 0 ? o->code_fd : o->want_opt ? MIN(o->opt_fd, 0) : 0;
}

static int open_code(struct opening *o)
{
	int ret = o->kind == GUEST_KIND_KERNEL ? open_images(o) : open_dirs(o);

	if (ret)
		snprintf(o->text.text, sizeof(o->text.text), "code of %s: %s", o->name,
			 strerror(-ret));
	return ret;
}

static int open_template(struct opening *o)
{
	CLEANUP_FD int dirfd = store_version_open(o->name, o->number);
	struct template_file *file = NULL;
	char label[FUNCTION_NAME_MAX + 64];
	int ret = dirfd;

	snprintf(label, sizeof(label), "%s/versions/%u/%s", o->name, o->number,
		 STORE_SNAPSHOT_NAME);
	if (dirfd >= 0)
		ret = template_file_open(dirfd, STORE_SNAPSHOT_NAME, label, o->drop_cache, &file,
					 &o->text);
	if (ret >= 0)
		ret = template_new(label, file, &o->template);
	if (ret < 0 && !o->text.text[0])
		snprintf(o->text.text, sizeof(o->text.text), "%s: %s", label, strerror(-ret));
	return ret;
}

static void opening_run(struct work *work)
{
	struct opening *o = container_of(work, struct opening, work);

	if (o->want_code && !o->err)
		o->err = open_code(o);
	if (o->make_code || o->make_opt)
		return;
	if (!o->err && o->want_template)
		o->err = o->template_err = open_template(o);
}

/** Too many templates: drop those that nobody uses. (Which are few, and this is not a hot path.) */
static void limit_templates(const struct version *keep)
{
	unsigned count = 0;

	for (struct function *f = functions_first(); f; f = f->next)
		for (struct version *v = f->versions; v; v = v->next)
			if (v->template && ++count > TEMPLATES_MAX && v != keep &&
			    v->template->refs == 1)
				version_drop_template(v);
}

static void opening_done(struct work *work);

static void make_run(struct work *work)
{
	struct opening *o = container_of(work, struct opening, work);

	if (o->make_code)
		o->err = store_code_draft(o->name, o->number, &o->code_draft);
	if (!o->err && o->make_opt)
		o->err = store_opt_draft(o->name, o->number, &o->opt_draft);
	if (o->err)
		snprintf(o->text.text, sizeof(o->text.text),
			 "code of %s: its disk cannot be made: %s", o->name, strerror(-o->err));
}

static void make_done(struct work *work)
{
	struct opening *o = container_of(work, struct opening, work);

	o->make_code = o->make_opt = false;
	o->made = true;
	o->work = (struct work){.run = opening_run, .done = opening_done};
	worker_queue(&o->work);
}

static void let_go(struct opening *o)
{
	cleanup_fd(&o->code_fd);
	cleanup_fd(&o->opt_fd);
	o->code_fd = o->opt_fd = -1;
	erofs_draft_drop(&o->code_draft);
	erofs_draft_drop(&o->opt_draft);
}

static void begin(struct opening *o)
{
	const struct version *v = o->version;

	memcpy(o->revision, v->revision, sizeof(o->revision));
	o->kind = v->settings.guest_kind;
	o->want_code = v->code_fd < 0;
	o->want_opt = v->settings.layers.count;
	o->make_code = o->make_opt = o->made = false;
	o->err = 0;
	o->text.text[0] = '\0';
	o->work = (struct work){.run = opening_run, .done = opening_done};
	worker_queue(&o->work);
}

/** Is there something to be done before it is over? Then that is queued. */
static bool goes_on(struct opening *o)
{
	if (!o->version->number && strcmp(o->revision, o->version->revision)) {
		let_go(o);
		begin(o);
		return true;
	}
	if (!o->make_code && !o->make_opt)
		return false;
	cleanup_fd(&o->code_fd);
	cleanup_fd(&o->opt_fd);
	o->code_fd = o->opt_fd = -1;
	o->work = (struct work){.run = make_run, .done = make_done};
	worker_queue_on(WORKER_IMAGES, &o->work);
	return true;
}

static void opening_done(struct work *work)
{
	struct opening *o = container_of(work, struct opening, work);
	struct version *v = o->version;
	size_t ws_count;

	if (goes_on(o))
		return;
	v->opening = false;
	v->open_err = o->template_err;
	if (o->code_fd >= 0 && !o->err) {
		version_close_dirs(v);
		v->code_fd = steal_fd(&o->code_fd);
		v->opt_fd = steal_fd(&o->opt_fd);
	}
	let_go(o);
	if (o->template) {
		template_retire(v->template);
		v->template = o->template;
		template_is_of(v->template, o->name, o->number);
		snapshot_reader_working_set(v->template->file->reader, &ws_count);
		v->snapshot.working_set_pages = ws_count;
		limit_templates(v);
	}
	o->done(v, o->err ? o->text.text : NULL);
	function_put(o->function);
	free(o);
}

int version_open(struct version *v, bool drop_cache, version_opened_fn done)
{
	struct opening *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->version = v;
	o->function = function_get(v->function);
	o->done = done;
	snprintf(o->name, sizeof(o->name), "%s", v->function->name);
	o->number = v->number;
	o->want_template = v->number && v->state == VERSION_ACTIVE && !v->template && !v->cold_boot;
	o->drop_cache = drop_cache;
	o->code_fd = o->opt_fd = -1;
	o->code_draft = o->opt_draft = (struct erofs_draft)EROFS_DRAFT_INIT;
	v->opening = true;
	begin(o);
	return 0;
}

void version_drop_template(struct version *v)
{
	template_retire(v->template);
	v->template = NULL;
}
