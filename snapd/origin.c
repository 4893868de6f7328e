/* SPDX-License-Identifier: Apache-2.0 */
/* origin.c - what a snapshot was made with, and whether it may still be used */
#include "snapd/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/cleanup.h"
#include "common/cpu_feature.h"
#include "common/util.h"
#include "snapd/tree.h"

#define INTERPRETER "/usr/bin/python3"
#define LIBRARIES   "/usr/lib/x86_64-linux-gnu/"

/* What the interpreter maps, itself or by modules of the standard library. */
static const char *const mapped_files[] = {
	"/lib64/ld-linux-x86-64.so.2", LIBRARIES "libbz2.so.1.0",   LIBRARIES "libc.so.6",
	LIBRARIES "libcrypto.so.3",    LIBRARIES "libexpat.so.1",   LIBRARIES "libffi.so.8",
	LIBRARIES "liblzma.so.5",      LIBRARIES "libm.so.6",	    LIBRARIES "libncursesw.so.6",
	LIBRARIES "libreadline.so.8",  LIBRARIES "libsqlite3.so.0", LIBRARIES "libssl.so.3",
	LIBRARIES "libtinfo.so.6",     LIBRARIES "libuuid.so.1",    LIBRARIES "libz.so.1",
};

/* ---- judging --------------------------------------------------------------------------------- */

enum origin_verdict origin_judge(const struct origin *was, const struct origin *now,
				 char ret_why[ORIGIN_WHY_MAX])
{
	char missing[ORIGIN_WHY_MAX - 40];
	enum origin_verdict verdict = ORIGIN_DEAD;
	const char *why = "";

	if (!was->known) {
		verdict = ORIGIN_STALE;
		why = "it is not known what it was made with";
	} else if (was->state_version != now->state_version) {
		why = "this vmm saves machines in another way";
	} else if (was->format > now->format) {
		why = "its format is newer than this snapd";
	} else if (was->mapped != now->mapped) {
		why = "the interpreter, a library or the root image has changed";
	} else if (cpu_features_missing(was->cpu, now->cpu, missing, sizeof(missing))) {
		snprintf(ret_why, ORIGIN_WHY_MAX, "this host's CPU lacks %s", missing);
		return ORIGIN_DEAD;
	} else if (was->format < now->format) {
		verdict = ORIGIN_STALE;
		why = "its format is an older one";
	} else if (was->read != now->read) {
		verdict = ORIGIN_STALE;
		why = "the bootstrap, the standard library or the kernel has changed";
	} else {
		verdict = ORIGIN_GOOD;
	}
	snprintf(ret_why, ORIGIN_WHY_MAX, "%s", why);
	return verdict;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void hash_text(XXH3_state_t *hash, const char *text)
{
	XXH3_64bits_update(hash, text, strlen(text) + 1);
}

static void hash_stat(XXH3_state_t *hash, const char *name, const struct stat *st)
{
	const uint64_t facts[] = {
		st->st_mode & S_IFMT,
		S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_size,
		S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_mtim.tv_sec,
		S_ISDIR(st->st_mode) ? 0 : (uint64_t)st->st_mtim.tv_nsec,
	};

	hash_text(hash, name);
	XXH3_64bits_update(hash, facts, sizeof(facts));
}

static void hash_file(XXH3_state_t *hash, const char *path)
{
	struct stat st = {.st_mode = 0};

	if (stat(path, &st))
		memset(&st, 0, sizeof(st));
	hash_stat(hash, path, &st);
}

/** struct module_hashes - extension modules are mapped, others read. */
struct module_hashes {
	XXH3_state_t *mapped, *read;
};

static int hash_module(const struct tree_entry *e, void *arg)
{
	struct module_hashes *h = arg;
	size_t n = strlen(e->name);

	/* Compiled again by whoever may: no matter. */
	if (strstr(e->path, "__pycache__") || S_ISDIR(e->st.st_mode))
		return 0;
	hash_stat(n > 3 && !strcmp(e->name + n - 3, ".so") ? h->mapped : h->read, e->path, &e->st);
	return 0;
}

static int hash_tree(struct module_hashes *h, const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	hash_text(h->read, path);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return tree_walk(fd, hash_module, h);
}

/** /usr/bin/python3 is a link to /usr/bin/python3.11, whose modules are in /usr/lib/python3.11. */
static int hash_interpreter(struct module_hashes *h)
{
	char path[PATH_MAX], library[PATH_MAX + 16];

	if (!realpath(INTERPRETER, path)) {
		hash_text(h->mapped, "no interpreter");
		return 0;
	}
	hash_file(h->mapped, path);
	snprintf(library, sizeof(library), "/usr/lib/%s", strrchr(path, '/') + 1);
	return hash_tree(h, library);
}

int origin_read_files(const char *runtime_dir, struct origin *ret)
{
	struct module_hashes h = {XXH3_createState(), XXH3_createState()};
	int err = -ENOMEM;

	if (!h.mapped || !h.read)
		goto out;
	XXH3_64bits_reset(h.mapped);
	XXH3_64bits_reset(h.read);
	for (size_t i = 0; i < ARRAY_SIZE(mapped_files); i++)
		hash_file(h.mapped, mapped_files[i]);
	err = hash_interpreter(&h);
	if (!err)
		err = hash_tree(&h, runtime_dir);
	ret->mapped = XXH3_64bits_digest(h.mapped);
	ret->read = XXH3_64bits_digest(h.read);
out:
	XXH3_freeState(h.mapped);
	XXH3_freeState(h.read);
	return err;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *hex_json(uint64_t n)
{
	return json_sprintf("%016llx", (unsigned long long)n);
}

json_t *origin_json(const struct origin *o)
{
	json_t *cpu = o->known ? json_array() : NULL;

	if (!cpu)
		return NULL;
	for (int i = 0; i < ORIGIN_CPU_WORDS; i++)
		json_array_append_new(cpu, hex_json(o->cpu[i]));
	return json_pack("{s:o, s:o, s:o, s:i, s:o}", "Mapped", hex_json(o->mapped), "Read",
			 hex_json(o->read), "StateVersion", hex_json(o->state_version), "Format",
			 (int)o->format, "Cpu", cpu);
}

static bool parse_hex(const json_t *value, uint64_t *ret)
{
	const char *text = json_string_value(value);
	char *end;

	if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return false;
	*ret = strtoull(text, &end, 16);
	return true;
}

void origin_parse(const json_t *root, struct origin *ret)
{
	const json_t *cpu = json_object_get(root, "Cpu");
	json_int_t format = json_integer_value(json_object_get(root, "Format"));
	struct origin o = {.known = true, .format = (uint32_t)format};

	o.known = format > 0 && format <= UINT32_MAX &&
		  parse_hex(json_object_get(root, "Mapped"), &o.mapped) &&
		  parse_hex(json_object_get(root, "Read"), &o.read) &&
		  parse_hex(json_object_get(root, "StateVersion"), &o.state_version) &&
		  json_array_size(cpu) == ORIGIN_CPU_WORDS;
	for (size_t i = 0; o.known && i < ORIGIN_CPU_WORDS; i++)
		o.known = parse_hex(json_array_get(cpu, i), &o.cpu[i]);
	*ret = o.known ? o : (struct origin){.known = false};
}
