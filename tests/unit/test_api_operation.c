/* SPDX-License-Identifier: Apache-2.0 */
/* test_api_operation.c - which operation a method and a path mean */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "snapd/api.h"

static const char *query(void *arg, const char *name)
{
	const char *text = arg, *equals = strchr(text, '=');

	return strncmp(text, name, strlen(name)) ? NULL : equals + 1;
}

static void test_operations_are_found(void **state)
{
	static const struct {
		const char *method, *path, *query, *name, *function, *item[3];
	} cases[] = {
		{"POST", "/2015-03-31/functions/f/invocations", "", "Invoke", "f", {NULL}},
		{"POST", "/2015-03-31/functions", "", "CreateFunction", NULL, {NULL}},
		{"GET", "/2015-03-31/functions/", "", "ListFunctions", NULL, {NULL}},
		{"GET",
		 "/2015-03-31/functions/arn:aws:lambda:r:1:function:f:7/configuration",
		 "",
		 "GetFunctionConfiguration",
		 "arn:aws:lambda:r:1:function:f:7",
		 {NULL}},
		{"PUT", "/2015-03-31/functions/f/aliases/prod", "", "UpdateAlias", "f", {"prod"}},
		{"GET",
		 "/2019-09-30/functions/f/provisioned-concurrency",
		 "List=ALL",
		 "ListProvisionedConcurrencyConfigs",
		 "f",
		 {NULL}},
		{"GET",
		 "/2019-09-30/functions/f/provisioned-concurrency",
		 "Qualifier=prod",
		 "GetProvisionedConcurrencyConfig",
		 "f",
		 {NULL}},
		{"DELETE", "/2017-03-31/tags/arn:x", "", "UntagResource", "arn:x", {NULL}},
		{"DELETE",
		 "/2018-10-31/layers/l/versions/3",
		 "",
		 "DeleteLayerVersion",
		 NULL,
		 {"l", "3"}},
		{"DELETE",
		 "/2018-10-31/layers/l/versions/3/policy/s",
		 "",
		 "RemoveLayerVersionPermission",
		 NULL,
		 {"l", "3", "s"}},
		{"GET",
		 "/2018-10-31/layers",
		 "find=LayerVersion",
		 "GetLayerVersionByArn",
		 NULL,
		 {NULL}},
		{"GET", "/2018-10-31/layers", "find=x", "ListLayers", NULL, {NULL}},
		{"GET", "/2016-08-19/account-settings/", "", "GetAccountSettings", NULL, {NULL}},
		{"GET", "/healthz", "", "Healthz", NULL, {NULL}},
		{"HEAD", "/", "", "StatusPage", NULL, {NULL}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct api_match m;
		const struct api_operation *op =
			api_operation_find(cases[i].method, cases[i].path, query,
					   (void *)(uintptr_t)cases[i].query, &m);

		assert_non_null(op);
		assert_string_equal(op->name, cases[i].name);
		assert_int_equal(!!m.function, !!cases[i].function);
		if (m.function) {
			assert_int_equal(m.function_bytes, strlen(cases[i].function));
			assert_memory_equal(m.function, cases[i].function, m.function_bytes);
		}
		for (int item = 0; item < 3; item++) {
			assert_int_equal(!!m.item[item], !!cases[i].item[item]);
			if (m.item[item])
				assert_memory_equal(m.item[item], cases[i].item[item],
						    m.item_bytes[item]);
		}
	}
}

static void test_other_paths_are_not(void **state)
{
	static const char *const paths[] = {
		"",
		"/2015-03-31",
		"/2015-03-31/functionsx",
		"/2015-03-31/functions//invocations",
		"/2015-03-31/functions/f/invocations/",
		"/2015-03-31/functions/f/invocations//",
		"/2015-03-31/functions/f/invocations/x",
		"/2015-03-31/functions/f/g/invocations",
		"/2015-03-31/functions/../../etc/passwd",
		"/2017-10-31/functions/f/invocations",
		"/2018-10-31/layers//versions",
		"{FunctionName}",
		"/healthzz",
		"/metrics/x",
	};
	char methods[64];
	struct api_match m;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (api_operation_find("GET", paths[i], NULL, NULL, &m))
			fail_msg("found: %s", paths[i]);
	api_operation_methods("/2015-03-31/functions/f", methods, sizeof(methods));
	assert_string_equal(methods, "GET, DELETE");
	api_operation_methods("/nothing", methods, sizeof(methods));
	assert_string_equal(methods, "");
	/* A method is told apart by case, as HTTP has it. */
	assert_null(api_operation_find("get", "/healthz", NULL, NULL, &m));
}

static void test_only_code_may_be_long(void **state)
{
	(void)state;
	assert_int_equal(api_body_max("POST", "/2015-03-31/functions/"), HTTP_UPLOAD_MAX);
	assert_int_equal(api_body_max("PUT", "/2015-03-31/functions/f/code"), HTTP_UPLOAD_MAX);
	assert_int_equal(api_body_max("POST", "/2018-10-31/layers/l/versions"), HTTP_UPLOAD_MAX);
	assert_int_equal(api_body_max("PUT", "/2015-03-31/functions/f/configuration"),
			 API_BODY_MAX);
	assert_int_equal(api_body_max("GET", "/2015-03-31/functions/f/code"), HTTP_BODY_MAX);
	assert_int_equal(api_body_max("POST", "/2015-03-31/functions/f/invocations"),
			 HTTP_BODY_MAX);
	assert_int_equal(api_body_max("POST", "/nothing"), HTTP_BODY_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations_are_found),
		cmocka_unit_test(test_other_paths_are_not),
		cmocka_unit_test(test_only_code_may_be_long),
	};

	return cmocka_run_group_tests_name("api_operation", tests, NULL, NULL);
}
