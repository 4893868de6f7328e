/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_file.c - snapshots of guests on the command line: write one, open one, fill a template
 */
#include "vmm/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"

/** struct writing - one snapshot on its way into its file. */
struct writing {
	snapshot_file_write_fn *write;
	void *guest;
	struct capture_target target;
	struct capture_stats stats;
};

static int fill(void *arg, int fd)
{
	struct writing *w = arg;

	w->target.fd = fd;
	return w->write(w->guest, &w->target, &w->stats);
}

/* ---- diffs ---- */

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/** The directory that a file is in, or is to be in. Return: 0 or -errno. */
static int stat_parent(const char *path, struct stat *ret)
{
	int n = (int)(file_name(path) - path);
	CLEANUP_FREE char *parent = n ? strndup(path, (size_t)n) : strdup(".");

	if (!parent)
		return -ENOMEM;
	return stat(parent, ret) ? -errno : 0;
}

/** May @path be a diff on @base? Return: 0 or -errno with a log line. */
static int check_diff(const char *path, const struct snapshot_file *base)
{
	struct stat here, there;
	int ret = stat_parent(path, &here);

	if (!ret)
		ret = stat_parent(base->path, &there);
	if (ret) {
		log_error("capture: %s: its directory: %s", path, strerror(-ret));
		return ret;
	}
	if (!same_file(&here, &there)) {
		log_error("capture: %s is to be a diff on %s, so it has to be in the same "
			  "directory",
			  path, base->path);
		return -EINVAL;
	}
	if (snapshot_reader_is_of(base->reader, path)) {
		log_error("capture: %s is a file that the diff would need: give it another name",
			  path);
		return -EINVAL;
	}
	if (!snapshot_reader_may_be_base(base->reader)) {
		log_error(
			"capture: %s is of %u files already, which is as many as can be: snapshot "
			"flatten it, and restore that",
			base->path, SNAPSHOT_FILES_MAX);
		return -EMLINK;
	}
	return 0;
}

static void log_capture(const char *path, const struct capture_base *base,
			const struct capture_stats *stats)
{
	char as_before[320] = "";

	if (base)
		snprintf(as_before, sizeof(as_before), ", %llu as in %s",
			 (unsigned long long)stats->base_pages, base->name);
	log_info("capture: %s: %llu of %llu pages in use stored in %llu bytes%s, %.1f ms", path,
		 (unsigned long long)stats->stored_pages, (unsigned long long)stats->resident_pages,
		 (unsigned long long)stats->file_bytes, as_before, (double)stats->capture_ns / 1e6);
}

int snapshot_file_write(const char *path, const char *metadata, const struct snapshot_file *base,
			snapshot_file_write_fn *write, void *guest)
{
	struct capture_base on = {0};
	struct writing w = {
		.write = write,
		.guest = guest,
		.target = {.pagemap_fd = -1,
			   .metadata = metadata,
			   .metadata_bytes = strlen(metadata)},
	};
	int ret = base ? check_diff(path, base) : 0;

	if (ret)
		return ret;
	if (base) {
		on = (struct capture_base){.reader = base->reader, .name = file_name(base->path)};
		w.target.base = &on;
	}
	ret = snapshot_file_make(path, fill, &w);
	if (ret)
		log_error("capture: %s: %s", path, strerror(-ret));
	else
		log_capture(path, w.target.base, &w.stats);
	return ret;
}

int snapshot_file_open(struct snapshot_file *f, const char *path)
{
	struct snapshot_error err = {{0}};
	int ret;

	*f = (struct snapshot_file){.path = path};
	ret = snapshot_reader_open(AT_FDCWD, path, path, &f->reader, &err);
	if (ret)
		log_error("restore: %s", err.text);
	return ret;
}

void snapshot_file_close(struct snapshot_file *f)
{
	snapshot_reader_free(f->reader);
	f->reader = NULL;
}

static int fill_template(const struct snapshot_reader *r, int memfd)
{
	static uint8_t pages[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_error err = {{0}};

	for (uint32_t i = 0; i < snapshot_reader_chunk_count(r); i++) {
		const struct snapshot_chunk *chunk = snapshot_reader_chunk(r, i);
		int ret = chunk->live ? snapshot_reader_read_chunk(r, i, pages, &err) : 0;

		for (unsigned k = 0; !ret && k < chunk->page_count; k++)
			if (snapshot_chunk_has(chunk, k))
				ret = pwrite_full(memfd, pages + (size_t)k * PAGE_BYTES, PAGE_BYTES,
						  (uint64_t)chunk->pages[k] * PAGE_BYTES);
		if (ret) {
			log_error("restore: %s", err.text[0] ? err.text : strerror(-ret));
			return ret;
		}
	}
	return 0;
}

/** A memfd for the memory, all holes. Return: the descriptor, or -errno with a log line. */
static int make_template(const struct snapshot_file *f)
{
	const struct snapshot_params *params = snapshot_reader_params(f->reader);
	CLEANUP_FD int memfd = memfd_create("template", MFD_CLOEXEC);
	int ret;

	if (memfd < 0 || ftruncate(memfd, (off_t)(params->template_pages * PAGE_BYTES)) < 0) {
		ret = -errno;
		log_error("restore: memory for %s: %s", f->path, strerror(-ret));
		return ret;
	}
	return steal_fd(&memfd);
}

static int check_cpu(const struct snapshot_file *f, const uint64_t cpu_have[CPU_WORDS])
{
	char missing[128];

	if (!cpu_features_missing(snapshot_reader_params(f->reader)->cpu_features, cpu_have,
				  missing, sizeof(missing)))
		return 0;
	log_error("restore: this host's CPU lacks %s, which the snapshot needs: capture on "
		  "such a host, or with --cpu-baseline",
		  missing);
	return -ENOTSUP;
}

int snapshot_file_image(const struct snapshot_file *f, const uint64_t cpu_have[CPU_WORDS],
			struct file_pager *pager, const void *ram, struct guest_image *ret)
{
	const struct snapshot_params *params = snapshot_reader_params(f->reader);
	CLEANUP_FD int memfd = -1;
	int err = check_cpu(f, cpu_have);
	bool lazy;

	if (err)
		return err;
	memfd = make_template(f);
	if (memfd < 0)
		return memfd;
	lazy = pager && !file_pager_start(pager, f->reader, memfd, ram);
	err = lazy ? 0 : fill_template(f->reader, memfd);
	if (err)
		return err;
	*ret = (struct guest_image){.uffd = lazy ? pager->uffd : -1,
				    .template_pages = params->template_pages};
	ret->memfd = steal_fd(&memfd);
	ret->state = snapshot_reader_section(f->reader, SNAPSHOT_SECTION_STATE, &ret->state_bytes);
	return 0;
}
