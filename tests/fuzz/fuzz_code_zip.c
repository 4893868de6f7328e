/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_code_zip.c - any bytes are a zip file or none, and nothing is made outside of its tree */
#include "snapd/unpacker/zip.h"
#include "tests/fuzz/unpack_promise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct place place;
	struct unpack u;

	place_make(&place);
	unpack_begin(&u, place.tree, BYTES_MAX);
	place_check(&place, &u, zip_unpack(data, n, &u));
	return 0;
}
