/* SPDX-License-Identifier: Apache-2.0 */
/* test_code_oci.c - code out of OCI image layouts, hostile ones too */
#include "tests/unit/code_fixture.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char config_amd64[] =
	"{\"os\": \"linux\", \"architecture\": \"amd64\", \"config\": {}}";

static void stage_image(const struct fixture *f, int err, const char *text)
{
	struct code_source s = {.kind = CODE_OCI_IMAGE};
	struct code_error error;
	struct code_info info;
	int ret;

	assert_true(asprintf(&s.path, "%s/image", f->dir) > 0);
	ret = code_stage(f->dirfd, "out", &s, &info, &error);
	if (ret != err || (err && !strstr(error.text, text)))
		print_error("%d: %s (wanted: %s)\n", ret, error.text, text);
	assert_int_equal(ret, err);
	assert_true(!err || strstr(error.text, text));
	assert_int_equal(is_there(f, "out"), !err);
	code_source_free(&s);
}

static void one_layer(const struct fixture *f, const struct tar_item *items, size_t count)
{
	char digest[80];

	layer_put(f, items, count, true, digest);
	image_put(f, config_amd64, (const char *const[]){digest}, 1);
}

static void test_layers(void **state)
{
	static const struct tar_item base[] = {
		{"etc/passwd", AE_IFREG, "root", false, 0},
		{"var/task/", AE_IFDIR, NULL, false, 0755},
		{"var/task/app.py", AE_IFREG, "one", false, 0},
		{"var/task/gone.py", AE_IFREG, "gone", false, 0},
		{"var/task/d/lower", AE_IFREG, "lower", false, 0},
		{"var/task/e/lower", AE_IFREG, "lower", false, 0},
		{"var/task/tool", AE_IFREG, "tool", false, 0700},
		{"var/task/tool2", AE_IFREG, "var/task/tool", true, 0},
		{"var/task/link", AE_IFLNK, "d/lower", false, 0},
		{"var/taskless", AE_IFREG, "not code", false, 0},
	};
	static const struct tar_item upper[] = {
		{"./var/task/e/upper", AE_IFREG, "upper", false, 0},
		/* Whiteouts after what is new beside them: they are about the layer below all the
		   same. */
		{"./var/task/e/.wh..wh..opq", AE_IFREG, "", false, 0},
		{"./var/task/.wh.gone.py", AE_IFREG, "", false, 0},
		{"./var/task/app.py", AE_IFREG, "two", false, 0},
		{"./var/task/d", AE_IFREG, "a file now", false, 0},
	};
	const struct fixture *f = *state;
	char digests[2][80];
	struct stat st;

	image_begin(f);
	layer_put(f, base, COUNT(base), true, digests[0]);
	layer_put(f, upper, COUNT(upper), false, digests[1]);
	image_put(f, config_amd64, (const char *const[]){digests[0], digests[1]}, 2);
	stage_image(f, 0, NULL);
	assert_string_equal(get_file(f, "out/tree/app.py"), "two");
	assert_string_equal(get_file(f, "out/tree/d"), "a file now");
	assert_string_equal(get_file(f, "out/tree/tool2"), "tool");
	assert_string_equal(get_file(f, "out/tree/e/upper"), "upper");
	assert_false(is_there(f, "out/tree/e/lower"));
	assert_false(is_there(f, "out/tree/gone.py"));
	assert_false(is_there(f, "out/tree/etc"));
	assert_false(is_there(f, "out/tree/less"));
	assert_int_equal(fstatat(f->dirfd, "out/tree/tool", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	/* The other way round, what the base has wins; the whiteouts find nothing. */
	image_put(f, config_amd64, (const char *const[]){digests[0]}, 1);
	stage_image(f, 0, NULL);
	assert_string_equal(get_file(f, "out/tree/app.py"), "one");
	assert_string_equal(get_file(f, "out/tree/gone.py"), "gone");
}

/* A whiteout of a directory above takes all away. */
static void test_whiteout_above(void **state)
{
	static const struct tar_item base[] = {{"var/task/old", AE_IFREG, "old", false, 0}};
	static const struct tar_item upper[] = {{".wh.var", AE_IFREG, "", false, 0},
						{"var/task/new", AE_IFREG, "new", false, 0}};
	const struct fixture *f = *state;
	char digests[2][80];

	image_begin(f);
	layer_put(f, base, COUNT(base), true, digests[0]);
	layer_put(f, upper, COUNT(upper), false, digests[1]);
	image_put(f, config_amd64, (const char *const[]){digests[0], digests[1]}, 2);
	stage_image(f, 0, NULL);
	assert_false(is_there(f, "out/tree/old"));
	assert_string_equal(get_file(f, "out/tree/new"), "new");
}

static void test_working_dir(void **state)
{
	static const struct tar_item items[] = {{"srv/fn/app.py", AE_IFREG, "here", false, 0},
						{"var/task/app.py", AE_IFREG, "there", false, 0}};
	static const char config[] = "{\"os\": \"linux\", \"architecture\": \"amd64\", "
				     "\"config\": {\"WorkingDir\": \"/srv/fn/\"}}";
	const struct fixture *f = *state;
	char digest[80];

	image_begin(f);
	layer_put(f, items, COUNT(items), true, digest);
	image_put(f, config, (const char *const[]){digest}, 1);
	stage_image(f, 0, NULL);
	assert_string_equal(get_file(f, "out/tree/app.py"), "here");
	image_put(f, "{\"os\": \"linux\", \"architecture\": \"arm64\"}",
		  (const char *const[]){digest}, 1);
	stage_image(f, -EINVAL, "it is for linux/arm64");
	image_put(f,
		  "{\"os\": \"linux\", \"architecture\": \"amd64\", "
		  "\"config\": {\"WorkingDir\": \"/../etc\"}}",
		  (const char *const[]){digest}, 1);
	stage_image(f, -EINVAL, "a name with ..");
	image_put(f,
		  "{\"os\": \"linux\", \"architecture\": \"amd64\", "
		  "\"config\": {\"WorkingDir\": \"/none\"}}",
		  (const char *const[]){digest}, 1);
	stage_image(f, -EINVAL, "nothing in /none");
}

static void test_hostile_layers(void **state)
{
	static const struct {
		struct tar_item items[3];
		size_t count;
		const char *text;
	} cases[] = {
		{{{"var/task/../../etc/x", AE_IFREG, "x", false, 0}}, 1, "a name with .."},
		{{{"../x", AE_IFREG, "x", false, 0}}, 1, "a name with .."},
		{{{"var/task/l", AE_IFLNK, "/etc", false, 0}}, 1, "leaves the archive"},
		{{{"var/task/l", AE_IFLNK, "/etc", false, 0},
		  {"var/task/l/x", AE_IFREG, "x", false, 0}},
		 2,
		 "behind a symbolic link"},
		{{{"var/task", AE_IFLNK, "/etc", false, 0}}, 1, "not a directory"},
		{{{"var", AE_IFLNK, "/etc", false, 0}}, 1, "on the way to the code"},
		{{{"var/task/h", AE_IFREG, "etc/passwd", true, 0}}, 1, "outside of var/task"},
		{{{"var/task/h", AE_IFREG, "var/task/../../etc/passwd", true, 0}},
		 1,
		 "a name with .."},
		{{{"var/task/l", AE_IFLNK, "x", false, 0},
		  {"var/task/h", AE_IFREG, "var/task/l", true, 0}},
		 2,
		 "not there"},
		{{{"var/task/dev", AE_IFCHR, NULL, false, 0}}, 1, "neither a file"},
		{{{"var/task/fifo", AE_IFIFO, NULL, false, 0}}, 1, "neither a file"},
	};
	const struct fixture *f = *state;

	image_begin(f);
	for (size_t i = 0; i < COUNT(cases); i++) {
		one_layer(f, cases[i].items, cases[i].count);
		stage_image(f, -EINVAL, cases[i].text);
	}
}

static void test_hostile_layout(void **state)
{
	static const struct tar_item item = {"var/task/a", AE_IFREG, "a", false, 0};
	static const char bad_digest[] =
		"{\"manifests\": [{\"digest\": \"sha256:../../../../etc/passwd\"}]}";
	const struct fixture *f = *state;
	char digest[80], path[160];

	stage_image(f, -ENOENT, "No such file");
	image_begin(f);
	stage_image(f, -EINVAL, "oci-layout");
	one_layer(f, &item, 1);
	stage_image(f, 0, NULL);
	put_file(f, "image/index.json", bad_digest, strlen(bad_digest));
	stage_image(f, -EINVAL, "give digests as sha256:HEX");
	put_file(f, "image/index.json", "[1]", 3);
	stage_image(f, -EINVAL, "not a JSON object");
	put_file(f, "image/index.json", "{}", 2);
	stage_image(f, -EINVAL, "no image for linux/amd64");
	/* A blob that is not what its name says; one that is a link out of the layout. */
	layer_put(f, &item, 1, true, digest);
	image_put(f, config_amd64, (const char *const[]){digest}, 1);
	snprintf(path, sizeof(path), "image/blobs/sha256/%.64s", digest + 7);
	put_file(f, path, "not a layer", 11);
	stage_image(f, -EINVAL, "another digest");
	assert_int_equal(unlinkat(f->dirfd, path, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", f->dirfd, path), 0);
	stage_image(f, -EINVAL, "blobs/sha256/");
	assert_int_equal(unlinkat(f->dirfd, path, 0), 0);
	blob_put(f, "not a tar file, whatever its digest says", 40, digest);
	image_put(f, config_amd64, (const char *const[]){digest}, 1);
	stage_image(f, -EINVAL, "a layer");
	put_file(f, "image/oci-layout", "{\"imageLayoutVersion\": \"2.0\"}", 29);
	stage_image(f, -EINVAL, "not of version 1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_layers),	   TEST(test_whiteout_above), TEST(test_working_dir),
		TEST(test_hostile_layers), TEST(test_hostile_layout),
	};

	if (geteuid())
		return skip_without_root("test_code_oci");
	return cmocka_run_group_tests_name("code_oci", tests, NULL, NULL);
}
