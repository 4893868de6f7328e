/* SPDX-License-Identifier: Apache-2.0 */
/* function_control.c - what is set for a function besides its versions */
#include "snapd/function_control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/util.h"

int function_control_init(struct function_control *c)
{
	*c = (struct function_control){.reserved_concurrency = -1, .tags = json_object()};
	return c->tags ? 0 : -ENOMEM;
}

static void url_free(struct qualified *entry)
{
	url_config_free(container_of(entry, struct url_config, entry));
}

static void plain_free(struct qualified *entry)
{
	free(entry); /* the first member of what was allocated */
}

static void free_list(struct qualified **list, void (*free_entry)(struct qualified *entry))
{
	while (*list) {
		struct qualified *entry = *list;

		*list = entry->next;
		free_entry(entry);
	}
}

void function_control_free(struct function_control *c)
{
	json_decref(c->tags);
	c->tags = NULL;
	free_list(&c->aliases, plain_free);
	free_list(&c->provisioned, plain_free);
	free_list(&c->event_invokes, plain_free);
	free_list(&c->urls, url_free);
}

struct alias *control_alias(const struct function_control *c, const char *name)
{
	return container_of(qualified_find(c->aliases, name), struct alias, entry);
}

struct provisioned_config *control_provisioned(const struct function_control *c,
					       const char *qualifier)
{
	return container_of(qualified_find(c->provisioned, qualifier), struct provisioned_config,
			    entry);
}

struct event_invoke_config *control_event_invoke(const struct function_control *c,
						 const char *qualifier)
{
	return container_of(qualified_find(c->event_invokes, qualifier), struct event_invoke_config,
			    entry);
}

struct url_config *control_url(const struct function_control *c, const char *qualifier)
{
	return container_of(qualified_find(c->urls, qualifier), struct url_config, entry);
}

int tags_check(const json_t *tags, struct field_error *e)
{
	const char *key;
	json_t *value;

	if (json_object_size(tags) > TAGS_MAX)
		return field_refuse(e, "Tags: at most %d", TAGS_MAX);
	json_object_foreach((json_t *)(uintptr_t)tags, key, value)
	{
		const char *text = json_string_value(value);

		if (!*key || strlen(key) > TAG_KEY_MAX)
			return field_refuse(e, "Tags: keys have 1 to %d bytes", TAG_KEY_MAX);
		if (!strncmp(key, "aws:", 4))
			return field_refuse(e, "Tags: keys that begin with aws: are reserved");
		if (!text || strlen(text) != json_string_length(value) ||
		    strlen(text) > TAG_VALUE_MAX)
			return field_refuse(e, "Tags: values are strings of at most %d bytes",
					    TAG_VALUE_MAX);
	}
	return 0;
}

/* ---- control.json ---------------------------------------------------------------------------- */

static uint64_t get_u64(const json_t *root, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(root, key));

	return n > 0 ? (uint64_t)n : 0;
}

/* Every kind of entry has its fields as the API has them, and beside them what only the store
 * knows. */

static json_t *save_alias(struct qualified *entry)
{
	return alias_json(container_of(entry, struct alias, entry));
}

static int load_alias(const json_t *root, struct qualified **ret, struct field_error *e)
{
	struct alias *a = calloc(1, sizeof(*a));
	int err = a ? alias_parse(root, a, e) : field_no_memory(e);

	if (a)
		*ret = &a->entry;
	if (!err)
		err = field_string(root, "RevisionId", 1, a->revision, sizeof(a->revision), e);
	return err;
}

static json_t *save_provisioned(struct qualified *entry)
{
	const struct provisioned_config *c = container_of(entry, struct provisioned_config, entry);
	json_t *root = provisioned_config_json(c);

	json_object_set_new(root, "ModifiedNs", json_integer((json_int_t)c->modified_ns));
	return root;
}

static int load_provisioned(const json_t *root, struct qualified **ret, struct field_error *e)
{
	struct provisioned_config *c = calloc(1, sizeof(*c));

	if (!c)
		return field_no_memory(e);
	*ret = &c->entry;
	c->modified_ns = get_u64(root, "ModifiedNs");
	return provisioned_config_parse(root, c, e);
}

static json_t *save_event_invoke(struct qualified *entry)
{
	const struct event_invoke_config *c =
		container_of(entry, struct event_invoke_config, entry);
	json_t *root = event_invoke_config_json(c);

	json_object_set_new(root, "ModifiedNs", json_integer((json_int_t)c->modified_ns));
	return root;
}

static int load_event_invoke(const json_t *root, struct qualified **ret, struct field_error *e)
{
	struct event_invoke_config *c = calloc(1, sizeof(*c));

	if (!c)
		return field_no_memory(e);
	*ret = &c->entry;
	event_invoke_config_init(c);
	c->modified_ns = get_u64(root, "ModifiedNs");
	return event_invoke_config_parse(root, c, e);
}

static json_t *save_url(struct qualified *entry)
{
	const struct url_config *c = container_of(entry, struct url_config, entry);
	json_t *root = url_config_json(c);

	json_object_set_new(root, "Id", json_string(c->id));
	json_object_set_new(root, "CreatedNs", json_integer((json_int_t)c->created_ns));
	json_object_set_new(root, "ModifiedNs", json_integer((json_int_t)c->modified_ns));
	return root;
}

static int load_url(const json_t *root, struct qualified **ret, struct field_error *e)
{
	struct url_config *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return field_no_memory(e);
	*ret = &c->entry;
	err = field_string(root, "Id", URL_ID_CHARS, c->id, sizeof(c->id), e);
	c->created_ns = get_u64(root, "CreatedNs");
	c->modified_ns = get_u64(root, "ModifiedNs");
	return err ? err : url_config_parse(root, c, e);
}

static const struct kind {
	const char *key;
	size_t offset; /* of the list in struct function_control */
	json_t *(*save)(struct qualified *entry);
	/* @ret: also on failure, if anything was allocated */
	int (*load)(const json_t *root, struct qualified **ret, struct field_error *e);
	void (*free_entry)(struct qualified *entry);
} kinds[] = {
	{"Aliases", offsetof(struct function_control, aliases), save_alias, load_alias, plain_free},
	{"Provisioned", offsetof(struct function_control, provisioned), save_provisioned,
	 load_provisioned, plain_free},
	{"EventInvokes", offsetof(struct function_control, event_invokes), save_event_invoke,
	 load_event_invoke, plain_free},
	{"Urls", offsetof(struct function_control, urls), save_url, load_url, url_free},
};

static struct qualified **list_of(const struct function_control *c, const struct kind *kind)
{
	return (struct qualified **)((uintptr_t)c + kind->offset);
}

void function_control_forget(struct function_control *c, const char *qualifier)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct qualified *entry = qualified_remove(list_of(c, &kinds[i]), qualifier);

		if (entry)
			kinds[i].free_entry(entry);
	}
}

static json_t *save_list(const struct function_control *c, const struct kind *kind)
{
	json_t *list = json_array();

	for (struct qualified *entry = *list_of(c, kind); entry; entry = entry->next) {
		json_t *one = kind->save(entry);

		json_object_set_new(one, "Qualifier", json_string(entry->qualifier));
		if (json_array_append_new(list, one)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

char *function_control_text(const struct function_control *c)
{
	json_t *root =
		json_pack("{s:i, s:I, s:O}", "ReservedConcurrency", (int)c->reserved_concurrency,
			  "LastNumber", (json_int_t)c->last_number, "Tags", c->tags);
	char *text = NULL;
	bool ok = root;

	for (size_t i = 0; ok && i < ARRAY_SIZE(kinds); i++)
		ok = !json_object_set_new(root, kinds[i].key, save_list(c, &kinds[i]));
	if (ok)
		text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

static int load_list(const json_t *root, const struct kind *kind, struct function_control *c,
		     struct field_error *e)
{
	json_t *list, *one;
	size_t i;
	int err = field_array(root, kind->key, &list, e);

	json_array_foreach(list, i, one)
	{
		struct qualified *entry = NULL;
		char qualifier[QUALIFIER_MAX + 1] = "";

		err = field_string(one, "Qualifier", 1, qualifier, sizeof(qualifier), e);
		if (!err && !qualifier_ok(qualifier))
			err = field_refuse(e, "%s: an entry with a bad Qualifier", kind->key);
		if (!err)
			err = kind->load(one, &entry, e);
		if (!err) {
			memcpy(entry->qualifier, qualifier, sizeof(qualifier));
			err = qualified_insert(list_of(c, kind), entry);
			if (err == -EEXIST || err == -ENOSPC)
				err = field_refuse(e, "%s: %s", kind->key, strerror(-err));
		}
		if (err) {
			if (entry)
				kind->free_entry(entry);
			return err;
		}
	}
	return err;
}

static int load_tags(const json_t *root, struct function_control *c, struct field_error *e)
{
	json_t *tags;
	int err = field_object(root, "Tags", &tags, e);

	if (!err && tags)
		err = tags_check(tags, e);
	if (!err && tags) {
		json_decref(c->tags);
		c->tags = json_deep_copy(tags);
		err = c->tags ? 0 : field_no_memory(e);
	}
	return err;
}

int function_control_parse(const char *text, struct function_control *ret, struct field_error *e)
{
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	json_t *reserved = json_object_get(root, "ReservedConcurrency");
	struct function_control c;
	uint32_t number = 0;
	int err = function_control_init(&c) ? field_no_memory(e) : 0;

	if (!err && !json_is_object(root))
		err = field_refuse(e, "not a JSON object");
	if (!err && json_integer_value(reserved) != -1)
		err = field_u32(root, "ReservedConcurrency", 0, INT_MAX, &number, e);
	if (!err && reserved && json_integer_value(reserved) != -1)
		c.reserved_concurrency = (int32_t)number;
	if (!err)
		err = field_u32(root, "LastNumber", 0, FUNCTION_VERSIONS_MAX, &c.last_number, e);
	if (!err)
		err = load_tags(root, &c, e);
	for (size_t i = 0; !err && i < ARRAY_SIZE(kinds); i++)
		err = load_list(root, &kinds[i], &c, e);
	json_decref(root);
	if (err)
		function_control_free(&c);
	else
		*ret = c;
	return err;
}

int function_control_copy(const struct function_control *from, struct function_control *ret)
{
	CLEANUP_FREE char *text = function_control_text(from);
	struct field_error e;
	int err = text ? function_control_parse(text, ret, &e) : -ENOMEM;

	/* What was checked when it came in cannot be wrong now. */
	return err ? -ENOMEM : 0;
}
