/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reseed.c - a Node.js addon: each time that it is loaded, OpenSSL's random numbers begin anew
 *
 * Their generator's state is memory, the same in every clone of a snapshot, and nothing in
 * JavaScript reaches it. RAND_poll(3) seeds the process' first generator from the kernel; those of
 * threads follow it before they give another number. OpenSSL is the one that Node.js runs with,
 * whether a shared library or a part of its program; nothing else is needed, not even a C library.
 *
 * Source: https://nodejs.org/api/n-api.html, "Module registration"
 */

int RAND_poll(void) __attribute__((weak));
int napi_throw_error(void *env, const char *code, const char *message);
void *napi_register_module_v1(void *env, void *exports);

void *napi_register_module_v1(void *env, void *exports)
{
	if (!RAND_poll || RAND_poll() != 1)
		napi_throw_error(env, 0, "OpenSSL cannot be seeded");
	return exports;
}
