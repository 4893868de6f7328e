/* SPDX-License-Identifier: Apache-2.0 */
/* base_store.c - bases of kernel guests' snapshots, on disk */
#include "snapd/base_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "include/guest_abi.h"

#define BASES_DIR "bases"

enum { HASH_CHARS = 16 };

static struct {
	int dirfd;
	uint64_t made_with; /* on this node, whatever the origin */
} bases = {.dirfd = -1};

/* ---- names ----------------------------------------------------------------------------------- */

static uint64_t hash_node(const struct base_store_params *params)
{
	struct stat st = {.st_size = 0};
	uint64_t facts[3];

	if (fstat(params->vmm_fd, &st))
		log_warn("bases: the vmm: %m");
	facts[0] = (uint64_t)st.st_size;
	facts[1] = (uint64_t)st.st_mtim.tv_sec;
	facts[2] = (uint64_t)st.st_mtim.tv_nsec;
	return XXH3_64bits_withSeed(params->cpu_baseline, strlen(params->cpu_baseline),
				    XXH3_64bits(facts, sizeof(facts)));
}

static uint64_t hash_origin(const struct origin *o)
{
	uint64_t facts[4 + ORIGIN_CPU_WORDS] = {o->mapped, o->read, o->state_version, o->format};

	memcpy(&facts[4], o->cpu, sizeof(o->cpu));
	return XXH3_64bits_withSeed(facts, sizeof(facts), bases.made_with);
}

void base_store_name(const struct origin *o, uint32_t ram_mib, char ret[BASE_NAME_MAX])
{
	snprintf(ret, BASE_NAME_MAX, "%016llx-%u.qt", (unsigned long long)hash_origin(o), ram_mib);
}

void base_store_link_name(const struct template *base, char ret[BASE_LINK_NAME_MAX])
{
	struct snapshot_id id = snapshot_reader_id(base->file->reader);

	snprintf(ret, BASE_LINK_NAME_MAX, "base-%016llx%016llx.qt", (unsigned long long)id.high,
		 (unsigned long long)id.low);
}

static void draft_name(const char *name, char ret[BASE_NAME_MAX + 1])
{
	snprintf(ret, BASE_NAME_MAX + 1, ".%s", name);
}

/* ---- reading --------------------------------------------------------------------------------- */

char *base_store_metadata(const char *name, const struct origin *o)
{
	json_t *root = json_pack("{s:s, s:o*}", "base", name, "origin", origin_json(o));
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	return text;
}

/** Does it say that it is this one? It may come from another node, or have been renamed. */
static bool is_named(const struct snapshot_reader *r, const char *name)
{
	size_t n = 0;
	const char *text = snapshot_reader_section(r, SNAPSHOT_SECTION_METADATA, &n);
	json_t *root = text ? json_loadb(text, n, 0, NULL) : NULL;
	const char *says = json_string_value(json_object_get(root, "base"));
	bool ret = says && !strcmp(says, name);

	json_decref(root);
	return ret;
}

static int check(const struct snapshot_reader *r, const char *name, struct snapshot_error *err)
{
	static uint8_t pages[SNAPSHOT_CHUNK_BYTES]; /* one worker at a time reads bases */
	int ret = 0;

	if (snapshot_reader_file_count(r) != 1 ||
	    snapshot_reader_params(r)->guest_kind != GUEST_KIND_KERNEL || !is_named(r, name)) {
		snprintf(err->text, sizeof(err->text), "%s: not the snapshot of such a base",
			 snapshot_reader_name(r));
		return -EINVAL;
	}
	for (uint32_t i = 0; !ret && i < snapshot_reader_chunk_count(r); i++)
		ret = snapshot_reader_read_chunk(r, i, pages, err);
	return ret;
}

int base_store_read(const char *name, struct template **ret, struct snapshot_error *err)
{
	struct template_file *file;
	char label[BASE_NAME_MAX + sizeof(BASES_DIR) + 1];
	int e;

	snprintf(label, sizeof(label), BASES_DIR "/%s", name);
	e = template_file_open(bases.dirfd, name, label, false, &file, err);
	if (e)
		return e;
	e = check(file->reader, name, err);
	if (e) {
		template_file_free(file);
		return e;
	}
	e = template_new(label, file, ret);
	if (e)
		snprintf(err->text, sizeof(err->text), "%s: %s", label, strerror(-e));
	return e;
}

/* ---- writing --------------------------------------------------------------------------------- */

int base_store_draft(const char *name)
{
	char draft[BASE_NAME_MAX + 1];
	int fd;

	draft_name(name, draft);
	fd = openat(bases.dirfd, draft, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

int base_store_install(const char *name, int fd)
{
	char draft[BASE_NAME_MAX + 1];

	draft_name(name, draft);
	return snapshot_file_install(bases.dirfd, fd, draft, name);
}

void base_store_forget(const char *name)
{
	char draft[BASE_NAME_MAX + 1];

	draft_name(name, draft);
	unlinkat(bases.dirfd, draft, 0);
}

/* ---- removing -------------------------------------------------------------------------------- */

/** Remove the files for which @is_litter, for this reason. Return: 0 or -errno. */
static int remove_if(bool (*is_litter)(const char *name, const void *arg), const void *arg,
		     const char *why)
{
	int fd = openat(bases.dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		int err = -errno;

		cleanup_fd(&fd);
		return err;
	}
	while ((entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (!strcmp(name, ".") || !strcmp(name, "..") || !is_litter(name, arg))
			continue;
		if (unlinkat(bases.dirfd, name, 0))
			log_warn("bases: %s: %m: cannot be removed", name);
		else
			log_info("bases: %s: removed: %s", name, why);
	}
	closedir(dir);
	return 0;
}

static bool is_draft(const char *name, const void *arg)
{
	(void)arg;
	return name[0] == '.';
}

/** struct hashes - of what would be made now. */
struct hashes {
	const struct origin *origins;
	size_t count;
};

static bool is_outdated(const char *name, const void *arg)
{
	const struct hashes *now = arg;
	char made_now[BASE_NAME_MAX];

	if (strspn(name, "0123456789abcdef") != HASH_CHARS || name[HASH_CHARS] != '-')
		return false; /* not ours, or being made */
	for (size_t i = 0; i < now->count; i++) {
		base_store_name(&now->origins[i], 0, made_now);
		if (!strncmp(name, made_now, HASH_CHARS))
			return false;
	}
	return true;
}

int base_store_sweep(const struct origin *origins, size_t count)
{
	const struct hashes now = {origins, count};

	return remove_if(is_outdated, &now, "it would be made in another way now");
}

/* ---- start ----------------------------------------------------------------------------------- */

int base_store_open(const struct base_store_params *params)
{
	CLEANUP_FD int dirfd = open(params->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0 || (mkdirat(dirfd, BASES_DIR, 0700) && errno != EEXIST))
		return -errno;
	bases.dirfd = openat(dirfd, BASES_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bases.dirfd < 0)
		return -errno;
	bases.made_with = hash_node(params);
	return remove_if(is_draft, NULL, "it was never finished");
}

void base_store_close(void)
{
	cleanup_fd(&bases.dirfd);
	bases.dirfd = -1;
}
