/* SPDX-License-Identifier: Apache-2.0 */
/* base64.c - decode base64 (RFC 4648, section 4) */
#include "snapd/base64.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(const char *text, char **ret, size_t *ret_n)
{
	size_t n = strlen(text), padding = 0, out = 0;
	uint32_t bits = 0;
	char *data;

	if (n % 4)
		return -EINVAL;
	while (padding < 2 && padding < n && text[n - 1 - padding] == '=')
		padding++;
	data = malloc(n / 4 * 3 + 1);
	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int d = i < n - padding ? digit(text[i]) : 0;

		if (d < 0) {
			free(data);
			return -EINVAL;
		}
		bits = bits << 6 | (uint32_t)d;
		if (i % 4 == 3) {
			data[out++] = (char)(bits >> 16);
			data[out++] = (char)(bits >> 8);
			data[out++] = (char)bits;
		}
	}
	out -= padding;
	data[out] = '\0';
	*ret = data;
	*ret_n = out;
	return 0;
}
