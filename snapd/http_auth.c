/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_auth.c - who sends a request, and what may they do
 *
 * Over a unix socket the file's permissions have decided that already. Over TCP the header says
 * who it is, and is checked first, so that strangers cannot make us take in a body; the signature
 * covers the body's hash, so it can be verified when all of that is here. The hash is made on the
 * way, part by part: at once it would hold up the loop for a body of 50 MiB.
 */
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/http_internal.h"

#define SERVICE	   "lambda"
#define ALL_RIGHTS (ACCESS_READ | ACCESS_INVOKE | ACCESS_MANAGE | ACCESS_HOST_PATHS)

/** struct http_auth - what a request over TCP says about who sends it. */
struct http_auth {
	struct sigv4_claim claim;
	struct sha256_ctx body;
};

static struct access_keys *keys;

void http_set_keys(struct access_keys *new_keys)
{
	access_keys_free(keys);
	keys = new_keys;
}

static bool refuse(struct http_request *r, enum sigv4_verdict verdict, const char *text)
{
	http_reply_error(r, 403, sigv4_exception(verdict), "%s", text);
	return false;
}

/* ---- what needs no signature ----------------------------------------------------------------- */

static bool is_one_of(const char *path, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(path, *list))
			return true;
	return false;
}

static bool may_be_unsigned(const struct http_request *r)
{
	static const char *const always[] = {"/healthz", "/readyz", NULL};
	static const char *const status[] = {"/", "/metrics", "/quickthaw/v1/stats",
					     "/quickthaw/v1/capacity", NULL};

	if (strcmp(r->method, "GET") && strcmp(r->method, "HEAD"))
		return false;
	/* Such a URL is signed itself, see api_code.h. */
	if (!strncmp(r->path, HTTP_SIGNED_PREFIX, strlen(HTTP_SIGNED_PREFIX)))
		return true;
	return is_one_of(r->path, always) ||
	       (http_params.unsigned_status && is_one_of(r->path, status));
}

/* ---- the signature --------------------------------------------------------------------------- */

static enum MHD_Result collect(void *cls, enum MHD_ValueKind kind, const char *name,
			       const char *value)
{
	struct sigv4_request *request = cls;

	(void)kind;
	if (request->header_count == SIGV4_HEADERS_MAX)
		return MHD_NO;
	request->headers[request->header_count].name = name;
	request->headers[request->header_count++].value = value ? value : "";
	return MHD_YES;
}

static void describe(struct http_request *r, struct sigv4_request *ret)
{
	ret->method = r->method;
	ret->uri = r->uri ? r->uri : "";
	ret->header_count = 0;
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, collect, ret);
}

/** Everything but the signature, which needs the body. Return: false after a reply. */
static bool check_claim(struct http_request *r)
{
	struct sigv4_request request;
	struct sigv4_claim *claim = &r->auth->claim;
	char error[SIGV4_ERROR_MAX];
	enum sigv4_verdict verdict;

	describe(r, &request);
	if (request.header_count == SIGV4_HEADERS_MAX)
		return refuse(r, SIGV4_INCOMPLETE, "the request has too many headers");
	verdict = sigv4_parse(&request, claim, error);
	if (!verdict)
		verdict = sigv4_check_scope(claim, SERVICE, clock_real_ns() / NSEC_PER_SEC, error);
	if (verdict)
		return refuse(r, verdict, error);
	if (!keys || !access_keys_find(keys, claim->key_id))
		return refuse(r, SIGV4_UNKNOWN,
			      "The security token included in the request is invalid.");
	return true;
}

/**
 * The payload's hash as the canonical request has it: where the client names one, it has to be
 * the body's. Return: false when it is another one.
 */
static bool payload_hash(struct http_auth *auth, const char *named, char ret[SIGV4_HEX_CHARS + 1])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_digest(&auth->body, sizeof(digest), digest);
	sigv4_hex(digest, ret);
	if (named && !strcmp(named, SIGV4_UNSIGNED_PAYLOAD))
		memcpy(ret, SIGV4_UNSIGNED_PAYLOAD, sizeof(SIGV4_UNSIGNED_PAYLOAD));
	return !named || !strcmp(named, ret);
}

static bool verify(struct http_request *r)
{
	char hash[SIGV4_HEX_CHARS + 1], error[SIGV4_ERROR_MAX];
	struct sigv4_request request;
	struct access_key *key;
	enum sigv4_verdict verdict;

	/* The keys may be others than when the header came. */
	key = keys ? access_keys_find(keys, r->auth->claim.key_id) : NULL;
	if (!key)
		return refuse(r, SIGV4_UNKNOWN,
			      "The security token included in the request is invalid.");
	describe(r, &request);
	if (!payload_hash(r->auth, sigv4_header(&request, "x-amz-content-sha256"), hash))
		return refuse(r, SIGV4_INVALID, "X-Amz-Content-SHA256 is not the body's");
	verdict = sigv4_verify(&request, &r->auth->claim, access_key_signing(key, &r->auth->claim),
			       hash, error);
	if (verdict)
		return refuse(r, verdict, error);
	r->rights = key->rights;
	return true;
}

/* ---- what they may do ------------------------------------------------------------------------ */

static enum access_right needed(const struct http_request *r)
{
	const char *action = strrchr(r->path, '/');

	if (!strcmp(r->method, "GET") || !strcmp(r->method, "HEAD"))
		return ACCESS_READ;
	if (action && (!strcmp(action, "/invocations") || !strcmp(action, "/invoke-async") ||
		       !strcmp(action, "/response-streaming-invocations")))
		return ACCESS_INVOKE;
	return ACCESS_MANAGE;
}

static bool may(struct http_request *r)
{
	if (r->rights & needed(r))
		return true;
	http_reply_error(r, 403, "AccessDeniedException",
			 "access key %s is not authorized to perform %s %s", r->auth->claim.key_id,
			 r->method, r->path);
	return false;
}

/* ---- in the life of a request ---------------------------------------------------------------- */

bool http_auth_begin(struct http_request *r)
{
	bool wants = r->door->tcp && !r->door->url && !may_be_unsigned(r);

	if (!r->door->tcp)
		r->rights = ALL_RIGHTS;
	/* A function's URL may want a signature: that is known when its function is. */
	if (!wants && !(r->door->url && http_header(r, "Authorization")) &&
	    !(r->door->url && http_query(r, "X-Amz-Signature")))
		return true;
	r->auth = calloc(1, sizeof(*r->auth));
	if (!r->auth) {
		http_reply_error(r, 500, "ServiceException", "out of memory");
		return false;
	}
	sha256_init(&r->auth->body);
	return r->door->url || check_claim(r);
}

void http_auth_body(struct http_request *r, const void *data, size_t n)
{
	if (r->auth)
		sha256_update(&r->auth->body, n, data);
}

bool http_auth_end(struct http_request *r)
{
	return !r->auth || r->door->url || (verify(r) && may(r));
}

bool http_verify(struct http_request *r)
{
	if (!r->auth)
		return refuse(r, SIGV4_MISSING, "Missing Authentication Token");
	return check_claim(r) && verify(r);
}

const char *http_access_key(const struct http_request *r)
{
	return r->auth ? r->auth->claim.key_id : NULL;
}

void http_auth_free(struct http_auth *auth)
{
	free(auth);
}
