/* base/json.h: JSON through jansson, which is included here alone. Rooms use json_t and the json_* functions
 * from here.
 *
 * Ownership follows jansson: json_decref what a load returned. Objects keep the order in which keys were set.
 * The get helpers report a wrong type as EINPUT naming `where` (a file or what the object is) and the key. */
#ifndef ASSAY_BASE_JSON_H
#define ASSAY_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "base/str.h"

/* Parses text; `where` names it in the error, which has line and column. Duplicate keys are an error. */
assay_status assay_json_parse(json_t **out, const char *text, size_t n, const char *where, assay_err *err);
assay_status assay_json_load(json_t **out, const char *path, assay_err *err);
/* Compact when indent is 0. Appends to b. Deterministic: insertion order, or sorted keys when `sorted`. */
assay_status assay_json_dump(assay_str *b, const json_t *j, int indent, bool sorted, assay_err *err);
assay_status assay_json_save(const char *path, const json_t *j, int indent, assay_err *err);

/* Optional keys: absent or null leaves *out as it was (set the default first); another type is EINPUT. */
assay_status assay_json_get_int(int64_t *out, const json_t *obj, const char *key, const char *where,
                                assay_err *err);
assay_status assay_json_get_double(double *out, const json_t *obj, const char *key, const char *where,
                                   assay_err *err);
assay_status assay_json_get_bool(bool *out, const json_t *obj, const char *key, const char *where,
                                 assay_err *err);
assay_status assay_json_get_str(const char **out, const json_t *obj, const char *key, const char *where,
                                assay_err *err); /* borrowed */

/* A JSON string of text that nobody has checked (a model may emit broken UTF-8, which JSON cannot hold):
 * ill-formed sequences become U+FFFD. NULL gives null. New reference; NULL when out of memory. */
json_t *assay_json_text(const char *text);

/* One JSON value per line. fn is called with the line number from 1; a non-OK return stops and is forwarded.
 */
typedef assay_status (*assay_jsonl_fn)(void *ctx, json_t *value, size_t line, assay_err *err);
assay_status assay_jsonl_each(const char *path, assay_jsonl_fn fn, void *ctx, assay_err *err);

#endif
