/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_service.c - kernel guests as users get them: from a snapd, lazily and with shared memory
 *
 * On an emulated host everything takes many times as long, so nothing here may be given up early.
 */
#include "bench/kernel_service.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"

enum { WARM_UP = 1 };

static const char function[] = "hello-python";
static const char event[] = "{\"name\": \"Quickthaw\"}";

static void report(struct bench *b, const char *stage, const char *name, const char *unit,
		   struct samples *s)
{
	const struct row_key key = {stage, name, function, "kernel", "quickthaw", unit};

	results_add(&b->results, &key, s);
}

static int measure_starts(struct bench *b, const char *start, const char *name)
{
	static struct samples total;
	struct invoke_sample one;
	int err = 0;

	total.n = 0;
	fprintf(stderr, "bench: quickthaw: snapd: %s restore to response x %d\n", start, b->colds);
	for (int i = 0; !err && i < WARM_UP + b->colds; i++) {
		err = service_invoke(&b->service, function, event, start, false, &one);
		if (i >= WARM_UP)
			samples_add(&total, one.ms);
		service_settle(&b->service);
	}
	if (!err)
		report(b, "restore", name, "ms", &total);
	return err;
}

/** All of them alive at once; what each owns alone after one invocation. */
static int measure_clones(struct bench *b, unsigned clones)
{
	static struct samples bytes;
	struct invoke_sample one;
	int err = 0;

	bytes.n = 0;
	fprintf(stderr, "bench: quickthaw: snapd: %u clones at once\n", clones);
	for (unsigned i = 0; !err && i < clones; i++) {
		err = service_invoke(&b->service, function, event, "resident", true, &one);
		if (!err)
			samples_add(&bytes, process_private_bytes((int)one.pid));
	}
	if (!err)
		report(b, "memory", "kernel_private_of_clones", "bytes", &bytes);
	return err;
}

int kernel_service_run(struct bench *b, unsigned memory_mib, unsigned clones)
{
	char images[256], runtime[256], dir[256], settings[64];
	const char *const options[] = {"--kernel-guests",
				       images,
				       "--init-timeout",
				       "300",
				       "--publish-wait",
				       "600",
				       "--queue-timeout",
				       "300",
				       "--shells",
				       "1",
				       NULL};
	int err;

	snprintf(images, sizeof(images), "%s/kernel", b->build_dir);
	snprintf(runtime, sizeof(runtime), "%s/guest", b->source_dir);
	snprintf(dir, sizeof(dir), "%s/examples/%s", b->source_dir, function);
	snprintf(settings, sizeof(settings), "{\"GuestKind\": \"kernel\", \"MemorySize\": %u}",
		 memory_mib);
	err = service_start(&b->service, b->build_dir, b->bin_dir, runtime, options);
	if (!err) {
		fprintf(stderr, "bench: quickthaw: snapd: deploy and publish\n");
		err = service_deploy_as(&b->service, function, dir, event, settings);
	}
	if (!err)
		err = measure_starts(b, "cold", "kernel_cold_restore");
	if (!err)
		err = measure_starts(b, "resident", "kernel_resident_restore");
	if (!err)
		err = measure_clones(b, clones);
	service_stop(&b->service);
	return err;
}
