/* SPDX-License-Identifier: Apache-2.0 */
/* test_code.c - zip files, OCI images and directories on their way into the store, hostile ones too
 */
#include "tests/unit/code_fixture.h"

#include <signal.h>

#include "snapd/unpacker/zip.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/** Stage it: @err 0 or what is expected, with @text in the message; nothing may be left then. */
static void stage(const struct fixture *f, struct code_source *s, int err, const char *text,
		  struct code_info *ret_info)
{
	struct code_error error;
	struct code_info info;
	int ret = code_stage(f->dirfd, "out", s, &info, &error);

	if (ret != err)
		print_error("%d: %s\n", ret, error.text);
	assert_int_equal(ret, err);
	if (err && !strstr(error.text, text))
		print_error("no '%s' in: %s\n", text, error.text);
	assert_true(!err || strstr(error.text, text));
	assert_int_equal(is_there(f, "out"), !err);
	if (ret_info)
		*ret_info = info;
}

static void stage_zip(const struct fixture *f, const struct zip_item *items, size_t count, int err,
		      const char *text)
{
	struct code_source s = zip_make(f, items, count);

	stage(f, &s, err, text, NULL);
	code_source_free(&s);
}

/* ---- zip ------------------------------------------------------------------------------------- */

static void test_zip(void **state)
{
	static const struct zip_item items[] = {
		{"app.py", "handler", 0, 0},
		{"bin/tool", "#!/bin/sh", S_IFREG | 0700, 0},
		{"bin/secret", "key", S_IFREG | 0400, 0},
		{"lib/", "", S_IFDIR | 0700, 0},
		{"lib/deep/er/mod.py", "mod", S_IFREG | 0644, 0},
		{"link", "bin/tool", S_IFLNK | 0777, 0},
		{"lib/up", "../app.py", S_IFLNK | 0777, 0},
		{"lib/nowhere", "not/there", S_IFLNK | 0777, 0},
		{"./plain//name", "plain", 0, 0},
	};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, items, COUNT(items));
	struct code_info info, again;
	struct stat st;
	int fd;

	umask(077); /* whatever it is, others can read */
	stage(f, &s, 0, NULL, &info);
	umask(022);
	assert_string_equal(get_file(f, "out/tree/app.py"), "handler");
	assert_string_equal(get_file(f, "out/tree/link"), "#!/bin/sh");
	assert_string_equal(get_file(f, "out/tree/lib/up"), "handler");
	assert_string_equal(get_file(f, "out/tree/plain/name"), "plain");
	assert_int_equal(fstatat(f->dirfd, "out/tree/bin/tool", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	assert_int_equal(fstatat(f->dirfd, "out/tree/bin/secret", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(fstatat(f->dirfd, "out/tree/lib/deep/er", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	assert_int_equal(info.bytes, s.zip_bytes);
	assert_int_equal(info.unpacked_bytes, 7 + 9 + 3 + 3 + 5);
	fd = openat(f->dirfd, "out", O_RDONLY | O_DIRECTORY);
	assert_int_equal(code_info_load(fd, &again), 0);
	assert_string_equal(again.sha256, info.sha256);
	assert_int_equal(again.bytes, info.bytes);
	assert_int_equal(again.unpacked_bytes, info.unpacked_bytes);
	close(fd);
	code_source_free(&s);
}

/* The hash is of the file as it was sent: clients compare it with their own. */
static void test_zip_hash(void **state)
{
	static const struct zip_item item[] = {{"a", "b", 0, 0}};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, item, 1);
	struct code_info info;
	char command[256], want[CODE_SHA256_CHARS + 2] = "";
	FILE *p;

	stage(f, &s, 0, NULL, &info);
	snprintf(command, sizeof(command),
		 "python3 -c 'import base64,hashlib; print(base64.b64encode(hashlib.sha256(open(\""
		 "%s/out/code.zip\",\"rb\").read()).digest()).decode())'",
		 f->dir);
	p = popen(command, "r"); // NOLINT(cert-env33-c): another implementation to compare with
	assert_non_null(p);
	assert_non_null(fgets(want, sizeof(want), p));
	pclose(p);
	want[strcspn(want, "\n")] = '\0';
	assert_string_equal(info.sha256, want);
	code_source_free(&s);
}

static void test_zip_names(void **state)
{
	static const struct {
		const char *made, *name, *text;
	} cases[] = {
		{"12345678901", "../../../xx", "a name with .."},
		{"a/1/escape2", "a/../escape", "a name with .."},
		{"1etc/passwd", "/etc/passwd", "an absolute name"},
		{"a/b/c/d/e/f", "a/b/c/../..", "a name with .."},
	};
	const struct fixture *f = *state;
	char name[1400] = "";

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct zip_item item = {cases[i].made, "x", 0, 0};
		struct code_source s = zip_make(f, &item, 1);
		char to[64];

		snprintf(to, sizeof(to), "%.*s", (int)strlen(cases[i].made), cases[i].name);
		if (strlen(cases[i].name) == strlen(cases[i].made))
			zip_patch_name(&s, cases[i].made, to);
		stage(f, &s, -EINVAL, cases[i].text, NULL);
		code_source_free(&s);
	}
	for (int i = 0; i < 70; i++)
		strcat(name, "d/");
	stage_zip(f, &(struct zip_item){strcat(name, "x"), "x", 0, 0}, 1, -EINVAL, "levels deep");
	memset(name, 'n', 300);
	name[300] = '\0';
	stage_zip(f, &(struct zip_item){name, "x", 0, 0}, 1, -EINVAL, "too long");
	assert_false(is_there(f, "escape"));
}

static void test_zip_links(void **state)
{
	static const struct {
		struct zip_item items[3];
		size_t count;
		const char *text;
	} cases[] = {
		{{{"l", "/etc/passwd", S_IFLNK, 0}}, 1, "leaves the archive"},
		{{{"l", "..", S_IFLNK, 0}}, 1, "leaves the archive"},
		{{{"a/b/l", "../../../x", S_IFLNK, 0}}, 1, "leaves the archive"},
		/* Inside by its text, outside by what it passes through. */
		{{{"a/b/top", "../..", S_IFLNK, 0}, {"m", "a/b/top/../x", S_IFLNK, 0}},
		 2,
		 "leaves the archive"},
		/* Inside, but written through: nothing may be, in any order. */
		{{{"d/f", "x", 0, 0}, {"l", "d", S_IFLNK, 0}, {"l/g", "x", 0, 0}},
		 3,
		 "behind a symbolic link"},
		{{{"l", "/tmp", S_IFLNK, 0}, {"l/qt-was-here", "x", 0, 0}},
		 2,
		 "behind a symbolic link"},
		{{{"a", "b", S_IFLNK, 0}, {"b", "a", S_IFLNK, 0}}, 2, "in a circle"},
		{{{"f", "x", 0, 0}, {"f/g", "x", 0, 0}}, 2, "below a file"},
		{{{"f", "x", 0, 0}, {"f/", "", 0, 0}}, 2, "there is a file of that name"},
		{{{"dev", "", S_IFCHR | 0666, 0}}, 1, "neither a file"},
		{{{"pipe", "", S_IFIFO | 0666, 0}}, 1, "neither a file"},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		stage_zip(*state, cases[i].items, cases[i].count, -EINVAL, cases[i].text);
	assert_int_not_equal(access("/tmp/qt-was-here", F_OK), 0);
}

static void test_zip_twice(void **state)
{
	static const struct zip_item items[] = {{"name1", "x", 0, 0}, {"name2", "y", 0, 0}};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, items, 2);

	zip_patch_name(&s, "name2", "name1");
	stage(f, &s, -EINVAL, "twice", NULL);
	code_source_free(&s);
}

static void test_zip_encrypted(void **state)
{
	static const struct zip_item item = {"app.py", "x", 0, 0};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, &item, 1);

	/* The flag in the entry's own header and in the directory's. */
	for (size_t at = 0; at + 10 < s.zip_bytes; at++) {
		if (!memcmp(s.zip + at, "PK\1\2", 4))
			s.zip[at + 8] |= 1;
		if (!memcmp(s.zip + at, "PK\3\4", 4))
			s.zip[at + 6] |= 1;
	}
	stage(f, &s, -EINVAL, "encrypted", NULL);
	code_source_free(&s);
}

/* 256 MiB of zeros are 250 KiB of zip. */
static void test_zip_bomb(void **state)
{
	const struct fixture *f = *state;
	size_t n = CODE_BYTES_MAX + 1;
	char *zeros = calloc(1, n);
	struct zip_item item = {"zeros", zeros, 0, n};
	struct code_source s;
	uint32_t small = 16;

	assert_non_null(zeros);
	s = zip_make(f, &item, 1);
	assert_true(s.zip_bytes < 1 << 20);
	stage(f, &s, -EFBIG, "Unzipped size must be smaller than 262144000", NULL);
	/* And when it lies about its size. */
	for (size_t at = 0; at + 30 < s.zip_bytes; at++) {
		if (!memcmp(s.zip + at, "PK\1\2", 4))
			memcpy(s.zip + at + 24, &small, sizeof(small));
		if (!memcmp(s.zip + at, "PK\3\4", 4))
			memcpy(s.zip + at + 22, &small, sizeof(small));
	}
	stage(f, &s, -EFBIG, "Unzipped size", NULL);
	code_source_free(&s);
	free(zeros);
}

static void test_zip_many(void **state)
{
	const struct fixture *f = *state;
	size_t count = UNPACK_ENTRIES_MAX + 1;
	struct zip_item *items = calloc(count, sizeof(*items));
	char(*names)[8] = calloc(count, sizeof(*names));

	assert_non_null(items);
	assert_non_null(names);
	for (size_t i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "%zu", i);
		items[i] = (struct zip_item){names[i], "", 0, 0};
	}
	stage_zip(f, items, count, -EFBIG, "more than 100000 entries");
	free(items);
	free(names);
}

/* Every cut, and many altered copies: refused or unpacked, and nothing is left of what is refused.
 */
static void test_zip_damaged(void **state)
{
	static const struct zip_item items[] = {{"app.py", "def handler(e, c): return e\n", 0, 0},
						{"lib/x", "some text some text some text", 0, 0},
						{"lib/l", "x", S_IFLNK, 0}};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, items, COUNT(items));
	struct code_source copy = {.kind = CODE_ZIP, .zip = malloc(s.zip_bytes)};
	unsigned seed = 1, refused = 0;
	struct code_error error;
	struct code_info info;

	assert_non_null(copy.zip);
	for (size_t i = 0; i < 4 * s.zip_bytes; i++) {
		copy.zip_bytes = i < s.zip_bytes ? i : s.zip_bytes;
		memcpy(copy.zip, s.zip, copy.zip_bytes);
		for (int k = 0; i >= s.zip_bytes && k < 2; k++)
			copy.zip[(unsigned)rand_r(&seed) % s.zip_bytes] ^=
				(char)(1u << (unsigned)rand_r(&seed) % 8);
		if (code_stage(f->dirfd, "out", &copy, &info, &error)) {
			refused++;
			assert_true(error.text[0]);
			assert_false(is_there(f, "out"));
		}
	}
	assert_true(refused > s.zip_bytes);
	memset(copy.zip, 0, copy.zip_bytes);
	stage(f, &copy, -EINVAL, "Could not unzip uploaded file", NULL);
	code_source_free(&copy);
	code_source_free(&s);
}

/* What we make can be read by others, and is the same each time. */
static void test_zip_write(void **state)
{
	static const struct zip_item items[] = {{"app.py", "handler", 0, 0},
						{"bin/tool", "tool", S_IFREG | 0755, 0},
						{"link", "bin/tool", S_IFLNK, 0}};
	const struct fixture *f = *state;
	struct code_source s = zip_make(f, items, COUNT(items)), back = {.kind = CODE_ZIP};
	struct code_info first, second;
	int package, tree, zips[2];

	stage(f, &s, 0, NULL, NULL);
	package = openat(f->dirfd, "out", O_RDONLY | O_DIRECTORY);
	tree = openat(package, "tree", O_RDONLY | O_DIRECTORY);
	assert_int_equal(code_tree_info(tree, &first), 0);
	zips[0] = code_zip_open(package); /* the one that was uploaded */
	assert_int_equal(lseek(zips[0], 0, SEEK_END), s.zip_bytes);
	close(zips[0]);
	assert_int_equal(unlinkat(package, "code.zip", 0), 0);
	for (int i = 0; i < 2; i++) {
		struct timespec times[2] = {{.tv_sec = i + 1}, {.tv_sec = i + 1}};

		assert_int_equal(utimensat(tree, "app.py", times, 0), 0);
		zips[i] = code_zip_open(package);
		assert_true(zips[i] >= 0);
	}
	back.zip_bytes = (size_t)lseek(zips[0], 0, SEEK_END);
	assert_int_equal(lseek(zips[1], 0, SEEK_END), back.zip_bytes);
	back.zip = malloc(back.zip_bytes);
	code_source_free(&s);
	s.zip = malloc(back.zip_bytes);
	assert_int_equal(pread_full(zips[0], back.zip, back.zip_bytes, 0), back.zip_bytes);
	assert_int_equal(pread_full(zips[1], s.zip, back.zip_bytes, 0), back.zip_bytes);
	assert_memory_equal(s.zip, back.zip, back.zip_bytes);
	stage(f, &back, 0, NULL, NULL);
	close(tree);
	tree = openat(f->dirfd, "out/tree", O_RDONLY | O_DIRECTORY);
	assert_int_equal(code_tree_info(tree, &second), 0);
	assert_string_equal(first.sha256, second.sha256);
	code_source_free(&back);
	code_source_free(&s);
	close(tree);
	close(package);
	close(zips[0]);
	close(zips[1]);
}

/* ---- directories ----------------------------------------------------------------------------- */

/** Many files in one directory, which are sorted. */
static void test_zip_write_many(void **state)
{
	const struct fixture *f = *state;
	char name[32];
	int fd;

	assert_int_equal(mkdirat(f->dirfd, "out", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "out/tree", 0755), 0);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "out/tree/%d", i);
		put_file(f, name, "x", 1);
	}
	fd = code_zip_open(openat(f->dirfd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_true(fd >= 0);
	close(fd);
}

static void test_directory_hash(void **state)
{
	const struct fixture *f = *state;
	struct code_source s = {.kind = CODE_DIRECTORY};
	struct code_info infos[5];

	assert_int_equal(mkdirat(f->dirfd, "from", 0755), 0);
	assert_true(asprintf(&s.path, "%s/from", f->dir) > 0);
	put_file(f, "from/b", "bb", 2);
	put_file(f, "from/a", "a", 1);
	stage(f, &s, 0, NULL, &infos[0]);
	assert_int_equal(infos[0].bytes, 3);
	/* The same names made in another order, at another time. */
	assert_int_equal(unlinkat(f->dirfd, "from/b", 0), 0);
	put_file(f, "from/b", "bb", 2);
	stage(f, &s, 0, NULL, &infos[1]);
	assert_string_equal(infos[0].sha256, infos[1].sha256);
	/* Other contents, another mode, a byte that moved from one file to the next. */
	assert_int_equal(fchmodat(f->dirfd, "from/a", 0755, 0), 0);
	stage(f, &s, 0, NULL, &infos[2]);
	put_file(f, "from/a", "ab", 2);
	put_file(f, "from/b", "b", 1);
	stage(f, &s, 0, NULL, &infos[3]);
	assert_int_equal(renameat(f->dirfd, "from/b", f->dirfd, "from/c"), 0);
	stage(f, &s, 0, NULL, &infos[4]);
	for (int i = 1; i < 5; i++)
		for (int k = 2; k < i; k++)
			assert_string_not_equal(infos[i].sha256, infos[k].sha256);
	assert_string_not_equal(infos[0].sha256, infos[2].sha256);
	code_source_free(&s);
	s = (struct code_source){.kind = CODE_DIRECTORY, .path = strdup("/not/there")};
	stage(f, &s, -ENOENT, "/not/there: No such file", NULL);
	code_source_free(&s);
}

static void test_adopt(void **state)
{
	const struct fixture *f = *state;
	struct code_info info;
	int fd;

	assert_int_equal(mkdirat(f->dirfd, "code", 0755), 0);
	put_file(f, "code/app.py", "old", 3);
	assert_int_equal(code_adopt_tree(f->dirfd, "code", "package"), 0);
	assert_string_equal(get_file(f, "package/tree/app.py"), "old");
	assert_false(is_there(f, "code"));
	fd = openat(f->dirfd, "package", O_RDONLY | O_DIRECTORY);
	assert_int_equal(code_info_load(fd, &info), 0);
	assert_int_equal(info.bytes, 3);
	put_file(f, "package/info.json", "{\"CodeSha256\": \"short\"}", 23);
	assert_int_equal(code_info_load(fd, &info), -EBADMSG);
	close(fd);
}

/* Layers: the later one wins, whatever kind of thing is in its way. */
static void test_merge(void **state)
{
	const struct fixture *f = *state;
	int from, to;

	for (const char *const *dir =
		     (const char *const[]){"a", "a/d", "a/x", "b", "b/d", "b/y", NULL};
	     *dir; dir++)
		assert_int_equal(mkdirat(f->dirfd, *dir, 0755), 0);
	put_file(f, "a/d/one", "1", 1);
	put_file(f, "a/d/both", "old", 3);
	put_file(f, "a/y", "a file where the other has a directory", 38);
	put_file(f, "a/x/in", "x", 1);
	put_file(f, "b/d/both", "new", 3);
	put_file(f, "b/x", "a file where the other has a directory", 38);
	put_file(f, "b/y/in", "y", 1);
	assert_int_equal(symlinkat("d", openat(f->dirfd, "a", O_PATH), "l"), 0);
	put_file(f, "b/l", "no link", 7);
	from = openat(f->dirfd, "b", O_RDONLY | O_DIRECTORY);
	to = openat(f->dirfd, "a", O_RDONLY | O_DIRECTORY);
	assert_int_equal(tree_copy(from, to, 1 << 20), -EEXIST);
	assert_int_equal(tree_merge(from, to, 1 << 20), 0);
	assert_string_equal(get_file(f, "a/d/one"), "1");
	assert_string_equal(get_file(f, "a/d/both"), "new");
	assert_string_equal(get_file(f, "a/y/in"), "y");
	assert_string_equal(get_file(f, "a/l"), "no link");
	assert_int_equal(strlen(get_file(f, "a/x")), 38);
	assert_int_equal(tree_merge(from, to, 3), -EFBIG);
	close(from);
	close(to);
}

/* ---- an unpacker that a zip has taken over --------------------------------------------------- */

static void run_lying(const struct fixture *f, const char *script, struct unpacker_result *ret)
{
	char path[128], text[512];
	int err, n = snprintf(text, sizeof(text), "#!/bin/bash\n%s\n", script);

	snprintf(path, sizeof(path), "%s/liar", f->dir);
	put_file(f, "liar", text, (size_t)n);
	assert_int_equal(fchmodat(f->dirfd, "liar", 0755, 0), 0);
	assert_int_equal(code_unpacker_init(path), 0);
	err = code_unpacker_run(UNPACKER_JOB_ZIP, f->dirfd, f->dirfd, ret);
	assert_int_equal(err, ret->err);
	assert_int_equal(unlinkat(f->dirfd, "liar", 0), 0);
}

static void test_unpacker_lies(void **state)
{
	static const char *const scripts[] = {
		"exit 0",
		"printf short >&5",
		"head -c 416 /dev/zero | tr '\\0' x >&5", /* no end, a foreign error */
		"printf '\\1\\0\\0\\0' >&5; head -c 412 /dev/zero >&5",		/* above 0 */
		"printf '\\373\\377\\377\\377' >&5; head -c 412 /dev/zero >&5", /* without a text */
		"head -c 16 /dev/zero >&5; printf text >&5; head -c 396 /dev/zero >&5",
		"kill -SEGV $$",
	};
	const struct fixture *f = *state;
	struct unpacker_result r;

	for (size_t i = 0; i < COUNT(scripts); i++) {
		run_lying(f, scripts[i], &r);
		assert_int_equal(r.err, -EIO);
		assert_non_null(strstr(r.error, "without a word"));
		assert_int_equal(r.bytes, 0);
	}
	/* What it says goes into JSON and logs. */
	run_lying(f,
		  "printf '\\352\\377\\377\\377' >&5; head -c 12 /dev/zero >&5;"
		  "printf 'a\\nb' >&5; head -c 397 /dev/zero >&5",
		  &r);
	assert_int_equal(r.err, -EINVAL);
	assert_string_equal(r.error, "a?b");
	assert_int_equal(code_unpacker_init("/nowhere/unpacker"), -ENOENT);
	assert_int_equal(code_unpacker_run(UNPACKER_JOB_ZIP, f->dirfd, f->dirfd, &r), -ENOENT);
	assert_non_null(strstr(r.error, "cannot be started"));
}

/** The threads that start one have all signals blocked. */
static void test_unpacker_has_signals_as_at_first(void **state)
{
	const struct fixture *f = *state;
	struct unpacker_result r;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	run_lying(f, "cd ${0%/*}; exec grep SigBlk /proc/self/status >signals", &r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	assert_string_equal(get_file(f, "signals"), "SigBlk:\t0000000000000000\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_zip),
		TEST(test_zip_hash),
		TEST(test_zip_names),
		TEST(test_zip_links),
		TEST(test_zip_twice),
		TEST(test_zip_encrypted),
		TEST(test_zip_bomb),
		TEST(test_zip_many),
		TEST(test_zip_damaged),
		TEST(test_zip_write),
		TEST(test_zip_write_many),
		TEST(test_directory_hash),
		TEST(test_adopt),
		TEST(test_merge),
		TEST(test_unpacker_lies),
		TEST(test_unpacker_has_signals_as_at_first),
	};

	if (geteuid())
		return skip_without_root("test_code");

	return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
