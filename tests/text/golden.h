/* tests/text/golden.h: reading the files that make_golden.py writes. */
#ifndef ASSAY_TESTS_TEXT_GOLDEN_H
#define ASSAY_TESTS_TEXT_GOLDEN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/text.h"

static inline json_t *golden_load(const char *path) {
    assay_err err = {0};
    json_t *j = NULL;
    if (assay_json_load(&j, path, &err) != ASSAY_OK) fail_msg("%s", err.message);
    return j;
}

/* SHARED/path, or NULL when it is not there. Freed by the caller. */
static inline char *golden_shared(const char *path) {
    const char *root = getenv("ASSAY_SHARED");
    char *full = assay_path_join(root ? root : "../shared", path);
    if (full && assay_path_exists(full)) return full;
    assay_free(full);
    return NULL;
}

static inline const char *golden_str(const json_t *obj, const char *key) {
    return json_string_value(json_object_get(obj, key));
}

/* Shows where two texts part. */
static inline void golden_same_text(const char *what, const char *got, size_t n_got, const json_t *want) {
    size_t n = json_string_length(want), at = 0;
    const char *w = json_string_value(want);
    while (at < n && at < n_got && got[at] == w[at])
        at++;
    if (n == n_got && at == n) return;
    size_t from = at < 40 ? 0 : at - 40;
    fail_msg("%s: differs at byte %zu of %zu (got %zu)\n  got  [%.*s]\n  want [%.*s]", what, at, n, n_got,
             (int)(n_got - from > 160 ? 160 : n_got - from), got + from,
             (int)(n - from > 160 ? 160 : n - from), w + from);
}

#endif
