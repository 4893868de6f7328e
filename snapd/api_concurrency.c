/* SPDX-License-Identifier: Apache-2.0 */
/* api_concurrency.c - how much of the host is for one function, and what the host has, over HTTP */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/api_change.h"
#include "snapd/api_page.h"
#include "snapd/function_store.h"
#include "snapd/provision.h"
#include "snapd/scheduler.h"

/* Of the host's concurrency this part cannot be reserved, as Lambda keeps 100 of 1,000. */
enum { UNRESERVED_PART = 10 };

/** What functions have reserved, but for one of them. */
static uint64_t reserved_by_others(const struct function *but)
{
	uint64_t sum = 0;

	for (const struct function *f = functions_first(); f; f = f->next)
		if (f != but && f->control.reserved_concurrency > 0)
			sum += (uint32_t)f->control.reserved_concurrency;
	return sum;
}

/* ---- reserved -------------------------------------------------------------------------------- */

static json_t *reserved_json(const struct function_control *c)
{
	return json_pack("{s:i}", "ReservedConcurrentExecutions", (int)c->reserved_concurrency);
}

/** Instances that the function has waiting cannot be more than it may use. */
static uint64_t provisioned_sum(const struct function_control *c, const char *but)
{
	const struct provisioned_config *leave_out = control_provisioned(c, but);
	uint64_t sum = 0;

	for (struct qualified *at = c->provisioned; at; at = at->next) {
		const struct provisioned_config *p =
			container_of(at, struct provisioned_config, entry);

		if (p != leave_out)
			sum += p->requested;
	}
	return sum;
}

static int put_reserved(struct api_edit *edit)
{
	static const char key[] = "ReservedConcurrentExecutions";
	uint32_t limit = scheduler_concurrency_limit(), least = limit / UNRESERVED_PART, n = 0;
	int err = field_u32(edit->body, key, 0, INT_MAX, &n, &edit->error);

	if (err)
		return err;
	if (!field_is_set(edit->body, key))
		return field_refuse_value(&edit->error, key, "null", "Member must not be null");
	if (reserved_by_others(edit->call->function) + n + least > limit)
		return field_refuse(&edit->error,
				    "Specified ReservedConcurrentExecutions for function decreases "
				    "account's UnreservedConcurrentExecution below its minimum "
				    "value of [%u].",
				    least);
	if (provisioned_sum(edit->control, "") > n)
		return field_refuse(&edit->error,
				    "Specified ReservedConcurrentExecutions for function is below "
				    "the provisioned concurrency of its versions, which is %llu.",
				    (unsigned long long)provisioned_sum(edit->control, ""));
	edit->control->reserved_concurrency = (int32_t)n;
	edit->reply = reserved_json(edit->control);
	return edit->reply ? 0 : field_no_memory(&edit->error);
}

void api_concurrency_put(const struct api_call *call)
{
	api_change(call, put_reserved, 200);
}

static int delete_reserved(struct api_edit *edit)
{
	edit->control->reserved_concurrency = -1;
	return 0;
}

void api_concurrency_delete(const struct api_call *call)
{
	api_change(call, delete_reserved, 204);
}

void api_concurrency_get(const struct api_call *call)
{
	const struct function_control *c = &call->function->control;

	http_reply_json(call->http, 200,
			c->reserved_concurrency < 0 ? json_object() : reserved_json(c));
}

/* ---- provisioned ----------------------------------------------------------------------------- */

static json_t *provisioned_json(struct function *f, const struct provisioned_config *p)
{
	struct provision_status status =
		scheduler_provisioned_status(f, p->entry.qualifier, p->requested);
	char when[TIME_TEXT_CHARS + 1];
	json_t *root = json_pack(
		"{s:I, s:I, s:I, s:s, s:s}", "RequestedProvisionedConcurrentExecutions",
		(json_int_t)p->requested, "AllocatedProvisionedConcurrentExecutions",
		(json_int_t)status.available, "AvailableProvisionedConcurrentExecutions",
		(json_int_t)status.available, "Status", provision_state_names[status.state],
		"LastModified", time_text(p->modified_ns, when));

	if (root && *status.reason)
		json_object_set_new(root, "StatusReason", json_string(status.reason));
	return root;
}

/** Which version or alias. Return: NULL with the error filled in. */
static const char *provisioned_target(struct api_edit *edit)
{
	const char *qualifier = api_edit_target(edit);
	const struct alias *a;
	uint32_t number;

	if (!qualifier)
		return NULL;
	a = control_alias(edit->control, qualifier);
	if ((a && !a->version) || (qualifier_number(qualifier, &number) && !number)) {
		field_refuse(&edit->error, "Provisioned Concurrency Configs cannot be applied to "
					   "unpublished function versions.");
		return NULL;
	}
	return qualifier;
}

static int check_provisioned(struct api_edit *edit, const struct provisioned_config *p)
{
	const struct function_control *c = edit->control;
	uint64_t sum = provisioned_sum(c, p->entry.qualifier) + p->requested;
	uint64_t limit = scheduler_concurrency_limit();

	if (c->reserved_concurrency >= 0 && sum > (uint32_t)c->reserved_concurrency)
		return field_refuse(&edit->error,
				    "Requested Provisioned Concurrency should not be greater than "
				    "the reservedConcurrentExecution for function");
	if (c->reserved_concurrency < 0 &&
	    sum + reserved_by_others(NULL) + limit / UNRESERVED_PART > limit)
		return field_refuse(&edit->error,
				    "Specified ConcurrentExecutions for function is greater than "
				    "account's unreserved concurrency [%llu].",
				    (unsigned long long)(limit - reserved_by_others(NULL)));
	return 0;
}

static int put_provisioned(struct api_edit *edit)
{
	const char *qualifier = provisioned_target(edit);
	struct provisioned_config *p;
	int err;

	if (!qualifier)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return field_no_memory(&edit->error);
	snprintf(p->entry.qualifier, sizeof(p->entry.qualifier), "%s", qualifier);
	p->modified_ns = clock_real_ns();
	err = provisioned_config_parse(edit->body, p, &edit->error);
	if (!err)
		err = check_provisioned(edit, p);
	if (!err) {
		free(qualified_remove(&edit->control->provisioned, qualifier));
		err = api_edit_insert(edit, &edit->control->provisioned, &p->entry);
	}
	if (err) {
		free(p);
		return err;
	}
	edit->reply = provisioned_json(edit->call->function, p);
	return edit->reply ? 0 : field_no_memory(&edit->error);
}

void api_provisioned_put(const struct api_call *call)
{
	api_change(call, put_provisioned, 202);
}

static int delete_provisioned(struct api_edit *edit)
{
	if (!provisioned_target(edit))
		return -EINVAL;
	free(qualified_remove(&edit->control->provisioned, edit->call->qualifier));
	return 0;
}

void api_provisioned_delete(const struct api_call *call)
{
	api_change(call, delete_provisioned, 204);
}

void api_provisioned_get(const struct api_call *call)
{
	const struct provisioned_config *p =
		control_provisioned(&call->function->control, call->qualifier);

	if (p)
		http_reply_json(call->http, 200, provisioned_json(call->function, p));
	else
		http_reply_error(call->http, 404, "ProvisionedConcurrencyConfigNotFoundException",
				 "No Provisioned Concurrency Config found for this function");
}

static json_t *item_json(const void *item, const void *arg)
{
	const struct provisioned_config *p = item;
	struct function *f = (struct function *)(uintptr_t)arg;
	char arn[FUNCTION_NAME_ARN_MAX + 1];
	json_t *root = provisioned_json(f, p);

	if (root)
		json_object_set_new(root, "FunctionArn",
				    json_string(function_arn(f->name, p->entry.qualifier, arn)));
	return root;
}

void api_provisioned_list(const struct api_call *call)
{
	struct api_page page;

	if (api_page_begin(&page, call->http))
		return;
	for (struct qualified *at = call->function->control.provisioned; at; at = at->next)
		api_page_add(&page, at->qualifier,
			     container_of(at, struct provisioned_config, entry));
	api_page_reply(&page, call->http, "ProvisionedConcurrencyConfigs", item_json,
		       call->function);
}

/* ---- account --------------------------------------------------------------------------------- */

void api_account_settings(struct http_request *r)
{
	uint32_t limit = scheduler_concurrency_limit();
	uint64_t code_bytes = 0, reserved = reserved_by_others(NULL);
	int count = 0;

	for (const struct function *f = functions_first(); f; f = f->next) {
		count++;
		code_bytes += f->latest.code.bytes;
		for (const struct version *v = f->versions; v; v = v->next)
			code_bytes += v->code.bytes;
	}
	http_reply_json(r, 200,
			json_pack("{s:{s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:i}}", "AccountLimit",
				  "TotalCodeSize", (json_int_t)INT64_MAX, "CodeSizeUnzipped",
				  (json_int_t)CODE_BYTES_MAX, "CodeSizeZipped", (json_int_t)MIB(50),
				  "ConcurrentExecutions", (json_int_t)limit,
				  "UnreservedConcurrentExecutions",
				  (json_int_t)(limit > reserved ? limit - reserved : 0),
				  "AccountUsage", "TotalCodeSize", (json_int_t)code_bytes,
				  "FunctionCount", count));
}
