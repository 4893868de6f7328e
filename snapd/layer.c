/* SPDX-License-Identifier: Apache-2.0 */
/* layer.c - layers, their versions, and which of them a function has */
#include "snapd/layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapd/function_name.h"

#define ARN_MARK ":layer:"

static SLIST_HEAD(, layer) layers = SLIST_HEAD_INITIALIZER(layers);

/* ---- names ----------------------------------------------------------------------------------- */

const char *layer_arn(const char *name, uint32_t number, char buf[LAYER_ARN_MAX + 1])
{
	int n = snprintf(buf, LAYER_ARN_MAX + 1, "arn:aws:lambda:local:000000000000" ARN_MARK "%s",
			 name);

	if (number)
		snprintf(buf + n, (size_t)(LAYER_ARN_MAX + 1 - n), ":%u", number);
	return buf;
}

int layer_arn_parse(const char *arn, char ret_name[LAYER_NAME_MAX + 1], uint32_t *ret_number)
{
	const char *name = strncmp(arn, "arn:", 4) ? NULL : strstr(arn, ARN_MARK);
	const char *colon;
	size_t n;

	if (!name)
		return -EINVAL;
	name += strlen(ARN_MARK);
	colon = strchr(name, ':');
	n = colon ? (size_t)(colon - name) : strlen(name);
	if (n > LAYER_NAME_MAX)
		return -EINVAL;
	memcpy(ret_name, name, n);
	ret_name[n] = '\0';
	*ret_number = 0;
	if (!function_name_ok(ret_name))
		return -EINVAL;
	/* The same form as a function's version, but there is no $LATEST. */
	return colon && (!qualifier_number(colon + 1, ret_number) || !*ret_number) ? -EINVAL : 0;
}

/* ---- the layers of a function ---------------------------------------------------------------- */

static uint64_t size_of(const json_t *item, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(item, key));

	return n > 0 ? (uint64_t)n : 0;
}

static int parse_ref(const json_t *item, struct layer_ref *ret, struct field_error *e)
{
	const char *arn =
		json_string_value(json_is_object(item) ? json_object_get(item, "Arn") : item);

	if (!arn || layer_arn_parse(arn, ret->name, &ret->number) || !ret->number)
		return field_refuse(e, "Layers: give ARNs of layer versions, "
				       "arn:aws:lambda:local:000000000000:layer:NAME:NUMBER");
	ret->bytes = size_of(item, "CodeSize");
	ret->unpacked_bytes = size_of(item, "UnpackedSize");
	return 0;
}

int layer_list_parse(const json_t *root, struct layer_list *ret, struct field_error *e)
{
	struct layer_list list = {.count = 0};
	json_t *array, *item;
	size_t i;
	int err = field_array(root, "Layers", &array, e);

	if (err || !array)
		return err;
	if (json_array_size(array) > FUNCTION_LAYERS_MAX)
		return field_refuse(e, "Layers: at most %d", FUNCTION_LAYERS_MAX);
	json_array_foreach(array, i, item)
	{
		err = parse_ref(item, &list.refs[list.count++], e);
		if (err)
			return err;
	}
	for (unsigned a = 0; a < list.count; a++)
		for (unsigned b = 0; b < a; b++)
			if (!strcmp(list.refs[a].name, list.refs[b].name))
				return field_refuse(e,
						    "Layers: two versions of %s: a function may "
						    "have one of each layer",
						    list.refs[a].name);
	*ret = list;
	return 0;
}

json_t *layer_list_json(const struct layer_list *list)
{
	json_t *array = json_array();
	char arn[LAYER_ARN_MAX + 1];

	for (unsigned i = 0; i < list->count; i++) {
		const struct layer_ref *ref = &list->refs[i];

		json_array_append_new(array,
				      json_pack("{s:s, s:I, s:I}", "Arn",
						layer_arn(ref->name, ref->number, arn), "CodeSize",
						(json_int_t)ref->bytes, "UnpackedSize",
						(json_int_t)ref->unpacked_bytes));
	}
	return array;
}

uint64_t layer_list_unpacked_bytes(const struct layer_list *list)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < list->count; i++)
		sum += list->refs[i].unpacked_bytes;
	return sum;
}

int layer_list_resolve(struct layer_list *list, struct field_error *e)
{
	char arn[LAYER_ARN_MAX + 1];

	for (unsigned i = 0; i < list->count; i++) {
		struct layer_ref *ref = &list->refs[i];
		struct layer *l = layers_find(ref->name);
		const struct layer_version *v = l ? layer_find_version(l, ref->number) : NULL;

		if (!v)
			return field_refuse(e, "Layer version %s does not exist.",
					    layer_arn(ref->name, ref->number, arn));
		ref->bytes = v->code.bytes;
		ref->unpacked_bytes = v->code.unpacked_bytes;
	}
	if (layer_list_unpacked_bytes(list) > CODE_BYTES_MAX)
		return field_refuse(e, "Layers consume more than the available size of %llu bytes",
				    CODE_BYTES_MAX);
	return 0;
}

/* ---- all layers ------------------------------------------------------------------------------ */

struct layer *layers_first(void)
{
	return SLIST_FIRST(&layers);
}

struct layer *layers_find(const char *name)
{
	struct layer *l;

	SLIST_FOREACH(l, &layers, link)
	if (!strcmp(l->name, name))
		return l;
	return NULL;
}

struct layer *layers_make(const char *name)
{
	struct layer *l = layers_find(name);

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	snprintf(l->name, sizeof(l->name), "%s", name);
	SLIST_INSERT_HEAD(&layers, l, link);
	return l;
}

struct layer_version *layer_find_version(struct layer *l, uint32_t number)
{
	struct layer_version *v;

	SLIST_FOREACH(v, &l->versions, link)
	if (v->number == number)
		return v;
	return NULL;
}

struct layer_version *layer_add_version(struct layer *l, uint32_t number,
					const struct code_info *code, json_t *about)
{
	struct layer_version *v = calloc(1, sizeof(*v)), *at = SLIST_FIRST(&l->versions), *next;

	if (!v) {
		json_decref(about);
		return NULL;
	}
	v->number = number;
	v->code = *code;
	v->about = about;
	if (number > l->last_number)
		l->last_number = number;
	if (!at || at->number < number) {
		SLIST_INSERT_HEAD(&l->versions, v, link);
		return v;
	}
	while ((next = SLIST_NEXT(at, link)) && next->number > number)
		at = next;
	SLIST_INSERT_AFTER(at, v, link);
	return v;
}

void layer_remove_version(struct layer *l, struct layer_version *v)
{
	SLIST_REMOVE(&l->versions, v, layer_version, link);
	json_decref(v->about);
	free(v);
}
