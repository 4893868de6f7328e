/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_case.c - kernel guests of several systems side by side
 *
 * All of them run the same kernel, initramfs, root file system and function with the same memory,
 * and every guest is prepared for its capture in the same way. Times are as this process sees them,
 * from the start of the process that runs the machine: a cold boot ends with the agent's READY, a
 * restore with the handler's response, and the agent's work after a restore (clock, entropy) is a
 * part of it. The other end of the agent and of the Runtime API is this process, and for Quickthaw
 * the vmm, whose own they are.
 */
#include "bench/kernel_case.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/kernel_guest.h"
#include "bench/kernel_service.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"

enum { CLONES_MAX = 16, RESTORE_WARM_UP = 1, LOG_BYTES_MAX = 1 << 20, LOG_TAIL = 1000 };

static const struct kernel_system *const systems[] = {
	&kernel_system_quickthaw,
	&kernel_system_qemu,
	&kernel_system_firecracker,
};

static const char event[] = "{\"name\": \"Quickthaw\"}";
static const char workload[] = "hello-python";

/** struct run - one system being measured. */
struct run {
	struct bench *b;
	const struct kernel_system *system;
	struct kernel_images images;
	unsigned clones;
	char dir[256]; /**< of its snapshot */
};

/** The last lines of a guest that failed: what it said, and what runs it. */
static void show_last_words(const struct kernel_guest *g)
{
	static const char *const files[] = {"console", "log"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		CLEANUP_FREE char *text = NULL;
		char path[192];
		size_t n;

		snprintf(path, sizeof(path), "%s/%s", g->dir, files[i]);
		if (read_file(AT_FDCWD, path, LOG_BYTES_MAX, &text, &n) || !n)
			continue;
		fprintf(stderr, "bench: the end of its %s:\n%s\n", files[i],
			text + (n > LOG_TAIL ? n - LOG_TAIL : 0));
	}
}

static double ms_since(uint64_t begin_ns)
{
	return (double)(clock_mono_ns() - begin_ns) / 1e6;
}

static void report(const struct run *r, const char *stage, const char *name, const char *unit,
		   struct samples *s)
{
	const struct row_key key = {stage, name, workload, "kernel", r->system->name, unit};

	results_add(&r->b->results, &key, s);
}

static void report_value(const struct run *r, const char *stage, const char *name, const char *unit,
			 double v)
{
	const struct row_key key = {stage, name, workload, "kernel", r->system->name, unit};

	results_add_value(&r->b->results, &key, v);
}

/** From nothing to READY, and on to a runtime that waits for work. */
static int boot_once(const struct run *r, struct kernel_guest *g, double *ret_ready_ms,
		     double *ret_next_ms)
{
	uint64_t begin_ns = clock_mono_ns();
	int err = r->system->boot(g, &r->images);

	if (!err)
		err = r->system->await_ready(g);
	*ret_ready_ms = ms_since(begin_ns);
	if (!err)
		err = r->system->await_next(g);
	*ret_next_ms = ms_since(begin_ns);
	return err;
}

static int measure_boots(const struct run *r)
{
	static struct samples ready, next;
	double bytes = 0;
	int err = 0;

	ready.n = next.n = 0;
	for (int i = 0; !err && i < r->b->boots; i++) {
		struct kernel_guest g;
		double ready_ms, next_ms;

		err = kernel_guest_init(&g, r->b->build_dir);
		if (err)
			break;
		fprintf(stderr, "bench: %s: cold boot %d of %d\n", r->system->name, i + 1,
			r->b->boots);
		err = boot_once(r, &g, &ready_ms, &next_ms);
		samples_add(&ready, ready_ms);
		samples_add(&next, next_ms);
		/* The last one is what is restored. */
		if (!err && i + 1 == r->b->boots)
			err = r->system->capture(&g, r->dir, &bytes);
		if (err)
			show_last_words(&g);
		kernel_guest_free(&g);
	}
	if (err)
		return err;
	report(r, "boot", "kernel_boot_to_agent", "ms", &ready);
	report(r, "boot", "kernel_boot_to_next", "ms", &next);
	report_value(r, "snapshot", "kernel_snapshot", "bytes", bytes);
	report_value(r, "snapshot", "kernel_snapshot_to_memory", "ratio",
		     bytes / (double)MIB(r->images.memory_mib));
	return 0;
}

static int restore_once(const struct run *r, struct kernel_guest *g, double *ret_ms)
{
	uint64_t begin_ns = clock_mono_ns();
	int err = kernel_guest_init(g, r->b->build_dir);

	if (!err)
		err = r->system->restore(g, &r->images, r->dir, event);
	*ret_ms = ms_since(begin_ns);
	return err;
}

static int measure_restores(const struct run *r)
{
	static struct samples total;
	int err = 0;

	total.n = 0;
	fprintf(stderr, "bench: %s: restore to response x %d\n", r->system->name, r->b->colds);
	for (int i = 0; !err && i < RESTORE_WARM_UP + r->b->colds; i++) {
		struct kernel_guest g;
		double ms;

		err = restore_once(r, &g, &ms);
		if (err)
			show_last_words(&g);
		kernel_guest_free(&g);
		if (i >= RESTORE_WARM_UP)
			samples_add(&total, ms);
	}
	if (err)
		return err;
	report(r, "restore", "kernel_restore_to_response", "ms", &total);
	report_value(r, "ratio", "kernel_restore_to_own_boot", "ratio",
		     samples_percentile(&total, 50) / results_p50(&r->b->results,
								  "kernel_boot_to_agent",
								  r->system->name, workload));
	return 0;
}

/** All of them alive at once; what each owns alone after one invocation. */
static int measure_clones(const struct run *r)
{
	struct kernel_guest clones[CLONES_MAX];
	static struct samples bytes;
	unsigned n = 0;
	int err = 0;

	bytes.n = 0;
	fprintf(stderr, "bench: %s: %u clones at once\n", r->system->name, r->clones);
	for (; !err && n < r->clones; n++) {
		double ms;

		err = restore_once(r, &clones[n], &ms);
	}
	for (unsigned i = 0; !err && i < n; i++)
		samples_add(&bytes, process_private_bytes((int)clones[i].pid));
	for (unsigned i = 0; i < n; i++)
		kernel_guest_free(&clones[i]);
	if (!err)
		report(r, "memory", "kernel_private_of_clones", "bytes", &bytes);
	return err;
}

/** @ret: absolute, since a system may run elsewhere */
static int find_image(const char *dir, const char *name, char ret[256])
{
	if ((size_t)snprintf(ret, 256, "%s/kernel/%s", dir, name) < 256 && !access(ret, R_OK))
		return 0;
	fprintf(stderr, "bench: %s: %s (make guest-images)\n", ret, strerror(errno));
	return -ENOENT;
}

static int find_images(const struct bench *b, struct kernel_images *ret)
{
	CLEANUP_FREE char *dir = realpath(b->build_dir, NULL);
	int err = dir ? 0 : -errno;

	snprintf(ret->bin_dir, sizeof(ret->bin_dir), "%s", b->bin_dir);
	if (!err && (size_t)snprintf(ret->vmlinux, sizeof(ret->vmlinux), "%s/kernel/vmlinux",
				     dir) >= sizeof(ret->vmlinux))
		err = -ENAMETOOLONG;
	if (!err && access(ret->vmlinux, R_OK))
		ret->vmlinux[0] = 0;
	if (!err)
		err = find_image(dir, "vmlinuz", ret->kernel);
	if (!err)
		err = find_image(dir, "initramfs", ret->initramfs);
	if (!err)
		err = find_image(dir, "python.erofs", ret->root);
	return err ? err : find_image(dir, "hello-python.erofs", ret->task);
}

/** Where the system's snapshot goes: absolute, too. */
static int make_dir(struct run *r)
{
	CLEANUP_FREE char *root = realpath(r->b->build_dir, NULL);

	if (!root || (size_t)snprintf(r->dir, sizeof(r->dir), "%s/bench/%s", root,
				      r->system->name) >= sizeof(r->dir))
		return root ? -ENAMETOOLONG : -errno;
	return mkdir(r->dir, 0755) && errno != EEXIST ? -errno : 0;
}

static int measure_system(struct run *r)
{
	int err = make_dir(r);

	if (err)
		return err;
	err = measure_boots(r);
	if (!err)
		err = measure_restores(r);
	if (!err && r->system->lives_on)
		err = measure_clones(r);
	r->system->discard(r->dir);
	rmdir(r->dir);
	return err;
}

/** Quickthaw's figures as parts of the others', each beside its counterpart. */
static void add_ratios(struct bench *b)
{
	static const struct {
		const char *own, *other;
	} pairs[] = {
		{"kernel_boot_to_agent", "kernel_boot_to_agent"},
		{"kernel_boot_to_next", "kernel_boot_to_next"},
		{"kernel_restore_to_response", "kernel_restore_to_response"},
		{"kernel_cold_restore", "kernel_restore_to_response"},
		{"kernel_resident_restore", "kernel_restore_to_response"},
		{"kernel_private_of_clones", "kernel_private_of_clones"},
	};
	static char labels[ARRAY_SIZE(systems)][ARRAY_SIZE(pairs)][64];

	for (size_t s = 0; s < ARRAY_SIZE(systems); s++)
		for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
			double own = results_p50(&b->results, pairs[i].own, "quickthaw", workload);
			double other = results_p50(&b->results, pairs[i].other, systems[s]->name,
						   workload);
			struct row_key key = {"ratio",	labels[s][i], workload,
					      "kernel", "quickthaw",  "ratio"};

			if (isnan(own) || isnan(other) || !strcmp(systems[s]->name, "quickthaw"))
				continue;
			snprintf(labels[s][i], sizeof(labels[s][i]), "%s/%s", pairs[i].own,
				 systems[s]->name);
			results_add_value(&b->results, &key, own / other);
		}
}

/** What snapd's restores are of the boot that they save. */
static void add_own_ratio(struct bench *b)
{
	const struct row_key key = {
		"ratio", "kernel_resident_to_own_boot", workload, "kernel", "quickthaw", "ratio"};
	double restore = results_p50(&b->results, "kernel_resident_restore", "quickthaw", workload);
	double boot = results_p50(&b->results, "kernel_boot_to_agent", "quickthaw", workload);

	if (!isnan(restore) && !isnan(boot))
		results_add_value(&b->results, &key, restore / boot);
}

int kernel_case_run(struct bench *b, unsigned memory_mib, unsigned clones, bool tcg)
{
	struct run r = {.b = b, .clones = MIN(clones, (unsigned)CLONES_MAX)};
	char dir[256];
	int err = find_images(b, &r.images), ran = 0;

	r.images.memory_mib = memory_mib;
	r.images.tcg = tcg;
	if (err)
		return err;
	snprintf(dir, sizeof(dir), "%s/bench", b->build_dir);
	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(systems); i++) {
		const char *why = systems[i]->missing(&r.images);

		if (why) {
			fprintf(stderr, "bench: %s: %s: its rows are left out\n", systems[i]->name,
				why);
			continue;
		}
		r.system = systems[i];
		err = measure_system(&r);
		if (err) {
			fprintf(stderr, "bench: %s: %s\n", systems[i]->name, strerror(-err));
			return err;
		}
		ran++;
	}
	if (!kernel_system_quickthaw.missing(&r.images)) {
		err = kernel_service_run(b, memory_mib, r.clones);
		if (err)
			return err;
	}
	add_ratios(b);
	add_own_ratio(b);
	return ran ? 0 : -ENOTSUP;
}
