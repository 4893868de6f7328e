/* SPDX-License-Identifier: Apache-2.0 */
/* test_format_diff.c - diffs and their bases: composed, refused, rewritten, flattened */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/test_format.h"

enum { CHAIN_PAGES = 200, NAME_BYTES = 32 };

static char dir[] = "/tmp/test_format_diff.XXXXXX";
static int dirfd_ = -1;

/** struct memory - what a guest's pages are: 0 is zero, else a number that makes the contents. */
struct memory {
	uint32_t pages[CHAIN_PAGES];
	uint32_t end; /* pages in the template */
};

static void page_bytes(uint32_t number, uint32_t *words)
{
	for (unsigned i = 0; i < PAGE_BYTES / 4; i++)
		words[i] = number ? number * 4096 + i / 32 : 0;
}

static int make_file(const char *name)
{
	int fd = openat(dirfd_, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static struct snapshot_reader *open_ok(const char *name)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;

	if (snapshot_reader_open(dirfd_, name, name, &r, &err))
		fail_msg("%s", err.text);
	return r;
}

static void open_fails(const char *name, int code, const char *text)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;
	int ret = snapshot_reader_open(dirfd_, name, name, &r, &err);

	assert_null(r);
	if (ret != code || !strstr(err.text, text))
		fail_msg("%d, %s", ret, err.text);
}

static struct snapshot_writer *writer(int fd, uint32_t pages)
{
	const struct snapshot_params params = {
		.ram_pages = CHAIN_PAGES, .template_pages = pages, .guest_kind = 2};
	struct snapshot_writer *w;

	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_section(w, SNAPSHOT_SECTION_STATE, "state", 5), 0);
	return w;
}

/** Capture @m as @name, on @base where that is not NULL; every page is compared with the base's. */
static void write_memory(const char *name, const struct memory *m, const char *base)
{
	struct snapshot_reader *b = base ? open_ok(base) : NULL;
	uint32_t data[SNAPSHOT_CHUNK_PAGES][PAGE_BYTES / 4];
	uint32_t pages[SNAPSHOT_CHUNK_PAGES];
	int fd = make_file(name);
	struct snapshot_writer *w = writer(fd, m->end);
	unsigned n = 0;

	if (b)
		assert_int_equal(snapshot_writer_base(w, b, base), 0);
	for (uint32_t page = 0; page < m->end; page++) {
		page_bytes(m->pages[page], data[n]);
		if (m->pages[page] && (!b || !snapshot_writer_same(w, page, data[n])))
			pages[n++] = page;
		if (n && (n == SNAPSHOT_CHUNK_PAGES || page == m->end - 1)) {
			assert_int_equal(snapshot_writer_chunk(w, pages, n, data, false), 0);
			n = 0;
		}
	}
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	snapshot_reader_free(b);
	close(fd);
}

/** Does the snapshot have that memory, and is every page live in just the chunk that has it? */
static void check_memory(const struct snapshot_reader *r, const struct memory *m)
{
	struct page_source *source = page_source_new(r);
	uint32_t words[PAGE_BYTES / 4], live[CHAIN_PAGES] = {0};
	struct snapshot_error err = {""};
	const uint8_t *data;

	assert_int_equal(snapshot_reader_params(r)->template_pages, m->end);
	for (uint32_t i = 0; i < snapshot_reader_chunk_count(r); i++) {
		const struct snapshot_chunk *c = snapshot_reader_chunk(r, i);

		for (unsigned k = 0; k < c->page_count; k++) {
			if (!snapshot_chunk_has(c, k))
				continue;
			assert_int_equal(snapshot_reader_page_chunk(r, c->pages[k]), i);
			live[c->pages[k]]++;
		}
	}
	for (uint32_t page = 0; page < m->end; page++) {
		page_bytes(m->pages[page], words);
		assert_int_equal(page_source_get(source, page, &data, &err), 0);
		assert_memory_equal(data, words, PAGE_BYTES);
		assert_int_equal(live[page], m->pages[page] != 0);
	}
	free(source);
}

static void check_file(const char *name, const struct memory *m, unsigned files)
{
	struct snapshot_reader *r = open_ok(name);

	assert_int_equal(snapshot_reader_file_count(r), files);
	check_memory(r, m);
	snapshot_reader_free(r);
}

/** Change some pages, zero some, fill some that were zero; in a way of its own for each @step. */
static void change_memory(struct memory *m, uint32_t step)
{
	for (uint32_t page = 0; page < m->end; page++) {
		uint32_t x = (page * 2654435761u + step * 40503u) >> 7;

		if (x % 11 == 0)
			m->pages[page] = step * 1000 + page;
		else if (x % 11 == 1)
			m->pages[page] = 0;
	}
}

static void first_memory(struct memory *m)
{
	m->end = 150;
	for (uint32_t page = 0; page < CHAIN_PAGES; page++)
		m->pages[page] = page % 5 ? page + 1 : 0;
}

/** step0, step1 on it, ... @count files. */
static struct memory write_chain(unsigned count)
{
	char name[NAME_BYTES], base[NAME_BYTES];
	struct memory m;

	first_memory(&m);
	write_memory("step0", &m, NULL);
	for (unsigned i = 1; i < count; i++) {
		snprintf(name, sizeof(name), "step%u", i);
		snprintf(base, sizeof(base), "step%u", i - 1);
		change_memory(&m, i);
		write_memory(name, &m, base);
	}
	return m;
}

static const struct snapshot_ws_entry some_ws[] = {
	{11, SNAPSHOT_WS_WRITTEN}, {140, 0}, {3, 0}, {60, 0}, {12, SNAPSHOT_WS_WRITTEN}, {5, 0}};

static void rewrite(const char *from, const char *to)
{
	struct snapshot_reader *r = open_ok(from);
	struct snapshot_error err = {""};
	int fd = make_file(to);

	if (snapshot_rewrite(r, some_ws, ARRAY_SIZE(some_ws), fd, &err))
		fail_msg("%s", err.text);
	snapshot_reader_free(r);
	close(fd);
}

/* ---- composing ------------------------------------------------------------------------------- */

static void test_chain(void **state)
{
	struct memory m;

	(void)state;
	m = write_chain(3);
	check_file("step2", &m, 3);
	first_memory(&m);
	check_file("step0", &m, 1);
	change_memory(&m, 1);
	check_file("step1", &m, 2);
}

static void test_same_memory_is_an_empty_diff(void **state)
{
	struct snapshot_reader *r;
	struct memory m;

	(void)state;
	first_memory(&m);
	write_memory("base", &m, NULL);
	write_memory("empty", &m, "base");
	r = open_ok("empty");
	assert_int_equal(r->header.chunks, 0);
	assert_null(reader_section(r, SNAPSHOT_SECTION_ZERO_PAGES));
	check_memory(r, &m);
	snapshot_reader_free(r);
}

/** A template that shrinks, and grows again: what was left out once does not come back. */
static void test_template_of_another_size(void **state)
{
	struct memory m;

	(void)state;
	first_memory(&m);
	write_memory("base", &m, NULL);
	m.end = 90;
	write_memory("short", &m, "base");
	check_file("short", &m, 2);
	m.end = 180;
	memset(m.pages + 90, 0, 90 * sizeof(m.pages[0]));
	m.pages[170] = 5;
	write_memory("long", &m, "short");
	check_file("long", &m, 3);
}

/** A process guest may be restored into a machine of another size. */
static void test_ram_of_another_size(void **state)
{
	const struct snapshot_params params = {
		.ram_pages = 2 * CHAIN_PAGES, .template_pages = 150, .guest_kind = 2};
	struct snapshot_reader *base, *r;
	struct snapshot_writer *w;
	struct memory m;
	int fd = make_file("larger");

	(void)state;
	first_memory(&m);
	write_memory("base", &m, NULL);
	base = open_ok("base");
	assert_int_equal(snapshot_writer_new(fd, &params, &w), 0);
	assert_int_equal(snapshot_writer_base(w, base, "base"), 0);
	for (uint32_t page = 0; page < m.end; page++)
		assert_int_equal(snapshot_writer_same(w, page, NULL), 1);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	snapshot_reader_free(base);
	close(fd);
	r = open_ok("larger");
	assert_int_equal(snapshot_reader_params(r)->ram_pages, 2 * CHAIN_PAGES);
	check_memory(r, &m);
	snapshot_reader_free(r);
}

static void test_pages_left_out_are_zero(void **state)
{
	struct snapshot_reader *base, *r;
	struct snapshot_writer *w;
	struct memory m, zero = {.end = 150};
	int fd;

	(void)state;
	first_memory(&m);
	write_memory("base", &m, NULL);
	base = open_ok("base");
	fd = make_file("zeros");
	w = writer(fd, m.end);
	assert_int_equal(snapshot_writer_base(w, base, "base"), 0);
	assert_int_equal(snapshot_writer_same(w, 7, NULL), 1);
	assert_int_equal(snapshot_writer_same(w, 7, NULL), -EINVAL);
	assert_int_equal(snapshot_writer_same(w, m.end, NULL), -EINVAL);
	assert_int_equal(snapshot_writer_finish(w), 0);
	snapshot_writer_free(w);
	close(fd);
	zero.pages[7] = m.pages[7];
	r = open_ok("zeros");
	check_memory(r, &zero);
	snapshot_reader_free(r);
	snapshot_reader_free(base);
}

/* ---- what a writer refuses ------------------------------------------------------------------- */

static void test_writer_refuses(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/etc/passwd"};
	const struct snapshot_params other = {
		.ram_pages = CHAIN_PAGES, .template_pages = 150, .guest_kind = 1};
	struct snapshot_reader *base;
	struct snapshot_writer *w;
	char name[300];
	int fd;

	(void)state;
	write_chain(1);
	base = open_ok("step0");
	fd = make_file("refused");
	w = writer(fd, 150);
	assert_int_equal(snapshot_writer_same(w, 0, NULL), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(snapshot_writer_base(w, base, names[i]), -EINVAL);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(snapshot_writer_base(w, base, name), -EINVAL);
	assert_int_equal(snapshot_writer_base(w, base, name + 1), 0);
	assert_int_equal(snapshot_writer_base(w, base, "step0"), -EINVAL);
	snapshot_writer_free(w);
	assert_int_equal(snapshot_writer_new(fd, &other, &w), 0);
	assert_int_equal(snapshot_writer_base(w, base, "step0"), -EINVAL);
	snapshot_writer_free(w);
	snapshot_reader_free(base);
	close(fd);
}

static void test_depth(void **state)
{
	struct memory m = write_chain(SNAPSHOT_FILES_MAX);
	struct snapshot_reader *base;
	struct snapshot_writer *w;
	int fd = make_file("deep");

	(void)state;
	check_file("step7", &m, SNAPSHOT_FILES_MAX);
	base = open_ok("step7");
	w = writer(fd, m.end);
	assert_int_equal(snapshot_writer_base(w, base, "step7"), -EMLINK);
	snapshot_writer_free(w);
	snapshot_reader_free(base);
	close(fd);
}

/* ---- hostile files --------------------------------------------------------------------------- */

/** struct forged - a file in memory, to be changed and written back with right checksums. */
struct forged {
	uint8_t *data;
	size_t n;
};

static struct forged forge(const char *name)
{
	int fd = openat(dirfd_, name, O_RDONLY | O_CLOEXEC);
	struct forged f = {0};
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	f.n = (size_t)st.st_size;
	f.data = malloc(f.n);
	assert_int_equal(pread_full(fd, f.data, f.n, 0), f.n);
	close(fd);
	return f;
}

static struct format_section *forged_section(const struct forged *f, uint32_t kind)
{
	struct format_header *h = (struct format_header *)f->data;

	for (uint32_t i = 0; i < h->section_count; i++)
		if (h->sections[i].kind == kind)
			return &h->sections[i];
	fail_msg("no section %u", kind);
	return NULL;
}

static void write_forged(const char *name, struct forged *f)
{
	int fd = make_file(name);

	format_reseal(f->data, f->n);
	assert_int_equal(pwrite_full(fd, f->data, f->n, 0), 0);
	close(fd);
	free(f->data);
}

static void test_base_missing_or_changed(void **state)
{
	struct memory m = write_chain(3);

	(void)state;
	assert_int_equal(renameat(dirfd_, "step0", dirfd_, "away"), 0);
	open_fails("step2", -ESTALE, "step1: base at offset");
	open_fails("step1", -ESTALE, "it is a diff on step0: No such file");
	m.pages[3]++;
	write_memory("step0", &m, NULL);
	open_fails("step1", -ESTALE, "step0 is another snapshot");
	assert_int_equal(renameat(dirfd_, "away", dirfd_, "step0"), 0);
	change_memory(&m, 77);
	snapshot_reader_free(open_ok("step2"));
	assert_int_equal(unlinkat(dirfd_, "step0", 0), 0);
	assert_int_equal(mkfifoat(dirfd_, "step0", 0600), 0);
	open_fails("step1", -EINVAL, "step0: file at offset 0: not a regular file");
	assert_int_equal(unlinkat(dirfd_, "step0", 0), 0);
}

static void test_base_damaged(void **state)
{
	struct snapshot_error err = {""};
	uint8_t out[SNAPSHOT_CHUNK_BYTES];
	struct snapshot_reader *r;
	const struct snapshot_chunk *c;
	uint32_t last;
	int fd;

	(void)state;
	write_chain(2);
	r = open_ok("step1");
	last = snapshot_reader_chunk_count(r) - 1;
	c = snapshot_reader_chunk(r, last);
	assert_int_equal(c->file, 1);
	fd = openat(dirfd_, "step0", O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite_full(fd, "damage", 6, c->offset), 0);
	close(fd);
	assert_int_equal(snapshot_reader_read_chunk(r, last, out, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "step0: chunk at offset"));
	snapshot_reader_free(r);
}

/** A diff that is its own base: identity and name can be forged, but the depth does not get less.
 */
static void test_cycle(void **state)
{
	static const char name[] = "step2";
	struct format_section *base;
	struct forged f;

	(void)state;
	write_chain(3);
	rewrite("step2", "copy"); /* it has an IDENTITY, which a file can name of itself */
	f = forge("copy");
	base = forged_section(&f, SNAPSHOT_SECTION_BASE);
	memcpy(f.data + base->offset + offsetof(struct format_base, identity),
	       f.data + forged_section(&f, SNAPSHOT_SECTION_IDENTITY)->offset,
	       sizeof(struct format_hash128));
	memcpy(f.data + base->offset + sizeof(struct format_base), name, strlen(name));
	write_forged("step2", &f);
	open_fails("step2", -EBADMSG, "step2 has 2 files below it, this one says at most 1");
}

/** Every field of the section BASE, wrong. */
static void test_bad_base_section(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		int code;
		const char *text;
	} cases[] = {
		{offsetof(struct format_base, identity), 1, -ESTALE, "another snapshot"},
		{offsetof(struct format_base, ram_pages), 1, -EBADMSG, "another machine"},
		{offsetof(struct format_base, template_pages), 1, -EBADMSG, "does not fit"},
		{offsetof(struct format_base, template_pages), CHAIN_PAGES + 1, -EBADMSG,
		 "another machine"},
		{offsetof(struct format_base, architecture), 183, -EBADMSG, "another machine"},
		{offsetof(struct format_base, guest_kind), 1, -EBADMSG, "another machine"},
		{offsetof(struct format_base, depth), 0, -EBADMSG, "0 files below"},
		{offsetof(struct format_base, depth), 8, -EBADMSG, "8 files below"},
		{offsetof(struct format_base, name_bytes), 4, -EBADMSG, "plain name"},
		{offsetof(struct format_base, name_bytes), 0, -EBADMSG, "plain name"},
		{sizeof(struct format_base), 0x2f2e2e2f, -EBADMSG, "plain name"},
		{sizeof(struct format_base), 0, -EBADMSG, "plain name"},
	};

	(void)state;
	write_chain(3);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct forged f = forge("step1");

		memcpy(f.data + forged_section(&f, SNAPSHOT_SECTION_BASE)->offset + cases[i].at,
		       &cases[i].value, sizeof(cases[i].value));
		write_forged("bad", &f);
		open_fails("bad", cases[i].code, cases[i].text);
	}
}

/** The base says that it has more below it than the diff allows: that is how cycles end. */
static void test_depth_of_base(void **state)
{
	struct format_section *s;
	uint32_t depth = 1;
	struct forged f;

	(void)state;
	write_chain(3);
	f = forge("step2");
	s = forged_section(&f, SNAPSHOT_SECTION_BASE);
	memcpy(f.data + s->offset + offsetof(struct format_base, depth), &depth, sizeof(depth));
	write_forged("bad", &f);
	open_fails("bad", -EBADMSG, "step1 has 1 files below it, this one says at most 0");
}

static void test_bits_and_sections_agree(void **state)
{
	struct format_header *h;
	struct forged f;

	(void)state;
	write_chain(2);
	f = forge("step1");
	h = (struct format_header *)f.data;
	h->incompatible = 0;
	write_forged("bad", &f);
	open_fails("bad", -EBADMSG, "in a file that is no diff");
	f = forge("step0");
	h = (struct format_header *)f.data;
	h->incompatible = FORMAT_INCOMPATIBLE_BASE;
	write_forged("bad", &f);
	open_fails("bad", -EBADMSG, "base at offset 4096: missing");
	f = forge("step1");
	h = (struct format_header *)f.data;
	h->incompatible |= 2;
	write_forged("bad", &f);
	open_fails("bad", -ENOTSUP, "needs unknown features 0x2: update quickthaw");
}

static void test_bad_zero_pages(void **state)
{
	struct format_section *s;
	struct forged f;

	(void)state;
	write_chain(2);
	f = forge("step1");
	s = forged_section(&f, SNAPSHOT_SECTION_ZERO_PAGES);
	memset(f.data + s->offset, 0xff, 2);
	write_forged("bad", &f);
	open_fails("bad", -EBADMSG, "zero pages at offset");
	f = forge("step1");
	s = forged_section(&f, SNAPSHOT_SECTION_ZERO_PAGES);
	f.data[s->offset] = 0;
	f.data[s->offset + 1] = 100;
	write_forged("bad", &f);
	open_fails("bad", -EBADMSG, "zero pages at offset");
}

/* ---- copies ---------------------------------------------------------------------------------- */

/** A base that was rewritten in another order is the same base; a rewritten diff is the same diff.
 */
static void test_rewrite(void **state)
{
	struct memory m = write_chain(3);
	struct snapshot_reader *r;
	uint32_t chunks;
	size_t n;

	(void)state;
	r = open_ok("step2");
	chunks = r->header.chunks;
	snapshot_reader_free(r);
	rewrite("step1", "new1");
	assert_int_equal(renameat(dirfd_, "new1", dirfd_, "step1"), 0);
	check_file("step2", &m, 3);
	rewrite("step0", "new0");
	assert_int_equal(renameat(dirfd_, "new0", dirfd_, "step0"), 0);
	check_file("step2", &m, 3);
	rewrite("step2", "new2");
	assert_int_equal(renameat(dirfd_, "new2", dirfd_, "step2"), 0);
	check_file("step2", &m, 3);
	r = open_ok("step2");
	assert_memory_equal(snapshot_reader_working_set(r, &n), some_ws, sizeof(some_ws));
	assert_true(r->header.chunks <= chunks + 2);
	/* Once more: identities of copies of copies. */
	snapshot_reader_free(r);
	rewrite("step1", "new1");
	assert_int_equal(renameat(dirfd_, "new1", dirfd_, "step1"), 0);
	check_file("step2", &m, 3);
}

static void flatten(const char *from, const char *to)
{
	struct snapshot_reader *r = open_ok(from);
	struct snapshot_error err = {""};
	int fd = make_file(to);

	if (snapshot_flatten(r, fd, NULL, NULL, &err))
		fail_msg("%s", err.text);
	snapshot_reader_free(r);
	close(fd);
}

static void test_flatten(void **state)
{
	struct memory m = write_chain(3), m1;
	struct snapshot_reader *r;
	size_t n;

	(void)state;
	rewrite("step2", "hot");
	flatten("hot", "flat");
	r = open_ok("flat");
	assert_int_equal(r->header.incompatible, 0);
	assert_memory_equal(snapshot_reader_working_set(r, &n), some_ws, sizeof(some_ws));
	assert_int_equal(n, ARRAY_SIZE(some_ws));
	assert_memory_equal(snapshot_reader_section(r, SNAPSHOT_SECTION_STATE, &n), "state", 5);
	assert_true(r->header.hot_chunks > 0);
	snapshot_reader_free(r);
	check_file("flat", &m, 1);
	/* In the middle of a chain, it takes the place of what it was made of. */
	flatten("step1", "flat1");
	assert_int_equal(renameat(dirfd_, "flat1", dirfd_, "step1"), 0);
	assert_int_equal(unlinkat(dirfd_, "step0", 0), 0);
	check_file("step2", &m, 2);
	first_memory(&m1);
	change_memory(&m1, 1);
	check_file("step1", &m1, 1);
}

/** Copy a file of a chain over itself: in another order, or in one file. */
static void copy_in_place(const char *name, bool flat)
{
	if (flat)
		flatten(name, "copy");
	else
		rewrite(name, "copy");
	assert_int_equal(renameat(dirfd_, "copy", dirfd_, name), 0);
}

static void change_at_random(struct memory *m, unsigned *seed)
{
	unsigned changes = (unsigned)rand_r(seed) % 60;

	m->end = 141 + (unsigned)rand_r(seed) % (CHAIN_PAGES - 140); /* some_ws has page 140 */
	for (unsigned i = 0; i < changes; i++) {
		uint32_t page = (uint32_t)rand_r(seed) % CHAIN_PAGES;

		m->pages[page] = rand_r(seed) % 3 ? (uint32_t)rand_r(seed) % 100000 : 0;
	}
	for (uint32_t page = m->end; page < CHAIN_PAGES; page++)
		m->pages[page] = 0;
}

/** Chains of any memory, any of whose files are copied in between: each file is what it was. */
static void chain_at_random(unsigned seed)
{
	static struct memory steps[SNAPSHOT_FILES_MAX];
	unsigned count = 1 + (unsigned)rand_r(&seed) % SNAPSHOT_FILES_MAX;
	char name[NAME_BYTES], base[NAME_BYTES];
	struct memory m = {0};

	for (unsigned i = 0; i < count; i++) {
		change_at_random(&m, &seed);
		steps[i] = m;
		snprintf(name, sizeof(name), "step%u", i);
		snprintf(base, sizeof(base), "step%u", i - 1);
		write_memory(name, &m, i ? base : NULL);
		snprintf(name, sizeof(name), "step%u", (unsigned)rand_r(&seed) % (i + 1));
		if (rand_r(&seed) % 2)
			copy_in_place(name, rand_r(&seed) % 3 == 0);
	}
	for (unsigned i = 0; i < count; i++) {
		struct snapshot_reader *r;

		snprintf(name, sizeof(name), "step%u", i);
		r = open_ok(name);
		assert_in_range(snapshot_reader_file_count(r), 1, i + 1);
		check_memory(r, &steps[i]);
		snapshot_reader_free(r);
	}
}

static void test_chains_at_random(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 150; seed++)
		chain_at_random(seed);
}

static void test_alone(void **state)
{
	struct snapshot_error err = {""};
	struct snapshot_reader *r;
	size_t n;
	int fd;

	(void)state;
	write_chain(2);
	assert_int_equal(unlinkat(dirfd_, "step0", 0), 0);
	fd = openat(dirfd_, "step1", O_RDONLY | O_CLOEXEC);
	assert_int_equal(snapshot_reader_open_alone(fd, "step1", &r, &err), 0);
	assert_memory_equal(snapshot_reader_section(r, SNAPSHOT_SECTION_STATE, &n), "state", 5);
	assert_int_equal(snapshot_reader_file_count(r), 1);
	snapshot_reader_free(r);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_ < 0;
}

static int teardown(void **state)
{
	char command[64];

	(void)state;
	close(dirfd_);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_same_memory_is_an_empty_diff),
		cmocka_unit_test(test_template_of_another_size),
		cmocka_unit_test(test_ram_of_another_size),
		cmocka_unit_test(test_pages_left_out_are_zero),
		cmocka_unit_test(test_writer_refuses),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_base_missing_or_changed),
		cmocka_unit_test(test_base_damaged),
		cmocka_unit_test(test_cycle),
		cmocka_unit_test(test_bad_base_section),
		cmocka_unit_test(test_depth_of_base),
		cmocka_unit_test(test_bits_and_sections_agree),
		cmocka_unit_test(test_bad_zero_pages),
		cmocka_unit_test(test_rewrite),
		cmocka_unit_test(test_flatten),
		cmocka_unit_test(test_chains_at_random),
		cmocka_unit_test(test_alone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
