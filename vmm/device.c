/* SPDX-License-Identifier: Apache-2.0 */
/* device.c - the one ordered table that capture and restore walk */
#include "vmm/device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"

enum { DEVICE_NAME_MAX = 31 };

static int save_one(void *guest, const struct device *d, struct state_writer *w)
{
	struct state_writer record = {0};
	int ret = d->save(guest, &record);

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
uint64_t devices_version(const struct device_table *table)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < table->count; i++) {
		for (const char *at = table->devices[i].name; *at; at++)
			hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
		hash = (hash ^ table->devices[i].version) * 0x100000001b3ull;
	}
	return hash;
}

int devices_save(const struct device_table *table, void *guest, struct state_writer *w)
{
	state_put_u32(w, (uint32_t)table->count);
	for (size_t i = 0; i < table->count; i++) {
		int ret = save_one(guest, &table->devices[i], w);

		if (ret)
			return ret;
	}
	return w->err;
}

/** struct load - what a load is about, and where to say what is wrong. */
struct load {
	void *guest;
	const void *state;
	char *text;
	size_t size;
};

/** What is wrong where: who asked for the restore knows the file's name. */
__attribute__((format(printf, 4, 5))) static int refuse(const struct load *l, size_t offset,
							int err, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(l->text, l->size, "state at offset %zu of the section: %s", offset, what);
	return err;
}

static size_t offset_of(const struct load *l, const uint8_t *at)
{
	return (size_t)(at - (const uint8_t *)l->state);
}

static int load_one(const struct load *l, const struct device *d, struct state_reader *r)
{
	struct state_reader record = {0};
	char name[DEVICE_NAME_MAX + 1];
	uint32_t version;
	int ret;

	state_get_str(r, name, sizeof(name));
	version = state_get_u32(r);
	record.data = state_get_bytes(r, UINT32_MAX, &record.left);
	if (r->err || strcmp(name, d->name))
		return refuse(l, offset_of(l, r->data), -EBADMSG,
			      "no device %s where it belongs: damaged snapshot", d->name);
	if (version != d->version)
		return refuse(l, offset_of(l, record.data), -ENOTSUP,
			      "device %s has version %u, this vmm knows %u: capture again", name,
			      version, d->version);
	ret = d->load(l->guest, &record);
	if (!ret)
		ret = record.err ? record.err : record.left ? -EBADMSG : 0;
	if (ret)
		refuse(l, offset_of(l, record.data), ret, "device %s: %s", name, strerror(-ret));
	return ret;
}

int devices_load(const struct device_table *table, void *guest, const void *state, size_t n,
		 char *text, size_t size)
{
	const struct load l = {.guest = guest, .state = state, .text = text, .size = size};
	struct state_reader r = {.data = state, .left = n};

	if (state_get_u32(&r) != table->count || r.err)
		return refuse(&l, 0, -EBADMSG, "another set of devices: capture again");
	for (size_t i = 0; i < table->count; i++) {
		int ret = load_one(&l, &table->devices[i], &r);

		if (ret)
			return ret;
	}
	return r.left ? refuse(&l, n - r.left, -EBADMSG, "bytes behind the last device") : 0;
}
