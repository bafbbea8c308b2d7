/* base/yaml.h: YAML 1.2 (core schema) into a tree that remembers lines, through libyaml, which is included in
 * yaml.c alone.
 *
 * Why libyaml and not libcyaml: study files need "line 7: unknown key 'margn' in policy, did you mean
 * 'margin'", and libcyaml tells such things only through its log. Aliases and multiple documents are refused;
 * nesting is at most 64 deep. The reader helpers take the mapping and a key, mark the key as known, and
 * assay_yaml_check_unknown names what is left. */
#ifndef ASSAY_BASE_YAML_H
#define ASSAY_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"

typedef enum assay_yaml_kind {
    ASSAY_YAML_NULL,
    ASSAY_YAML_SCALAR,
    ASSAY_YAML_SEQ,
    ASSAY_YAML_MAP
} assay_yaml_kind;

typedef struct assay_yaml {
    assay_yaml_kind kind;
    int line;          /* from 1 */
    bool quoted;       /* scalar was quoted: it is a string whatever it looks like */
    const char *text;  /* scalar */
    size_t n;          /* children */
    const char **keys; /* mapping: n keys, unique */
    int *key_lines;
    bool *used;                /* mapping: key was asked for */
    struct assay_yaml **items; /* sequence or mapping values */
} assay_yaml;

typedef struct assay_yaml_doc assay_yaml_doc; /* owns the tree and the file's name for messages */

assay_status assay_yaml_load(assay_yaml_doc **out, const char *path, assay_err *err);
assay_status assay_yaml_parse(assay_yaml_doc **out, const char *text, size_t n, const char *name,
                              assay_err *err);
const assay_yaml *assay_yaml_root(const assay_yaml_doc *d);
const char *assay_yaml_name(const assay_yaml_doc *d);
void assay_yaml_free(assay_yaml_doc *d);

/* Child of a mapping, or NULL. Marks the key used. */
const assay_yaml *assay_yaml_find(const assay_yaml *map, const char *key);
/* EINPUT with file, line and what was expected ("a mapping", "a number") when y is not that. */
assay_status assay_yaml_want(const assay_yaml_doc *d, const assay_yaml *y, assay_yaml_kind kind,
                             const char *what, assay_err *err);
/* Optional keys of a mapping; absent or null leaves *out. Strings are borrowed from the tree. */
assay_status assay_yaml_get_str(const char **out, const assay_yaml_doc *d, const assay_yaml *map,
                                const char *key, assay_err *err);
assay_status assay_yaml_get_int(int64_t *out, const assay_yaml_doc *d, const assay_yaml *map, const char *key,
                                int64_t lo, int64_t hi, assay_err *err);
assay_status assay_yaml_get_double(double *out, const assay_yaml_doc *d, const assay_yaml *map,
                                   const char *key, double lo, double hi, assay_err *err);
assay_status assay_yaml_get_bool(bool *out, const assay_yaml_doc *d, const assay_yaml *map, const char *key,
                                 assay_err *err);
/* EINPUT naming the first key that nobody asked for, with its line and the nearest known key. `what` names
 * the mapping. */
assay_status assay_yaml_check_unknown(const assay_yaml_doc *d, const assay_yaml *map, const char *what,
                                      const char *const *known, size_t n_known, assay_err *err);
/* An error about node y: "FILE:LINE: ..." with code EINPUT. */
assay_status assay_yaml_fail(const assay_yaml_doc *d, const assay_yaml *y, assay_err *err, const char *fmt,
                             ...) ASSAY_PRINTF(4, 5);
/* The tree as JSON (scalars typed by the core schema), for hashing and manifests. New reference; NULL when
 * out of memory. */
json_t *assay_yaml_to_json(const assay_yaml *y);
/* Appends n bytes as a quoted scalar, for those who write YAML to have it read. */
void assay_yaml_put_quoted(assay_str *out, const char *text, size_t n);

#endif
