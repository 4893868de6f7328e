/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_guests.c - snapd's side of kernel guests: where they run, from which image, in which
 * class of shells */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "common/io.h"
#include "common/util.h"
#include "snapd/code_unpacker.h"
#include "snapd/erofs_image.h"
#include "snapd/event_loop.h"
#include "snapd/kernel_guests.h"
#include "snapd/shell_pool.h"
#include "snapd/tree.h"

static char dir[] = "/tmp/quickthaw-kernels.XXXXXX";
static int dir_fd = -1;

/** The unpacker that was built with this test. */
static void find_unpacker(void)
{
	char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	assert_true(n > 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/../bin/unpacker");
	assert_int_equal(code_unpacker_init(path), 0);
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
	find_unpacker();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tree_clear(dir_fd);
	close(dir_fd);
	rmdir(dir);
	return 0;
}

static void put_file(int at, const char *name, const char *text)
{
	assert_int_equal(write_file_atomic(at, name, text, strlen(text), 0644), 0);
}

/* ---- where ----------------------------------------------------------------------------------- */

static struct function_settings settings(const char *runtime, const char *root_image)
{
	struct function_settings s = {.guest_kind = GUEST_KIND_KERNEL, .memory_mib = 256};

	snprintf(s.runtime, sizeof(s.runtime), "%s", runtime);
	snprintf(s.root_image, sizeof(s.root_image), "%s", root_image);
	return s;
}

static void test_without_a_directory_none_run(void **state)
{
	struct function_settings s = settings("python3.11", "");
	struct kernel_images images;
	struct origin origin;

	(void)state;
	assert_int_equal(kernel_guests_init("", dir, true), 0);
	assert_false(kernel_guests_run_here());
	assert_non_null(strstr(kernel_guests_trouble(&s), "--kernel-guests"));
	assert_int_equal(kernel_guests_init(dir, dir, false), 0);
	assert_false(kernel_guests_run_here());
	assert_non_null(strstr(kernel_guests_trouble(&s), "PVM"));
	assert_false(kernel_guests_images(&s, &images));
	assert_false(kernel_guests_origin(&s, &origin));
	s.guest_kind = GUEST_KIND_PROCESS;
	assert_null(kernel_guests_trouble(&s));
}

static void test_each_runtime_has_its_image(void **state)
{
	struct function_settings python = settings("python3.11", "");
	struct function_settings node = settings("nodejs20.x", "");
	struct function_settings own = settings("provided.al2023", "mine");
	struct kernel_images a, b;
	struct origin first, second;

	(void)state;
	assert_int_equal(kernel_guests_init(dir, dir, true), -ENOENT);
	kernel_guests_finish();
	put_file(dir_fd, "vmlinuz", "kernel");
	put_file(dir_fd, "initramfs", "agent");
	put_file(dir_fd, "python.erofs", "p");
	put_file(dir_fd, "mine.erofs", "mine");
	put_file(dir_fd, "empty.erofs", ""); /* as a power cut may leave it */
	if (geteuid()) {
		print_message("making jails needs root\n");
		skip();
	}
	assert_int_equal(kernel_guests_init(dir, dir, true), 0);
	assert_true(kernel_guests_run_here());
	assert_null(kernel_guests_trouble(&python));
	assert_null(kernel_guests_trouble(&own));
	assert_non_null(strstr(kernel_guests_trouble(&node), "nodejs.erofs"));
	assert_true(kernel_guests_images(&python, &a));
	assert_true(kernel_guests_images(&own, &b));
	assert_true(lseek(a.empty_fd, 0, SEEK_END) > 0);
	assert_int_not_equal(a.root_fd, b.root_fd);
	assert_int_equal(a.kernel_fd, b.kernel_fd);
	assert_true(kernel_guests_origin(&python, &first));
	assert_true(kernel_guests_origin(&own, &second));
	assert_int_not_equal(first.mapped, second.mapped);
	assert_int_equal(first.read, second.read);
	kernel_guests_finish();
}

static void test_vcpus_as_lambda_gives_them(void **state)
{
	(void)state;
	assert_int_equal(kernel_guests_vcpus(128), 1);
	assert_int_equal(kernel_guests_vcpus(1769), 1);
	assert_int_equal(kernel_guests_vcpus(1770), 2);
	assert_int_equal(kernel_guests_vcpus(3538), 2);
	assert_int_equal(kernel_guests_vcpus(3539), 3);
	assert_int_equal(kernel_guests_vcpus(10240), 4);
}

/* ---- images ---------------------------------------------------------------------------------- */

static int make_image(const char *tree, const char *name)
{
	struct erofs_draft draft = EROFS_DRAFT_INIT;
	int err = erofs_draft_make(&draft, dup(dir_fd), tree, name);

	return err ? err : erofs_draft_install(&draft);
}

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void run(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

/** All that the format's own tools have to say: what comes out is what went in, with its times. */
static void test_images_have_what_the_tree_has(void **state)
{
	(void)state;
	if (geteuid() || access("/usr/bin/fsck.erofs", X_OK)) {
		print_message("not root, or no fsck.erofs: scripts/setup service installs it\n");
		skip();
	}
	run("cd %s && mkdir -p t/a/b/c 't/!' t/many t/empty && touch t/zero t/.hidden t/-x && "
	    "ln -s a/b t/link && ln -s \"$(printf %%3000s x | tr ' ' x)\" t/long && "
	    "head -c 4096 /dev/urandom >t/block && head -c 5000001 /dev/urandom >t/a/large && "
	    "echo 1 >t/a/b/c/x && chmod 755 t/block && "
	    "touch -d '2020-01-02 03:04:05.678' t/a/large && "
	    "for i in $(seq 700); do echo $i >t/many/some-name-that-fills-blocks-$i; done",
	    dir);
	assert_int_equal(make_image("t", "t.erofs"), 0);
	run("cd %s && fsck.erofs --extract=out t.erofs >/dev/null && "
	    "diff -r --no-dereference t out && "
	    "for d in t out; do (cd $d && find . -printf '%%P %%m %%y %%l %%T@\\n' | sort "
	    ">../$d.list); "
	    "done && cmp t.list out.list",
	    dir);
	/* Sorted as Linux searches: bytes, and the two dots among them. */
	run("cd %s && dump.erofs --ls --path=/ t.erofs | awk '$2 == 2 {print $3}' | head -3 | "
	    "tr '\\n' ' ' | grep -qx '! . .. '",
	    dir);
	/* The same bytes each time: a snapshot knows where its guest's files are. */
	assert_int_equal(make_image("t", "again.erofs"), 0);
	run("cd %s && cmp t.erofs again.erofs", dir);
}

/** Whatever a power cut has left under the name is not taken for an image. */
static void test_images_that_are_damaged_are_not_opened(void **state)
{
	static const struct {
		const char *how;
		bool opens;
	} damages[] = {
		{":", true},
		{"truncate -s 0", false},
		{"truncate -s 2000", false},
		{"truncate -s -1", false},
		{"dd status=none if=/dev/zero bs=512 count=4 conv=notrunc of=", false},
	};

	(void)state;
	if (geteuid()) {
		print_message("making jails needs root\n");
		skip();
	}
	assert_int_equal(erofs_image_open(dir_fd, "d.erofs"), -ENOENT);
	assert_int_equal(mkdirat(dir_fd, "d", 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		const char *how = damages[i].how;
		int fd;

		assert_int_equal(make_image("d", "d.erofs"), 0);
		run("%s%s%s/d.erofs", how, how[strlen(how) - 1] == '=' ? "" : " ", dir);
		fd = erofs_image_open(dir_fd, "d.erofs");
		assert_int_equal(damages[i].opens, fd >= 0);
		assert_true(damages[i].opens || fd == -ENOENT);
		cleanup_fd(&fd);
	}
	assert_int_equal(faccessat(dir_fd, ".d.erofs", F_OK, 0), -1);
}

/** No disk of an old tree beside a new one. */
static void test_images_of_a_tree_that_is_replaced(void **state)
{
	struct erofs_draft draft = EROFS_DRAFT_INIT;

	(void)state;
	if (geteuid()) {
		print_message("making jails needs root\n");
		skip();
	}
	assert_int_equal(mkdirat(dir_fd, "old", 0755), 0);
	assert_int_equal(mkdirat(dir_fd, "new", 0755), 0);
	assert_int_equal(erofs_draft_make(&draft, dup(dir_fd), "old", "old.erofs"), 0);
	assert_int_equal(renameat2(dir_fd, "old", dir_fd, "new", RENAME_EXCHANGE), 0);
	assert_int_equal(erofs_draft_install(&draft), -ESTALE);
	assert_int_equal(erofs_image_open(dir_fd, "old.erofs"), -ENOENT);
	assert_int_equal(faccessat(dir_fd, ".old.erofs", F_OK, 0), -1);
	assert_int_equal(make_image("nothing", "nothing.erofs"), -ENOENT);
	assert_int_equal(faccessat(dir_fd, ".nothing.erofs", F_OK, 0), -1);
	/* What is no file, directory or link does not come into the store, and not onto a disk. */
	assert_int_equal(mkfifoat(dir_fd, "new/fifo", 0644), 0);
	assert_int_equal(make_image("new", "new.erofs"), -EINVAL);
	run("cd %s/new && rm fifo && truncate -s 1T large", dir);
	assert_int_equal(make_image("new", "new.erofs"), -EFBIG);
	run("cd %s/new && rm large && for i in $(seq 100000 100499); do truncate -s 3M $i; done",
	    dir);
	assert_int_equal(make_image("new", "new.erofs"), -EFBIG);
	assert_int_equal(faccessat(dir_fd, ".new.erofs", F_OK, 0), -1);
}

/* ---- classes of shells ----------------------------------------------------------------------- */

static void test_classes(void **state)
{
	struct shell_pool_params pool = {.ready_per_class = 1};
	int class;

	(void)state;
	assert_int_equal(event_loop_init(), 0);
	assert_int_equal(shell_pool_init(&pool), 0);
	assert_int_equal(shell_pool_class(GUEST_KIND_PROCESS, 1), 0);
	assert_int_equal(shell_pool_class(GUEST_KIND_PROCESS, 1024), 0);
	assert_int_equal(shell_pool_class(GUEST_KIND_PROCESS, 1025), 1);
	assert_int_equal(shell_pool_class(GUEST_KIND_PROCESS, 16385), -ERANGE);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 256), -ENOTSUP);
	shell_pool_want_class(-ENOTSUP); /* of none */
	assert_null(shell_pool_take(-ENOTSUP, 1));

	pool.kernel_guests = true;
	assert_int_equal(shell_pool_init(&pool), 0);
	class = shell_pool_class(GUEST_KIND_KERNEL, 256);
	assert_int_equal(shell_pool_ram_mib(class), 256);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 193), class);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 257), class + 1);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 0), -ERANGE);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 3073), -ERANGE);
	event_loop_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_directory_none_run),
		cmocka_unit_test(test_each_runtime_has_its_image),
		cmocka_unit_test(test_vcpus_as_lambda_gives_them),
		cmocka_unit_test(test_images_have_what_the_tree_has),
		cmocka_unit_test(test_images_that_are_damaged_are_not_opened),
		cmocka_unit_test(test_images_of_a_tree_that_is_replaced),
		cmocka_unit_test(test_classes),
	};

	return cmocka_run_group_tests_name("kernel_guests", tests, setup, teardown);
}
