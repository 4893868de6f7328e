/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigv4.c - verify AWS Signature Version 4 of an HTTP request
 *
 * Theory of operation
 *
 * The client and we write the same text about a request, the canonical request, each by itself:
 *
 *   METHOD \n PATH \n QUERY \n HEADERS \n SIGNED-HEADERS \n PAYLOAD-HASH
 *
 * Its hash, the time and the scope are signed by a key that comes of the secret, the day, the
 * region and the service. The text is never put together here: its parts go into the hash one
 * after the other, encoded on the way. Only the query's parameters, which have to be sorted, are
 * copied.
 *
 * Services other than S3 encode the path twice: once as it is on the wire, and that once more.
 */
#include "snapd/sigv4.h"

#include <ctype.h>
#include <nettle/base16.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/util.h"

#define ALGORITHM  "AWS4-HMAC-SHA256"
#define TERMINATOR "aws4_request"

static const char *const exceptions[] = {
	[SIGV4_OK] = "",
	[SIGV4_MISSING] = "MissingAuthenticationTokenException",
	[SIGV4_INCOMPLETE] = "IncompleteSignatureException",
	[SIGV4_UNKNOWN] = "UnrecognizedClientException",
	[SIGV4_INVALID] = "InvalidSignatureException",
};

const char *sigv4_exception(enum sigv4_verdict verdict)
{
	return exceptions[verdict];
}

static enum sigv4_verdict refuse(char *error, enum sigv4_verdict verdict, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static enum sigv4_verdict refuse(char *error, enum sigv4_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, SIGV4_ERROR_MAX, fmt, ap);
	va_end(ap);
	return verdict;
}

const char *sigv4_header(const struct sigv4_request *r, const char *name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (!strcasecmp(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

void sigv4_hex(const uint8_t bytes[SIGV4_KEY_BYTES], char ret[SIGV4_HEX_CHARS + 1])
{
	base16_encode_update(ret, SIGV4_KEY_BYTES, bytes);
	ret[SIGV4_HEX_CHARS] = '\0';
}

/* ---- encoding -------------------------------------------------------------------------------- */

static bool unreserved(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' || c == '~';
}

/** Percent-encode one byte. Return: how many characters, 1 or 3. */
static size_t encode(char c, char to[3])
{
	static const char digits[] = "0123456789ABCDEF";

	to[0] = unreserved(c) ? c : '%';
	to[1] = digits[(unsigned char)c >> 4];
	to[2] = digits[(unsigned char)c & 15];
	return unreserved(c) ? 1 : 3;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** Take one byte off a percent-encoded text; a '%' that encodes nothing stands for itself. */
static char decode(const char **at, const char *end)
{
	const char *s = *at;

	if (*s == '%' && end - s >= 3 && hex_value(s[1]) >= 0 && hex_value(s[2]) >= 0) {
		*at = s + 3;
		return (char)(hex_value(s[1]) << 4 | hex_value(s[2]));
	}
	*at = s + 1;
	return *s;
}

/* ---- the query ------------------------------------------------------------------------------- */

/** struct param - one parameter, encoded as the canonical query has it. */
struct param {
	const char *name, *value;
};

struct query {
	char *text; /**< the NUL-terminated names and values */
	struct param params[SIGV4_PARAMS_MAX];
	size_t count;
};

static void query_free(struct query *q)
{
	free(q->text);
}

/** [*@at, @end) decoded and encoded again: clients differ in what they encode. */
static char *encode_again(char *to, const char *at, const char *end)
{
	while (at < end)
		to += encode(decode(&at, end), to);
	*to++ = '\0';
	return to;
}

static int compare_params(const void *a, const void *b)
{
	const struct param *x = a, *y = b;
	int names = strcmp(x->name, y->name);

	return names ? names : strcmp(x->value, y->value);
}

/** Return: false when there are too many parameters, or without memory. */
static bool query_parse(const char *uri, struct query *q)
{
	const char *at = strchr(uri, '?');
	char *to;

	q->count = 0;
	q->text = to = malloc(at ? 3 * strlen(at) + 2 : 1);
	if (!to || !at)
		return to;
	for (at++; *at; at += *at == '&') {
		const char *end = strchrnul(at, '&'), *equals = memchr(at, '=', (size_t)(end - at));

		if (at == end)
			continue;
		if (q->count == SIGV4_PARAMS_MAX)
			return false;
		q->params[q->count].name = to;
		to = encode_again(to, at, equals ? equals : end);
		q->params[q->count++].value = to;
		to = encode_again(to, equals ? equals + 1 : end, end);
		at = end;
	}
	qsort(q->params, q->count, sizeof(q->params[0]), compare_params);
	return true;
}

static bool query_has(const struct query *q, const char *name)
{
	for (size_t i = 0; i < q->count; i++)
		if (!strcmp(q->params[i].name, name))
			return true;
	return false;
}

/** A parameter, decoded into @to. Return: false when it is not there or has no room. */
static bool query_get(const struct query *q, const char *name, char *to, size_t size)
{
	for (size_t i = 0; i < q->count; i++) {
		const char *at = q->params[i].value, *end = at + strlen(at);
		size_t n = 0;

		if (strcmp(q->params[i].name, name))
			continue;
		while (at < end && n < size - 1)
			to[n++] = decode(&at, end);
		to[n] = '\0';
		return at == end;
	}
	return false;
}

/* ---- the claim ------------------------------------------------------------------------------- */

static bool copy(char *to, size_t size, const char *from, size_t n)
{
	if (!n || n >= size)
		return false;
	memcpy(to, from, n);
	to[n] = '\0';
	return true;
}

/** The part of @text up to @end goes to @to. Return: what follows, or NULL. */
static const char *cut(const char *text, char end, char *to, size_t size)
{
	const char *at = strchr(text, end);

	return at && copy(to, size, text, (size_t)(at - text)) ? at + 1 : NULL;
}

/** KEY/DATE/REGION/SERVICE/aws4_request */
static bool parse_credential(struct sigv4_claim *c, const char *text)
{
	const char *at = cut(text, '/', c->key_id, sizeof(c->key_id));

	if (!at || !copy(c->scope, sizeof(c->scope), at, strlen(at)))
		return false;
	at = cut(at, '/', c->date, sizeof(c->date));
	at = at ? cut(at, '/', c->region, sizeof(c->region)) : NULL;
	at = at ? cut(at, '/', c->service, sizeof(c->service)) : NULL;
	return at && !strcmp(at, TERMINATOR);
}

/** YYYYMMDDTHHMMSSZ */
static bool parse_time(struct sigv4_claim *c, const char *text)
{
	struct tm tm = {0};
	const char *end;
	time_t t;

	if (strlen(text) != sizeof(c->amz_date) - 1)
		return false;
	memcpy(c->amz_date, text, sizeof(c->amz_date));
	for (int i = 0; i < 16; i++)
		if (i != 8 && i != 15 && !isdigit((unsigned char)text[i]))
			return false;
	end = strptime(text, "%Y%m%dT%H%M%SZ", &tm);
	t = end && !*end ? timegm(&tm) : -1;
	c->signed_s = (uint64_t)t;
	return t >= 0;
}

static bool parse_signature(struct sigv4_claim *c, const char *hex, size_t n)
{
	struct base16_decode_ctx ctx;
	size_t bytes = sizeof(c->signature);

	base16_decode_init(&ctx);
	return n == SIGV4_HEX_CHARS && base16_decode_update(&ctx, &bytes, c->signature, n, hex) &&
	       base16_decode_final(&ctx) && bytes == sizeof(c->signature);
}

/** Find `name=` in `a=..., b=...`. Return: its value's length, 0 when it is not there. */
static size_t find_field(const char *text, const char *name, const char **ret)
{
	size_t n = strlen(name);

	while (*text) {
		text += strspn(text, " ,\t");
		if (!strncmp(text, name, n) && text[n] == '=') {
			*ret = text + n + 1;
			return strcspn(*ret, " ,\t");
		}
		text += strcspn(text, ",");
	}
	return 0;
}

static enum sigv4_verdict parse_header(const struct sigv4_request *r, const char *text,
				       struct sigv4_claim *c, char *error)
{
	const char *date = sigv4_header(r, "x-amz-date"), *credential, *headers, *signature;
	char whole[sizeof(c->key_id) + sizeof(c->scope)];
	size_t n;

	if (strncmp(text, ALGORITHM " ", strlen(ALGORITHM " ")))
		return refuse(error, SIGV4_INCOMPLETE,
			      "Authorization is not of the form " ALGORITHM " Credential=..., "
			      "SignedHeaders=..., Signature=...");
	text += strlen(ALGORITHM);
	n = find_field(text, "Credential", &credential);
	if (!copy(whole, sizeof(whole), n ? credential : "", n) || !parse_credential(c, whole))
		return refuse(error, SIGV4_INCOMPLETE,
			      "Authorization: Credential is not of the form "
			      "KEY/YYYYMMDD/REGION/SERVICE/" TERMINATOR);
	n = find_field(text, "SignedHeaders", &headers);
	if (!copy(c->signed_headers, sizeof(c->signed_headers), n ? headers : "", n))
		return refuse(error, SIGV4_INCOMPLETE, "Authorization has no SignedHeaders");
	n = find_field(text, "Signature", &signature);
	if (!parse_signature(c, n ? signature : "", n))
		return refuse(error, SIGV4_INCOMPLETE,
			      "Authorization has no Signature of 64 hexadecimal digits");
	if (!date || !parse_time(c, date))
		return refuse(error, SIGV4_INCOMPLETE,
			      "X-Amz-Date is missing or not of the form YYYYMMDDTHHMMSSZ");
	return SIGV4_OK;
}

static enum sigv4_verdict parse_query(const struct query *q, struct sigv4_claim *c, char *error)
{
	char text[sizeof(c->key_id) + sizeof(c->scope)];
	char *end;

	c->presigned = true;
	if (!query_get(q, "X-Amz-Algorithm", text, sizeof(text)) || strcmp(text, ALGORITHM))
		return refuse(error, SIGV4_INCOMPLETE, "X-Amz-Algorithm is not " ALGORITHM);
	if (!query_get(q, "X-Amz-Credential", text, sizeof(text)) || !parse_credential(c, text))
		return refuse(error, SIGV4_INCOMPLETE,
			      "X-Amz-Credential is not of the form "
			      "KEY/YYYYMMDD/REGION/SERVICE/" TERMINATOR);
	if (!query_get(q, "X-Amz-SignedHeaders", c->signed_headers, sizeof(c->signed_headers)) ||
	    !*c->signed_headers)
		return refuse(error, SIGV4_INCOMPLETE, "there is no X-Amz-SignedHeaders");
	if (!query_get(q, "X-Amz-Signature", text, sizeof(text)) ||
	    !parse_signature(c, text, strlen(text)))
		return refuse(error, SIGV4_INCOMPLETE,
			      "X-Amz-Signature is not 64 hexadecimal digits");
	if (!query_get(q, "X-Amz-Date", text, sizeof(text)) || !parse_time(c, text))
		return refuse(error, SIGV4_INCOMPLETE,
			      "X-Amz-Date is missing or not of the form YYYYMMDDTHHMMSSZ");
	if (!query_get(q, "X-Amz-Expires", text, sizeof(text)) || !isdigit((unsigned char)*text))
		return refuse(error, SIGV4_INCOMPLETE, "there is no X-Amz-Expires");
	c->expires_s = strtoul(text, &end, 10);
	if (*end || !c->expires_s || c->expires_s > SIGV4_EXPIRES_MAX_S)
		return refuse(error, SIGV4_INCOMPLETE, "X-Amz-Expires: give 1 to %d seconds",
			      SIGV4_EXPIRES_MAX_S);
	return SIGV4_OK;
}

/** Keys here are for ever: a token means that the client took its credentials from elsewhere. */
static enum sigv4_verdict refuse_token(char *error)
{
	return refuse(error, SIGV4_UNKNOWN,
		      "The security token included in the request is invalid: the keys of this "
		      "server have none (unset AWS_SESSION_TOKEN)");
}

enum sigv4_verdict sigv4_parse(const struct sigv4_request *r, struct sigv4_claim *ret,
			       char error[SIGV4_ERROR_MAX])
{
	const char *authorization = sigv4_header(r, "authorization");
	__attribute__((cleanup(query_free))) struct query q = {0};
	enum sigv4_verdict verdict;

	*ret = (struct sigv4_claim){0};
	if (authorization) {
		verdict = parse_header(r, authorization, ret, error);
		if (!verdict && sigv4_header(r, "x-amz-security-token"))
			verdict = refuse_token(error);
		return verdict;
	}
	if (!query_parse(r->uri, &q))
		return refuse(error, SIGV4_INCOMPLETE, "the query has more than %d parameters",
			      SIGV4_PARAMS_MAX);
	if (!query_has(&q, "X-Amz-Signature"))
		return refuse(error, SIGV4_MISSING, "Missing Authentication Token");
	verdict = parse_query(&q, ret, error);
	if (!verdict && query_has(&q, "X-Amz-Security-Token"))
		verdict = refuse_token(error);
	return verdict;
}

/** As x-amz-date has it. */
static void format_time(uint64_t s, char to[17])
{
	time_t t = (time_t)s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(to, 17, "%Y%m%dT%H%M%SZ", &tm);
}

enum sigv4_verdict sigv4_check_scope(const struct sigv4_claim *c, const char *service,
				     uint64_t now_s, char error[SIGV4_ERROR_MAX])
{
	uint64_t valid_s = c->presigned ? c->expires_s : SIGV4_SKEW_S;
	char now[17];

	if (strcmp(c->service, service))
		return refuse(error, SIGV4_INVALID,
			      "Credential should be scoped to correct service: '%s'.", service);
	if (strncmp(c->date, c->amz_date, strlen(c->date)) || strlen(c->date) != 8)
		return refuse(error, SIGV4_INVALID,
			      "Date in Credential scope does not match YYYYMMDD from ISO-8601 "
			      "version of date from HTTP: '%s' != '%.8s', from '%s'.",
			      c->date, c->amz_date, c->amz_date);
	format_time(now_s, now);
	if (c->signed_s > now_s + SIGV4_SKEW_S)
		return refuse(error, SIGV4_INVALID,
			      "Signature not yet current: %s is still later than %s (+ %d min.)",
			      c->amz_date, now, SIGV4_SKEW_S / 60);
	if (c->signed_s + valid_s < now_s)
		return refuse(error, SIGV4_INVALID,
			      "Signature expired: %s (+ %llu s) is now earlier than %s",
			      c->amz_date, (unsigned long long)valid_s, now);
	return SIGV4_OK;
}

/* ---- the canonical request ------------------------------------------------------------------- */

static void add(struct sha256_ctx *h, const char *text, size_t n)
{
	sha256_update(h, n, (const uint8_t *)text);
}

static void add_string(struct sha256_ctx *h, const char *text)
{
	add(h, text, strlen(text));
}

/** The path without empty segments and dots, encoded once more than it is. */
static bool add_path(struct sha256_ctx *h, const char *uri)
{
	const char *segments[SIGV4_SEGMENTS_MAX], *end = strchrnul(uri, '?'), *next;
	size_t lengths[SIGV4_SEGMENTS_MAX], count = 0;

	for (const char *at = uri; at < end; at = next) {
		const char *slash = memchr(at, '/', (size_t)(end - at));
		size_t n = (size_t)((slash ? slash : end) - at);

		next = slash ? slash + 1 : end;
		if (!n || (n == 1 && *at == '.'))
			continue;
		if (n == 2 && !memcmp(at, "..", 2)) {
			count -= count > 0;
			continue;
		}
		if (count == SIGV4_SEGMENTS_MAX)
			return false;
		segments[count] = at;
		lengths[count++] = n;
	}
	add(h, "/", !count);
	for (size_t i = 0; i < count; i++) {
		add(h, "/", 1);
		for (size_t j = 0; j < lengths[i]; j++) {
			char text[3];
			size_t n = encode(segments[i][j], text);

			add(h, text, n);
		}
	}
	add(h, "/", count && end > uri && end[-1] == '/');
	add(h, "\n", 1);
	return true;
}

static bool add_query(struct sha256_ctx *h, const struct sigv4_request *r, bool presigned)
{
	__attribute__((cleanup(query_free))) struct query q = {0};
	bool first = true;

	if (!query_parse(r->uri, &q))
		return false;
	for (size_t i = 0; i < q.count; i++) {
		if (presigned && !strcmp(q.params[i].name, "X-Amz-Signature"))
			continue;
		add(h, "&", !first);
		add_string(h, q.params[i].name);
		add(h, "=", 1);
		add_string(h, q.params[i].value);
		first = false;
	}
	add(h, "\n", 1);
	return true;
}

/** A value without white space at its ends, and with one space for each run of it. */
static void add_value(struct sha256_ctx *h, const char *value)
{
	size_t n;

	for (bool first = true;; first = false) {
		value += strspn(value, " \t");
		n = strcspn(value, " \t");
		if (!n)
			return;
		add(h, " ", !first);
		add(h, value, n);
		value += n;
	}
}

/** All headers of a name, joined by commas. Return: false when there is none. */
static bool add_header(struct sha256_ctx *h, const struct sigv4_request *r, const char *name,
		       size_t n)
{
	bool found = false;

	add(h, name, n);
	for (size_t i = 0; i < r->header_count; i++) {
		if (strlen(r->headers[i].name) != n || strncasecmp(r->headers[i].name, name, n))
			continue;
		add(h, found ? "," : ":", 1);
		add_value(h, r->headers[i].value);
		found = true;
	}
	add(h, "\n", 1);
	return found;
}

/** Is a header's name in `a;b;c`? */
static bool is_signed(const char *list, const char *name)
{
	size_t n = strlen(name);

	while (*list) {
		size_t length = strcspn(list, ";");

		if (length == n && !strncasecmp(list, name, n))
			return true;
		list += length;
		list += *list == ';';
	}
	return false;
}

/** What the service acts on has to be signed: the host, and all x-amz-* that there are. */
static enum sigv4_verdict check_signed_headers(const struct sigv4_request *r,
					       const struct sigv4_claim *c, char *error)
{
	if (!is_signed(c->signed_headers, "host"))
		return refuse(error, SIGV4_INVALID,
			      "'Host' must be a 'SignedHeader' in the AWS Authorization.");
	for (size_t i = 0; i < r->header_count; i++)
		if (!strncasecmp(r->headers[i].name, "x-amz-", 6) &&
		    !is_signed(c->signed_headers, r->headers[i].name))
			return refuse(error, SIGV4_INVALID,
				      "'%.60s' must be a 'SignedHeader' in the AWS Authorization.",
				      r->headers[i].name);
	return SIGV4_OK;
}

static enum sigv4_verdict add_headers(struct sha256_ctx *h, const struct sigv4_request *r,
				      const struct sigv4_claim *c, char *error)
{
	enum sigv4_verdict verdict = check_signed_headers(r, c, error);
	const char *at = c->signed_headers;

	while (!verdict && *at) {
		size_t n = strcspn(at, ";");

		for (size_t i = 0; i < n; i++)
			if (isupper((unsigned char)at[i]))
				return refuse(error, SIGV4_INCOMPLETE,
					      "SignedHeaders must be in lower case");
		if (!n || !add_header(h, r, at, n))
			return refuse(error, SIGV4_INVALID,
				      "SignedHeaders has '%.*s', which is not in the request",
				      (int)MIN(n, (size_t)60), at);
		at += n;
		at += *at == ';';
	}
	add(h, "\n", 1);
	add_string(h, c->signed_headers);
	add(h, "\n", 1);
	return verdict;
}

static enum sigv4_verdict hash_request(const struct sigv4_request *r, const struct sigv4_claim *c,
				       const char *payload_hash, char hex[SIGV4_HEX_CHARS + 1],
				       char *error)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	enum sigv4_verdict verdict;
	struct sha256_ctx h;

	sha256_init(&h);
	add_string(&h, r->method);
	add(&h, "\n", 1);
	if (!add_path(&h, r->uri) || !add_query(&h, r, c->presigned))
		return refuse(error, SIGV4_INCOMPLETE, "the path or the query has too many parts");
	verdict = add_headers(&h, r, c, error);
	if (verdict)
		return verdict;
	add_string(&h, payload_hash);
	sha256_digest(&h, sizeof(digest), digest);
	sigv4_hex(digest, hex);
	return SIGV4_OK;
}

/* ---- the signature --------------------------------------------------------------------------- */

static void hmac(const void *key, size_t key_bytes, const char *text, uint8_t ret[SIGV4_KEY_BYTES])
{
	struct hmac_sha256_ctx ctx;

	hmac_sha256_set_key(&ctx, key_bytes, key);
	hmac_sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	hmac_sha256_digest(&ctx, SIGV4_KEY_BYTES, ret);
}

void sigv4_signing_key(const char *secret, const struct sigv4_claim *c,
		       uint8_t ret[SIGV4_KEY_BYTES])
{
	char first[160];
	int n = snprintf(first, sizeof(first), "AWS4%s", secret);

	hmac(first, (size_t)n, c->date, ret);
	hmac(ret, SIGV4_KEY_BYTES, c->region, ret);
	hmac(ret, SIGV4_KEY_BYTES, c->service, ret);
	hmac(ret, SIGV4_KEY_BYTES, TERMINATOR, ret);
	explicit_bzero(first, sizeof(first));
}

enum sigv4_verdict sigv4_verify(const struct sigv4_request *r, const struct sigv4_claim *c,
				const uint8_t key[SIGV4_KEY_BYTES], const char *payload_hash,
				char error[SIGV4_ERROR_MAX])
{
	char hex[SIGV4_HEX_CHARS + 1], text[512];
	uint8_t signature[SIGV4_KEY_BYTES];
	enum sigv4_verdict verdict = hash_request(r, c, payload_hash, hex, error);

	if (verdict)
		return verdict;
	snprintf(text, sizeof(text), ALGORITHM "\n%s\n%s\n%s", c->amz_date, c->scope, hex);
	hmac(key, SIGV4_KEY_BYTES, text, signature);
	if (memeql_sec(signature, c->signature, sizeof(signature)))
		return SIGV4_OK;
	return refuse(error, SIGV4_INVALID,
		      "The request signature we calculated does not match the signature you "
		      "provided. Check your AWS Secret Access Key and signing method. Consult the "
		      "service documentation for details.");
}
