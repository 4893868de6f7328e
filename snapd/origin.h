/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin.h - what a snapshot was made with, and whether it may still be used
 *
 * A snapshot leaves out what files have: pages of the interpreter and its libraries that nobody had
 * written come from the files again. So where these are others now, it cannot be restored. What was
 * only read when the runtime started, the bootstrap and the standard library's modules, is in it:
 * it goes on with the old ones, and should be made again.
 */
#ifndef QUICKTHAW_SNAPD_ORIGIN_H
#define QUICKTHAW_SNAPD_ORIGIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORIGIN_WHY_MAX = 160, ORIGIN_CPU_WORDS = 8 };

/**
 * struct origin - all of it, or (not @known) nothing.
 * @mapped, @read: hashes of name, size and time of the runtime's files, see above
 * @state_version: of what a vmm saves, as in HELLO
 * @format: of the file
 * @cpu: what its guest could see of the CPU
 */
struct origin {
	bool known;
	uint64_t mapped, read;
	uint64_t state_version;
	uint32_t format;
	uint64_t cpu[ORIGIN_CPU_WORDS];
};

/** What is to become of a snapshot. */
enum origin_verdict {
	ORIGIN_GOOD,
	ORIGIN_STALE, /**< it serves, but should be made again */
	ORIGIN_DEAD,  /**< it cannot be restored here */
};

/** origin_judge() - @ret_why: for people, unless it is good. */
enum origin_verdict origin_judge(const struct origin *was, const struct origin *now,
				 char ret_why[ORIGIN_WHY_MAX]);

/** origin_read_files() - @mapped and @read of this host's runtime files. Blocks on file systems.
 * @runtime_dir: the guests' /var/runtime. What is not there counts as such. Return: 0 or -errno. */
int origin_read_files(const char *runtime_dir, struct origin *ret);

/** origin_json() - for config.json and a snapshot's metadata; NULL: no memory, or not known. */
json_t *origin_json(const struct origin *o);
/** origin_parse() - anything but what origin_json() writes is not known. */
void origin_parse(const json_t *root, struct origin *ret);

#endif
