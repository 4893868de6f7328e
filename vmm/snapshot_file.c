/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_file.c - snapshots of guests on the command line: write one, open one, fill a template
 */
#include "vmm/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/util.h"

static int write_file(const char *path,
		      int (*write)(void *guest, int fd, struct capture_stats *ret_stats),
		      void *guest, struct capture_stats *stats)
{
	CLEANUP_FREE char *tmp = NULL;
	CLEANUP_FD int fd = -1;
	int ret;

	if (asprintf(&tmp, "%s.tmp.%d", path, getpid()) < 0)
		return -ENOMEM;
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = write(guest, fd, stats);
	if (!ret)
		return snapshot_file_install(AT_FDCWD, fd, tmp, path);
	unlink(tmp);
	return ret;
}

int snapshot_file_write(const char *path,
			int (*write)(void *guest, int fd, struct capture_stats *ret_stats),
			void *guest)
{
	struct capture_stats stats = {0};
	int ret = write_file(path, write, guest, &stats);

	if (ret) {
		log_error("capture: %s: %s", path, strerror(-ret));
		return ret;
	}
	log_info("capture: %s: %llu of %llu pages in use stored in %llu bytes, %.1f ms", path,
		 (unsigned long long)stats.stored_pages, (unsigned long long)stats.resident_pages,
		 (unsigned long long)stats.file_bytes, (double)stats.capture_ns / 1e6);
	return 0;
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

/** A memfd with the whole memory. Return: the descriptor, or -errno with a log line. */
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
	ret = fill_template(f->reader, memfd);
	return ret ? ret : steal_fd(&memfd);
}

int snapshot_file_image(const struct snapshot_file *f, const uint64_t cpu_have[CPU_WORDS],
			struct guest_image *ret)
{
	const struct snapshot_params *params = snapshot_reader_params(f->reader);
	char missing[128];
	int memfd;

	if (cpu_features_missing(params->cpu_features, cpu_have, missing, sizeof(missing))) {
		log_error("restore: this host's CPU lacks %s, which the snapshot needs: capture on "
			  "such a host, or with --cpu-baseline",
			  missing);
		return -ENOTSUP;
	}
	memfd = make_template(f);
	if (memfd < 0)
		return memfd;
	*ret = (struct guest_image){
		.memfd = memfd, .uffd = -1, .template_pages = params->template_pages};
	ret->state = snapshot_reader_section(f->reader, SNAPSHOT_SECTION_STATE, &ret->state_bytes);
	return 0;
}
