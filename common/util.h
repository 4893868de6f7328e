/* SPDX-License-Identifier: Apache-2.0 */
/* util.h - checked arithmetic and the few macros that every part uses */
#ifndef QUICKTHAW_COMMON_UTIL_H
#define QUICKTHAW_COMMON_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE_SHIFT 12
#define PAGE_BYTES 4096u
#define KIB(n)	   ((uint64_t)(n) << 10)
#define MIB(n)	   ((uint64_t)(n) << 20)
#define GIB(n)	   ((uint64_t)(n) << 30)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a = (a);                                                         \
		__typeof__(b) min_b = (b);                                                         \
		min_a < min_b ? min_a : min_b;                                                     \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a = (a);                                                         \
		__typeof__(b) max_b = (b);                                                         \
		max_a > max_b ? max_a : max_b;                                                     \
	})
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/** checked_add() - a + b. Return: false when the sum does not fit the type of @ret. */
#define checked_add(a, b, ret) (!__builtin_add_overflow(a, b, ret))
/** checked_sub() - a - b. Return: false when the difference does not fit the type of @ret. */
#define checked_sub(a, b, ret) (!__builtin_sub_overflow(a, b, ret))
/** checked_mul() - a * b. Return: false when the product does not fit the type of @ret. */
#define checked_mul(a, b, ret) (!__builtin_mul_overflow(a, b, ret))

/** align_down() / align_up() - round to a power of two; align_up wraps to 0 on overflow. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t pages_of(uint64_t bytes)
{
	return bytes / PAGE_BYTES + (bytes % PAGE_BYTES != 0);
}

/**
 * mem_is_zero() - are all @n bytes at @p zero? @n may be 0.
 *
 * A zero first byte and equality with itself shifted by one byte: memcmp is vectorised.
 */
static inline bool mem_is_zero(const void *p, size_t n)
{
	const uint8_t *bytes = p;

	return n == 0 || (bytes[0] == 0 && !memcmp(bytes, bytes + 1, n - 1));
}

#endif
