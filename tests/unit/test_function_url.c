/* SPDX-License-Identifier: Apache-2.0 */
/* test_function_url.c - requests as events of payload format 2.0, results as replies */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/util.h"
#include "snapd/url_event.h"

static const struct url_request example = {
	.method = "POST",
	.uri = "/my/path%20x?parameter1=value1&parameter1=value2&parameter2=a%20b+c",
	.protocol = "HTTP/1.1",
	.domain = "abc.lambda-url.local",
	.id = "abc",
	.source_ip = "127.0.0.1",
	.request_id = "id",
	.time_ns = 1583348638390 * 1000000ull,
	.body = "{\"a\": \"\xc3\xa9\"}",
	.body_bytes = 11,
	.headers = {{"Content-Type", "application/json"},
		    {"Header1", "value1"},
		    {"header1", "value2"},
		    {"Cookie", "cookie1=a; cookie2=b"},
		    {"User-Agent", "agent"}},
	.header_count = 5,
};

static json_t *event_of(const struct url_request *r)
{
	char *text = url_event_make(r);
	json_t *root;

	assert_non_null(text);
	root = json_loads(text, 0, NULL);
	assert_non_null(root);
	free(text);
	return root;
}

static const char *string_at(const json_t *root, const char *key)
{
	return json_string_value(json_object_get(root, key));
}

static void test_event(void **state)
{
	json_t *event = event_of(&example);
	json_t *context = json_object_get(event, "requestContext"), *http, *headers, *parameters;

	(void)state;
	assert_string_equal(string_at(event, "version"), "2.0");
	assert_string_equal(string_at(event, "routeKey"), "$default");
	assert_string_equal(string_at(event, "rawPath"), "/my/path%20x");
	assert_string_equal(string_at(event, "rawQueryString"),
			    "parameter1=value1&parameter1=value2&parameter2=a%20b+c");
	headers = json_object_get(event, "headers");
	assert_string_equal(string_at(headers, "header1"), "value1,value2");
	assert_string_equal(string_at(headers, "content-type"), "application/json");
	assert_null(json_object_get(headers, "cookie"));
	parameters = json_object_get(event, "queryStringParameters");
	assert_string_equal(string_at(parameters, "parameter1"), "value1,value2");
	assert_string_equal(string_at(parameters, "parameter2"), "a b c");
	assert_int_equal(json_array_size(json_object_get(event, "cookies")), 2);
	assert_string_equal(json_string_value(json_array_get(json_object_get(event, "cookies"), 1)),
			    "cookie2=b");
	assert_string_equal(string_at(event, "body"), "{\"a\": \"\xc3\xa9\"}");
	assert_true(json_is_false(json_object_get(event, "isBase64Encoded")));
	assert_string_equal(string_at(context, "accountId"), "anonymous");
	assert_string_equal(string_at(context, "domainPrefix"), "abc");
	assert_string_equal(string_at(context, "time"), "04/Mar/2020:19:03:58 +0000");
	assert_int_equal(json_integer_value(json_object_get(context, "timeEpoch")), 1583348638390);
	assert_null(json_object_get(context, "authorizer"));
	http = json_object_get(context, "http");
	assert_string_equal(string_at(http, "method"), "POST");
	assert_string_equal(string_at(http, "sourceIp"), "127.0.0.1");
	assert_string_equal(string_at(http, "userAgent"), "agent");
	json_decref(event);
}

static void test_what_is_not_there(void **state)
{
	struct url_request r = {.method = "GET",
				.uri = "/",
				.protocol = "HTTP/1.1",
				.domain = "",
				.id = "abc",
				.source_ip = "::1",
				.request_id = "id",
				.access_key = "AKIA"};
	json_t *event = event_of(&r), *context = json_object_get(event, "requestContext");

	(void)state;
	assert_null(json_object_get(event, "cookies"));
	assert_null(json_object_get(event, "body"));
	assert_null(json_object_get(event, "queryStringParameters"));
	assert_string_equal(string_at(event, "rawQueryString"), "");
	assert_string_equal(
		string_at(json_object_get(json_object_get(context, "authorizer"), "iam"),
			  "accessKey"),
		"AKIA");
	json_decref(event);
}

/* Bytes that are no text: in base64, and where base64 cannot go, refused. */
static void test_binary(void **state)
{
	struct url_request r = example;
	json_t *event;

	(void)state;
	r.body = "\xff\x00\x01";
	r.body_bytes = 3;
	event = event_of(&r);
	assert_string_equal(string_at(event, "body"), "/wAB");
	assert_true(json_is_true(json_object_get(event, "isBase64Encoded")));
	json_decref(event);
	r = example;
	r.headers[0].value = "image/png"; /* though it is UTF-8 */
	event = event_of(&r);
	assert_true(json_is_true(json_object_get(event, "isBase64Encoded")));
	json_decref(event);
	r.uri = "/\xff";
	assert_null(url_event_make(&r));
	r.uri = "/?a=%ff%00&%zz=%&=&&x"; /* decoded it is no UTF-8: that parameter is left out */
	event = event_of(&r);
	assert_string_equal(string_at(json_object_get(event, "queryStringParameters"), "x"), "");
	json_decref(event);
}

static void assert_reply(const char *payload, int ret, unsigned status, const char *body)
{
	struct url_reply reply;
	int got = url_reply_parse(payload, strlen(payload), &reply);

	if (got != ret)
		fail_msg("%s: %d, not %d", payload, got, ret);
	if (!ret) {
		assert_int_equal(reply.status, status);
		assert_int_equal(reply.body_bytes, strlen(body));
		assert_memory_equal(reply.body, body, strlen(body));
	}
	url_reply_free(&reply);
}

static void test_replies(void **state)
{
	(void)state;
	assert_reply("\"hello\"", 0, 200, "\"hello\"");
	assert_reply("{\"message\": 1}", 0, 200, "{\"message\": 1}");
	assert_reply("not JSON", 0, 200, "not JSON");
	assert_reply("", 0, 200, "");
	assert_reply("{\"statusCode\": 201, \"body\": \"x\"}", 0, 201, "x");
	assert_reply("{\"statusCode\": \"404\"}", 0, 404, "");
	assert_reply("{\"statusCode\": 200, \"body\": {\"a\": 1}}", 0, 200, "{\"a\":1}");
	assert_reply("{\"statusCode\": 200, \"body\": null}", 0, 200, "");
	assert_reply("{\"statusCode\": 200, \"isBase64Encoded\": true, \"body\": \"aGk=\"}", 0, 200,
		     "hi");
	assert_reply("{\"statusCode\": 200, \"isBase64Encoded\": true, \"body\": \"?\"}", -EBADMSG,
		     0, "");
	assert_reply("{\"statusCode\": 0}", -EBADMSG, 0, "");
	assert_reply("{\"statusCode\": 100}", -EBADMSG, 0, "");
	assert_reply("{\"statusCode\": 600}", -EBADMSG, 0, "");
	assert_reply("{\"statusCode\": null}", -EBADMSG, 0, "");
	assert_reply("{\"statusCode\": \"x\"}", -EBADMSG, 0, "");
}

static void test_reply_headers(void **state)
{
	static const char payload[] = "{\"statusCode\": 200, \"headers\": {\"A\": \"x\", \"N\": 5, "
				      "\"B\": true, \"O\": {}}, "
				      "\"cookies\": [\"a=1\", \"b=2\"]}";
	static const char bad[] = "{\"statusCode\": 200, \"headers\": [], \"cookies\": [1]}";
	struct url_reply reply;

	(void)state;
	assert_int_equal(url_reply_parse(payload, strlen(payload), &reply), 0);
	assert_string_equal(string_at(reply.headers, "A"), "x");
	assert_string_equal(string_at(reply.headers, "N"), "5");
	assert_string_equal(string_at(reply.headers, "B"), "true");
	assert_null(json_object_get(reply.headers, "O"));
	assert_int_equal(json_array_size(reply.cookies), 2);
	url_reply_free(&reply);
	assert_int_equal(url_reply_parse(bad, strlen(bad), &reply), 0);
	assert_null(reply.headers);
	assert_null(reply.cookies);
	url_reply_free(&reply);
}

static void test_cors(void **state)
{
	json_t *config = json_pack("{s:[s,s], s:[s], s:b, s:i}", "AllowOrigins",
				   "https://a.example", "https://b.example", "AllowMethods", "GET",
				   "AllowCredentials", 1, "MaxAge", 60);
	json_t *all = json_pack("{s:[s]}", "AllowOrigins", "*");
	struct url_cors cors;

	(void)state;
	assert_true(url_cors_make(config, "https://b.example", &cors));
	assert_string_equal(cors.allow_origin, "https://b.example");
	assert_string_equal(cors.allow_methods, "GET");
	assert_string_equal(cors.max_age, "60");
	assert_true(cors.allow_credentials);
	url_cors_free(&cors);
	assert_false(url_cors_make(config, "https://c.example", &cors));
	assert_false(url_cors_make(config, NULL, &cors));
	assert_false(url_cors_make(NULL, "https://a.example", &cors));
	assert_true(url_cors_make(all, "https://c.example", &cors));
	assert_string_equal(cors.allow_origin, "*");
	url_cors_free(&cors);
	json_decref(config);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_event),	      cmocka_unit_test(test_what_is_not_there),
		cmocka_unit_test(test_binary),	      cmocka_unit_test(test_replies),
		cmocka_unit_test(test_reply_headers), cmocka_unit_test(test_cors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
