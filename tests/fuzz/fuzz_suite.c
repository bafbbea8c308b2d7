/* Suites: the YAML up to the first NUL byte, then the items (or the text) that it names. */
#include <stdint.h>
#include <string.h>
#include "eval/suite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    const char *items = cut ? (const char *)cut + 1 : "";
    size_t n_items = cut ? size - n - 1 : 0;
    assay_err err = {0};
    assay_suite *s = NULL;
    if (assay_suite_parse(&s, (const char *)data, n, items, n_items, "fuzz", &err) == ASSAY_OK) json_decref(assay_suite_manifest(s));
    assay_suite_free(s);
    return 0;
}
