/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sigv4.c - Signature Version 4 against the values that AWS has published, and against forgers
 *
 * Sources of the values: the examples of AWS's documentation of Signature Version 4 (deriving a
 * signing key, ListUsers, presigned GET of S3) and AWS's test suite for it (get-vanilla and
 * others).
 */
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

#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/sigv4.h"

#define EMPTY	 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SECRET	 "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SCOPE	 "20150830/us-east-1/service/aws4_request"
#define DATE	 "20150830T123600Z"
#define CREDENTIAL                                                                                 \
	"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "

static char error[SIGV4_ERROR_MAX], keys_error[ACCESS_KEYS_ERROR_MAX];

static struct sigv4_request request(const char *method, const char *uri, const char *authorization)
{
	return (struct sigv4_request){
		.method = method,
		.uri = uri,
		.headers = {{"Host", "example.amazonaws.com"},
			    {"X-Amz-Date", DATE},
			    {"Authorization", authorization}},
		.header_count = 3,
	};
}

static void add_header(struct sigv4_request *r, const char *name, const char *value)
{
	r->headers[r->header_count].name = name;
	r->headers[r->header_count++].value = value;
}

static enum sigv4_verdict verify(const struct sigv4_request *r, const char *secret,
				 const char *payload_hash)
{
	struct sigv4_claim claim;
	uint8_t key[SIGV4_KEY_BYTES];
	enum sigv4_verdict verdict = sigv4_parse(r, &claim, error);

	if (verdict)
		return verdict;
	sigv4_signing_key(secret, &claim, key);
	return sigv4_verify(r, &claim, key, payload_hash, error);
}

static void assert_verdict(const struct sigv4_request *r, enum sigv4_verdict want)
{
	enum sigv4_verdict got = verify(r, SECRET, EMPTY);

	if (got != want)
		fail_msg("verdict %d (%s), wanted %d", got, got ? error : "", want);
}

/* ---- what AWS has published ------------------------------------------------------------------ */

static void test_signing_key(void **state)
{
	struct sigv4_claim claim = {.date = "20150830", .region = "us-east-1", .service = "iam"};
	uint8_t key[SIGV4_KEY_BYTES];
	char hex[SIGV4_HEX_CHARS + 1];

	(void)state;
	sigv4_signing_key(SECRET, &claim, key);
	sigv4_hex(key, hex);
	assert_string_equal(hex,
			    "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

static void test_list_users(void **state)
{
	struct sigv4_request r = {
		.method = "GET",
		.uri = "/?Action=ListUsers&Version=2010-05-08",
		.headers = {{"content-type", "application/x-www-form-urlencoded; charset=utf-8"},
			    {"host", "iam.amazonaws.com"},
			    {"x-amz-date", DATE},
			    {"authorization",
			     "AWS4-HMAC-SHA256 "
			     "Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
			     "SignedHeaders=content-type;host;x-amz-date, "
			     "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f"
			     "2b5d7"}},
		.header_count = 4,
	};

	(void)state;
	assert_verdict(&r, SIGV4_OK);
}

static void test_suite_requests(void **state)
{
	static const struct {
		const char *method, *uri, *signature;
	} cases[] = {
		{"GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"GET", "/?Param2=value2&Param1=value1",
		 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		/* Normalised paths are signed as "/". */
		{"GET", "//", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"GET", "/./", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"GET", "/example/..",
		 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"GET", "/../..//",
		 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	};
	char authorization[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sigv4_request r = request(cases[i].method, cases[i].uri, authorization);

		snprintf(authorization, sizeof(authorization),
			 CREDENTIAL "SignedHeaders=host;x-amz-date, Signature=%s",
			 cases[i].signature);
		assert_verdict(&r, SIGV4_OK);
	}
}

/* get-header-value-trim: white space at the ends goes, runs of it become one space. */
static void test_header_values(void **state)
{
	struct sigv4_request r =
		request("GET", "/",
			CREDENTIAL "SignedHeaders=host;my-header1;my-header2;x-amz-date, "
				   "Signature=acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee3"
				   "59757a9c736");

	(void)state;
	add_header(&r, "My-Header1", " value1");
	add_header(&r, "My-Header2", " \"a   b   c\"");
	assert_verdict(&r, SIGV4_OK);
}

static void test_presigned(void **state)
{
	struct sigv4_request r = {
		.method = "GET",
		.uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
		       "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
		       "aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
		       "&X-Amz-SignedHeaders=host&X-Amz-Signature="
		       "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
		.headers = {{"Host", "examplebucket.s3.amazonaws.com"}},
		.header_count = 1,
	};
	struct sigv4_claim claim;

	(void)state;
	assert_int_equal(verify(&r, S3SECRET, SIGV4_UNSIGNED_PAYLOAD), SIGV4_OK);
	assert_int_equal(verify(&r, S3SECRET, EMPTY), SIGV4_INVALID);
	assert_int_equal(sigv4_parse(&r, &claim, error), SIGV4_OK);
	assert_string_equal(claim.key_id, "AKIAIOSFODNN7EXAMPLE");
	assert_int_equal(claim.signed_s, 1369353600);
	/* Good for its day, counted from its date, and not a second longer. */
	assert_int_equal(sigv4_check_scope(&claim, "s3", 1369353600 + 86400, error), SIGV4_OK);
	assert_int_equal(sigv4_check_scope(&claim, "s3", 1369353600 + 86401, error), SIGV4_INVALID);
}

/* ---- forgers --------------------------------------------------------------------------------- */

#define VANILLA                                                                                    \
	CREDENTIAL "SignedHeaders=host;x-amz-date, "                                               \
		   "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

static void test_everything_signed_counts(void **state)
{
	struct sigv4_request r = request("GET", "/", VANILLA);

	(void)state;
	assert_verdict(&r, SIGV4_OK);
	r.method = "PUT";
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/x", VANILLA);
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/?a", VANILLA);
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/", VANILLA);
	r.headers[0].value = "example.com";
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/", VANILLA);
	r.headers[1].value = "20150830T123601Z";
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/", VANILLA);
	assert_int_equal(verify(&r, SECRET "x", EMPTY), SIGV4_INVALID);
	assert_int_equal(verify(&r, SECRET, SIGV4_UNSIGNED_PAYLOAD), SIGV4_INVALID);
	/* A second header of the name is signed with it. */
	add_header(&r, "host", "other");
	assert_verdict(&r, SIGV4_INVALID);
}

static void test_each_bit_of_the_signature_counts(void **state)
{
	char authorization[] = VANILLA;
	size_t n = strlen(authorization);
	struct sigv4_request r = request("GET", "/", authorization);

	(void)state;
	for (size_t i = n - SIGV4_HEX_CHARS; i < n; i++) {
		char was = authorization[i];

		authorization[i] = was == '0' ? '1' : '0';
		assert_verdict(&r, SIGV4_INVALID);
		authorization[i] = was;
	}
	assert_verdict(&r, SIGV4_OK);
}

static void test_headers_that_have_to_be_signed(void **state)
{
	struct sigv4_request r = request("GET", "/", VANILLA);

	(void)state;
	add_header(&r, "User-Agent", "anything");
	assert_verdict(&r, SIGV4_OK);
	add_header(&r, "X-Amz-Invocation-Type", "Event");
	assert_verdict(&r, SIGV4_INVALID);
	assert_non_null(strstr(error, "X-Amz-Invocation-Type"));
	r = request("GET", "/",
		    CREDENTIAL "SignedHeaders=x-amz-date, Signature="
			       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
	assert_verdict(&r, SIGV4_INVALID);
	r = request("GET", "/",
		    CREDENTIAL "SignedHeaders=host;missing;x-amz-date, Signature="
			       "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
	assert_verdict(&r, SIGV4_INVALID);
	assert_non_null(strstr(error, "missing"));
}

static void test_no_signature(void **state)
{
	struct sigv4_request r = request("GET", "/", VANILLA);

	(void)state;
	r.header_count = 2;
	assert_verdict(&r, SIGV4_MISSING);
	r.uri = "/?X-Amz-Date=20150830T123600Z";
	assert_verdict(&r, SIGV4_MISSING);
}

static void test_not_a_signature(void **state)
{
	static const char *const texts[] = {
		"",
		"Basic dXNlcjpwYXNz",
		"AWS4-HMAC-SHA256",
		"AWS4-HMAC-SHA256 ",
		"AWS4-HMAC-SHA256 Credential=",
		"AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=A/20150830/r/s/aws3_request, SignedHeaders=host, "
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		CREDENTIAL "SignedHeaders=host;x-amz-date",
		CREDENTIAL "SignedHeaders=host;x-amz-date, Signature=",
		CREDENTIAL "SignedHeaders=host;x-amz-date, Signature=5fa0",
		CREDENTIAL
		"SignedHeaders=, "
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		CREDENTIAL
		"SignedHeaders=host;x-amz-date, "
		"Signature=zfa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		CREDENTIAL
		"SignedHeaders=Host;x-amz-date, "
		"Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct sigv4_request r = request("GET", "/", texts[i]);

		if (verify(&r, SECRET, EMPTY) == SIGV4_OK)
			fail_msg("accepted: %s", texts[i]);
	}
}

static void test_dates(void **state)
{
	static const char *const texts[] = {
		"",
		"20150830",
		"20150830T123600",
		"20151330T123600Z",
		"2015083 T123600Z",
		"20150830t123600Z",
		"20150830T123600Zx",
	};
	struct sigv4_request r = request("GET", "/", VANILLA);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		r.headers[1].value = texts[i];
		assert_verdict(&r, SIGV4_INCOMPLETE);
	}
}

static void test_scope(void **state)
{
	const uint64_t at = 1440938160; /* 20150830T123600Z */
	struct sigv4_request r = request("GET", "/", VANILLA);
	struct sigv4_claim claim;

	(void)state;
	assert_int_equal(sigv4_parse(&r, &claim, error), SIGV4_OK);
	assert_int_equal(claim.signed_s, at);
	assert_int_equal(sigv4_check_scope(&claim, "service", at, error), SIGV4_OK);
	assert_int_equal(sigv4_check_scope(&claim, "service", at + 300, error), SIGV4_OK);
	assert_int_equal(sigv4_check_scope(&claim, "service", at - 300, error), SIGV4_OK);
	assert_int_equal(sigv4_check_scope(&claim, "service", at + 301, error), SIGV4_INVALID);
	assert_int_equal(sigv4_check_scope(&claim, "service", at - 301, error), SIGV4_INVALID);
	assert_int_equal(sigv4_check_scope(&claim, "lambda", at, error), SIGV4_INVALID);
	strcpy(claim.date, "20150829");
	assert_int_equal(sigv4_check_scope(&claim, "service", at, error), SIGV4_INVALID);
}

static void test_session_tokens_are_refused(void **state)
{
	struct sigv4_request r = request("GET", "/", VANILLA);

	(void)state;
	add_header(&r, "X-Amz-Security-Token", "token");
	assert_verdict(&r, SIGV4_UNKNOWN);
}

/* Sizes at and over each bound: nothing may be written beyond, whatever the verdict. */
static void test_long_input(void **state)
{
	static char text[4096], uri[20000];

	(void)state;
	for (size_t n = 1; n < 4000; n += 7) {
		struct sigv4_request r;

		memset(text, 'a', n);
		text[n] = '\0';
		snprintf(uri, sizeof(uri),
			 "/?X-Amz-Signature=%s&X-Amz-Credential=%s&X-Amz-Date=%s&"
			 "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=%s&%%%%=%%4",
			 text, text, text, text);
		r = request("GET", uri, text);
		assert_int_not_equal(verify(&r, SECRET, EMPTY), SIGV4_OK);
		r.header_count = 2;
		assert_int_not_equal(verify(&r, SECRET, EMPTY), SIGV4_OK);
	}
	strcpy(uri, "/?");
	for (int i = 0; i <= SIGV4_PARAMS_MAX; i++)
		strcat(uri, "a=b&");
	struct sigv4_request r = request("GET", uri, VANILLA);
	assert_verdict(&r, SIGV4_INCOMPLETE);
	uri[0] = '\0';
	for (int i = 0; i <= SIGV4_SEGMENTS_MAX; i++)
		strcat(uri, "/a");
	assert_verdict(&r, SIGV4_INCOMPLETE);
}

/* ---- the keys file --------------------------------------------------------------------------- */

static struct access_keys *read_keys(const char *text, mode_t mode)
{
	char path[] = "/tmp/quickthaw-keys.XXXXXX", *at;
	int fd = mkstemp(path);
	struct access_keys *keys;

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	keys = access_keys_read(path, keys_error);
	unlink(path);
	/* Its name differs each time. */
	at = strstr(keys_error, path);
	if (at)
		memmove(at, at + strlen(path), strlen(at + strlen(path)) + 1);
	return keys;
}

static void test_keys(void **state)
{
	struct access_keys *keys = read_keys("# comment\n\n"
					     "AKIAONE 0123456789abcdef\n"
					     "AKIATWO\tsecretsecretsecret\tread,host-paths\n"
					     "AKIATHREE secretsecretsecret invoke",
					     0600);

	(void)state;
	assert_non_null(keys);
	assert_int_equal(access_keys_count(keys), 3);
	assert_string_equal(access_keys_find(keys, "AKIAONE")->secret, "0123456789abcdef");
	assert_int_equal(access_keys_find(keys, "AKIAONE")->rights,
			 ACCESS_READ | ACCESS_INVOKE | ACCESS_MANAGE);
	assert_int_equal(access_keys_find(keys, "AKIATWO")->rights,
			 ACCESS_READ | ACCESS_HOST_PATHS);
	assert_int_equal(access_keys_find(keys, "AKIATHREE")->rights, ACCESS_INVOKE);
	assert_null(access_keys_find(keys, "AKIAFOUR"));
	assert_null(access_keys_find(keys, ""));
	access_keys_free(keys);
}

static void test_keys_mistakes(void **state)
{
	static const struct {
		const char *text, *why;
		mode_t mode;
	} cases[] = {
		{"", ": there is no key in it", 0600},
		{"# none\n", ": there is no key in it", 0600},
		{"AKIA secretsecretsecret\n",
		 ": mode 0644 lets others read or change the secrets: chmod 0600", 0644},
		{"AKIA secretsecretsecret\n",
		 ": mode 0620 lets others read or change the secrets: chmod 0600", 0620},
		{"\nAKIA\n", ":2: a line is `ACCESS-KEY-ID SECRET [OPTION...]`", 0600},
		{"AKIA short\n", ":1: a secret has 16 to 128 characters", 0600},
		{"A/KIA secretsecretsecret\n",
		 ":1: an access key id has 4 to 128 characters and no '/'", 0600},
		{"AKIA secretsecretsecret all\n",
		 ":1: an option is read, invoke, manage or host-paths", 0600},
		{"AKIA secretsecretsecret\nAKIA secretsecretsecret\n",
		 ":2: this access key id is there already", 0600},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_null(read_keys(cases[i].text, cases[i].mode));
		assert_string_equal(keys_error, cases[i].why);
	}
	assert_null(access_keys_read("/nowhere", keys_error));
	assert_string_equal(keys_error, "/nowhere: No such file or directory");
	assert_null(access_keys_read("/dev/null", keys_error));
	assert_string_equal(keys_error, "/dev/null: not a file");
}

/* The same signature with the key that is kept as with a new one, and after another scope. */
static void test_signing_keys_are_kept(void **state)
{
	struct access_keys *keys = read_keys("AKIDEXAMPLE " SECRET "\n", 0600);
	struct access_key *key = access_keys_find(keys, "AKIDEXAMPLE");
	struct sigv4_request r = request("GET", "/", VANILLA);
	struct sigv4_claim claim, other;

	(void)state;
	assert_int_equal(sigv4_parse(&r, &claim, error), SIGV4_OK);
	other = claim;
	strcpy(other.date, "20150831");
	strcpy(other.scope, "20150831/us-east-1/service/aws4_request");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			sigv4_verify(&r, &claim, access_key_signing(key, &claim), EMPTY, error),
			SIGV4_OK);
		assert_int_equal(
			sigv4_verify(&r, &claim, access_key_signing(key, &claim), EMPTY, error),
			SIGV4_OK);
		assert_int_equal(
			sigv4_verify(&r, &claim, access_key_signing(key, &other), EMPTY, error),
			SIGV4_INVALID);
	}
	access_keys_free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signing_key),
		cmocka_unit_test(test_list_users),
		cmocka_unit_test(test_suite_requests),
		cmocka_unit_test(test_header_values),
		cmocka_unit_test(test_presigned),
		cmocka_unit_test(test_everything_signed_counts),
		cmocka_unit_test(test_each_bit_of_the_signature_counts),
		cmocka_unit_test(test_headers_that_have_to_be_signed),
		cmocka_unit_test(test_no_signature),
		cmocka_unit_test(test_not_a_signature),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_scope),
		cmocka_unit_test(test_session_tokens_are_refused),
		cmocka_unit_test(test_long_input),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_keys_mistakes),
		cmocka_unit_test(test_signing_keys_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
