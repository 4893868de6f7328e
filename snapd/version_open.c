/* SPDX-License-Identifier: Apache-2.0 */
/* version_open.c - get a version's code and template ready, in the worker */
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

/** struct opening - one job. The worker reads @name, @number and the flags, and writes the rest. */
struct opening {
	struct work work;
	struct version *version;
	struct function *function; /* a reference */
	version_opened_fn done;
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	enum guest_kind kind;
	bool want_code, want_opt, want_template, drop_cache;
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

/** Of a kernel guest: disks. */
static int open_images(struct opening *o)
{
	o->code_fd = store_code_image(o->name, o->number);
	if (o->code_fd >= 0 && o->want_opt)
		o->opt_fd = store_opt_image(o->name, o->number);
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

	if (o->want_code)
		o->err = open_code(o);
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

static void opening_done(struct work *work)
{
	struct opening *o = container_of(work, struct opening, work);
	struct version *v = o->version;
	size_t ws_count;

	v->opening = false;
	v->open_err = o->template_err;
	if (o->code_fd >= 0 && !o->err) {
		version_close_dirs(v);
		v->code_fd = steal_fd(&o->code_fd);
		v->opt_fd = steal_fd(&o->opt_fd);
	}
	cleanup_fd(&o->code_fd);
	cleanup_fd(&o->opt_fd);
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
	o->work = (struct work){.run = opening_run, .done = opening_done};
	o->version = v;
	o->function = function_get(v->function);
	o->done = done;
	snprintf(o->name, sizeof(o->name), "%s", v->function->name);
	o->number = v->number;
	o->kind = v->settings.guest_kind;
	o->want_code = v->code_fd < 0;
	o->want_template = v->number && v->state == VERSION_ACTIVE && !v->template && !v->cold_boot;
	o->drop_cache = drop_cache;
	o->want_opt = v->settings.layers.count;
	o->code_fd = o->opt_fd = -1;
	v->opening = true;
	worker_queue(&o->work);
	return 0;
}

void version_drop_template(struct version *v)
{
	template_retire(v->template);
	v->template = NULL;
}
