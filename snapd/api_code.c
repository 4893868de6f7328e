/* SPDX-License-Identifier: Apache-2.0 */
/* api_code.c - code in requests: long bodies, where code comes from, why it is refused, downloads
 */
#include "snapd/api_code.h"

#include <errno.h>
#include <limits.h>
#include <nettle/base16.h>
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/function_store.h"
#include "snapd/layer_store.h"
#include "snapd/worker.h"

#define HOST_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:[]"

enum {
	SHORT_BODY_BYTES = 256 << 10, /* what the loop's thread parses itself, in about a ms */
	LOCATION_TTL_S = 600,	      /* as Lambda has it */
	LOCATION_SIGNATURE_CHARS = 2 * SHA256_DIGEST_SIZE,
};

/* ---- bodies ---------------------------------------------------------------------------------- */

/** struct body_job - a body on its way to JSON, in the worker where it is long. */
struct body_job {
	struct work work;
	struct http_request *request;
	struct function *function;
	api_body_fn then;
	char *body;
	size_t body_bytes;
	json_t *root;
	json_error_t error;
};

static void body_run(struct work *work)
{
	struct body_job *job = container_of(work, struct body_job, work);

	snprintf(job->error.text, sizeof(job->error.text), "not an object");
	job->root = job->body_bytes ? json_loadb(job->body, job->body_bytes, 0, &job->error)
				    : json_object();
}

static void body_done(struct work *work)
{
	struct body_job *job = container_of(work, struct body_job, work);
	struct http_request *r = job->request;

	if (!json_is_object(job->root)) {
		http_reply_error(r, 400, "InvalidRequestContentException",
				 "Could not parse request body into json: %s", job->error.text);
		json_decref(job->root);
	} else if (job->function && job->function->deleted) {
		http_reply_error(r, 404, "ResourceNotFoundException", "Function not found: %s",
				 job->function->name);
		json_decref(job->root);
	} else {
		job->then(r, job->function, job->root);
	}
	function_put(job->function);
	free(job->body);
	free(job);
}

void api_body_read(struct http_request *r, struct function *f, api_body_fn then)
{
	struct body_job *job = calloc(1, sizeof(*job));

	if (!job) {
		http_reply_error(r, 500, "ServiceException", "out of memory");
		return;
	}
	job->work = (struct work){.run = body_run, .done = body_done};
	job->request = r;
	job->function = f ? function_get(f) : NULL;
	job->then = then;
	job->body = steal_ptr(r->body);
	job->body_bytes = r->body_bytes;
	if (job->body_bytes > SHORT_BODY_BYTES) {
		worker_queue(&job->work);
		return;
	}
	body_run(&job->work);
	body_done(&job->work);
}

/* ---- code ------------------------------------------------------------------------------------ */

/** What Lambda also takes, and where it would have to come from is not here. */
static int refuse_elsewhere(const json_t *code, struct field_error *e)
{
	static const char *const keys[] = {"S3Bucket", "S3Key", "S3ObjectVersion", "ImageUri",
					   "SourceKMSKeyArn"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (field_is_set(code, keys[i]))
			return field_refuse(e,
					    "Code.%s: there is no such place here: give ZipFile "
					    "(base64), Directory or OciImage (paths on this host)",
					    keys[i]);
	return 0;
}

static int parse_path(const char *key, const char *path, struct code_source *ret,
		      struct field_error *e)
{
	if (!path || path[0] != '/' || strlen(path) >= PATH_MAX)
		return field_refuse(e,
				    "Code.%s: give an absolute path of this host; what is there "
				    "is copied",
				    key);
	ret->path = strdup(path);
	return ret->path ? 0 : field_no_memory(e);
}

int api_code_parse(const struct http_request *r, const json_t *code, struct code_source *ret,
		   struct field_error *e)
{
	static const char *const keys[] = {
		[CODE_DIRECTORY] = "Directory",
		[CODE_ZIP] = "ZipFile",
		[CODE_OCI_IMAGE] = "OciImage",
	};
	int given = 0, err = refuse_elsewhere(code, e);
	const json_t *value = NULL;

	*ret = (struct code_source){.kind = CODE_DIRECTORY};
	if (err)
		return err;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (field_is_set(code, keys[i])) {
			ret->kind = (enum code_kind)i;
			value = json_object_get(code, keys[i]);
			given++;
		}
	if (given != 1)
		return field_refuse(e, "Code: give exactly one of ZipFile (base64), Directory and "
				       "OciImage (absolute paths of this host)");
	if (ret->kind != CODE_ZIP && !(r->rights & ACCESS_HOST_PATHS))
		return field_refuse_as(e, 403, "AccessDeniedException",
				       "Code.%s: this key may not name paths of the host (right "
				       "host-paths): give ZipFile",
				       keys[ret->kind]);
	if (ret->kind != CODE_ZIP)
		return parse_path(keys[ret->kind], json_string_value(value), ret, e);
	if (!json_is_string(value) || !json_string_length(value))
		return field_refuse(e, "ZipFile: give a zip file as base64");
	ret->zip_text = json_incref((json_t *)(uintptr_t)value);
	return 0;
}

void api_code_refuse(struct http_request *r, int err, const struct code_error *error)
{
	unsigned status;
	const char *type = code_error_type(err, &status);

	http_reply_error(r, status, type, "%s", error->text);
}

/* ---- download -------------------------------------------------------------------------------- */

static struct {
	uint8_t key[SHA256_DIGEST_SIZE];
	bool made;
} location_key;

/** Hex of what only this snapd could have made for this place and time. */
static int sign_location(const char *kind, const char *name, const char *version,
			 const char *expires, char ret[LOCATION_SIGNATURE_CHARS + 1])
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct hmac_sha256_ctx hmac;
	char text[512];
	int n = snprintf(text, sizeof(text), "%s\n%s\n%s\n%s", kind, name, version, expires);

	if (!location_key.made) {
		if (getrandom(location_key.key, sizeof(location_key.key), 0) !=
		    sizeof(location_key.key))
			return -EIO;
		location_key.made = true;
	}
	if (n < 0 || n >= (int)sizeof(text))
		return -EINVAL;
	hmac_sha256_set_key(&hmac, sizeof(location_key.key), location_key.key);
	hmac_sha256_update(&hmac, (size_t)n, (const uint8_t *)text);
	hmac_sha256_digest(&hmac, sizeof(digest), digest);
	base16_encode_update(ret, sizeof(digest), digest);
	ret[LOCATION_SIGNATURE_CHARS] = '\0';
	return 0;
}

json_t *api_code_location(struct http_request *r, const char *kind, const char *name,
			  uint32_t number)
{
	const char *host = http_header(r, "Host");
	char version[16], expires[24], signature[LOCATION_SIGNATURE_CHARS + 1];

	if (!host || !*host || host[strspn(host, HOST_CHARS)])
		host = "localhost";
	version_number_text(number, version);
	snprintf(expires, sizeof(expires), "%llu",
		 (unsigned long long)(clock_real_ns() / NSEC_PER_SEC + LOCATION_TTL_S));
	if (sign_location(kind, name, version, expires, signature))
		return NULL;
	return json_sprintf("http://%s" API_CODE_PREFIX "%s/%s?Version=%s&Expires=%s&Signature=%s",
			    host, kind, name, number ? version : "%24LATEST", expires, signature);
}

/** Does the query string say that this snapd made the URL, and not too long ago? */
static bool location_ok(struct http_request *r, const char *kind, const char *name)
{
	const char *version = http_query(r, "Version"), *expires = http_query(r, "Expires");
	const char *given = http_query(r, "Signature");
	char signature[LOCATION_SIGNATURE_CHARS + 1];

	return version && expires && given && strlen(given) == LOCATION_SIGNATURE_CHARS &&
	       !sign_location(kind, name, version, expires, signature) &&
	       memeql_sec(given, signature, LOCATION_SIGNATURE_CHARS) &&
	       strtoull(expires, NULL, 10) >= clock_real_ns() / NSEC_PER_SEC;
}

/** struct download - a zip file on its way out. */
struct download {
	struct work work;
	struct http_request *request;
	bool is_layer;
	char name[FUNCTION_NAME_MAX + 1];
	uint32_t number;
	int fd;
};

static void download_run(struct work *work)
{
	struct download *d = container_of(work, struct download, work);
	CLEANUP_FD int package = d->is_layer ? layer_store_package_open(d->name, d->number)
					     : store_package_open(d->name, d->number);

	d->fd = package < 0 ? package : code_zip_open(package);
}

static void download_done(struct work *work)
{
	struct download *d = container_of(work, struct download, work);

	if (d->fd == -ENOENT)
		http_reply_error(d->request, 404, "ResourceNotFoundException",
				 "%s: it has been deleted", d->name);
	else if (d->fd < 0)
		http_reply_error(d->request, 500, "ServiceException", "%s: %s", d->name,
				 strerror(-d->fd));
	else
		http_reply_fd(d->request, 200, "application/zip", d->fd);
	free(d);
}

void api_code_download(const struct api_call *call)
{
	struct http_request *r = call->http;
	const char *kind = call->item[0], *name = call->item[1];
	struct download *d;

	if (!location_ok(r, kind, name)) {
		http_reply_error(r, 403, "AccessDeniedException",
				 "this URL has expired, or was not made by this snapd: get a new "
				 "one from GetFunction or GetLayerVersion");
		return;
	}
	if (!http_may_download(r)) {
		http_reply_error(r, 429, "TooManyRequestsException",
				 "%u downloads are under way: try again later", HTTP_DOWNLOADS_MAX);
		return;
	}
	d = calloc(1, sizeof(*d));
	if (!d) {
		http_reply_error(r, 500, "ServiceException", "out of memory");
		return;
	}
	d->work = (struct work){.run = download_run, .done = download_done};
	d->request = r;
	d->is_layer = !strcmp(kind, "layers");
	snprintf(d->name, sizeof(d->name), "%.64s", name); /* it was signed: one of ours */
	qualifier_number(http_query(r, "Version"), &d->number);
	worker_queue(&d->work);
}
