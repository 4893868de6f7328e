/* SPDX-License-Identifier: Apache-2.0 */
/* test_code_layer.c - layers: names, what a function may have, on disk, merged */
#include "tests/unit/code_fixture.h"

#include "snapd/function_store.h"
#include "snapd/layer.h"
#include "snapd/layer_store.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ARN	 "arn:aws:lambda:local:000000000000:layer:"

static void forget_layers(void)
{
	for (struct layer *l = layers_first(); l; l = SLIST_NEXT(l, link)) {
		while (!SLIST_EMPTY(&l->versions))
			layer_remove_version(l, SLIST_FIRST(&l->versions));
		l->last_number = 0;
	}
}

static int layer_setup(void **state)
{
	const struct fixture *f;

	fixture_setup(state);
	f = *state;
	return layer_store_open(f->dir);
}

static int layer_teardown(void **state)
{
	forget_layers();
	layer_store_close();
	return fixture_teardown(state);
}

/** Publish a layer of one file, as the API does. */
static struct layer_version *publish(const struct fixture *f, const char *layer, const char *name,
				     const char *text)
{
	struct zip_item item = {name, text, 0, 0};
	struct code_source source = zip_make(f, &item, 1);
	struct layer *l = layers_make(layer);
	struct code_error error;
	struct code_info info;

	l->last_number++;
	assert_int_equal(layer_store_publish(layer, l->last_number, "{\"Description\": \"d\"}",
					     &source, &info, &error),
			 0);
	code_source_free(&source);
	return layer_add_version(l, l->last_number, &info, json_pack("{s:s}", "Description", "d"));
}

static int parse(const char *text, struct layer_list *ret, struct field_error *e)
{
	json_t *root = json_loads(text, 0, NULL);
	int err;

	assert_non_null(root);
	err = layer_list_parse(root, ret, e);
	json_decref(root);
	return err;
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"",
		"name",
		ARN,
		ARN "a b",
		ARN "../x:1",
		ARN "x:0",
		ARN "x:",
		ARN "x:1:2",
		ARN "x:$LATEST",
		ARN "x:-1",
		ARN "x:99999999999",
		ARN "a23456789b23456789c23456789d23456789e23456789f23456789g23456789hi:1",
	};
	char name[LAYER_NAME_MAX + 1], arn[LAYER_ARN_MAX + 1];
	uint32_t number;

	(void)state;
	assert_int_equal(layer_arn_parse(ARN "my-layer:12", name, &number), 0);
	assert_string_equal(name, "my-layer");
	assert_int_equal(number, 12);
	assert_string_equal(layer_arn(name, number, arn), ARN "my-layer:12");
	assert_int_equal(layer_arn_parse("arn:aws:lambda:eu-1:123456789012:layer:x", name, &number),
			 0);
	assert_int_equal(number, 0);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(layer_arn_parse(bad[i], name, &number), -EINVAL);
}

static void test_list(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"{\"Layers\": 1}", "Layers"},
		{"{\"Layers\": [1]}", "give ARNs"},
		{"{\"Layers\": [\"" ARN "a\"]}", "give ARNs"},
		{"{\"Layers\": [\"" ARN "a:1\", \"" ARN "a:2\"]}", "two versions of a"},
		{"{\"Layers\": [\"" ARN "a:1\", \"" ARN "b:1\", \"" ARN "c:1\", \"" ARN
		 "d:1\", \"" ARN "e:1\", \"" ARN "f:1\"]}",
		 "at most 5"},
	};
	const struct fixture *f = *state;
	struct layer_list list = {.count = 3};
	struct field_error e;
	json_t *array;

	assert_int_equal(parse("{}", &list, &e), 0);
	assert_int_equal(list.count, 3); /* what is absent stays */
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(parse(bad[i].text, &list, &e), -EINVAL);
		assert_non_null(strstr(e.text, bad[i].why));
	}
	publish(f, "one", "x", "12345");
	publish(f, "two", "x", "123");
	assert_int_equal(parse("{\"Layers\": [\"" ARN "two:1\", \"" ARN "one:1\"]}", &list, &e), 0);
	assert_int_equal(layer_list_resolve(&list, &e), 0);
	assert_int_equal(layer_list_unpacked_bytes(&list), 8);
	array = layer_list_json(&list);
	assert_string_equal(json_string_value(json_object_get(json_array_get(array, 0), "Arn")),
			    ARN "two:1");
	json_decref(array);
	assert_int_equal(parse("{\"Layers\": [\"" ARN "two:2\"]}", &list, &e), 0);
	assert_int_equal(layer_list_resolve(&list, &e), -EINVAL);
	assert_non_null(strstr(e.text, "Layer version " ARN "two:2 does not exist."));
	/* Together they may have 250 MiB. */
	layer_find_version(layers_find("one"), 1)->code.unpacked_bytes = CODE_BYTES_MAX - 2;
	assert_int_equal(parse("{\"Layers\": [\"" ARN "two:1\", \"" ARN "one:1\"]}", &list, &e), 0);
	assert_int_equal(layer_list_resolve(&list, &e), -EINVAL);
	assert_non_null(strstr(e.text, "available size"));
}

static void test_store(void **state)
{
	const struct fixture *f = *state;
	struct layer_version *v;
	struct layer *l;

	publish(f, "kept", "a", "one");
	publish(f, "kept", "a", "two");
	v = publish(f, "kept", "a", "three");
	assert_int_equal(v->number, 3);
	l = layers_find("kept");
	assert_ptr_equal(SLIST_FIRST(&l->versions), v);
	assert_string_equal(get_file(f, "layers/kept/2/tree/a"), "two");
	layer_remove_version(l, v);
	assert_int_equal(layer_store_remove("kept", 3), 0);
	assert_int_equal(layer_store_remove("kept", 3), 0);
	assert_int_equal(layer_store_remove("none", 3), 0);
	assert_false(is_there(f, "layers/kept/3"));

	/* Half made, as after kill -9; damaged; not ours. */
	assert_int_equal(mkdirat(f->dirfd, "layers/kept/4", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "layers/kept/.new-5", 0700), 0);
	put_file(f, "layers/kept/1/info.json", "{", 1);
	assert_int_equal(mkdirat(f->dirfd, "layers/lost+found", 0700), 0);
	forget_layers();
	layer_store_close();
	assert_int_equal(layer_store_open(f->dir), 0);
	l = layers_find("kept");
	assert_non_null(layer_find_version(l, 2));
	assert_null(layer_find_version(l, 1));
	assert_null(layer_find_version(l, 4));
	assert_int_equal(l->last_number, 3); /* a number is given once, whatever was deleted */
	assert_string_equal(
		json_string_value(json_object_get(layer_find_version(l, 2)->about, "Description")),
		"d");
	assert_true(is_there(f, "layers/kept/1"));
	assert_false(is_there(f, "layers/kept/4"));
	assert_false(is_there(f, "layers/kept/.new-5"));
	assert_true(is_there(f, "layers/lost+found"));
}

/* A function keeps what it has, whatever becomes of its layers. */
static void test_function(void **state)
{
	const struct fixture *f = *state;
	struct store_code code = {.source = {.kind = CODE_DIRECTORY}};
	struct field_error e;
	int dirfd = -1, tmp_fd = -1;

	publish(f, "one", "python/mod.py", "first");
	publish(f, "two", "python/mod.py", "second");
	publish(f, "two", "bin/tool", "tool");
	assert_int_equal(store_open(f->dir), 0);
	assert_int_equal(mkdirat(f->dirfd, "from", 0755), 0);
	put_file(f, "from/app.py", "app", 3);
	assert_true(asprintf(&code.source.path, "%s/from", f->dir) > 0);
	assert_int_equal(
		parse("{\"Layers\": [\"" ARN "one:1\", \"" ARN "two:1\"]}", &code.layers, &e), 0);
	assert_int_equal(layer_list_resolve(&code.layers, &e), 0);
	assert_int_equal(store_create("f", "{\"Handler\": \"a.b\"}", NULL, &code), 0);
	assert_string_equal(get_file(f, "functions/f/opt/python/mod.py"), "second");
	assert_int_equal(store_version_prepare("f", 1, &dirfd, &tmp_fd), 0);
	close(dirfd);
	close(tmp_fd);

	/* Other layers; the version has the old ones. */
	code.keep_code = true;
	assert_int_equal(parse("{\"Layers\": [\"" ARN "two:2\"]}", &code.layers, &e), 0);
	assert_int_equal(store_update("f", "{}", &code), 0);
	assert_false(is_there(f, "functions/f/opt/python"));
	assert_string_equal(get_file(f, "functions/f/opt/bin/tool"), "tool");
	assert_string_equal(get_file(f, "functions/f/package/tree/app.py"), "app");
	assert_string_equal(get_file(f, "functions/f/versions/1/opt/python/mod.py"), "second");

	/* A layer that went away meanwhile: nothing is changed. */
	assert_int_equal(layer_store_remove("one", 1), 0);
	assert_int_equal(parse("{\"Layers\": [\"" ARN "one:1\"]}", &code.layers, &e), 0);
	assert_int_equal(store_update("f", "{}", &code), -ENOENT);
	assert_non_null(strstr(code.error.text, "does not exist any more"));
	assert_string_equal(get_file(f, "functions/f/opt/bin/tool"), "tool");
	assert_false(is_there(f, "functions/f/.opt"));

	/* Code and layers together are too large. */
	code.keep_layers = true;
	code.info.unpacked_bytes = CODE_BYTES_MAX - 1;
	code.layers.refs[0].unpacked_bytes = 2;
	assert_int_equal(store_update("f", "{}", &code), -EINVAL);
	assert_non_null(strstr(code.error.text, "The actual size is 262144001 bytes"));
	code_source_free(&code.source);
	store_close();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, layer_setup, layer_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_list),
		TEST(test_store),
		TEST(test_function),
	};

	if (geteuid())
		return skip_without_root("test_code_layer");
	return cmocka_run_group_tests_name("code_layer", tests, NULL, NULL);
}
