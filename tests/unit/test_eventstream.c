/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_eventstream.c - frames of application/vnd.amazon.eventstream, byte for byte
 *
 * What botocore makes of them is in functional/front.bats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "snapd/eventstream.h"

static uint32_t u32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void test_frame(void **state)
{
	static const uint8_t headers[] = "\x0b:event-type\x07\0\x0cPayloadChunk"
					 "\x0d:content-type\x07\0\x18"
					 "application/octet-stream"
					 "\x0d:message-type\x07\0\x05"
					 "event";
	struct eventstream_frame f;
	uint8_t whole[512];
	size_t n = sizeof(headers) - 1;

	(void)state;
	eventstream_frame_make(&f, "PayloadChunk", "application/octet-stream", "hello", 5);
	assert_int_equal(f.head_bytes, 12 + n);
	assert_memory_equal(f.head + 12, headers, n);
	memcpy(whole, f.head, f.head_bytes);
	memcpy(whole + f.head_bytes, "hello", 5);
	memcpy(whole + f.head_bytes + 5, f.tail, 4);
	assert_int_equal(u32(whole), f.head_bytes + 5 + 4);
	assert_int_equal(u32(whole + 4), n);
	assert_int_equal(u32(whole + 8), crc32(0, whole, 8));
	assert_int_equal(u32(whole + f.head_bytes + 5), crc32(0, whole, (uInt)f.head_bytes + 5));
}

static void test_empty_payload(void **state)
{
	struct eventstream_frame f;

	(void)state;
	eventstream_frame_make(&f, "InvokeComplete", "application/json", NULL, 0);
	assert_int_equal(u32(f.head), f.head_bytes + 4);
	assert_int_equal(u32(f.tail), crc32(0, f.head, (uInt)f.head_bytes));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame),
		cmocka_unit_test(test_empty_payload),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
