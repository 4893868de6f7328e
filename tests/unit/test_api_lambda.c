/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_api_lambda.c - Lambda's control API over HTTP, with the real server, worker and store
 *
 * The server is a child process, so that it can be killed. It has no guests: versions are put into
 * its store ready-made.
 */
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "common/cleanup.h"
#include "snapd/api.h"
#include "snapd/event_loop.h"
#include "snapd/event_queue.h"
#include "snapd/function_store.h"
#include "snapd/scheduler.h"
#include "snapd/worker.h"

#define F "/2015-03-31/functions"

enum { ACCOUNT_CONCURRENCY = 100, WAIT_MS = 20000 };

static char dir[] = "/tmp/test_api_lambda.XXXXXX";
static char socket_path[100], code_dir[100], state_dir[100];
static pid_t server;
static json_t *body; /* of the last reply */

/* ---- a client -------------------------------------------------------------------------------- */

static struct {
	long status;
	char body[64 << 10];
	size_t body_bytes;
	char error_type[100];
} reply;

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	(void)arg;
	if (n > sizeof(reply.body) - 1 - reply.body_bytes)
		return 0;
	memcpy(reply.body + reply.body_bytes, data, size * n);
	reply.body_bytes += n;
	reply.body[reply.body_bytes] = '\0';
	return n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
	static const char name[] = "x-amzn-ErrorType: ";

	(void)arg;
	if (n > strlen(name) && !strncasecmp(data, name, strlen(name)))
		snprintf(reply.error_type, sizeof(reply.error_type), "%.*s",
			 (int)(n - strlen(name) - 2), data + strlen(name));
	return size * n;
}

/** Return: 0, or -1 when nobody answers. */
static int send_request(const char *method, const char *path, const char *request)
{
	CURL *curl = curl_easy_init();
	char url[700];
	CURLcode ret;

	assert_non_null(curl);
	memset(&reply, 0, sizeof(reply));
	snprintf(url, sizeof(url), "http://localhost%s", path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	if (request)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request);
	ret = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
	curl_easy_cleanup(curl);
	return ret ? -1 : 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

static void turn(void)
{
	http_turn();
}

static uint64_t wait_ns(void)
{
	return http_wait_ns();
}

static void serve(void)
{
	static const struct loop_hooks hooks = {.turn = turn, .wait_ns = wait_ns};
	const struct scheduler_params params = {.account_concurrency = ACCOUNT_CONCURRENCY};
	const struct http_params http = {
		.connections_max = 100,
		.peer_connections_max = 100,
		.client_timeout_s = 10,
		.client_rate_bytes = 1024,
		.body_max = api_body_max,
	};
	char events_path[150];
	const struct event_queue_params events = {
		.path = events_path,
		.destination_dir = "/tmp",
		.events_max = 100,
		.bytes_max = 1 << 20,
		.concurrency = 1,
	};

	snprintf(events_path, sizeof(events_path), "%s/events.db", state_dir);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGSEGV, SIG_DFL); /* cmocka's handlers are for its own process */
	signal(SIGABRT, SIG_DFL);
	if (event_loop_init() || store_open(state_dir) || store_load() || worker_init() ||
	    scheduler_init(&params) || event_queue_init(&events))
		_exit(1);
	http_init(&http);
	if (http_listen_unix(socket_path, 0600, (gid_t)-1, api_route))
		_exit(2);
	event_loop_run(&hooks);
	_exit(3);
}

static void start_server(void)
{
	int status = 0;

	server = fork();
	assert_true(server >= 0);
	if (!server)
		serve();
	for (int ms = 0; ms < WAIT_MS; ms += 10) {
		if (!send_request("GET", "/2016-08-19/account-settings", NULL))
			return;
		if (waitpid(server, &status, WNOHANG) == server)
			fail_msg("the server ended with status %d", WEXITSTATUS(status));
		usleep(10000);
	}
	fail_msg("the server does not answer");
}

static void kill_server(void)
{
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

/* ---- requests -------------------------------------------------------------------------------- */

/** Send a request (quotes may be ' in @text) and expect a status. */
static void call(const char *method, const char *path, const char *text, long status)
{
	CLEANUP_FREE char *request = text ? strdup(text) : NULL;

	for (char *at = request; at && *at; at++)
		*at = *at == '\'' ? '"' : *at;
	assert_int_equal(send_request(method, path, request), 0);
	json_decref(body);
	body = json_loadb(reply.body, reply.body_bytes, 0, NULL);
	if (reply.status != status)
		fail_msg("%s %s: status %ld, not %ld: %s", method, path, reply.status, status,
			 reply.body);
	if (status != 204)
		assert_non_null(body);
}

/** The same, refused: with AWS's shape of errors. */
static void refused(const char *method, const char *path, const char *text, long status,
		    const char *type)
{
	call(method, path, text, status);
	assert_string_equal(reply.error_type, type);
	assert_string_equal(json_string_value(json_object_get(body, "Type")),
			    status < 500 ? "User" : "Service");
	assert_true(json_string_length(json_object_get(body, "Message")) > 5);
}

/** A member of the last reply, "A.B.C"; numbers are indexes of arrays. NULL: not there. */
static json_t *member(const char *path)
{
	json_t *at = body;
	char key[100];

	while (*path && at) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
				       : json_object_get(at, key);
		path += n + (path[n] == '.');
	}
	return at;
}

static const char *text(const char *path)
{
	const char *s = json_string_value(member(path));

	if (!s)
		fail_msg("no %s in %s", path, reply.body);
	return s;
}

static json_int_t number(const char *path)
{
	if (!json_is_integer(member(path)))
		fail_msg("no %s in %s", path, reply.body);
	return json_integer_value(member(path));
}

static void create(const char *name)
{
	char request[500];

	snprintf(request, sizeof(request),
		 "{'FunctionName': '%s', 'Handler': 'app.handler', 'Runtime': 'python3.11', "
		 "'Role': 'arn:aws:iam::123456789012:role/r', 'Code': {'Directory': '%s'}}",
		 name, code_dir);
	call("POST", F, request, 201);
}

/** Versions 1 to @count of a function, as if they had been published; the server starts anew. */
static void publish_by_hand(const char *name, uint32_t count)
{
	const char *settings = "{\"Handler\": \"app.handler\"}";

	kill_server();
	assert_int_equal(store_open(state_dir), 0);
	for (uint32_t i = 1; i <= count; i++) {
		int dirfd = -1, tmp_fd = -1;

		assert_int_equal(store_version_prepare(name, i, &dirfd, &tmp_fd), 0);
		assert_int_equal(store_version_install(dirfd, tmp_fd, settings, NULL), 0);
		close(dirfd);
		close(tmp_fd);
	}
	store_close();
	start_server();
}

/* ---- functions ------------------------------------------------------------------------------- */

static void test_create_and_show(void **state)
{
	char request[800];

	(void)state;
	snprintf(request, sizeof(request),
		 "{'FunctionName': 'shown', 'Handler': 'app.handler', 'Runtime': 'python3.11', "
		 "'Role': 'arn:aws:iam::123456789012:role/r', 'Code': {'Directory': '%s'}, "
		 "'Description': 'what it does', 'Timeout': 30, 'MemorySize': 256, "
		 "'Environment': {'Variables': {'A': '1'}}, 'Tags': {'team': 'blue'}, "
		 "'SnapStart': {'ApplyOn': 'PublishedVersions'}}",
		 code_dir);
	call("POST", F, request, 201);
	assert_string_equal(text("FunctionName"), "shown");
	assert_string_equal(text("FunctionArn"),
			    "arn:aws:lambda:local:000000000000:function:shown");
	assert_string_equal(text("Version"), "$LATEST");
	assert_string_equal(text("Description"), "what it does");
	assert_string_equal(text("State"), "Active");
	assert_string_equal(text("LastUpdateStatus"), "Successful");
	assert_string_equal(text("SnapStart.ApplyOn"), "PublishedVersions");
	assert_string_equal(text("SnapStart.OptimizationStatus"), "Off");
	assert_string_equal(text("Environment.Variables.A"), "1");
	assert_int_equal(strlen(text("CodeSha256")), 44);
	assert_int_equal(strlen(text("RevisionId")), 36);

	/* By all its names. */
	call("GET", F "/shown", NULL, 200);
	assert_string_equal(text("Configuration.FunctionName"), "shown");
	assert_string_equal(text("Tags.team"), "blue");
	call("GET", F "/shown/configuration?Qualifier=$LATEST", NULL, 200);
	assert_string_equal(text("FunctionArn"),
			    "arn:aws:lambda:local:000000000000:function:shown:$LATEST");
	call("GET", F "/arn:aws:lambda:eu-west-1:123456789012:function:shown:$LATEST/configuration",
	     NULL, 200);
	call("GET", F "/123456789012%3Afunction%3Ashown/configuration", NULL, 200);

	request[strlen(request) - 1] = '\0';
	refused("POST", F, request, 400, "InvalidRequestContentException");
	refused("POST", F, "[]", 400, "InvalidRequestContentException");
	refused("POST", F, "{'FunctionName': '../x'}", 400, "ValidationException");
	refused("POST", F, "{'FunctionName': 'shown', 'Handler': 'a.b'}", 409,
		"ResourceConflictException");
	refused("POST", F, "{'FunctionName': 'x', 'Handler': 'a.b', 'Tags': {'aws:x': '1'}}", 400,
		"InvalidParameterValueException");
	refused("GET", F "/nothing", NULL, 404, "ResourceNotFoundException");
	assert_string_equal(
		text("Message"),
		"Function not found: arn:aws:lambda:local:000000000000:function:nothing");
	refused("GET", F "/a%20b", NULL, 400, "ValidationException");
	refused("GET", F "/%FF%00x", NULL, 400, "ValidationException");
	refused("GET", "/%C3", NULL, 404, "UnknownOperationException");
	refused("GET", F "/shown?Qualifier=7", NULL, 404, "ResourceNotFoundException");
	refused("GET", F "/shown?Qualifier=a%20b", NULL, 400, "ValidationException");
	refused("GET", F "/shown:1?Qualifier=2", NULL, 400, "InvalidParameterValueException");
}

static void test_update_and_revisions(void **state)
{
	char revision[40], request[200];

	(void)state;
	create("changed");
	snprintf(revision, sizeof(revision), "%s", text("RevisionId"));
	call("PUT", F "/changed/configuration", "{'Timeout': 7, 'Description': 'new'}", 200);
	assert_int_equal(number("Timeout"), 7);
	assert_string_equal(text("Handler"), "app.handler");
	assert_string_not_equal(text("RevisionId"), revision);
	snprintf(request, sizeof(request), "{'Timeout': 8, 'RevisionId': '%s'}", revision);
	refused("PUT", F "/changed/configuration", request, 412, "PreconditionFailedException");
	refused("PUT", F "/changed/configuration", "{'Timeout': 0}", 400, "ValidationException");
	refused("PUT", F "/changed/configuration", "{'MemorySize': 'x'}", 400,
		"SerializationException");
	call("GET", F "/changed/configuration", NULL, 200);
	assert_int_equal(number("Timeout"), 7);
	snprintf(revision, sizeof(revision), "%s", text("RevisionId"));
	snprintf(request, sizeof(request), "{'Directory': '%s', 'RevisionId': '%s'}", code_dir,
		 revision);
	call("PUT", F "/changed/code", request, 200);
	refused("PUT", F "/changed/code", request, 412, "PreconditionFailedException");
}

static void test_lists_come_in_pages(void **state)
{
	char name[32], path[600], last[64] = "";
	unsigned seen = 0, pages = 0;

	(void)state;
	for (int i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "page-%d", i * 3 % 7);
		create(name);
	}
	snprintf(path, sizeof(path), F "/?MaxItems=3");
	for (;;) {
		size_t count;

		call("GET", path, NULL, 200);
		count = json_array_size(member("Functions"));
		assert_true(count <= 3);
		for (size_t i = 0; i < count; i++) {
			char item[64];

			snprintf(item, sizeof(item), "Functions.%zu.FunctionName", i);
			assert_true(strcmp(last, text(item)) < 0);
			snprintf(last, sizeof(last), "%s", text(item));
			seen += !strncmp(last, "page-", 5);
		}
		pages++;
		if (!member("NextMarker"))
			break;
		snprintf(path, sizeof(path), F "/?MaxItems=3&Marker=%s", text("NextMarker"));
		/* What goes meanwhile is no hole in what comes. */
		if (pages == 1)
			call("DELETE", F "/page-0", NULL, 204);
	}
	assert_true(seen == 6 || seen == 7);
	assert_true(pages >= 3);
	refused("GET", F "/?MaxItems=0", NULL, 400, "ValidationException");
	refused("GET", F "/?MaxItems=x", NULL, 400, "ValidationException");
	refused("GET", F "/?FunctionVersion=SOME", NULL, 400, "ValidationException");
}

/* ---- versions and aliases -------------------------------------------------------------------- */

static void test_versions(void **state)
{
	(void)state;
	create("versioned");
	publish_by_hand("versioned", 3);
	call("GET", F "/versioned/versions", NULL, 200);
	assert_int_equal(json_array_size(member("Versions")), 4);
	assert_string_equal(text("Versions.0.Version"), "$LATEST");
	assert_string_equal(text("Versions.3.Version"), "3");
	call("GET", F "/versioned:2/configuration", NULL, 200);
	assert_string_equal(text("SnapStart.OptimizationStatus"), "On");
	call("GET", F "/?FunctionVersion=ALL&MaxItems=50", NULL, 200);
	assert_true(json_array_size(member("Functions")) > 4);

	refused("DELETE", F "/versioned?Qualifier=$LATEST", NULL, 400,
		"InvalidParameterValueException");
	refused("DELETE", F "/versioned?Qualifier=9", NULL, 404, "ResourceNotFoundException");
	call("POST", F "/versioned/aliases", "{'Name': 'prod', 'FunctionVersion': '3'}", 201);
	refused("DELETE", F "/versioned:3", NULL, 409, "ResourceConflictException");
	call("DELETE", F "/versioned/aliases/prod", NULL, 204);
	call("DELETE", F "/versioned:3", NULL, 204);
	refused("GET", F "/versioned:3", NULL, 404, "ResourceNotFoundException");
	kill_server();
	start_server();
	call("GET", F "/versioned/versions", NULL, 200);
	assert_int_equal(json_array_size(member("Versions")), 3);
}

static void test_aliases(void **state)
{
	char revision[40], request[200];

	(void)state;
	create("aliased");
	publish_by_hand("aliased", 2);
	call("POST", F "/aliased/aliases",
	     "{'Name': 'prod', 'FunctionVersion': '1', 'Description': 'd'}", 201);
	assert_string_equal(text("AliasArn"),
			    "arn:aws:lambda:local:000000000000:function:aliased:prod");
	refused("POST", F "/aliased/aliases", "{'Name': 'prod', 'FunctionVersion': '1'}", 409,
		"ResourceConflictException");
	refused("POST", F "/aliased/aliases", "{'Name': '7', 'FunctionVersion': '1'}", 400,
		"ValidationException");
	refused("POST", F "/aliased/aliases", "{'Name': 'x', 'FunctionVersion': '9'}", 404,
		"ResourceNotFoundException");
	refused("POST", F "/aliased/aliases", "{'Name': 'x'}", 400, "ValidationException");
	call("GET", F "/aliased/aliases/prod", NULL, 200);
	assert_string_equal(text("FunctionVersion"), "1");
	snprintf(revision, sizeof(revision), "%s", text("RevisionId"));
	call("PUT", F "/aliased/aliases/prod",
	     "{'RoutingConfig': {'AdditionalVersionWeights': {'2': 0.5}}}", 200);
	assert_true(json_number_value(member("RoutingConfig.AdditionalVersionWeights.2")) == 0.5);
	assert_string_equal(text("Description"), "d");
	snprintf(request, sizeof(request), "{'FunctionVersion': '2', 'RevisionId': '%s'}",
		 revision);
	refused("PUT", F "/aliased/aliases/prod", request, 412, "PreconditionFailedException");
	refused("PUT", F "/aliased/aliases/nothing", "{'FunctionVersion': '2'}", 404,
		"ResourceNotFoundException");
	call("POST", F "/aliased/aliases", "{'Name': 'beta', 'FunctionVersion': '$LATEST'}", 201);
	call("GET", F "/aliased/aliases", NULL, 200);
	assert_int_equal(json_array_size(member("Aliases")), 2);
	assert_string_equal(text("Aliases.0.Name"), "beta");
	call("GET", F "/aliased/aliases?FunctionVersion=2", NULL, 200);
	assert_int_equal(json_array_size(member("Aliases")), 1);
	/* An alias is a qualifier wherever one is. */
	call("GET", F "/aliased:prod/configuration", NULL, 200);
	assert_string_equal(text("Version"), "1");
	call("DELETE", F "/aliased/aliases/beta", NULL, 204);
	call("DELETE", F "/aliased/aliases/beta", NULL, 204);
	refused("GET", F "/aliased/aliases/beta", NULL, 404, "ResourceNotFoundException");
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void test_concurrency(void **state)
{
	(void)state;
	create("limited");
	create("greedy");
	publish_by_hand("limited", 1);
	call("GET", "/2019-09-30/functions/limited/concurrency", NULL, 200);
	assert_null(member("ReservedConcurrentExecutions"));
	call("PUT", "/2017-10-31/functions/limited/concurrency",
	     "{'ReservedConcurrentExecutions': 5}", 200);
	assert_int_equal(number("ReservedConcurrentExecutions"), 5);
	/* A tenth stays for the others. */
	refused("PUT", "/2017-10-31/functions/greedy/concurrency",
		"{'ReservedConcurrentExecutions': 86}", 400, "InvalidParameterValueException");
	call("PUT", "/2017-10-31/functions/greedy/concurrency",
	     "{'ReservedConcurrentExecutions': 85}", 200);
	call("GET", "/2016-08-19/account-settings/", NULL, 200);
	assert_int_equal(number("AccountLimit.ConcurrentExecutions"), ACCOUNT_CONCURRENCY);
	assert_int_equal(number("AccountLimit.UnreservedConcurrentExecutions"), 10);
	assert_true(number("AccountUsage.FunctionCount") >= 2);
	refused("PUT", "/2017-10-31/functions/limited/concurrency", "{}", 400,
		"ValidationException");
	refused("PUT", "/2017-10-31/functions/limited/concurrency",
		"{'ReservedConcurrentExecutions': -1}", 400, "ValidationException");

#define PROVISIONED "/2019-09-30/functions/limited/provisioned-concurrency"
	refused("PUT", PROVISIONED, "{'ProvisionedConcurrentExecutions': 1}", 400,
		"InvalidParameterValueException");
	refused("PUT", PROVISIONED "?Qualifier=7", "{'ProvisionedConcurrentExecutions': 1}", 404,
		"ResourceNotFoundException");
	refused("PUT", PROVISIONED "?Qualifier=1", "{'ProvisionedConcurrentExecutions': 6}", 400,
		"InvalidParameterValueException");
	refused("GET", PROVISIONED "?Qualifier=1", NULL, 404,
		"ProvisionedConcurrencyConfigNotFoundException");
	call("PUT", PROVISIONED "?Qualifier=1", "{'ProvisionedConcurrentExecutions': 3}", 202);
	assert_string_equal(text("Status"), "IN_PROGRESS");
	call("GET", PROVISIONED "?Qualifier=1", NULL, 200);
	assert_int_equal(number("RequestedProvisionedConcurrentExecutions"), 3);
	call("GET", PROVISIONED "?List=ALL", NULL, 200);
	assert_string_equal(text("ProvisionedConcurrencyConfigs.0.FunctionArn"),
			    "arn:aws:lambda:local:000000000000:function:limited:1");
	refused("PUT", "/2017-10-31/functions/limited/concurrency",
		"{'ReservedConcurrentExecutions': 2}", 400, "InvalidParameterValueException");
	call("DELETE", PROVISIONED "?Qualifier=1", NULL, 204);
	call("DELETE", "/2017-10-31/functions/limited/concurrency", NULL, 204);
	call("GET", "/2019-09-30/functions/limited/concurrency", NULL, 200);
	assert_null(member("ReservedConcurrentExecutions"));
}

static void test_events_and_urls(void **state)
{
#define EVENTS "/2019-09-25/functions/eventful/event-invoke-config"
#define URL    "/2021-10-31/functions/eventful/url"
	char url[200];

	(void)state;
	create("eventful");
	publish_by_hand("eventful", 1);
	refused("GET", EVENTS, NULL, 404, "ResourceNotFoundException");
	refused("POST", EVENTS, "{'MaximumRetryAttempts': 1}", 404, "ResourceNotFoundException");
	call("PUT", EVENTS,
	     "{'MaximumRetryAttempts': 1, 'DestinationConfig': "
	     "{'OnFailure': {'Destination': 'file:///tmp/failed'}}}",
	     200);
	assert_int_equal(number("MaximumEventAgeInSeconds"), 21600);
	assert_true(json_is_real(member("LastModified")));
	call("POST", EVENTS, "{'MaximumEventAgeInSeconds': 60}", 200);
	assert_int_equal(number("MaximumRetryAttempts"), 1);
	assert_string_equal(text("DestinationConfig.OnFailure.Destination"), "file:///tmp/failed");
	call("PUT", EVENTS "?Qualifier=1", "{}", 200);
	call("GET", EVENTS "/list", NULL, 200);
	assert_int_equal(json_array_size(member("FunctionEventInvokeConfigs")), 2);
	refused("PUT", EVENTS, "{'MaximumRetryAttempts': 3}", 400, "ValidationException");
	refused("PUT", EVENTS,
		"{'DestinationConfig': {'OnSuccess': {'Destination': 'arn:aws:sqs:r:1:q'}}}", 400,
		"InvalidParameterValueException");
	call("DELETE", EVENTS, NULL, 204);
	refused("DELETE", EVENTS, NULL, 404, "ResourceNotFoundException");

	refused("GET", URL, NULL, 404, "ResourceNotFoundException");
	refused("POST", URL, "{}", 400, "ValidationException");
	refused("POST", URL, "{'AuthType': 'OPEN'}", 400, "ValidationException");
	refused("POST", URL "?Qualifier=1", "{'AuthType': 'NONE'}", 400, "ValidationException");
	call("POST", URL, "{'AuthType': 'NONE', 'Cors': {'AllowOrigins': ['*']}}", 201);
	snprintf(url, sizeof(url), "%s", text("FunctionUrl"));
	refused("POST", URL, "{'AuthType': 'NONE'}", 409, "ResourceConflictException");
	call("PUT", URL, "{'AuthType': 'AWS_IAM', 'InvokeMode': 'RESPONSE_STREAM'}", 200);
	assert_string_equal(text("FunctionUrl"), url);
	assert_string_equal(text("Cors.AllowOrigins.0"), "*");
	call("GET", "/2021-10-31/functions/eventful/urls", NULL, 200);
	assert_string_equal(text("FunctionUrlConfigs.0.AuthType"), "AWS_IAM");
	call("DELETE", URL, NULL, 204);
	refused("DELETE", URL, NULL, 404, "ResourceNotFoundException");
}

static void test_tags(void **state)
{
#define TAGS "/2017-03-31/tags/arn%3Aaws%3Alambda%3Alocal%3A000000000000%3Afunction%3Atagged"
	(void)state;
	create("tagged");
	call("POST", TAGS, "{'Tags': {'a': '1', 'b': '2', 'c': 'ü'}}", 204);
	call("DELETE", TAGS "?tagKeys=a&tagKeys=b&tagKeys=nothing", NULL, 204);
	call("GET", TAGS, NULL, 200);
	assert_int_equal(json_object_size(member("Tags")), 1);
	assert_string_equal(text("Tags.c"), "ü");
	refused("DELETE", TAGS, NULL, 400, "ValidationException");
	refused("POST", TAGS, "{'Tags': {'a': 1}}", 400, "InvalidParameterValueException");
	refused("POST", TAGS, "{}", 400, "ValidationException");
	refused("GET", TAGS "%3A1", NULL, 400, "InvalidParameterValueException");
	refused("GET", "/2017-03-31/tags/nothing", NULL, 404, "ResourceNotFoundException");
}

static void test_what_is_not_here_says_its_name(void **state)
{
	(void)state;
	create("plain");
	refused("POST", "/2015-03-31/event-source-mappings/", "{}", 501, "NotImplementedException");
	assert_non_null(strstr(text("Message"), "CreateEventSourceMapping"));
	refused("POST", F "/plain/policy", "{}", 501, "NotImplementedException");
	assert_non_null(strstr(text("Message"), "AddPermission"));
	refused("GET", "/nothing", NULL, 404, "UnknownOperationException");
	refused("PATCH", F "/plain", NULL, 405, "MethodNotAllowedException");
	assert_non_null(strstr(text("Message"), "GET, DELETE"));
}

/** What was answered is there after kill -9, and a change at work then is whole or not at all. */
static void test_kill_9_loses_nothing(void **state)
{
	char path[200], request[200];

	(void)state;
	create("durable");
	publish_by_hand("durable", 1);
	for (int i = 0; i < 20; i++) {
		snprintf(request, sizeof(request), "{'Tags': {'n': '%d'}}", i);
		call("POST", "/2017-03-31/tags/durable", request, 204);
		snprintf(request, sizeof(request), "{'Name': 'a%d', 'FunctionVersion': '1'}", i);
		call("POST", F "/durable/aliases", request, 201);
		kill_server();
		start_server();
		call("GET", "/2017-03-31/tags/durable", NULL, 200);
		assert_int_equal(atoi(text("Tags.n")), i); /* NOLINT(cert-err34-c) */
		snprintf(path, sizeof(path), F "/durable/aliases/a%d", i);
		call("GET", path, NULL, 200);
	}
	/* With nobody waiting for the answer. */
	for (int delay_us = 0; delay_us < 4000; delay_us += 400) {
		pid_t pid = fork();

		if (!pid) {
			send_request("POST", F "/durable/aliases",
				     "{\"Name\": \"x\", \"FunctionVersion\": \"1\"}");
			_exit(0);
		}
		usleep((useconds_t)delay_us);
		kill_server();
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		start_server();
		call("GET", F "/durable/aliases", NULL, 200);
		assert_true(json_array_size(member("Aliases")) >= 20);
		call("DELETE", F "/durable/aliases/x", NULL, 204);
	}
}

/** Many changes of one function at once: each is there, none has undone another. */
static void test_changes_wait_for_each_other(void **state)
{
	enum { CLIENTS = 12 };
	pid_t pids[CLIENTS];

	(void)state;
	create("busy");
	for (int i = 0; i < CLIENTS; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			char request[100];
			int bad = 0;

			for (int n = 0; n < 3; n++) {
				snprintf(request, sizeof(request),
					 "{\"Tags\": {\"client-%d-%d\": \"x\"}}", i, n);
				bad |= send_request("POST", "/2017-03-31/tags/busy", request) ||
				       reply.status != 204;
			}
			_exit(bad);
		}
	}
	for (int i = 0; i < CLIENTS; i++) {
		int status;

		waitpid(pids[i], &status, 0);
		assert_int_equal(status, 0);
	}
	call("GET", "/2017-03-31/tags/busy", NULL, 200);
	assert_int_equal(json_object_size(member("Tags")), 3 * CLIENTS);
}

static int setup(void **state)
{
	CLEANUP_FILE FILE *file = NULL;
	char path[200];

	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
	snprintf(code_dir, sizeof(code_dir), "%s/code", dir);
	snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	snprintf(path, sizeof(path), "%s/app.py", code_dir);
	if (mkdir(code_dir, 0755))
		return -1;
	file = fopen(path, "we");
	if (!file || fputs("def handler(event, context): return event\n", file) < 0)
		return -1;
	start_server();
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	kill_server();
	json_decref(body);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command); /* NOLINT(cert-env33-c) */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_and_show),
		cmocka_unit_test(test_update_and_revisions),
		cmocka_unit_test(test_lists_come_in_pages),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_aliases),
		cmocka_unit_test(test_concurrency),
		cmocka_unit_test(test_events_and_urls),
		cmocka_unit_test(test_tags),
		cmocka_unit_test(test_what_is_not_here_says_its_name),
		cmocka_unit_test(test_changes_wait_for_each_other),
		cmocka_unit_test(test_kill_9_loses_nothing),
	};

	return cmocka_run_group_tests_name("api_lambda", tests, setup, teardown);
}
