/* SPDX-License-Identifier: Apache-2.0 */
/* api_code.c - code in requests: long bodies, where code comes from, why it is refused */
#include "snapd/api_code.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "snapd/worker.h"

enum { SHORT_BODY_BYTES = 256 << 10 }; /* what the loop's thread parses itself, in about a ms */

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

int api_code_parse(const json_t *code, struct code_source *ret, struct field_error *e)
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
