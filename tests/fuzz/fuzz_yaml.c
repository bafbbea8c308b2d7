/* fuzz_yaml.c: any bytes as a YAML file: a tree or one error, never a crash; the tree converts to JSON. */
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    assay_err e = {0};
    assay_yaml_doc *d;
    if (assay_yaml_parse(&d, (const char *)data, size, "fuzz.yaml", &e) == ASSAY_OK) {
        json_decref(assay_yaml_to_json(assay_yaml_root(d)));
        assay_yaml_free(d);
    } else if (!e.message[0]) {
        __builtin_trap(); /* an error must say something */
    }
    return 0;
}
