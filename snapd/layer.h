/* SPDX-License-Identifier: Apache-2.0 */
/* layer.h - layers, their versions, and which of them a function has */
#ifndef QUICKTHAW_SNAPD_LAYER_H
#define QUICKTHAW_SNAPD_LAYER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "snapd/code.h"
#include "snapd/field.h"

enum {
	LAYER_NAME_MAX = 64,
	LAYER_ARN_MAX = 159,
	LAYER_VERSIONS_MAX = 100000,
	FUNCTION_LAYERS_MAX = 5, /* as Lambda has it */
};

/**
 * struct layer_version - one that can be used; it is never changed.
 * @about: Description, CompatibleRuntimes, CompatibleArchitectures, LicenseInfo as they were given,
 * and CreatedDate
 */
struct layer_version {
	uint32_t number;
	struct code_info code;
	json_t *about;
	SLIST_ENTRY(layer_version) link;
};

/** struct layer - a layer by name. @versions: newest first; may be empty: numbers are given once.
 */
struct layer {
	char name[LAYER_NAME_MAX + 1];
	uint32_t last_number;
	SLIST_HEAD(, layer_version) versions;
	SLIST_ENTRY(layer) link;
};

/** struct layer_ref - a layer version in the settings of a function; its sizes stay known when it
 * is deleted. */
struct layer_ref {
	char name[LAYER_NAME_MAX + 1];
	uint32_t number;
	uint64_t bytes, unpacked_bytes;
};

/** struct layer_list - the layers of a function; later ones hide files of earlier ones. */
struct layer_list {
	unsigned count;
	struct layer_ref refs[FUNCTION_LAYERS_MAX];
};

/** layer_arn() - of a layer (@number 0) or a version of it, into @buf. Return: @buf. */
const char *layer_arn(const char *name, uint32_t number, char buf[LAYER_ARN_MAX + 1]);
/** layer_arn_parse() - @ret_number: 0 without a version. Return: 0 or -EINVAL. */
int layer_arn_parse(const char *arn, char ret_name[LAYER_NAME_MAX + 1], uint32_t *ret_number);

/**
 * layer_list_parse() - "Layers" of a function: ARNs, or what layer_list_json() writes.
 * Absent: @ret is left as it is. Return: 0 or -EINVAL with @e filled in.
 */
int layer_list_parse(const json_t *root, struct layer_list *ret, struct field_error *e);
/** layer_list_json() - an array of {Arn, CodeSize, UnpackedSize}; NULL: no memory. */
json_t *layer_list_json(const struct layer_list *list);
uint64_t layer_list_unpacked_bytes(const struct layer_list *list);
/** layer_list_resolve() - look each up, and fill in its sizes. Return: 0 or -EINVAL with @e. */
int layer_list_resolve(struct layer_list *list, struct field_error *e);

/* ---- all layers ---- */

struct layer *layers_first(void);
struct layer *layers_find(const char *name);
/** layers_make() - find or add. NULL: no memory. */
struct layer *layers_make(const char *name);
struct layer_version *layer_find_version(struct layer *l, uint32_t number);
/** layer_add_version() - takes over a reference to @about. Return: NULL: no memory. */
struct layer_version *layer_add_version(struct layer *l, uint32_t number,
					const struct code_info *code, json_t *about);
void layer_remove_version(struct layer *l, struct layer_version *v);

#endif
