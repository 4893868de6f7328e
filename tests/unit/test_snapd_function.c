/* SPDX-License-Identifier: Apache-2.0 */
/* test_snapd_function.c - what is known of a function: names, settings, aliases, its store */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/util.h"
#include "snapd/function.h"
#include "snapd/function_store.h"

static json_t *json(const char *text)
{
	json_t *root = json_loads(text, JSON_ALLOW_NUL, NULL);

	assert_non_null(root);
	return root;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names(void **state)
{
	char long_name[200];

	(void)state;
	memset(long_name, 'a', sizeof(long_name));
	long_name[64] = '\0';
	assert_true(function_name_ok(long_name));
	long_name[64] = 'a';
	long_name[65] = '\0';
	assert_false(function_name_ok(long_name));
	assert_true(alias_name_ok(long_name));
	long_name[65] = 'a';
	long_name[129] = '\0';
	assert_false(alias_name_ok(long_name));
	assert_true(function_name_ok("hello-python_3"));
	assert_true(function_name_ok("3"));
	assert_false(alias_name_ok("3"));
	assert_true(alias_name_ok("3a"));
	assert_false(function_name_ok(""));
	assert_false(function_name_ok("../etc"));
	assert_false(function_name_ok(".new-x"));
	assert_false(function_name_ok("a/b"));
}

static void test_what_names_a_function(void **state)
{
	static const struct {
		const char *text, *name, *qualifier;
	} good[] = {
		{"f", "f", ""},
		{"f:7", "f", "7"},
		{"f:$LATEST", "f", "$LATEST"},
		{"f:prod", "f", "prod"},
		{"123456789012:function:f", "f", ""},
		{"123456789012:function:f:prod", "f", "prod"},
		{"arn:aws:lambda:eu-west-1:123456789012:function:f", "f", ""},
		{"arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST", "f", "$LATEST"},
		{"arn:aws-cn:lambda:local:000000000000:function:function:function", "function",
		 "function"},
		{"function:function", "function", "function"},
	};
	static const char *const bad[] = {
		"",
		":",
		"f:",
		":7",
		"f:7:8",
		"f:$latest",
		"f:a b",
		"../f",
		"f/../g",
		"arn:",
		"arn:aws:lambda",
		"arn:aws:lambda:r:1:function",
		"arn:aws:lambda:r:1:function:",
		"arn:aws:lambda:r:1:layer:f",
		"arn:aws:sqs:r:1:function:f",
		"x:function:f:g",
	};
	char arn[FUNCTION_NAME_ARN_MAX + 1], text[1000];
	struct function_ref ref;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(function_ref_parse(good[i].text, strlen(good[i].text), &ref), 0);
		assert_string_equal(ref.name, good[i].name);
		assert_string_equal(ref.qualifier, good[i].qualifier);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!function_ref_parse(bad[i], strlen(bad[i]), &ref))
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(function_ref_parse("f\0g", 3, &ref), -EINVAL);
	/* As long as can be, and longer in every part. */
	memset(text, 'a', sizeof(text));
	text[64] = ':';
	assert_int_equal(function_ref_parse(text, 65 + QUALIFIER_MAX, &ref), 0);
	assert_int_equal(function_ref_parse(text, 66 + QUALIFIER_MAX, &ref), -EINVAL);
	assert_int_equal(function_ref_parse(text, sizeof(text), &ref), -EINVAL);
	/* What this snapd calls a function leads back to it. */
	function_ref_parse(text, 65 + QUALIFIER_MAX, &ref);
	function_arn(ref.name, ref.qualifier, arn);
	struct function_ref again;
	assert_int_equal(function_ref_parse(arn, strlen(arn), &again), 0);
	assert_memory_equal(&ref, &again, sizeof(ref));
}

static void test_version_numbers(void **state)
{
	static const char *const bad[] = {"",
					  "0",
					  "01",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "1x",
					  "1a",
					  "100001",
					  "99999999999999999999"};
	uint32_t number;
	char text[16];

	(void)state;
	assert_true(qualifier_number("$LATEST", &number));
	assert_int_equal(number, 0);
	assert_true(qualifier_number("100000", &number));
	assert_int_equal(number, 100000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(qualifier_number(bad[i], &number));
	assert_string_equal(version_number_text(0, text), "$LATEST");
	assert_string_equal(version_number_text(100000, text), "100000");
}

/* ---- settings -------------------------------------------------------------------------------- */

static void test_settings_are_checked(void **state)
{
	static const struct {
		const char *text, *type, *why;
	} bad[] = {
		{"{}", "InvalidParameterValueException", "Handler"},
		{"{'Handler': null}", "InvalidParameterValueException", "Handler"},
		{"{'Handler': ''}", "ValidationException", "'handler'"},
		{"{'Handler': ['a.b']}", "SerializationException", "Handler: START_ARRAY"},
		{"{'Handler': 'a.b', 'Runtime': 'cobol'}", "InvalidParameterValueException",
		 "Runtime"},
		{"{'Handler': 'a.b', 'Timeout': 0}", "ValidationException",
		 "1 validation error detected: Value '0' at 'timeout' failed to satisfy "
		 "constraint: Member must have value greater than or equal to 1"},
		{"{'Handler': 'a.b', 'Timeout': 901}", "ValidationException",
		 "Value '901' at 'timeout' failed to satisfy constraint: Member must have value "
		 "less than or equal to 900"},
		{"{'Handler': 'a.b', 'Timeout': '3'}", "SerializationException",
		 "Timeout: STRING_VALUE can not be converted to Integer"},
		{"{'Handler': 'a.b', 'Timeout': 3.5}", "SerializationException", "DECIMAL_VALUE"},
		{"{'Handler': 'a.b', 'Timeout': 4294967299}", "ValidationException", "'timeout'"},
		{"{'Handler': 'a.b', 'MemorySize': -1}", "ValidationException", "'memorySize'"},
		{"{'Handler': 'a.b', 'MemorySize': 99999}", "ValidationException", "'memorySize'"},
		{"{'Handler': 'a.b', 'EphemeralStorage': {'Size': 1}}", "ValidationException",
		 "'size'"},
		{"{'Handler': 'a.b', 'EphemeralStorage': 1}", "SerializationException",
		 "EphemeralStorage"},
		{"{'Handler': 'a.b', 'Environment': {'Variables': {'A': 1}}}",
		 "InvalidParameterValueException", "Environment"},
		{"{'Handler': 'a.b', 'Environment': {'Variables': {'A=B': '1'}}}",
		 "InvalidParameterValueException", "Environment"},
		{"{'Handler': 'a\\u0000b'}", "InvalidParameterValueException", "Handler"},
		{"{'Handler': 'a.b', 'Role': 'root'}", "ValidationException", "'role'"},
		{"{'Handler': 'a.b', 'TracingConfig': {'Mode': 'Loud'}}", "ValidationException",
		 "enum value set: [PassThrough, Active]"},
		{"{'Handler': 'a.b', 'SnapStart': {'ApplyOn': 'All'}}", "ValidationException",
		 "[None, PublishedVersions]"},
		{"{'Handler': 'a.b', 'Architectures': ['arm64']}", "InvalidParameterValueException",
		 "not arm64"},
		{"{'Handler': 'a.b', 'VpcConfig': {'SubnetIds': ['s']}}",
		 "InvalidParameterValueException", "VpcConfig"},
		{"{'Handler': 'a.b', 'FileSystemConfigs': [{}]}", "InvalidParameterValueException",
		 "FileSystemConfigs"},
	};
	struct function_settings s;
	struct field_error e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_FREE char *text = strdup(bad[i].text);
		json_t *root;

		for (char *at = text; *at; at++)
			*at = *at == '\'' ? '"' : *at;
		root = json(text);
		assert_int_equal(function_settings_parse(root, &s, &e), -EINVAL);
		assert_string_equal(e.type, bad[i].type);
		assert_int_equal(e.status, 400);
		if (!strstr(e.text, bad[i].why))
			fail_msg("%s: %s", bad[i].text, e.text);
		json_decref(root);
	}
}

static void test_settings_survive_their_own_text(void **state)
{
	json_t *root = json("{\"Handler\": \"app.handler\"}"), *again;
	struct function_settings s;
	struct field_error e;

	(void)state;
	assert_int_equal(function_settings_parse(root, &s, &e), 0);
	json_decref(root);
	assert_string_equal(s.runtime, "python3.11");
	assert_int_equal(s.timeout_s, 3);
	assert_int_equal(s.memory_mib, 128);
	assert_int_equal(s.tmp_mib, 512);
	assert_int_equal(json_object_size(s.env), 0);
	function_settings_free(&s);

	root = json(
		"{\"Handler\": \"a.b\", \"Runtime\": \"python3.12\", \"Timeout\": 900, "
		"\"MemorySize\": 10240, \"EphemeralStorage\": {\"Size\": 1024}, "
		"\"Description\": \"ü\", \"Role\": \"arn:aws:iam::123456789012:role/x/y\", "
		"\"KMSKeyArn\": \"arn:k\", \"TracingConfig\": {\"Mode\": \"Active\"}, "
		"\"DeadLetterConfig\": {\"TargetArn\": \"arn:d\"}, "
		"\"Layers\": [{\"Arn\": \"arn:aws:lambda:local:000000000000:layer:l:7\", "
		"\"CodeSize\": 5, \"UnpackedSize\": 9}], "
		"\"Environment\": {\"Variables\": {\"A\": \"1\"}}, \"GuestKind\": \"process\"}");
	assert_int_equal(function_settings_parse(root, &s, &e), 0);
	again = function_settings_json(&s);
	assert_true(json_equal(root, again));
	json_decref(again);
	json_decref(root);
	function_settings_free(&s);
}

static void test_settings_of_kernel_guests(void **state)
{
	static const char *const refused[] = {
		"{\"Handler\": \"a.b\", \"GuestKind\": \"container\"}",
		"{\"Handler\": \"a.b\", \"GuestKind\": 2}",
		"{\"Handler\": \"a.b\", \"GuestKind\": \"kernel\", \"MemorySize\": 127}",
		"{\"Handler\": \"a.b\", \"GuestKind\": \"kernel\", \"MemorySize\": 3073}",
		"{\"Handler\": \"a.b\", \"GuestKind\": \"kernel\", \"Runtime\": \"java21\"}",
		"{\"Handler\": \"a.b\", \"Runtime\": \"nodejs20.x\"}",
		"{\"Handler\": \"a.b\", \"RootImage\": \"python\"}",
		"{\"Handler\": \"a.b\", \"GuestKind\": \"kernel\", \"RootImage\": \"../x\"}",
		"{\"Handler\": \"a.b\", \"GuestKind\": \"kernel\", \"RootImage\": \".x\"}",
	};
	json_t *root = json("{\"Handler\": \"app.handler\", \"GuestKind\": \"kernel\", "
			    "\"Runtime\": \"provided.al2023\", \"RootImage\": \"mine-1.0\"}");
	struct function_settings s, again;
	struct field_error e;

	(void)state;
	assert_int_equal(function_settings_parse(root, &s, &e), 0);
	assert_int_equal(s.guest_kind, GUEST_KIND_KERNEL);
	assert_string_equal(s.root_image, "mine-1.0");
	json_decref(root);
	root = function_settings_json(&s);
	assert_int_equal(function_settings_parse(root, &again, &e), 0);
	assert_int_equal(again.guest_kind, GUEST_KIND_KERNEL);
	assert_string_equal(again.root_image, "mine-1.0");
	json_decref(root);
	function_settings_free(&s);
	function_settings_free(&again);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		root = json(refused[i]);
		if (!function_settings_parse(root, &s, &e))
			fail_msg("not refused: %s", refused[i]);
		json_decref(root);
	}
}

/* ---- aliases --------------------------------------------------------------------------------- */

static int parse_alias(const char *text, struct alias *a, struct field_error *e)
{
	json_t *root = json(text);
	int ret = alias_parse(root, a, e);

	json_decref(root);
	return ret;
}

static void test_alias_is_checked(void **state)
{
	static const char *const bad[] = {
		"{\"FunctionVersion\": \"\"}",
		"{\"FunctionVersion\": \"x\"}",
		"{\"FunctionVersion\": 1}",
		"{\"RoutingConfig\": []}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"2\": 1.1}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"2\": -0.1}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"2\": \"0.1\"}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"1\": 0.1}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"x\": 0.1}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"$LATEST\": 0.1}}}",
		"{\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"2\": 0.1, \"3\": 0.1}}}",
		"{\"FunctionVersion\": \"$LATEST\", "
		"\"RoutingConfig\": {\"AdditionalVersionWeights\": {\"2\": 0.1}}}",
	};
	struct field_error e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct alias a = {.version = 1};

		if (parse_alias(bad[i], &a, &e) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	}
	struct alias a = {.version = 1};

	assert_int_equal(parse_alias("{\"RoutingConfig\": {\"AdditionalVersionWeights\": "
				     "{\"2\": 0.25}}}",
				     &a, &e),
			 0);
	assert_int_equal(a.version, 1);
	assert_int_equal(a.other_version, 2);
	assert_int_equal(alias_choose(&a, 0), 2);
	assert_int_equal(alias_choose(&a, 0.2499), 2);
	assert_int_equal(alias_choose(&a, 0.25), 1);
	assert_int_equal(alias_choose(&a, 0.9999), 1);
	/* A new description leaves the routing; an empty routing ends it. */
	assert_int_equal(parse_alias("{\"Description\": \"x\"}", &a, &e), 0);
	assert_int_equal(a.other_version, 2);
	assert_int_equal(parse_alias("{\"RoutingConfig\": {}}", &a, &e), 0);
	assert_int_equal(a.other_version, 0);
	assert_int_equal(alias_choose(&a, 0), 1);
}

static struct function *function_with_versions(const char *name, uint32_t count)
{
	struct function *f = function_new(name);

	assert_non_null(f);
	f->latest.settings.env = json_object();
	for (uint32_t i = 1; i <= count; i++)
		function_add_version(f, i)->state = VERSION_ACTIVE;
	return f;
}

static struct alias *add_alias(struct function *f, const char *name, uint32_t version)
{
	struct alias *a = calloc(1, sizeof(*a));

	snprintf(a->entry.qualifier, sizeof(a->entry.qualifier), "%s", name);
	a->version = version;
	uuid_make(a->revision);
	assert_int_equal(qualified_insert(&f->control.aliases, &a->entry), 0);
	return a;
}

static void test_qualifiers_lead_to_versions(void **state)
{
	struct function *f = function_with_versions("f", 3);
	struct alias *prod = add_alias(f, "prod", 2);
	unsigned counts[4] = {0};

	(void)state;
	add_alias(f, "dangling", 9);
	assert_ptr_equal(function_resolve(f, "$LATEST"), &f->latest);
	assert_int_equal(function_resolve(f, "3")->number, 3);
	assert_int_equal(function_resolve(f, "prod")->number, 2);
	assert_null(function_resolve(f, "4"));
	assert_null(function_resolve(f, "dangling"));
	assert_null(function_resolve(f, "nothing"));
	assert_null(function_resolve(f, ""));

	/* 4,000 throws at 1 of 4: 1,000, give or take 27; never 200 away. */
	prod->other_version = 3;
	prod->other_weight = 0.25;
	for (int i = 0; i < 4000; i++)
		counts[function_route(f, "prod")->number]++;
	assert_int_equal(counts[2] + counts[3], 4000);
	assert_true(counts[3] > 800 && counts[3] < 1200);
	assert_int_equal(function_resolve(f, "prod")->number, 2);
	function_put(f);
}

/* ---- what is set besides --------------------------------------------------------------------- */

static void test_lists_are_sorted_and_bounded(void **state)
{
	struct function *f = function_with_versions("f", 0);
	struct qualified one = {.qualifier = "a7"};
	char name[16];

	(void)state;
	for (int i = 0; i < QUALIFIED_MAX; i++) {
		snprintf(name, sizeof(name), "a%d", i * 7 % QUALIFIED_MAX);
		add_alias(f, name, 0);
	}
	assert_int_equal(qualified_insert(&f->control.aliases, &one), -EEXIST);
	snprintf(one.qualifier, sizeof(one.qualifier), "new");
	assert_int_equal(qualified_insert(&f->control.aliases, &one), -ENOSPC);
	for (struct qualified *at = f->control.aliases; at->next; at = at->next)
		assert_true(strcmp(at->qualifier, at->next->qualifier) < 0);
	assert_null(qualified_remove(&f->control.aliases, "new"));
	free(qualified_remove(&f->control.aliases, "a7"));
	assert_null(qualified_find(f->control.aliases, "a7"));
	assert_int_equal(qualified_insert(&f->control.aliases, &one), 0);
	qualified_remove(&f->control.aliases, "new");
	function_put(f);
}

static const char full_control[] =
	"{\"ReservedConcurrency\": 5, \"LastNumber\": 7, \"Tags\": {\"team\": \"blue\"},"
	" \"Aliases\": [{\"Name\": \"prod\", \"FunctionVersion\": \"2\", \"Description\": \"d\","
	"  \"RevisionId\": \"r\", \"Qualifier\": \"prod\","
	"  \"RoutingConfig\": {\"AdditionalVersionWeights\": {\"3\": 0.5}}}],"
	" \"Provisioned\": [{\"ProvisionedConcurrentExecutions\": 4, \"ModifiedNs\": 11,"
	"  \"Qualifier\": \"prod\"}],"
	" \"EventInvokes\": [{\"MaximumRetryAttempts\": 0, \"MaximumEventAgeInSeconds\": 60,"
	"  \"DestinationConfig\": {\"OnSuccess\": {},"
	"   \"OnFailure\": {\"Destination\": \"file:///var/failed\"}},"
	"  \"ModifiedNs\": 12, \"Qualifier\": \"$LATEST\"}],"
	" \"Urls\": [{\"AuthType\": \"AWS_IAM\", \"InvokeMode\": \"RESPONSE_STREAM\","
	"  \"Cors\": {\"AllowOrigins\": [\"*\"], \"MaxAge\": 5},"
	"  \"Id\": \"0123456789abcdef0123456789abcdef\", \"CreatedNs\": 13, \"ModifiedNs\": 14,"
	"  \"Qualifier\": \"prod\"}]}";

static void test_control_survives_its_own_text(void **state)
{
	CLEANUP_FREE char *text = NULL;
	struct function_control c, copy;
	struct field_error e;
	json_t *before = json(full_control), *after;

	(void)state;
	assert_int_equal(function_control_parse(full_control, &c, &e), 0);
	assert_int_equal(c.reserved_concurrency, 5);
	assert_int_equal(control_alias(&c, "prod")->other_version, 3);
	assert_int_equal(control_provisioned(&c, "prod")->requested, 4);
	assert_int_equal(control_event_invoke(&c, "$LATEST")->retries, 0);
	assert_string_equal(control_event_invoke(&c, "$LATEST")->on_failure, "file:///var/failed");
	assert_true(control_url(&c, "prod")->iam);
	assert_true(control_url(&c, "prod")->stream);
	assert_null(control_url(&c, "$LATEST"));
	assert_int_equal(function_control_copy(&c, &copy), 0);
	function_control_free(&c);
	text = function_control_text(&copy);
	after = json(text);
	if (!json_equal(before, after))
		fail_msg("became %s", text);
	json_decref(before);
	json_decref(after);
	function_control_free(&copy);
}

/** A file that anything may have happened to: every byte changed, every length. */
static void test_control_believes_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{",
		"{\"ReservedConcurrency\": -2}",
		"{\"ReservedConcurrency\": \"x\"}",
		"{\"LastNumber\": 100001}",
		"{\"Tags\": []}",
		"{\"Tags\": {\"a\": 1}}",
		"{\"Aliases\": {}}",
		"{\"Aliases\": [1]}",
		"{\"Aliases\": [{\"Qualifier\": \"../x\"}]}",
		"{\"Aliases\": [{\"Qualifier\": \"a\"}, {\"Qualifier\": \"a\"}]}",
		"{\"Urls\": [{\"Qualifier\": \"a\", \"Id\": \"short\"}]}",
		"{\"Urls\": [{\"Qualifier\": \"a\", \"Cors\": {\"AllowOrigins\": [\"a\\nb\"]}}]}",
		"{\"Provisioned\": [{\"Qualifier\": \"a\"}]}",
		"{\"EventInvokes\": [{\"Qualifier\": \"a\", \"MaximumRetryAttempts\": 3}]}",
	};
	CLEANUP_FREE char *text = strdup(full_control);
	struct function_control c;
	struct field_error e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (function_control_parse(bad[i], &c, &e) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	for (size_t i = 0; i < sizeof(full_control) - 1; i++) {
		for (int flip = 1; flip < 256; flip += 51) {
			text[i] = (char)(full_control[i] ^ flip);
			if (!function_control_parse(text, &c, &e))
				function_control_free(&c);
		}
		text[i] = '\0';
		assert_int_equal(function_control_parse(text, &c, &e), -EINVAL);
		text[i] = full_control[i];
	}
}

/* ---- the store ------------------------------------------------------------------------------- */

static char dir[] = "/tmp/test_snapd_function.XXXXXX";

static const char *path_of(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void forget_all(void)
{
	while (functions_first())
		functions_remove(functions_first());
}

/** What is in memory after a kill -9: nothing but what the store has. */
static struct function *reload(const char *name)
{
	forget_all();
	assert_int_equal(store_load(), 0);
	return functions_find(name);
}

static void test_everything_survives_a_crash(void **state)
{
	struct function *f = function_with_versions("kept", 0);
	CLEANUP_FREE char *settings = NULL;
	char revision[UUID_CHARS + 1];
	struct store_code code = {.source.kind = CODE_DIRECTORY};

	(void)state;
	assert_int_equal(mkdir(path_of("code"), 0755), 0);
	assert_int_equal(store_open(path_of("state")), 0);
	snprintf(f->latest.settings.handler, sizeof(f->latest.settings.handler), "a.b");
	snprintf(f->latest.settings.runtime, sizeof(f->latest.settings.runtime), "python3.11");
	f->latest.settings.timeout_s = 9;
	f->latest.settings.memory_mib = f->latest.settings.tmp_mib = 128;
	f->latest.modified_ns = 1234567890123456789;
	memcpy(revision, f->latest.revision, sizeof(revision));
	settings = store_settings_text(&f->latest);
	code.source.path = strdup(path_of("code"));
	assert_int_equal(store_create("kept", settings, NULL, &code), 0);
	assert_int_equal(strlen(code.info.sha256), CODE_SHA256_CHARS);
	code_source_free(&code.source);
	function_put(f);

	f = reload("kept");
	assert_non_null(f);
	assert_string_equal(f->latest.revision, revision);
	assert_string_equal(f->latest.code.sha256, code.info.sha256);
	assert_int_equal(f->latest.code.bytes, 0); /* an empty directory */
	assert_int_equal(f->latest.modified_ns, 1234567890123456789);
	assert_int_equal(f->control.reserved_concurrency, -1);

	assert_int_equal(store_update_control("kept", full_control), 0);
	assert_int_equal(store_update_control("nothing", full_control), -ENOENT);
	f = reload("kept");
	assert_int_equal(f->control.reserved_concurrency, 5);
	assert_int_equal(f->last_number, 7);
	assert_non_null(control_url(&f->control, "prod"));

	/* Damage is not served, and not removed. */
	assert_int_equal(store_update_control("kept", "{\"Aliases\": 1}"), 0);
	assert_null(reload("kept"));
	assert_int_equal(store_update_control("kept", "{}"), 0);
	assert_non_null(reload("kept"));
	forget_all();
	store_close();
}

static void test_times_as_lambda_writes_them(void **state)
{
	char text[TIME_TEXT_CHARS + 1];

	(void)state;
	assert_string_equal(time_text(1234567890123456789, text), "2009-02-13T23:31:30.123+0000");
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command); /* NOLINT(cert-env33-c) */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_names_a_function),
		cmocka_unit_test(test_version_numbers),
		cmocka_unit_test(test_settings_are_checked),
		cmocka_unit_test(test_settings_survive_their_own_text),
		cmocka_unit_test(test_settings_of_kernel_guests),
		cmocka_unit_test(test_alias_is_checked),
		cmocka_unit_test(test_qualifiers_lead_to_versions),
		cmocka_unit_test(test_lists_are_sorted_and_bounded),
		cmocka_unit_test(test_control_survives_its_own_text),
		cmocka_unit_test(test_control_believes_nothing),
		cmocka_unit_test(test_everything_survives_a_crash),
		cmocka_unit_test(test_times_as_lambda_writes_them),
	};

	return cmocka_run_group_tests_name("snapd_function", tests, setup, teardown);
}
