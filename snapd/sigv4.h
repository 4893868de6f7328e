/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigv4.h - verify AWS Signature Version 4 of an HTTP request
 *
 * Pure: no sockets, no clock, no files. Everything in a request is hostile until it is verified;
 * what is parsed of it has a fixed bound, and hostile bytes get a message and nothing else.
 *
 * Source:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
#ifndef QUICKTHAW_SNAPD_SIGV4_H
#define QUICKTHAW_SNAPD_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SIGV4_HEADERS_MAX = 100,
	SIGV4_PARAMS_MAX = 100,
	SIGV4_SEGMENTS_MAX = 32,
	SIGV4_KEY_BYTES = 32,
	SIGV4_HEX_CHARS = 64,
	SIGV4_ERROR_MAX = 400,
	SIGV4_SKEW_S = 300,
	SIGV4_EXPIRES_MAX_S = 604800,
};

#define SIGV4_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"

/** struct sigv4_request - what was sent, as it was on the wire. Nothing is copied. */
struct sigv4_request {
	const char *method;
	const char *uri; /**< path and query, still encoded */
	struct {
		const char *name, *value;
	} headers[SIGV4_HEADERS_MAX];
	size_t header_count;
};

/** What is wrong with a request; each is an exception of AWS's, see sigv4_exception(). */
enum sigv4_verdict {
	SIGV4_OK,
	SIGV4_MISSING,	  /**< it is not signed */
	SIGV4_INCOMPLETE, /**< signed, but not in a way that can be checked */
	SIGV4_UNKNOWN,	  /**< by a key that nobody here knows, or with a session token */
	SIGV4_INVALID,	  /**< another signature than ours, or at another time */
};

/**
 * struct sigv4_claim - who says to have signed it, when, and what; nothing of it is checked yet.
 * @scope: DATE/REGION/SERVICE/aws4_request, as in the credential
 * @expires_s: of a presigned URL; 0 in a header
 */
struct sigv4_claim {
	char key_id[129];
	char scope[129];
	char date[9];
	char region[41];
	char service[41];
	char amz_date[17];
	char signed_headers[1025];
	uint8_t signature[SIGV4_KEY_BYTES];
	uint64_t signed_s; /**< amz_date in seconds since 1970 */
	uint64_t expires_s;
	bool presigned;
};

/** sigv4_exception() - AWS's name for a verdict. */
const char *sigv4_exception(enum sigv4_verdict verdict);

/** sigv4_header() - of a request, by its name in any case; NULL where there is none. */
const char *sigv4_header(const struct sigv4_request *r, const char *name);

/**
 * sigv4_parse() - find the claim in the Authorization header, or in the query of a presigned URL.
 * @error: a message unless SIGV4_OK is returned
 */
enum sigv4_verdict sigv4_parse(const struct sigv4_request *r, struct sigv4_claim *ret,
			       char error[SIGV4_ERROR_MAX]);

/** sigv4_check_scope() - is it for this service, of the day it says, and signed about now? */
enum sigv4_verdict sigv4_check_scope(const struct sigv4_claim *claim, const char *service,
				     uint64_t now_s, char error[SIGV4_ERROR_MAX]);

/** sigv4_signing_key() - what a secret is turned into for a day, region and service. */
void sigv4_signing_key(const char *secret, const struct sigv4_claim *claim,
		       uint8_t ret[SIGV4_KEY_BYTES]);

/**
 * sigv4_verify() - compare, in constant time, the claim's signature with ours.
 * @payload_hash: hex SHA-256 of the body, or SIGV4_UNSIGNED_PAYLOAD
 */
enum sigv4_verdict sigv4_verify(const struct sigv4_request *r, const struct sigv4_claim *claim,
				const uint8_t key[SIGV4_KEY_BYTES], const char *payload_hash,
				char error[SIGV4_ERROR_MAX]);

/** sigv4_hex() - lower case, NUL-terminated. */
void sigv4_hex(const uint8_t bytes[SIGV4_KEY_BYTES], char ret[SIGV4_HEX_CHARS + 1]);

#endif
