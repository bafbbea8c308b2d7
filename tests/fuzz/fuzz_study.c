/* Study files: parsing and checking, up to what would be run. */
#include <stdint.h>
#include "study/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_err err = {0};
    assay_study_spec *s = NULL;
    assay_study_spec_parse(&s, (const char *)data, size, "fuzz", ".", &err);
    assay_study_spec_free(s);
    return 0;
}
