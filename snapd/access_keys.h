/* SPDX-License-Identifier: Apache-2.0 */
/* access_keys.h - who may speak to snapd over TCP: access keys and what each may do */
#ifndef QUICKTHAW_SNAPD_ACCESS_KEYS_H
#define QUICKTHAW_SNAPD_ACCESS_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/sigv4.h"

enum { ACCESS_KEYS_MAX = 1024, ACCESS_KEYS_ERROR_MAX = 512 };

/** What a key may do. Without an option in the file: everything but ACCESS_HOST_PATHS. */
enum access_right {
	ACCESS_READ = 1,       /**< GET */
	ACCESS_INVOKE = 2,     /**< invoke functions */
	ACCESS_MANAGE = 4,     /**< the rest */
	ACCESS_HOST_PATHS = 8, /**< name directories of this host as code */
};

/**
 * struct access_key - one line of the file.
 * @cached: of @cached_scope, for deriving it costs four rounds of HMAC
 */
struct access_key {
	char id[129];
	char secret[129];
	unsigned rights; /**< bits of enum access_right */
	char cached_scope[129];
	uint8_t cached[SIGV4_KEY_BYTES];
};

struct access_keys;

/**
 * access_keys_read() - a file of lines `ID SECRET [OPTION...]`; blocks.
 * It must belong to root or the caller and must not be readable by everybody. Options are `read`,
 * `invoke`, `manage` (several add up) and `host-paths`. A line that begins with # is a comment.
 * @error: a message that begins with the file's name
 * Return: the keys, or NULL. access_keys_free() wipes them.
 */
struct access_keys *access_keys_read(const char *path, char error[ACCESS_KEYS_ERROR_MAX]);
void access_keys_free(struct access_keys *keys);

unsigned access_keys_count(const struct access_keys *keys);

/** access_keys_find() - by id; NULL: unknown. Valid until the keys are freed. */
struct access_key *access_keys_find(struct access_keys *keys, const char *id);

/** access_key_signing() - its signing key for a claim's scope; 32 bytes, valid until the next call.
 */
const uint8_t *access_key_signing(struct access_key *key, const struct sigv4_claim *claim);

#endif
