/* fuzz_policy.c: any text as a policy, through YAML, and what is taken must survive being written and read again. */
#include <stdint.h>
#include <stdlib.h>

#include "gate/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_yaml_doc *d = NULL;
    assay_policy p, q;
    assay_err err = {0};
    if (assay_yaml_parse(&d, (const char *)data, size, "fuzz", &err) != ASSAY_OK) return 0;
    if (assay_policy_from_yaml(&p, d, assay_yaml_root(d), &err) == ASSAY_OK) {
        json_t *j = assay_policy_to_json(&p);
        if (j && assay_policy_from_json(&q, j, "again", &err) == ASSAY_OK) {
            json_t *k = assay_policy_to_json(&q);
            if (k && !json_equal(j, k)) abort();
            json_decref(k);
            assay_policy_deinit(&q);
        }
        json_decref(j);
        assay_policy_deinit(&p);
    }
    assay_yaml_free(d);
    return 0;
}
