/* SPDX-License-Identifier: Apache-2.0 */
/* device.c - the one ordered table that capture and restore walk */
#include "vmm/device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "vmm/process/clock.h"
#include "vmm/process/file.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/runtime_api.h"
#include "vmm/process/signal.h"
#include "vmm/process/sock.h"
#include "vmm/process/task.h"
#include "vmm/process/vfs.h"

/* What the function may use is part of the machine. */
static int limits_save(struct proc *p, struct state_writer *w)
{
	state_put_u64(w, p->memory_bytes);
	state_put_u64(w, p->tmp_bytes);
	return w->err;
}

static int limits_load(struct proc *p, struct state_reader *r)
{
	p->memory_bytes = state_get_u64(r);
	p->tmp_bytes = state_get_u64(r);
	return r->err;
}

/* Versions count up with every change of a record; the snapshot format's version is another thing.
 */
static const struct device devices[] = {
	{"limits", 1, limits_save, limits_load},
	{"clock", 1, guest_clock_save, guest_clock_load},
	{"vfs", 1, vfs_save, vfs_load},
	{"net", 1, net_save, net_load},
	{"files", 1, files_save, files_load},
	{"mm", 1, mm_save, mm_load},
	{"signals", 1, signals_save, signals_load},
	{"tasks", 1, sched_save, sched_load},
	{"runtime-api", 1, runtime_api_save, runtime_api_load},
};

enum { DEVICE_NAME_MAX = 31 };

static int save_one(struct proc *p, const struct device *d, struct state_writer *w)
{
	struct state_writer record = {0};
	int ret = d->save(p, &record);

	if (!ret)
		ret = record.err;
	if (!ret) {
		state_put_str(w, d->name);
		state_put_u32(w, d->version);
		state_put_bytes(w, record.data, record.used);
		ret = w->err;
	}
	state_writer_free(&record);
	if (ret)
		log_error("capture: device %s: %s", d->name, strerror(-ret));
	return ret;
}

/* FNV-1a over names and versions. */
uint64_t devices_version(void)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		for (const char *at = devices[i].name; *at; at++)
			hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
		hash = (hash ^ devices[i].version) * 0x100000001b3ull;
	}
	return hash;
}

int devices_save(struct proc *p, struct state_writer *w)
{
	state_put_u32(w, ARRAY_SIZE(devices));
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		int ret = save_one(p, &devices[i], w);

		if (ret)
			return ret;
	}
	return w->err;
}

/** What is wrong where, in @p's report: who asked for the restore knows the file's name. */
__attribute__((format(printf, 4, 5))) static int refuse(struct proc *p, size_t offset, int err,
							const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(p->end_text, sizeof(p->end_text), "state at offset %zu of the section: %s", offset,
		 what);
	return err;
}

static int load_one(struct proc *p, const struct device *d, const void *state,
		    struct state_reader *r)
{
	struct state_reader record = {0};
	char name[DEVICE_NAME_MAX + 1];
	uint32_t version;
	int ret;

	state_get_str(r, name, sizeof(name));
	version = state_get_u32(r);
	record.data = state_get_bytes(r, UINT32_MAX, &record.left);
	if (r->err || strcmp(name, d->name))
		return refuse(p, (size_t)(r->data - (const uint8_t *)state), -EBADMSG,
			      "no device %s where it belongs: damaged snapshot", d->name);
	if (version != d->version)
		return refuse(p, (size_t)(record.data - (const uint8_t *)state), -ENOTSUP,
			      "device %s has version %u, this vmm knows %u: capture again", name,
			      version, d->version);
	ret = d->load(p, &record);
	if (!ret)
		ret = record.err ? record.err : record.left ? -EBADMSG : 0;
	if (ret)
		refuse(p, (size_t)(record.data - (const uint8_t *)state), ret, "device %s: %s",
		       name, strerror(-ret));
	return ret;
}

int devices_load(struct proc *p, const void *state, size_t n)
{
	struct state_reader r = {.data = state, .left = n};

	if (state_get_u32(&r) != ARRAY_SIZE(devices) || r.err)
		return refuse(p, 0, -EBADMSG, "another set of devices: capture again");
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		int ret = load_one(p, &devices[i], state, &r);

		if (ret)
			return ret;
	}
	return r.left ? refuse(p, n - r.left, -EBADMSG, "bytes behind the last device") : 0;
}
