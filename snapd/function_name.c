/* SPDX-License-Identifier: Apache-2.0 */
/* function_name.c - how requests name functions, versions and aliases */
#include "snapd/function_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
#define DIGITS	     "0123456789"
#define ARN_OF_LOCAL "arn:aws:lambda:local:000000000000:function:"

static bool is_name(const char *name, size_t max)
{
	size_t n = strspn(name, NAME_CHARS);

	return n > 0 && n <= max && !name[n];
}

bool function_name_ok(const char *name)
{
	return is_name(name, FUNCTION_NAME_MAX);
}

bool alias_name_ok(const char *name)
{
	return is_name(name, QUALIFIER_MAX) && name[strspn(name, DIGITS)];
}

bool qualifier_number(const char *text, uint32_t *ret)
{
	size_t n = strspn(text, DIGITS);
	unsigned long number;

	*ret = 0;
	if (!strcmp(text, QUALIFIER_LATEST))
		return true;
	if (!n || n > 9 || text[n] || *text == '0')
		return false;
	number = strtoul(text, NULL, 10);
	if (number > FUNCTION_VERSIONS_MAX)
		return false;
	*ret = (uint32_t)number;
	return true;
}

bool qualifier_ok(const char *text)
{
	uint32_t number;

	return qualifier_number(text, &number) || alias_name_ok(text);
}

const char *version_number_text(uint32_t number, char buf[16])
{
	if (number)
		snprintf(buf, 16, "%u", number);
	else
		snprintf(buf, 16, QUALIFIER_LATEST);
	return buf;
}

/** Step over @parts parts that end in colons; NULL when there are fewer. */
static const char *skip_parts(const char *text, int parts)
{
	while (text && parts-- > 0) {
		text = strchr(text, ':');
		text = text ? text + 1 : NULL;
	}
	return text;
}

int function_ref_parse(const char *text, size_t n, struct function_ref *ret)
{
	static const char mark[] = "function:";
	/* Of "arn:aws:lambda:REGION:ACCOUNT:", of "ACCOUNT:", of a name. */
	char copy[FUNCTION_NAME_ARN_MAX + 1];
	const char *at = copy, *account = NULL, *name;
	size_t name_bytes;

	*ret = (struct function_ref){.name = ""};
	if (n >= sizeof(copy) || memchr(text, '\0', n))
		return -EINVAL;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (!strncmp(at, "arn:", 4)) {
		at = skip_parts(copy, 5);
		if (!at || strncmp(at, mark, strlen(mark)) != 0 ||
		    strncmp(skip_parts(copy, 2), "lambda:", 7) != 0)
			return -EINVAL;
		at += strlen(mark);
	} else {
		account = skip_parts(copy, 1);
		if (account && !strncmp(account, mark, strlen(mark)) &&
		    strspn(copy, DIGITS) == (size_t)(account - 1 - copy))
			at = account + strlen(mark);
	}
	name = at;
	name_bytes = strcspn(name, ":");
	if (name_bytes > FUNCTION_NAME_MAX)
		return -EINVAL;
	memcpy(ret->name, name, name_bytes);
	ret->name[name_bytes] = '\0';
	if (!function_name_ok(ret->name))
		return -EINVAL;
	if (!name[name_bytes])
		return 0;
	at = name + name_bytes + 1;
	if (strcmp(at, QUALIFIER_LATEST) != 0 && !is_name(at, QUALIFIER_MAX))
		return -EINVAL;
	memcpy(ret->qualifier, at, strlen(at) + 1);
	return 0;
}

const char *function_arn(const char *name, const char *qualifier,
			 char buf[FUNCTION_NAME_ARN_MAX + 1])
{
	bool qualified = qualifier && *qualifier;

	snprintf(buf, FUNCTION_NAME_ARN_MAX + 1, ARN_OF_LOCAL "%s%s%s", name, qualified ? ":" : "",
		 qualified ? qualifier : "");
	return buf;
}
