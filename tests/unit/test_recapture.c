/* SPDX-License-Identifier: Apache-2.0 */
/* test_recapture.c - what snapshots would be made with now, and who tells */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapd/recapture.h"

static char dir[] = "/tmp/quickthaw-recapture.XXXXXX";
static unsigned looks; /* at an instance */

struct instance *__real_session_instance(uint32_t slot);
struct instance *__wrap_session_instance(uint32_t slot);

struct instance *__wrap_session_instance(uint32_t slot)
{
	looks++;
	return __real_session_instance(slot);
}

/** A version whose snapshot another vmm has made. */
static struct version *add_version(void)
{
	struct function *f = function_new("f");
	struct version *v;

	f->latest.settings.env = json_object();
	v = function_add_version(f, 1);
	assert_non_null(v);
	functions_add(f);
	v->state = VERSION_ACTIVE;
	v->settings.guest_kind = GUEST_KIND_PROCESS;
	v->snapshot.origin = (struct origin){.known = true, .state_version = 1};
	v->opening = true; /* nothing is made again here */
	return v;
}

/** Nobody looks for a shell that may never come, in any turn of the loop; the first one tells. */
static void test_the_first_shell_tells(void **state)
{
	const struct recapture_params params = {.runtime_dir = dir};
	struct instance shell = {.kind = GUEST_KIND_KERNEL, .state_version = 7};
	struct version *v;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(recapture_init(&params), 0);
	v = add_version();
	recapture_turn(1);
	assert_int_equal(looks, 0);
	recapture_on_shell(&shell); /* of another kind */
	recapture_turn(2);
	assert_false(v->recapture.wanted);
	shell.kind = GUEST_KIND_PROCESS;
	shell.child.adopted = true; /* made by a snapd before this one */
	recapture_on_shell(&shell);
	recapture_turn(3);
	assert_false(v->recapture.wanted);
	shell.child.adopted = false;
	recapture_on_shell(&shell);
	recapture_turn(4);
	assert_true(v->recapture.wanted);
	assert_int_equal(looks, 0);
	functions_remove(v->function);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_shell_tells),
	};

	return cmocka_run_group_tests_name("recapture", tests, NULL, NULL);
}
