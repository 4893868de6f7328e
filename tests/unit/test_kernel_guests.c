/* SPDX-License-Identifier: Apache-2.0 */
/* test_kernel_guests.c - snapd's side of kernel guests: where they run, from which image, in which
 * class of shells */
#include <errno.h>
#include <fcntl.h>
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
#include "common/cpu_feature.h"
#include "common/io.h"
#include "common/util.h"
#include "snapd/erofs_image.h"
#include "snapd/event_loop.h"
#include "snapd/kernel_guests.h"
#include "snapd/shell_pool.h"
#include "snapd/tree.h"

static char dir[] = "/tmp/quickthaw-kernels.XXXXXX";
static int dir_fd = -1;

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
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

static bool has_maker(void)
{
	return !access("/usr/bin/mkfs.erofs", X_OK) || !access("/usr/sbin/mkfs.erofs", X_OK);
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
	assert_int_equal(kernel_guests_init("", dir), 0);
	assert_false(kernel_guests_run_here());
	assert_non_null(strstr(kernel_guests_trouble(&s),
			       cpu_host_runs_kernels() ? "--kernel-guests" : "PVM"));
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
	if (!cpu_host_runs_kernels()) {
		print_message("no hardware KVM: images are not looked at on such a host\n");
		skip();
	}
	assert_int_equal(kernel_guests_init(dir, dir), -ENOENT);
	put_file(dir_fd, "vmlinuz", "kernel");
	put_file(dir_fd, "initramfs", "agent");
	put_file(dir_fd, "python.erofs", "p");
	put_file(dir_fd, "mine.erofs", "mine");
	put_file(dir_fd, "empty.erofs", "empty");
	assert_int_equal(kernel_guests_init(dir, dir), 0);
	assert_true(kernel_guests_run_here());
	assert_null(kernel_guests_trouble(&python));
	assert_null(kernel_guests_trouble(&own));
	assert_non_null(strstr(kernel_guests_trouble(&node), "nodejs.erofs"));
	assert_true(kernel_guests_images(&python, &a));
	assert_true(kernel_guests_images(&own, &b));
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
	assert_int_equal(kernel_guests_vcpus(3537), 1);
	assert_int_equal(kernel_guests_vcpus(3538), 2);
	assert_int_equal(kernel_guests_vcpus(10240), 4);
}

/* ---- images ---------------------------------------------------------------------------------- */

static uint8_t *read_all(int fd, size_t *ret_n)
{
	struct stat st;
	uint8_t *data;

	assert_int_equal(fstat(fd, &st), 0);
	*ret_n = (size_t)st.st_size;
	data = malloc(*ret_n);
	assert_int_equal(pread_full(fd, data, *ret_n, 0), st.st_size);
	return data;
}

static void test_images_are_made_once_and_the_same(void **state)
{
	CLEANUP_FREE uint8_t *first = NULL, *second = NULL;
	size_t n, m;
	int fd;

	(void)state;
	if (!has_maker()) {
		print_message("no mkfs.erofs: scripts/setup service installs it\n");
		skip();
	}
	assert_int_equal(mkdirat(dir_fd, "tree", 0755), 0);
	fd = openat(dir_fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(fd, "app.py", "x = 1\n");
	close(fd);
	fd = erofs_image_open(dir_fd, "tree", "tree.erofs");
	assert_true(fd >= 0);
	first = read_all(fd, &n);
	close(fd);
	assert_int_equal(n % 512, 0);
	assert_int_equal(*(uint32_t *)(void *)(first + 1024), 0xe0f5e1e2); /* its magic number */
	/* It is there: what is in the tree now is of no matter. */
	unlinkat(dir_fd, "tree/app.py", 0);
	fd = erofs_image_open(dir_fd, "tree", "tree.erofs");
	second = read_all(fd, &m);
	close(fd);
	assert_int_equal(n, m);
	assert_memory_equal(first, second, n);
	assert_true(erofs_image_open(dir_fd, "nothing", "nothing.erofs") < 0);
	assert_int_equal(faccessat(dir_fd, "nothing.erofs", F_OK, 0), -1);
	assert_int_equal(faccessat(dir_fd, ".nothing.erofs", F_OK, 0), -1);
}

/* ---- classes of shells ----------------------------------------------------------------------- */

static void test_classes(void **state)
{
	struct shell_pool_params pool = {.ready_per_class = 1};
	int first, again;

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
	first = shell_pool_class(GUEST_KIND_KERNEL, 256);
	assert_true(first >= 5 && first < SHELL_POOL_CLASSES);
	/* Exactly so much, and nothing is rounded. */
	assert_int_not_equal(shell_pool_class(GUEST_KIND_KERNEL, 257), first);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 256), first);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 0), -ERANGE);
	assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 3073), -ERANGE);
	shell_pool_want_class(first);
	assert_int_equal(shell_pool_target(first), 1);
	/* More sizes than classes: the one that was asked for least recently goes. */
	for (uint32_t mib = 300; mib < 300 + SHELL_POOL_CLASSES; mib++) {
		assert_true(shell_pool_class(GUEST_KIND_KERNEL, mib) >= 5);
		if (mib % 8 == 0)
			assert_int_equal(shell_pool_class(GUEST_KIND_KERNEL, 256), first);
	}
	assert_int_equal(shell_pool_target(first), 1);
	again = shell_pool_class(GUEST_KIND_KERNEL, 257);
	assert_int_equal(shell_pool_target(again), 0);
	event_loop_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_a_directory_none_run),
		cmocka_unit_test(test_each_runtime_has_its_image),
		cmocka_unit_test(test_vcpus_as_lambda_gives_them),
		cmocka_unit_test(test_images_are_made_once_and_the_same),
		cmocka_unit_test(test_classes),
	};

	return cmocka_run_group_tests_name("kernel_guests", tests, setup, teardown);
}
