/* SPDX-License-Identifier: Apache-2.0 */
/* api_operation.c - the operations of the interface: one table of methods and paths */
#include "snapd/api_operation.h"

#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "snapd/api.h"
#include "snapd/api_code.h"
#include "snapd/readiness.h"

/* "/2015-03-31/functions/{FunctionName}" and what follows, by the date of that part of the API. */
#define FUNCTION(date) "/" date "/functions/{FunctionName}"
#define LAYER	       "/2018-10-31/layers/{LayerName}"
#define SIGNING	       "/2020-04-22/code-signing-configs"
#define SOURCES	       "/2015-03-31/event-source-mappings"
#define CAPACITY       "/2025-11-30/capacity-providers"

#define DURABLE	  "/2025-12-01/durable-executions"
#define CALLBACKS "/2025-12-01/durable-execution-callbacks"
#define NOT_HERE  .handle = NULL

/* The first that fits is taken; Invoke is looked for most often. */
static const struct api_operation operations[] = {
	{"Invoke", "POST", FUNCTION("2015-03-31") "/invocations", .body_max = HTTP_BODY_MAX,
	 .handle = api_invoke_call},

	{"CreateFunction", "POST", "/2015-03-31/functions", .body_max = HTTP_UPLOAD_MAX,
	 .handle_plain = api_function_create},
	{"ListFunctions", "GET", "/2015-03-31/functions", .handle = api_function_list},
	{"GetFunction", "GET", FUNCTION("2015-03-31"), .handle = api_function_get},
	{"GetFunctionConfiguration", "GET", FUNCTION("2015-03-31") "/configuration",
	 .handle = api_function_get_configuration},
	{"UpdateFunctionConfiguration", "PUT", FUNCTION("2015-03-31") "/configuration",
	 .handle = api_function_update_configuration},
	{"UpdateFunctionCode", "PUT", FUNCTION("2015-03-31") "/code", .body_max = HTTP_UPLOAD_MAX,
	 .handle = api_function_update_code},
	{"DeleteFunction", "DELETE", FUNCTION("2015-03-31"), .handle = api_function_delete},
	{"PublishVersion", "POST", FUNCTION("2015-03-31") "/versions", .body_max = HTTP_BODY_MAX,
	 .handle = api_function_publish},
	{"ListVersionsByFunction", "GET", FUNCTION("2015-03-31") "/versions",
	 .handle = api_function_list_versions},

	{"InvokeAsync", "POST", "/2014-11-13/functions/{FunctionName}/invoke-async",
	 .body_max = HTTP_BODY_MAX, NOT_HERE},
	{"InvokeWithResponseStream", "POST",
	 FUNCTION("2021-11-15") "/response-streaming-invocations", .body_max = HTTP_BODY_MAX,
	 .handle = api_invoke_stream},
	{"CreateAlias", "POST", FUNCTION("2015-03-31") "/aliases", .handle = api_alias_create},
	{"ListAliases", "GET", FUNCTION("2015-03-31") "/aliases", .handle = api_alias_list},
	{"GetAlias", "GET", FUNCTION("2015-03-31") "/aliases/{Name}", .handle = api_alias_get},
	{"UpdateAlias", "PUT", FUNCTION("2015-03-31") "/aliases/{Name}",
	 .handle = api_alias_update},
	{"DeleteAlias", "DELETE", FUNCTION("2015-03-31") "/aliases/{Name}",
	 .handle = api_alias_delete},
	{"PutFunctionConcurrency", "PUT", FUNCTION("2017-10-31") "/concurrency",
	 .handle = api_concurrency_put},
	{"GetFunctionConcurrency", "GET", FUNCTION("2019-09-30") "/concurrency",
	 .handle = api_concurrency_get},
	{"DeleteFunctionConcurrency", "DELETE", FUNCTION("2017-10-31") "/concurrency",
	 .handle = api_concurrency_delete},
	{"ListProvisionedConcurrencyConfigs", "GET",
	 FUNCTION("2019-09-30") "/provisioned-concurrency", "List=ALL",
	 .handle = api_provisioned_list},
	{"PutProvisionedConcurrencyConfig", "PUT",
	 FUNCTION("2019-09-30") "/provisioned-concurrency", .handle = api_provisioned_put},
	{"GetProvisionedConcurrencyConfig", "GET",
	 FUNCTION("2019-09-30") "/provisioned-concurrency", .handle = api_provisioned_get},
	{"DeleteProvisionedConcurrencyConfig", "DELETE",
	 FUNCTION("2019-09-30") "/provisioned-concurrency", .handle = api_provisioned_delete},
	{"PutFunctionEventInvokeConfig", "PUT", FUNCTION("2019-09-25") "/event-invoke-config",
	 .handle = api_event_invoke_put},
	{"UpdateFunctionEventInvokeConfig", "POST", FUNCTION("2019-09-25") "/event-invoke-config",
	 .handle = api_event_invoke_update},
	{"GetFunctionEventInvokeConfig", "GET", FUNCTION("2019-09-25") "/event-invoke-config",
	 .handle = api_event_invoke_get},
	{"DeleteFunctionEventInvokeConfig", "DELETE", FUNCTION("2019-09-25") "/event-invoke-config",
	 .handle = api_event_invoke_delete},
	{"ListFunctionEventInvokeConfigs", "GET",
	 FUNCTION("2019-09-25") "/event-invoke-config/list", .handle = api_event_invoke_list},
	{"CreateFunctionUrlConfig", "POST", FUNCTION("2021-10-31") "/url",
	 .handle = api_url_create},
	{"GetFunctionUrlConfig", "GET", FUNCTION("2021-10-31") "/url", .handle = api_url_get},
	{"UpdateFunctionUrlConfig", "PUT", FUNCTION("2021-10-31") "/url", .handle = api_url_update},
	{"DeleteFunctionUrlConfig", "DELETE", FUNCTION("2021-10-31") "/url",
	 .handle = api_url_delete},
	{"ListFunctionUrlConfigs", "GET", FUNCTION("2021-10-31") "/urls", .handle = api_url_list},
	{"GetAccountSettings", "GET", "/2016-08-19/account-settings",
	 .handle_plain = api_account_settings},
	{"ListTags", "GET", "/2017-03-31/tags/{ARN}", .handle = api_tag_list},
	{"TagResource", "POST", "/2017-03-31/tags/{ARN}", .handle = api_tag_add},
	{"UntagResource", "DELETE", "/2017-03-31/tags/{ARN}", .handle = api_tag_remove},

	{"GetLayerVersionByArn", "GET", "/2018-10-31/layers", "find=LayerVersion",
	 .handle_plain = api_layer_get_by_arn},
	{"ListLayers", "GET", "/2018-10-31/layers", .handle_plain = api_layer_list},
	{"PublishLayerVersion", "POST", LAYER "/versions", .body_max = HTTP_UPLOAD_MAX,
	 .handle = api_layer_publish},
	{"ListLayerVersions", "GET", LAYER "/versions", .handle = api_layer_list_versions},
	{"GetLayerVersion", "GET", LAYER "/versions/{VersionNumber}", .handle = api_layer_get},
	{"DeleteLayerVersion", "DELETE", LAYER "/versions/{VersionNumber}",
	 .handle = api_layer_delete},
	{"AddLayerVersionPermission", "POST", LAYER "/versions/{VersionNumber}/policy", NOT_HERE},
	{"GetLayerVersionPolicy", "GET", LAYER "/versions/{VersionNumber}/policy", NOT_HERE},
	{"RemoveLayerVersionPermission", "DELETE",
	 LAYER "/versions/{VersionNumber}/policy/{StatementId}", NOT_HERE},

	{"AddPermission", "POST", FUNCTION("2015-03-31") "/policy", NOT_HERE},
	{"GetPolicy", "GET", FUNCTION("2015-03-31") "/policy", NOT_HERE},
	{"RemovePermission", "DELETE", FUNCTION("2015-03-31") "/policy/{StatementId}", NOT_HERE},
	{"CreateEventSourceMapping", "POST", SOURCES, NOT_HERE},
	{"ListEventSourceMappings", "GET", SOURCES, NOT_HERE},
	{"GetEventSourceMapping", "GET", SOURCES "/{UUID}", NOT_HERE},
	{"UpdateEventSourceMapping", "PUT", SOURCES "/{UUID}", NOT_HERE},
	{"DeleteEventSourceMapping", "DELETE", SOURCES "/{UUID}", NOT_HERE},
	{"CreateCodeSigningConfig", "POST", SIGNING, NOT_HERE},
	{"ListCodeSigningConfigs", "GET", SIGNING, NOT_HERE},
	{"GetCodeSigningConfig", "GET", SIGNING "/{CodeSigningConfigArn}", NOT_HERE},
	{"UpdateCodeSigningConfig", "PUT", SIGNING "/{CodeSigningConfigArn}", NOT_HERE},
	{"DeleteCodeSigningConfig", "DELETE", SIGNING "/{CodeSigningConfigArn}", NOT_HERE},
	{"ListFunctionsByCodeSigningConfig", "GET", SIGNING "/{CodeSigningConfigArn}/functions",
	 NOT_HERE},
	{"PutFunctionCodeSigningConfig", "PUT", FUNCTION("2020-06-30") "/code-signing-config",
	 NOT_HERE},
	{"GetFunctionCodeSigningConfig", "GET", FUNCTION("2020-06-30") "/code-signing-config",
	 NOT_HERE},
	{"DeleteFunctionCodeSigningConfig", "DELETE", FUNCTION("2020-06-30") "/code-signing-config",
	 NOT_HERE},
	{"PutRuntimeManagementConfig", "PUT", FUNCTION("2021-07-20") "/runtime-management-config",
	 NOT_HERE},
	{"GetRuntimeManagementConfig", "GET", FUNCTION("2021-07-20") "/runtime-management-config",
	 NOT_HERE},
	{"PutFunctionRecursionConfig", "PUT", FUNCTION("2024-08-31") "/recursion-config", NOT_HERE},
	{"GetFunctionRecursionConfig", "GET", FUNCTION("2024-08-31") "/recursion-config", NOT_HERE},
	{"PutFunctionScalingConfig", "PUT", FUNCTION("2025-11-30") "/function-scaling-config",
	 NOT_HERE},
	{"GetFunctionScalingConfig", "GET", FUNCTION("2025-11-30") "/function-scaling-config",
	 NOT_HERE},
	{"CreateCapacityProvider", "POST", CAPACITY, NOT_HERE},
	{"ListCapacityProviders", "GET", CAPACITY, NOT_HERE},
	{"GetCapacityProvider", "GET", CAPACITY "/{CapacityProviderName}", NOT_HERE},
	{"UpdateCapacityProvider", "PUT", CAPACITY "/{CapacityProviderName}", NOT_HERE},
	{"DeleteCapacityProvider", "DELETE", CAPACITY "/{CapacityProviderName}", NOT_HERE},
	{"ListFunctionVersionsByCapacityProvider", "GET",
	 CAPACITY "/{CapacityProviderName}/function-versions", NOT_HERE},

	{"CheckpointDurableExecution", "POST", DURABLE "/{Arn}/checkpoint", NOT_HERE},
	{"GetDurableExecution", "GET", DURABLE "/{Arn}", NOT_HERE},
	{"GetDurableExecutionHistory", "GET", DURABLE "/{Arn}/history", NOT_HERE},
	{"GetDurableExecutionState", "GET", DURABLE "/{Arn}/state", NOT_HERE},
	{"StopDurableExecution", "POST", DURABLE "/{Arn}/stop", NOT_HERE},
	{"ListDurableExecutionsByFunction", "GET", FUNCTION("2025-12-01") "/durable-executions",
	 NOT_HERE},
	{"SendDurableExecutionCallbackFailure", "POST", CALLBACKS "/{CallbackId}/fail", NOT_HERE},
	{"SendDurableExecutionCallbackHeartbeat", "POST", CALLBACKS "/{CallbackId}/heartbeat",
	 NOT_HERE},
	{"SendDurableExecutionCallbackSuccess", "POST", CALLBACKS "/{CallbackId}/succeed",
	 NOT_HERE},

	/* Quickthaw's own. */
	{"Logs", "GET", "/quickthaw/v1/functions/{FunctionName}/logs", .handle = api_function_logs},
	{"Events", "GET", "/quickthaw/v1/events", .handle_plain = api_events},
	{"Warm", "POST", "/quickthaw/v1/functions/{FunctionName}/warm",
	 .handle = api_function_warm},
	{"Capacity", "GET", "/quickthaw/v1/capacity", .handle_plain = api_capacity},
	{"DownloadCode", "GET", API_CODE_PREFIX "{Kind}/{Name}", .handle = api_code_download},
	{"Stats", "GET", "/quickthaw/v1/stats", .handle_plain = api_stats},
	{"StatusPage", "GET", "/", .handle_plain = api_status_page},
	{"Healthz", "GET", "/healthz", .handle_plain = api_healthz},
	{"Readyz", "GET", "/readyz", .handle_plain = api_readyz},
	{"Metrics", "GET", "/metrics", .handle_plain = api_metrics},
};

/** One part in braces. Return: false when it is empty, or one too many. */
static bool take_part(const char *name, const char *text, size_t n, struct api_match *m)
{
	size_t i = 0;

	if (!n)
		return false;
	if (!strncmp(name, "{FunctionName}", 14) || !strncmp(name, "{ARN}", 5)) {
		m->function = text;
		m->function_bytes = n;
		return true;
	}
	while (i < API_ITEMS_MAX && m->item[i])
		i++;
	if (i == API_ITEMS_MAX)
		return false;
	m->item[i] = text;
	m->item_bytes[i] = n;
	return true;
}

static bool match_path(const char *pattern, const char *path, struct api_match *m)
{
	*m = (struct api_match){.function = NULL};
	while (*pattern) {
		size_t n;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		n = strcspn(path, "/");
		if (!take_part(pattern, path, n, m))
			return false;
		path += n;
		pattern += strcspn(pattern, "}") + 1;
	}
	return !*path || !strcmp(path, "/");
}

/** HTTP wants HEAD wherever a page is shown. */
static bool match_method(const struct api_operation *op, const char *method)
{
	return !strcmp(method, op->method) ||
	       (op->handle_plain && !strcmp(method, "HEAD") && !strcmp(op->method, "GET"));
}

static bool match_query(const char *wanted, api_query_fn query, void *arg)
{
	const char *equals, *value;
	char name[16];

	if (!wanted)
		return true;
	equals = strchr(wanted, '=');
	snprintf(name, sizeof(name), "%.*s", (int)(equals - wanted), wanted);
	value = query ? query(arg, name) : NULL;
	return value && !strcmp(value, equals + 1);
}

const struct api_operation *api_operation_find(const char *method, const char *path,
					       api_query_fn query, void *arg, struct api_match *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		if (match_method(&operations[i], method) &&
		    match_path(operations[i].path, path, ret) &&
		    match_query(operations[i].query, query, arg))
			return &operations[i];
	return NULL;
}

void api_operation_methods(const char *path, char *buf, size_t size)
{
	struct api_match match;

	*buf = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		if (match_path(operations[i].path, path, &match) &&
		    !strstr(buf, operations[i].method))
			snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", *buf ? ", " : "",
				 operations[i].method);
}
