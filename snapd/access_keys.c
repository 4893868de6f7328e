/* SPDX-License-Identifier: Apache-2.0 */
/* access_keys.c - who may speak to snapd over TCP: access keys and what each may do */
#include "snapd/access_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/util.h"

enum { LINE_BYTES = 512, SECRET_MIN = 16, KEY_ID_MIN = 4 };
#define WHITE " \t\r\n"

struct access_keys {
	unsigned count;
	struct access_key list[ACCESS_KEYS_MAX];
};

static const struct {
	const char *name;
	unsigned rights;
} options[] = {
	{"read", ACCESS_READ},
	{"invoke", ACCESS_INVOKE},
	{"manage", ACCESS_READ | ACCESS_INVOKE | ACCESS_MANAGE},
	{"host-paths", ACCESS_HOST_PATHS},
};

static const char *parse_options(struct access_key *key, char *words)
{
	char *save, *word = words ? strtok_r(words, WHITE ",", &save) : NULL;

	for (; word; word = strtok_r(NULL, WHITE ",", &save)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(options) && strcmp(options[i].name, word))
			i++;
		if (i == ARRAY_SIZE(options))
			return "an option is read, invoke, manage or host-paths";
		key->rights |= options[i].rights;
	}
	if (!(key->rights & ~ACCESS_HOST_PATHS))
		key->rights |= ACCESS_READ | ACCESS_INVOKE | ACCESS_MANAGE;
	return NULL;
}

/** Return: NULL, or what is wrong. The secret is in no message. */
static const char *parse_line(struct access_keys *keys, char *line)
{
	struct access_key *key = &keys->list[keys->count];
	char *save, *id = strtok_r(line, WHITE, &save), *secret;
	const char *error;

	if (!id || *id == '#')
		return NULL;
	secret = strtok_r(NULL, WHITE, &save);
	if (!secret)
		return "a line is `ACCESS-KEY-ID SECRET [OPTION...]`";
	if (strlen(id) < KEY_ID_MIN || strlen(id) >= sizeof(key->id) || strchr(id, '/'))
		return "an access key id has 4 to 128 characters and no '/'";
	if (strlen(secret) < SECRET_MIN || strlen(secret) >= sizeof(key->secret))
		return "a secret has 16 to 128 characters";
	if (access_keys_find(keys, id))
		return "this access key id is there already";
	if (keys->count == ACCESS_KEYS_MAX)
		return "there are too many keys (1024 at most)";
	*key = (struct access_key){0};
	memcpy(key->id, id, strlen(id) + 1);
	memcpy(key->secret, secret, strlen(secret) + 1);
	error = parse_options(key, strtok_r(NULL, "", &save));
	keys->count += !error;
	return error;
}

static bool check_mode(FILE *f, const char *path, char *error)
{
	struct stat st;

	if (fstat(fileno(f), &st)) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s: %m", path);
	} else if (!S_ISREG(st.st_mode)) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s: not a file", path);
	} else if (st.st_uid && st.st_uid != geteuid()) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX,
			 "%.300s: belongs to user %u: make root its owner", path, st.st_uid);
	} else if (st.st_mode & 027) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX,
			 "%.300s: mode %04o lets others read or change the secrets: chmod 0600",
			 path, st.st_mode & 07777);
	} else {
		return true;
	}
	return false;
}

static bool parse_file(FILE *f, struct access_keys *keys, const char *path, char *error)
{
	char line[LINE_BYTES];
	unsigned number = 0;

	while (fgets(line, sizeof(line), f)) {
		const char *why = strchr(line, '\n') || feof(f) ? parse_line(keys, line)
								: "the line is too long";

		number++;
		explicit_bzero(line, sizeof(line));
		if (!why)
			continue;
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s:%u: %s", path, number, why);
		return false;
	}
	if (!keys->count)
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s: there is no key in it", path);
	return keys->count;
}

struct access_keys *access_keys_read(const char *path, char error[ACCESS_KEYS_ERROR_MAX])
{
	CLEANUP_FILE FILE *f = fopen(path, "re");
	struct access_keys *keys;

	if (!f) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s: %m", path);
		return NULL;
	}
	if (!check_mode(f, path, error))
		return NULL;
	keys = calloc(1, sizeof(*keys));
	if (!keys) {
		snprintf(error, ACCESS_KEYS_ERROR_MAX, "%.300s: out of memory", path);
		return NULL;
	}
	if (parse_file(f, keys, path, error))
		return keys;
	access_keys_free(keys);
	return NULL;
}

void access_keys_free(struct access_keys *keys)
{
	if (!keys)
		return;
	explicit_bzero(keys, sizeof(*keys));
	free(keys);
}

unsigned access_keys_count(const struct access_keys *keys)
{
	return keys->count;
}

struct access_key *access_keys_find(struct access_keys *keys, const char *id)
{
	for (unsigned i = 0; i < keys->count; i++)
		if (!strcmp(keys->list[i].id, id))
			return &keys->list[i];
	return NULL;
}

const uint8_t *access_key_signing(struct access_key *key, const struct sigv4_claim *claim)
{
	if (strcmp(key->cached_scope, claim->scope)) {
		sigv4_signing_key(key->secret, claim, key->cached);
		memcpy(key->cached_scope, claim->scope, sizeof(key->cached_scope));
	}
	return key->cached;
}
